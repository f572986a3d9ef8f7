"""``accelnn doctor``: what it finds, that it survives what is broken, and that its self-test can fail."""

import ctypes
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from gpu import driver
from rich.console import Console
from typer.testing import CliRunner

from accelnn import backends, get_backend
from accelnn.backends import availability
from accelnn.cli import app
from accelnn.doctor import installed, machine, printer, report, selftest


def accelnn(*arguments):
    """Run in this process: (exit code, standard output, standard error)."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def process(*arguments, path=None, **environment):
    """Run in a process of its own, where modules in the folder `path` come first."""
    environment = {**os.environ, **environment}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "accelnn", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def found():
    """What is found on this machine."""
    code, out, err = accelnn("doctor", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def quick(monkeypatch):
    """The speed is not what the test looks at."""
    monkeypatch.setattr(selftest, "SPEED_SECONDS", 0.0)


def test_the_object_has_every_key(found):
    assert list(found) == [
        *("format", "installed", "gpus", "processors", "threads", "blas", "kernel_cache", "backends", "auto", "passed"),
    ]
    assert found["format"] == "accelnn-doctor 1"
    assert list(found["installed"]) == [
        *("python", "accelnn", "numpy", "numba", "llvmlite", "scipy", "scikit-learn", "cupy", "driver"),
        *("cuda_runtime", "nvrtc", "cublas", "nccl", "mpi4py", "mpi"),
    ]
    assert list(found["processors"]) == ["model", "count"]
    assert list(found["threads"]) == ["count", "variable", "problem"]
    assert list(found["blas"]) == ["library", "version", "threads"]
    assert list(found["kernel_cache"]) == ["folder", "writable", "problem"]
    assert list(found["backends"]) == ["numpy", "numba", "cupy"]
    for backend in found["backends"].values():
        assert list(backend) == ["usable", "reason", "remedy", "device", "self_test"]
    assert list(found["auto"]) == ["backend", "reason"]


def test_what_is_found_here(found):
    from importlib.metadata import version

    assert found["passed"] is True
    for name in ("accelnn", "numpy", "numba", "llvmlite", "scipy", "scikit-learn"):
        assert found["installed"][name] == version(name)
    assert found["processors"]["count"] == os.cpu_count()
    assert found["blas"]["library"] in ("openblas", "mkl", "accelerate", "blis")
    assert found["kernel_cache"]["writable"]
    for name in ("numpy", "numba"):
        backend = found["backends"][name]
        assert (backend["usable"], backend["reason"], backend["remedy"]) == (True, None, None)
        result = backend["self_test"]
        assert list(result) == ["passed", "problem", "checks", "examples_per_second", "seconds"]
        assert (result["passed"], result["problem"]) == (True, None)
        assert result["examples_per_second"] > 1000
        assert [(check["dtype"], check["what"]) for check in result["checks"]] == [
            ("float64", "loss"),
            ("float64", "gradient"),
            ("float64", "gradient against central differences"),
            ("float64", "vector of trained parameters"),
            ("float32", "loss"),
            ("float32", "gradient"),
            ("float32", "vector of trained parameters"),
        ]
        for check in result["checks"]:
            assert 0 <= check["difference"] <= check["allowed"]
    assert found["auto"]["backend"] in ("numba", "cupy")


def test_no_folder_but_the_cache_is_named(found):
    text = json.dumps({**found, "kernel_cache": None})
    for folder in (sys.prefix, str(Path.home()), str(Path.cwd())):
        assert folder not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jane/lib/libfoo.so.1: cannot open shared object file", "libfoo.so.1: cannot open shared object file"),
        (r"cannot load 'C:\Users\jane\lib\foo.dll'", "cannot load 'foo.dll'"),
        (f"no file {sys.prefix}/lib/a.so", "no file a.so"),
        ("see https://docs.cupy.dev/en/stable/install.html", "see https://docs.cupy.dev/en/stable/install.html"),
        ("CUDA 12.4, 3/4 and/or 2 / 3", "CUDA 12.4, 3/4 and/or 2 / 3"),
    ],
)
def test_messages_lose_their_folders(text, shown):
    assert report._without_folders(text) == shown


def test_a_home_with_a_space_is_lost_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane doe")
    monkeypatch.setenv("USERPROFILE", "/home/jane doe")
    assert report._without_folders("no file /home/jane doe/lib/a.so") == "no file a.so"


# The self-test can fail.


def wrong_gradient(backend, factor):
    right = backend.loss_and_gradient

    def loss_and_gradient(X, Y, w, theta, dtheta, *rest):
        J = right(X, Y, w, theta, dtheta, *rest)
        dtheta *= factor
        return J

    return "loss_and_gradient", loss_and_gradient


def wrong_loss(backend, loss):
    right = backend.loss_and_gradient

    def loss_and_gradient(*arguments):
        right(*arguments)
        return loss

    return "loss_and_gradient", loss_and_gradient


def wrong_training(backend, step):
    right, place = backend.train, list(inspect.signature(backend.train).parameters).index("theta")

    def train(*arguments):
        result = right(*arguments)
        theta = arguments[place]
        if theta.dtype == np.float32:
            theta[-1] += step
        return result

    return "train", train


def broken(backend, problem):
    def train(*arguments):
        raise problem

    return "train", train


FAULTS = [
    (wrong_gradient, 1.0 + 1e-8, "the gradient is 1.0e-08 apart in float64, 1e-10 allowed"),
    (wrong_loss, 2.0, "the loss is "),
    (wrong_loss, float("nan"), "the loss is not finite in float64, 1e-10 allowed"),
    (broken, MemoryError("no room\nfor this"), "MemoryError: no room"),
]


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize(("fault", "how", "words"), FAULTS)
def test_a_backend_that_computes_wrongly(monkeypatch, quick, name, fault, how, words):
    monkeypatch.setattr(get_backend(name), *fault(get_backend(name), how))
    code, out, _ = accelnn("doctor", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["passed"] is False
    for other, backend in found["backends"].items():
        if backend["usable"]:
            assert backend["self_test"]["passed"] == (other != name)
    assert found["backends"][name]["self_test"]["problem"].startswith(words)

    code, out, err = accelnn("doctor")
    assert (code, err) == (1, "")
    section = out.partition(f"backend {name}\n")[2].partition("\nbackend ")[0]
    assert f"self-test  failed: {words}" in section
    assert out.count("failed") == 1
    assert "Traceback" not in out


def test_training_that_is_wrong_in_one_precision_alone(monkeypatch, quick):
    backend = get_backend("numpy")
    monkeypatch.setattr(backend, *wrong_training(backend, 1e-3))
    result = selftest.self_test("numpy")
    assert not result.passed
    assert [(check.dtype, check.what) for check in result.checks if not check.passed] == [
        ("float32", "vector of trained parameters")
    ]


def test_a_gradient_that_is_wrong_on_the_reference_too(monkeypatch, quick):
    """Then only the central differences are left to tell."""
    backend = get_backend("numpy")
    monkeypatch.setattr(backend, *wrong_gradient(backend, 1.0 + 1e-5))
    monkeypatch.setattr(selftest, "ALLOWED", dict.fromkeys(selftest.ALLOWED, 1.0))
    result = selftest.self_test("numpy")
    assert result.problem.startswith("the gradient against central differences is 1.0e-05 apart")


def test_central_differences_stay_clear_of_the_kink():
    X, _ = selftest._data()
    net = selftest._network(get_backend("numpy"), "float64")
    assert np.abs(net.W[1] @ X + net.b[1]).min() > 1e-3


@pytest.fixture
def double():
    """The stand-in for CuPy, as a machine with one GPU."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    from gpu import double

    caches = (availability.find_fault, backends.auto_choice, backends._create)
    double.configure()
    for cached in caches:
        cached.cache_clear()
    with double.installed():
        yield sys.modules["cupy"]
    for cached in caches:
        cached.cache_clear()


def test_the_cupy_backend_through_the_double(double, monkeypatch, quick):
    loaded = types.SimpleNamespace(getVersion=lambda: (13, 0))
    monkeypatch.setattr(double.cuda, "nvrtc", loaded, raising=False)
    assert availability.find_fault("cupy") is None
    assert len(machine.gpus()) == 1
    found = report._backend("cupy", print)
    assert found["self_test"]["problem"] is None
    assert found["self_test"]["passed"]
    backend = get_backend("cupy")
    monkeypatch.setattr(backend, *wrong_loss(backend, 2.0))
    assert selftest.self_test("cupy").problem.startswith("the loss is ")


# What is broken or missing is reported, not raised.


def test_modules_that_fail_when_they_are_imported(tmp_path):
    for name in ("numba", "cupy", "mpi4py", "threadpoolctl", "cuda"):
        text = f"raise OSError('/home/jane/lib/{name}.so: cannot open shared object file\\nTraceback')"
        (tmp_path / f"{name}.py").write_text(text)
    result = process(path=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Traceback" not in result.stdout
    assert "jane" not in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    for name, words in {"numba": "Numba", "cupy": "CuPy"}.items():
        at = lines.index(f"backend {name}")
        reason = f"not usable: {words} fails with OSError: {name}.so: cannot open shared object file"
        assert lines[at + 1] == f"state   {reason}"
        assert lines[at + 2].startswith("remedy  ")
        assert "pip install" in lines[at + 2]
    assert "kernel cache   none: Numba cannot be used" in lines
    assert lines[-2:] == [
        "backend auto",
        "takes  numpy, because CuPy fails with OSError: cupy.so: cannot open shared object file, and Numba fails with "
        "OSError: numba.so: cannot open shared object file",
    ]

    found = json.loads(process("--json", path=tmp_path).stdout)
    assert found["kernel_cache"] is None
    assert found["installed"]["mpi"] is None
    assert found["blas"]["library"] is not None
    assert found["backends"]["numba"]["remedy"] == "run: pip install --upgrade --force-reinstall numba"
    assert found["backends"]["numba"]["self_test"] is None
    assert found["backends"]["numpy"]["self_test"]["passed"]


def test_packages_that_are_not_installed(monkeypatch):
    def missing(name):
        raise installed.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installed.metadata, "version", missing)
    monkeypatch.setattr(availability.metadata, "distributions", list)
    monkeypatch.setattr(installed, "driver_version", lambda: None)
    monkeypatch.setattr(installed, "_library", lambda name, version: None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    found = installed.installed()
    assert {name for name, text in found.items() if text} == {"python", "accelnn"}


def test_a_number_of_threads_that_is_none(quick):
    result = process("--json", OMP_NUM_THREADS="many")
    assert (result.returncode, result.stderr) == (1, "")
    found = json.loads(result.stdout)
    problem = "OMP_NUM_THREADS: 'many' in the environment is no number of threads; set it to 1 or more"
    assert found["threads"] == {"count": None, "variable": "OMP_NUM_THREADS", "problem": problem}
    assert found["backends"]["numba"]["self_test"]["problem"] == f"DataError: {problem}"
    assert found["backends"]["numpy"]["self_test"]["passed"]


def test_which_variable_decides_the_threads(monkeypatch):
    for name in machine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert machine.threads()["variable"] is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("ACCELNN_NUM_THREADS", "1")
    assert machine.threads() == {"count": 1, "variable": "ACCELNN_NUM_THREADS", "problem": None}


def test_a_cache_folder_that_cannot_be_written(monkeypatch, tmp_path):
    from numba import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    cache = machine.kernel_cache()
    assert cache["folder"] == str(tmp_path / "file" / "accelnn")
    assert cache["writable"] is False
    assert cache["problem"] == "Not a directory"
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "new"))
    assert machine.kernel_cache()["writable"]
    assert list((tmp_path / "new" / "accelnn").iterdir()) == []


# Libraries, and GPUs.

LIBRARIES = """
extern "C" {
int cudaRuntimeGetVersion(int* version) { *version = 12090; return 0; }
int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 1; return 0; }
int cublasGetProperty(int which, int* value) { *value = 13 - which; return 0; }
int ncclGetVersion(int* version) { *version = 22707; return 0; }
}
"""


def test_libraries_say_their_versions(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    for name in ("cudart.so.12", "nvrtc.so.13", "cublas.so.13", "nccl.so.2"):
        command = ["g++", "-shared", "-fPIC", "-x", "c++", "-o", tmp_path / f"lib{name}", "-"]
        subprocess.run(command, input=LIBRARIES, text=True, check=True)
    (tmp_path / "cuda.py").write_text("")  # without pathfinder, as without CuPy
    code = "from accelnn.doctor.installed import installed; import json; print(json.dumps(installed()))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    found = json.loads(result.stdout)
    # The newest of several is taken.
    assert found["cuda_runtime"] in ("12.9", "13.0") or found["cuda_runtime"].startswith("13.")
    assert (found["nvrtc"], found["cublas"], found["nccl"]) == ("13.1", "13.12.11", "2.27.7")


def test_a_library_without_its_functions_is_not_found(monkeypatch):
    monkeypatch.setattr(installed.ctypes, "CDLL", lambda path: types.SimpleNamespace())
    assert installed._library("nccl", installed._nccl_version) is None
    refusing = types.SimpleNamespace(ncclGetVersion=lambda value: 1)
    monkeypatch.setattr(installed.ctypes, "CDLL", lambda path: refusing)
    assert installed._library("nccl", installed._nccl_version) is None


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Open MPI v4.1.4, package: Open MPI jane@host Distribution, ident: 4.1.4", "Open MPI v4.1.4"),
        ("MPICH Version:      5.0.2\nMPICH Release date: today", "MPICH 5.0.2"),
        ("Intel(R) MPI Library 2021.9 for Linux* OS\n", "Intel(R) MPI Library 2021.9 for Linux* OS"),
    ],
)
def test_mpi_is_asked_and_not_started(monkeypatch, words, shown):
    package = types.ModuleType("mpi4py")
    package.rc = types.SimpleNamespace(initialize=True)

    def version():
        assert package.rc.initialize is False
        return words

    monkeypatch.setitem(sys.modules, "mpi4py", package)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", types.SimpleNamespace(Get_library_version=version))
    assert installed.installed()["mpi"] == shown


def test_gpus_that_only_the_driver_knows(tmp_path, monkeypatch):
    driver.build(tmp_path, 12040)
    library = ctypes.CDLL(str(tmp_path / "libcuda.so.1"))
    monkeypatch.setattr(machine, "find_fault", lambda name: availability.Fault("CuPy is not installed", "install it"))
    for module in (machine, availability):
        monkeypatch.setattr(module, "driver_library", lambda: library)
    assert machine.gpus() == [{"name": "First GPU", "memory": 40 << 30}, {"name": "Second GPU", "memory": 41 << 30}]
    assert installed.installed()["driver"] == "for CUDA up to 12.4"


def test_a_driver_that_does_not_start_has_no_gpus(tmp_path, monkeypatch):
    driver.build(tmp_path, 12040, result=999)
    assert machine._gpus_of_driver(ctypes.CDLL(str(tmp_path / "libcuda.so.1"))) == []


def test_gpus_as_cupy_counts_them(monkeypatch):
    gpu = {"name": b"A GPU", "totalGlobalMem": 2**34}
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2, getDeviceProperties=lambda number: gpu)
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(machine, "find_fault", lambda name: None)
    found = {"gpus": machine.gpus(), "processors": machine.processors(), "threads": machine.threads()}
    rows = report._machine_rows({**found, "blas": machine.blas(), "kernel_cache": None})
    assert rows[:2] == [("GPU 0", "A GPU, 16.0 GiB"), ("GPU 1", "A GPU, 16.0 GiB")]


# As text.


def test_piped_lines_are_whole(tmp_path):
    from accelnn.kernels.jit import cache_folder

    long = tmp_path / ("long" * 40)
    long.mkdir()
    (long / "accelnn").symlink_to(cache_folder().parent)
    environment = {"XDG_CACHE_HOME": str(long), "NUMBA_CACHE_DIR": "", "COLUMNS": "40"}
    result = process(**environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{long / 'accelnn' / 'kernels'} (can be written)\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert "…" not in result.stdout


def test_a_compilation_is_announced():
    from accelnn.kernels import jit

    told = []
    with report._compilation_announced("numba", lambda title, rows: told.append((title, rows))):
        while jit.listeners:
            jit.listeners.pop()()
    ((title, rows),) = told
    assert title == "backend numba"
    assert rows[0][1].startswith("compiling the kernels")
    with report._compilation_announced("numba", print):
        pass
    assert jit.listeners == []


def test_a_terminal_gets_tables_that_fit():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=40, color_system="standard")
    printer(console)("backend [x]", [("state", "not usable: " + "word " * 20), ("self-test", "passed, in 1 s :x:")])
    lines = file.getvalue().splitlines()
    assert "backend [x]" in lines[0]
    assert len(lines) > 4
    assert "\x1b[32mpassed\x1b[0m, in 1 s :x:" in lines[-1]
    assert "\x1b[33mnot usable\x1b[0m" in lines[1]


def test_arguments_that_cannot_be_used():
    for arguments in (["all"], ["--yaml"]):
        command = [sys.executable, "-m", "accelnn", "doctor", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("accelnn: ")
        assert result.stderr.count("\n") == 1
    assert "For example, accelnn doctor" in " ".join(accelnn("doctor", "--help")[1].split())
