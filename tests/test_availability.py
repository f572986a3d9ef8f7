"""Which backend is chosen, and why: what a machine may lack, simulated, and the message for each."""

import importlib.util
import logging
import os
import subprocess
import sys
import types

import pytest
from conftest import FACTORIES
from typer.testing import CliRunner

from accelnn import AccelnnError, BackendUnavailableError, DataError, Network, backends, get_backend
from accelnn.backends import availability
from accelnn.cli import app


@pytest.fixture
def choose(monkeypatch):
    """Choose backends as if this were another machine; what was found out before and after is forgotten."""
    caches = (availability.find_fault, backends.auto_choice, backends._create)
    for cached in caches:
        cached.cache_clear()
    find_spec, distributions = importlib.util.find_spec, availability.metadata.distributions
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "cupy"}

    def forget_cupy():
        for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
            del sys.modules[name]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def machine(missing=(), driver=None, cupy=None, packages=(), folder=None):
        """One that lacks some modules; with this driver, this text as CuPy, and these packages installed."""
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in missing else find_spec(name, *rest)
        )
        monkeypatch.setattr(availability, "driver_version", lambda: driver)
        forget_cupy()
        if cupy is not None:
            (folder / "cupy").mkdir()
            (folder / "cupy" / "__init__.py").write_text(cupy)
            (folder / "cupy" / "cublas.py").write_text("import cupy; cupy.load_cublas(); gemm = cupy.gemm")
            monkeypatch.syspath_prepend(folder)
        for name in packages:
            about = folder / f"{name.replace('-', '_')}-14.2.0.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.2.0\n")
        # Not the packages of this machine.
        paths = [str(folder)] if folder else []
        monkeypatch.setattr(availability.metadata, "distributions", lambda: distributions(path=paths))

    yield machine
    forget_cupy()
    sys.modules.update(loaded)
    for cached in caches:
        cached.cache_clear()


# A CuPy on NumPy with all that the probe uses, to which a case adds what fails.
WORKING = """
import numpy

asarray = asnumpy = numpy.array

class RawModule:
    def __init__(self, code):
        assert 'extern "C" __global__ void twice' in code

    def get_function(self, name):
        def launch(grid, block, arguments):
            a, b = arguments
            b[...] = 2 * a
        return launch

class Runtime:
    is_hip = False

    def getDeviceCount(self):
        return 1

class Nvrtc:
    def getVersion(self):
        return 13, 0

class Cuda:
    runtime, nvrtc = Runtime(), Nvrtc()

cuda = Cuda()

def load_cublas():
    pass

def gemm(transa, transb, a, b):
    return a @ b

def failing(error):
    def fail(*_, **__):
        raise error
    return fail
"""


def cupy_error():
    """The message for who asks for CuPy by name, without its beginning; nobody who asks for "auto" sees an error."""
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend("cupy")
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, AccelnnError)
    message = str(caught.value)
    beginning = "backend='cupy' cannot run here: "
    assert message.startswith(beginning)
    assert "\n" not in message
    assert get_backend("auto").name == "numba"
    assert message.startswith(f"{beginning}{backends.why_auto()}; ")
    return message.removeprefix(beginning)


INSTALL = {12: 'pip install "accelnn[cuda12]"', 13: 'pip install "accelnn[cuda13]"'}


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        (None, f"install an NVIDIA driver, then run: {INSTALL[13]}"),
        (11080, f"install a newer NVIDIA driver, then run: {INSTALL[12]}"),
        (12040, f"run: {INSTALL[12]}"),
        (13000, f"run: {INSTALL[13]}"),
    ],
)
def test_cupy_that_is_not_installed(choose, driver, remedy):
    choose(missing=["cupy"], driver=driver)
    assert cupy_error() == f"CuPy is not installed; {remedy}"
    with pytest.raises(BackendUnavailableError, match="accelnn"):
        Network([2, 1], backend="cupy")


def test_the_extras_in_the_messages_exist():
    from importlib.metadata import metadata

    assert {"cuda12", "cuda13"} <= set(metadata("accelnn").get_all("Provides-Extra"))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("ImportError('libcublas.so.13: no such file')", "ImportError: libcublas.so.13: no such file"),
        ("RuntimeError('bad\\nlast line')", "RuntimeError: bad"),
        ("ValueError()", "ValueError: no message"),
        ("ImportError('=====\\nCuPy is broken') from OSError('no libfoo')", "OSError: no libfoo"),
        ("ImportError('\\n=====\\nCuPy is broken\\n=====')", "ImportError: CuPy is broken"),
    ],
)
def test_cupy_that_fails_to_import(choose, tmp_path, error, line):
    choose(driver=13000, folder=tmp_path, cupy=f"raise {error}")
    assert cupy_error() == f"CuPy fails with {line}; run: {INSTALL[13]}"


@pytest.mark.parametrize(
    ("package", "remedy"),
    [
        ("cupy-cuda13x", f"run: pip uninstall --yes cupy-cuda13x && {INSTALL[13]}"),
        ("cupy", f"run: pip uninstall --yes cupy && {INSTALL[13]}"),
        ("cupy-rocm-7-0", "install the ROCm libraries that CuPy's installation guide lists"),
    ],
)
def test_a_package_that_fails_to_import_is_replaced(choose, tmp_path, package, remedy):
    """What is left after one of two packages was removed is such a one."""
    choose(driver=13000, folder=tmp_path, cupy="", packages=[package])
    assert cupy_error() == f"CuPy fails with AttributeError: module 'cupy' has no attribute 'cuda'; {remedy}"


@pytest.mark.parametrize(
    "names", [("cupy-cuda12x", "cupy-cuda13x"), ("cupy", "cupy-cuda12x"), ("Cupy_CUDA11x", "cupy")]
)
def test_two_packages_of_cupy(choose, tmp_path, names):
    choose(
        driver=12040, folder=tmp_path, cupy="import accelnn; accelnn.loaded = True", packages=[*names, "cupy-xarray"]
    )
    first, second = sorted(name.lower().replace("_", "-") for name in names)
    assert cupy_error() == (
        f"several CuPy packages are installed, {first} and {second}, and overwrite each other's files; "
        f"run: pip uninstall --yes {first} {second} && {INSTALL[12]}"
    )
    assert "cupy" not in sys.modules, "CuPy itself would only warn, and may already be damaged"


NO_DRIVER = "failing(RuntimeError('cudaErrorInsufficientDriver: CUDA driver version is insufficient'))"
NO_DEVICE = "failing(RuntimeError('cudaErrorNoDevice: no CUDA-capable device is detected'))"


@pytest.mark.parametrize(
    ("driver", "package", "count", "message"),
    [
        (None, None, NO_DRIVER, f"no NVIDIA driver is installed; install an NVIDIA driver, then run: {INSTALL[13]}"),
        (
            None,
            "cupy-cuda12x",
            NO_DRIVER,
            f"no NVIDIA driver is installed; install an NVIDIA driver, then run: {INSTALL[12]}",
        ),
        (13000, "cupy-cuda13x", NO_DEVICE, "the NVIDIA driver finds no GPU; run nvidia-smi, which must list one"),
        (13000, "cupy-cuda13x", "lambda: 0", "the NVIDIA driver finds no GPU; run nvidia-smi, which must list one"),
        (
            12080,
            "cupy-cuda13x",
            NO_DRIVER,
            "the NVIDIA driver supports CUDA 12.8 at most, which is too old for cupy-cuda13x; install a newer NVIDIA "
            f"driver, or run: pip uninstall --yes cupy-cuda13x && {INSTALL[12]}",
        ),
        (
            11080,
            "cupy-cuda13x",
            NO_DRIVER,
            "the NVIDIA driver supports CUDA 11.8 at most, which is too old for cupy-cuda13x; install a newer NVIDIA "
            "driver",
        ),
        (
            11040,
            "cupy-cuda12x",
            NO_DRIVER,
            "the NVIDIA driver supports CUDA 11.4 at most, which is too old for cupy-cuda12x; install a newer NVIDIA "
            "driver",
        ),
        (
            13000,
            "cupy-cuda13x",
            "failing(RuntimeError('cudaErrorUnknown: unknown error'))",
            "CuPy fails with RuntimeError: cudaErrorUnknown: unknown error; restart the machine or reinstall the "
            "NVIDIA driver, until nvidia-smi lists a GPU",
        ),
    ],
)
def test_a_gpu_that_cannot_be_reached(choose, tmp_path, driver, package, count, message):
    packages = [package] if package else []
    choose(
        driver=driver,
        folder=tmp_path,
        cupy=f"{WORKING}\nRuntime.getDeviceCount = staticmethod({count})",
        packages=packages,
    )
    assert cupy_error() == message


def test_gpus_that_the_environment_hides(choose, tmp_path, monkeypatch):
    choose(driver=13000, folder=tmp_path, cupy=f"{WORKING}\nRuntime.getDeviceCount = staticmethod({NO_DEVICE})")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert cupy_error() == "no GPU is found under CUDA_VISIBLE_DEVICES='7'; set it to the number of one, or not at all"


FAILURES = [
    (
        "Nvrtc.getVersion = failing(RuntimeError('Failure finding \"libnvrtc.so.13\"'))",
        'CuPy cannot load NVRTC, which compiles kernels: RuntimeError: Failure finding "libnvrtc.so.13"',
    ),
    (
        "load_cublas = failing(ImportError('Failure finding \"libcublasLt.so.13\"'))",
        'CuPy cannot load cuBLAS, which multiplies matrices: ImportError: Failure finding "libcublasLt.so.13"',
    ),
    (
        "RawModule.__init__ = failing(OSError('CUDA_ERROR_NO_BINARY_FOR_GPU'))",
        "CuPy cannot compile and run a kernel (NVRTC): OSError: CUDA_ERROR_NO_BINARY_FOR_GPU",
    ),
    (
        "RawModule.get_function = lambda self, name: lambda grid, block, arguments: None",
        "CuPy cannot compile and run a kernel (NVRTC): ArithmeticError: it gave [[3.0, 3.0], [3.0, 3.0]] where all "
        "must be 6",
    ),
    (
        "gemm = failing(RuntimeError('CUBLAS_STATUS_NOT_INITIALIZED'))",
        "CuPy cannot multiply matrices (cuBLAS): RuntimeError: CUBLAS_STATUS_NOT_INITIALIZED",
    ),
    (
        "gemm = lambda transa, transb, a, b: a * b",
        "CuPy cannot multiply matrices (cuBLAS): ArithmeticError: it gave [[9.0, 9.0], [9.0, 9.0]] where all must "
        "be 18",
    ),
]


@pytest.mark.parametrize(("fault", "reason"), FAILURES)
def test_a_gpu_that_cannot_work(choose, tmp_path, fault, reason):
    """The remedy brings the libraries of the wheel that is there, not another wheel, whatever the driver could run."""
    choose(driver=13000, folder=tmp_path, cupy=f"{WORKING}\n{fault}", packages=["cupy-cuda12x"])
    assert cupy_error() == f"{reason}; run: {INSTALL[12]}"


def test_a_gpu_whose_memory_is_taken(choose, tmp_path):
    choose(driver=13000, folder=tmp_path, cupy=f"{WORKING}\nasarray = failing(MemoryError('out of memory'))")
    assert cupy_error() == (
        "CuPy cannot use the GPU's memory: MemoryError: out of memory; run nvidia-smi, which shows what holds it"
    )


ROCM = f"{WORKING}\nRuntime.is_hip = True"


def test_cupy_that_works(choose, tmp_path):
    choose(driver=13000, folder=tmp_path, cupy=WORKING, packages=["cupy-cuda13x"])
    assert backends.why_unavailable("cupy") is None
    assert backends.why_auto() == "a GPU is usable"


def test_rocm_needs_no_nvidia_driver(choose, tmp_path):
    choose(driver=None, folder=tmp_path, cupy=ROCM, packages=["cupy-rocm-7-0"])
    assert backends.why_unavailable("cupy") is None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "Runtime.getDeviceCount = failing(RuntimeError('hipErrorNoDevice: no ROCm-capable device is detected'))",
            "CuPy for ROCm finds no usable GPU (RuntimeError: hipErrorNoDevice: no ROCm-capable device is detected); "
            "run rocminfo, which must list one",
        ),
        (
            "Nvrtc.getVersion = failing(OSError('libhiprtc.so'))",
            "CuPy cannot load hipRTC, which compiles kernels: OSError: libhiprtc.so; install the ROCm libraries that "
            "CuPy's installation guide lists",
        ),
        (
            "asarray = failing(MemoryError('out of memory'))",
            "CuPy cannot use the GPU's memory: MemoryError: out of memory; run rocm-smi, which shows what holds it",
        ),
    ],
)
def test_rocm_that_does_not_work(choose, tmp_path, fault, message):
    choose(driver=None, folder=tmp_path, cupy=f"{ROCM}\n{fault}")
    assert cupy_error() == message


def test_numba_that_fails_to_import(choose, monkeypatch):
    def refuse(name):
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 3.0.")

    choose(missing=["cupy"])
    monkeypatch.setattr(availability.importlib, "import_module", refuse)
    assert get_backend("auto").name == "numpy"
    reason = "Numba fails with ImportError: Numba needs NumPy 2.4 or less. Got NumPy 3.0."
    assert backends.why_auto() == f"CuPy is not installed, and {reason}"
    assert backends.why_unavailable("numba") == f"{reason}; run: pip install --upgrade --force-reinstall numba"


def test_the_cupy_module_imports_without_cupy():
    """In a process where any import of CuPy fails."""
    code = "import sys; sys.modules['cupy'] = None; import accelnn.backends.cupy as c; print(c.CupyBackend.name)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "cupy"


def test_auto_takes_numba_and_says_so_once(choose, caplog):
    choose(missing=["cupy"])
    with caplog.at_level(logging.INFO, logger="accelnn"):
        chosen = [get_backend("auto"), get_backend(), Network([2, 1]).backend]
    assert {backend.name for backend in chosen} == {"numba"}
    lines = [record.getMessage() for record in caplog.records if record.name == "accelnn"]
    assert len(lines) == 1
    assert (
        lines[0]
        == f"backend='auto' takes numba: {backends.why_auto()}"
        == "backend='auto' takes numba: CuPy is not installed"
    )


def test_auto_without_numba_takes_numpy(choose, caplog, monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    choose(missing=["cupy", "numba"])
    with caplog.at_level(logging.INFO, logger="accelnn"):
        net = Network([2, 1])
    assert net.backend.name == "numpy"
    assert "takes numpy: CuPy is not installed, and Numba is not installed" in caplog.text
    assert net.plan().backend == "numpy, chosen by auto because CuPy is not installed, and Numba is not installed"
    with pytest.raises(BackendUnavailableError, match=r"^backend='numba' cannot run here: .*run: pip install numba$"):
        get_backend("numba")


def test_a_name_gives_one_backend_and_a_backend_gives_itself():
    for name in ("numpy", "numba"):
        assert get_backend(name) is get_backend(name)
        assert get_backend(get_backend(name)) is get_backend(name)
    mine = FACTORIES["reference"]()
    assert Network([2, 1], backend=mine).backend is mine


# Which GPU.


def test_the_device_reaches_the_cupy_backend(choose, tmp_path, monkeypatch):
    choose(driver=13000, folder=tmp_path, cupy=WORKING)
    made = types.SimpleNamespace(CupyBackend=lambda device: ("made for", device))
    monkeypatch.setitem(sys.modules, "accelnn.backends.cupy", made)
    assert get_backend("cupy", device=0) == get_backend("auto", device=0) == ("made for", 0)


@pytest.mark.parametrize("device", [-1, 1.0, "0", True])
@pytest.mark.parametrize("name", ["cupy", "auto", "numpy"])
def test_a_device_that_is_no_number(name, device):
    with pytest.raises(DataError, match=rf"^device: {device!r} is not a whole number of at least 0$"):
        get_backend(name, device=device)


def test_a_device_where_no_gpu_computes(choose):
    choose(missing=["cupy"])
    for name in ("numpy", "numba"):
        with pytest.raises(DataError, match=rf"^device: 1 is for backend='cupy', not for backend='{name}'$"):
            get_backend(name, device=1)
    words = "device: 0 is for backend='cupy', and backend='auto' takes numba here because CuPy is not installed"
    with pytest.raises(DataError, match=f"^{words}$"):
        get_backend(device=0)
    with pytest.raises(DataError, match=r"^device: 1 is for backend='cupy'; a backend that is made already"):
        get_backend(FACTORIES["reference"](), device=1)


# Which GPU, on the command line.


def refused(*arguments):
    """The one line on standard error."""
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def test_a_device_is_for_the_gpu(tmp_path):
    words = "accelnn: device: 1 is for backend='cupy', not for backend='numpy'"
    assert refused("train", "iris", "--backend", "numpy", "--device", "1") == words
    assert refused("predict", "m.safetensors", "iris", "--backend", "numpy", "--device", "1") == words
    words = "accelnn: device: -1 is not a whole number of at least 0"
    assert refused("train", "iris", "--device", "-1") == words
    assert refused("bench", "--device", "-1") == "accelnn: --device: -1 is not a whole number of at least 0"


@pytest.mark.parametrize(("before", "device", "after"), [(None, 1, "1"), ("2,5", 1, "5"), ("GPU-a, GPU-b", 0, "GPU-a")])
def test_a_benchmark_sees_one_gpu(monkeypatch, before, device, after):
    """The contestants' processes, the peers' too, inherit the choice."""
    from accelnn.benchmark import command

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before or "")
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    seen = []
    monkeypatch.setattr(command, "run", lambda *_: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")))
    for arguments in (["bench", "--device", str(device)], ["bench"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert seen == [after, after]


def test_a_benchmark_on_a_gpu_that_is_hidden(monkeypatch):
    for listed in ("0,1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        words = f"accelnn: --device: 2 is not among the GPUs of CUDA_VISIBLE_DEVICES={listed!r}"
        assert refused("bench", "--device", "2") == words
