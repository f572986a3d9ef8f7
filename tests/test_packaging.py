"""The three ways in which a person installs accelnn, each imported from a folder that is not the checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command, cwd):
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The files that git tracks, in a folder of their own: building leaves files beside the sources."""
    target = tmp_path_factory.mktemp("source") / "accelnn"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.fixture(scope="module")
def distributions(checkout, tmp_path_factory):
    """A wheel built from the checkout, an sdist, and a wheel built from the sdist alone."""
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation")
    run(*build, "--wheel", "--outdir", out / "direct", checkout, cwd=out)
    # Without --wheel or --sdist, the wheel is built from the unpacked sdist.
    run(*build, "--outdir", out / "through", checkout, cwd=out)
    (direct,), (through,) = (out / "direct").glob("*.whl"), (out / "through").glob("*.whl")
    return {"wheel": direct, "sdist": through}


@pytest.fixture
def python(tmp_path):
    """An interpreter with the dependencies of this one, but without this one's accelnn."""
    venv.create(tmp_path / "env", with_pip=True)
    interpreter = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # Python 3.11 puts an old setuptools there, which would hide the one below.
    run(interpreter, "-m", "pip", "uninstall", "--yes", "--quiet", "setuptools", cwd=tmp_path)
    site = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    # A path in a .pth file comes after the environment's own packages, and .pth files inside it are not read.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return interpreter


def check(python, folder, expected_home):
    code = """
import accelnn, accelnn.kernels, accelnn.kernels.loops, importlib.resources, sys
assert importlib.resources.files("accelnn").joinpath("py.typed").is_file()
from accelnn.kernels import cuda
assert all(cuda.program(name, "float32") for name in cuda.KERNELS)
net = accelnn.Network([2, 3, 1], backend="numpy")
print(accelnn.__file__, accelnn.kernels.__file__, net.predict([[0.0], [1.0]]).shape, sep="\\n")
"""
    package, kernels, shape = run(python, "-W", "error", "-c", code, cwd=folder).splitlines()
    assert Path(package).is_relative_to(expected_home)
    assert Path(kernels).is_relative_to(expected_home)
    assert shape == "(1, 1)"
    assert "accelnn" in run(python, "-m", "accelnn", "--version", cwd=folder)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_built_distributions_import_from_another_folder(kind, distributions, python, tmp_path):
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", distributions[kind], cwd=tmp_path)
    check(python, tmp_path, tmp_path / "env")


def test_editable_install_imports_from_another_folder(checkout, python, tmp_path):
    options = ("--no-index", "--no-deps", "--no-build-isolation")
    run(python, "-m", "pip", "install", *options, "--editable", checkout, cwd=tmp_path)
    check(python, tmp_path, checkout)


def test_both_wheels_hold_the_same_files(distributions):
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in distributions.values()]
    assert names[0] == names[1]
    assert {"accelnn/kernels/loops.py", "accelnn/kernels/cuda/update.cu"} <= set(names[0])
    assert not any(name.startswith(("kernels/", "tests/", "bench/")) for name in names[0])
