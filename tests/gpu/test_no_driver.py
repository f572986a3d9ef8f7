"""The really installed CuPy where no GPU is: each thing that is missing is named, and ``auto`` takes the CPU.

Every case has a process of its own, since CuPy can be imported once. Where no GPU stands in the way of a case, a
function of CuPy's is replaced that would find one; what is then missing is missed by CuPy itself.
"""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import driver

from accelnn.backends import availability

if importlib.util.find_spec("cupy") is None:
    pytest.skip("CuPy is not installed", allow_module_level=True)
if availability.driver_version() is not None or Path("/dev/kfd").exists():
    pytest.skip("a GPU's driver is installed", allow_module_level=True)

(PACKAGE,) = availability.cupy_packages()
INSTALL = r'run: pip install "accelnn\[cuda1[23]\]"'

ASK = """
from accelnn import BackendUnavailableError, get_backend
from accelnn.backends import why_auto
try:
    get_backend("cupy")
except BackendUnavailableError as problem:
    print(str(problem).removeprefix("backend='cupy' cannot run here: "))
print(get_backend("auto").name)
print(why_auto())
"""


def python(code, *options, **environment):
    """The lines that a new process prints; a warning would be its end."""
    command = [sys.executable, "-W", "error", *options, "-c", code]
    # A cache of compiled kernels is found under the home folder; of CUDA nothing is taken from this environment.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("CUDA_")}
    result = subprocess.run(command, capture_output=True, text=True, env={**inherited, **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def message(preparation="", **environment):
    """What is said to who asks for CuPy by name, after it is seen that ``auto`` takes numba for the same reason."""
    error, chosen, reason = python(f"{preparation}\n{ASK}", **environment)
    assert chosen == "numba"
    assert error.startswith(f"{reason}; ")
    return error


def test_without_a_driver():
    assert re.fullmatch(f"no NVIDIA driver is installed; install an NVIDIA driver, then {INSTALL}", message())


def test_what_is_known_about_cupy_without_a_driver():
    """The facts on which the detection rests."""
    assert python("import cupy; print(cupy.is_available())") == ["False"]
    for call in ("zeros(1)", "cuda.runtime.getDeviceCount()", "cuda.Stream()"):
        code = f"import cupy\ntry:\n    cupy.{call}\nexcept cupy.cuda.runtime.CUDARuntimeError as e:\n    print(e)"
        assert python(code)[0].startswith("cudaErrorInsufficientDriver: ")


def test_a_driver_that_is_too_old(tmp_path):
    words = (
        "the NVIDIA driver supports CUDA 11.8 at most, which is too old for " + PACKAGE,
        "install a newer NVIDIA driver",
    )
    assert message(**driver.build(tmp_path, 11080)) == "; ".join(words)


@pytest.mark.skipif(PACKAGE != "cupy-cuda13x", reason="the installed CuPy is not cupy-cuda13x")
def test_a_driver_that_is_too_old_for_this_wheel_alone(tmp_path):
    assert message(**driver.build(tmp_path, 12040)) == (
        "the NVIDIA driver supports CUDA 12.4 at most, which is too old for cupy-cuda13x; install a newer NVIDIA "
        'driver, or run: pip uninstall --yes cupy-cuda13x && pip install "accelnn[cuda12]"'
    )


def test_a_driver_that_finds_no_gpu(tmp_path):
    environment = driver.build(tmp_path, 99000, result=100)
    assert message(**environment) == "the NVIDIA driver finds no GPU; run nvidia-smi, which must list one"
    assert message(**environment, CUDA_VISIBLE_DEVICES="") == (
        "no GPU is found under CUDA_VISIBLE_DEVICES=''; set it to the number of one, or not at all"
    )


def test_a_driver_that_does_not_start(tmp_path):
    assert message(**driver.build(tmp_path, 99000, result=999)) == (
        "CuPy fails with CUDARuntimeError: cudaErrorUnknown: unknown error; restart the machine or reinstall the "
        "NVIDIA driver, until nvidia-smi lists a GPU"
    )


# From here on, CuPy is told that there is one GPU.
ONE_GPU = "import cupy\ncupy.cuda.runtime.getDeviceCount = lambda: 1\n"
HIDE = """
import cuda.pathfinder
load = cuda.pathfinder.load_nvidia_dynamic_lib
def find(name):
    if name == {name!r}:
        raise cuda.pathfinder.DynamicLibNotFoundError("Failure finding lib" + name)
    return load(name)
cuda.pathfinder.load_nvidia_dynamic_lib = find
"""
# Libraries that this environment may lack.
NVRTC = "cupy.cuda.nvrtc.getVersion = lambda: (13, 0)\n"
CUBLAS = "import sys, types\nsys.modules['cupy.cublas'] = types.ModuleType('cupy.cublas')\n"


def test_without_nvrtc():
    found = message(HIDE.format(name="nvrtc") + ONE_GPU)
    reason = "CuPy cannot load NVRTC, which compiles kernels: DynamicLibNotFoundError: Failure finding libnvrtc"
    assert re.fullmatch(f"{reason}; install an NVIDIA driver, then {INSTALL}", found)


def test_without_cublas():
    found = message(HIDE.format(name="cublas") + ONE_GPU + NVRTC)
    reason = "CuPy cannot load cuBLAS, which multiplies matrices: DynamicLibNotFoundError: Failure finding libcublas"
    assert re.fullmatch(f"{reason}; install an NVIDIA driver, then {INSTALL}", found)


def test_without_memory():
    found = message(ONE_GPU + NVRTC + CUBLAS)
    assert found.startswith("CuPy cannot use the GPU's memory: CUDARuntimeError: cudaErrorInsufficientDriver: ")
    assert found.endswith("; run nvidia-smi, which shows what holds it")


def test_two_packages(tmp_path):
    """CuPy itself warns of the same, when it is imported."""
    other = "cupy-cuda12x" if PACKAGE != "cupy-cuda12x" else "cupy-cuda13x"
    about = tmp_path / f"{other.replace('-', '_')}-14.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 14.2.0\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    (warning,) = python(
        "try:\n    import cupy\nexcept UserWarning as w:\n    print(' '.join(str(w).split()))", PYTHONPATH=path
    )
    assert "multiple CuPy packages are installed" in warning
    names = sorted((PACKAGE, other))
    assert message(PYTHONPATH=path) == (
        f"several CuPy packages are installed, {' and '.join(names)}, and overwrite each other's files; install an "
        f'NVIDIA driver, then run: pip uninstall --yes {" ".join(names)} && pip install "accelnn[cuda13]"'
    )


def test_every_package_that_cupy_knows_is_recognised(tmp_path, monkeypatch):
    source = Path(importlib.util.find_spec("cupy").origin).with_name("_environment.py").read_text()
    (known,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "known"
    )
    assert PACKAGE in known
    for name in known:
        (tmp_path / f"{name.replace('-', '_')}-1.0.dist-info").mkdir()
        (tmp_path / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(availability.cupy_packages()) == set(known)


def test_the_command_falls_back_and_says_why():
    code = "from accelnn.cli import main; main()"
    command = [sys.executable, "-c", code, "train", "iris", "--epochs", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("backend   numba, chosen by auto because no NVIDIA driver is installed; ")
    refused = subprocess.run([*command, "--backend", "cupy"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("accelnn: backend='cupy' cannot run here: no NVIDIA driver is installed; install ")
    assert refused.stderr.count("\n") == 1


def test_the_doctor_finds_what_is_installed():
    lines = python("import sys; from accelnn.cli import main; sys.argv[1:] = ['doctor', '--json']; main()")
    found = json.loads("\n".join(lines))
    assert found["passed"]
    assert found["installed"]["cupy"].endswith(f"({PACKAGE})")
    # As CuPy itself finds them.
    facts = """
import cupy
for ask in ("nvrtc.getVersion()", "get_local_runtime_version()", "cublas"):
    try:
        print(eval("cupy.cuda." + ask))
    except Exception:
        print(None)
"""
    nvrtc, runtime, cublas = python(facts)
    assert found["installed"]["nvrtc"] == (None if nvrtc == "None" else ".".join(re.findall(r"\d+", nvrtc)))
    expected = None if runtime == "None" else availability.version_text(int(runtime))
    assert found["installed"]["cuda_runtime"] == expected
    assert (found["installed"]["cublas"] is None) == (cublas == "None")
    assert found["gpus"] == []
    assert found["backends"]["cupy"]["reason"] == "no NVIDIA driver is installed"
