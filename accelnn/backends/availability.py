"""Whether a backend can run here: what is missing where it cannot, and what mends that.

Nothing is believed that was not tried. CuPy in particular imports without a driver, and loads the compiler of its
kernels (NVRTC) and its matrix products (cuBLAS) when they are first needed; so each is used once, in a small way, and
what fails is named.
"""

import ctypes
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

__all__ = ["Fault", "cupy_packages", "driver_library", "driver_version", "find_fault", "first_line", "version_text"]


@dataclass(frozen=True)
class Fault:
    """Why a backend cannot run here; prints as one line.

    Attributes
    ----------
    reason : str
    remedy : str
        What to do, with the exact command where there is one.
    """

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


@cache
def find_fault(name: str) -> Fault | None:
    """None where the backend of this name is usable; found out once a process."""
    if name == "numba":
        return _numba_fault()
    return _cupy_fault() if name == "cupy" else None


def first_line(problem: BaseException) -> str:
    """What an exception, or the one that it was raised from, says first; without lines that only draw a frame."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if re.search(r"\w", line)]
    return f"{type(problem).__name__}: {lines[0] if lines else 'no message'}"


def _numba_fault() -> Fault | None:
    if not _is_there("numba"):
        return Fault("Numba is not installed", "run: pip install numba")
    try:
        importlib.import_module("numba")  # does it load beside this NumPy?
    except Exception as problem:  # a mismatch of versions raises several types
        return Fault(f"Numba fails with {first_line(problem)}", "run: pip install --upgrade --force-reinstall numba")
    return None


def _is_there(module: str) -> bool:
    return sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None


# The NVIDIA driver


def driver_library() -> Any:
    """The NVIDIA driver's library, or None without a driver."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def driver_version() -> int | None:
    """The newest CUDA version that the installed NVIDIA driver supports, such as 13000, or None without a driver."""
    library, version = driver_library(), ctypes.c_int()
    try:
        return version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else None
    except AttributeError:  # no library, or one that is no driver's
        return None


def version_text(version: int) -> str:
    """CUDA writes 12.4 as 12040."""
    return f"{version // 1000}.{version % 1000 // 10}"


# CuPy, and how it is installed


def cupy_packages() -> dict[str, str]:
    """The installed packages that bring CuPy, each with its version. They share their files: there may be one."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name or "").lower()
        if re.fullmatch(r"cupy(-cuda\d+x?|-rocm-[\d-]+)?|amd-cupy", name):
            found[name] = distribution.version
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Setting:
    """What the remedies depend on: the driver's version, the CuPy packages, and whether one of them is for ROCm."""

    driver: int | None
    packages: tuple[str, ...] = ()
    rocm: bool = False

    def install(self, afresh: bool = False) -> str:
        """How to get a CuPy that suits the driver, or the libraries that the installed one lacks."""
        if self.rocm:
            return "install the ROCm libraries that CuPy's installation guide lists"
        installed = re.fullmatch(r"cupy-cuda(12|13)x", " ".join(self.packages))
        if installed and not afresh:
            command = f'pip install "accelnn[cuda{installed[1]}]"'
        else:
            command = f'pip install "accelnn[cuda{13 if self.driver is None or self.driver >= 13000 else 12}]"'
            # A second CuPy beside the first would damage both.
            if self.packages:
                command = f"pip uninstall --yes {' '.join(self.packages)} && {command}"
        if self.driver is None:
            return f"install an NVIDIA driver, then run: {command}"
        return f"{'run' if self.driver >= 12000 else 'install a newer NVIDIA driver, then run'}: {command}"


def _cupy_fault() -> Fault | None:
    driver = driver_version()
    if not _is_there("cupy"):
        return Fault("CuPy is not installed", _Setting(driver).install())
    packages = tuple(cupy_packages())
    if len(packages) > 1:
        return Fault(
            f"several CuPy packages are installed, {' and '.join(packages)}, and overwrite each other's files",
            _Setting(driver, packages).install(),
        )
    rocm = any("rocm" in name or name == "amd-cupy" for name in packages)
    try:
        cupy = importlib.import_module("cupy")
        setting = _Setting(driver, packages, cupy.cuda.runtime.is_hip or rocm)
    except Exception as problem:  # CuPy raises many types, for each library that it cannot load
        return Fault(f"CuPy fails with {first_line(problem)}", _Setting(driver, packages, rocm).install(afresh=True))
    return _device_fault(cupy, setting) or _work_fault(cupy, setting)


def _device_fault(cupy: Any, setting: _Setting) -> Fault | None:
    """Why there is no GPU that the driver and this CuPy can both use."""
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return None
        words = "NoDevice"
    except Exception as problem:
        words = first_line(problem)
    driver, package = setting.driver, "".join(setting.packages) or "this CuPy"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if "NoDevice" in words and visible is not None:
        return Fault(
            f"no GPU is found under CUDA_VISIBLE_DEVICES={visible!r}", "set it to the number of one, or not at all"
        )
    if setting.rocm:
        return Fault(f"CuPy for ROCm finds no usable GPU ({words})", "run rocminfo, which must list one")
    if driver is None:
        return Fault("no NVIDIA driver is installed", setting.install())
    if "NoDevice" in words:
        return Fault("the NVIDIA driver finds no GPU", "run nvidia-smi, which must list one")
    if "InsufficientDriver" in words:
        reason = f"the NVIDIA driver supports CUDA {version_text(driver)} at most, which is too old for {package}"
        remedy = "install a newer NVIDIA driver"
        if package == "cupy-cuda13x" and driver >= 12000:
            remedy = f"{remedy}, or {setting.install(afresh=True)}"
        return Fault(reason, remedy)
    return Fault(
        f"CuPy fails with {words}", "restart the machine or reinstall the NVIDIA driver, until nvidia-smi lists a GPU"
    )


# The smallest jobs that a network needs.

_TWICE = 'extern "C" __global__ void twice(const float* a, float* b) { b[threadIdx.x] = 2.0f * a[threadIdx.x]; }'


def _memory(cupy: Any) -> Any:
    import numpy as np  # not with the module, which processes read that time NumPy's own import

    array = cupy.asarray(np.full((2, 2), 3.0, dtype=np.float32))
    _require(cupy, array, 3.0)
    return array


def _kernel(cupy: Any) -> None:
    a, b = _memory(cupy), _memory(cupy)
    cupy.RawModule(code=_TWICE).get_function("twice")((1, 1, 1), (4, 1, 1), (a, b))
    _require(cupy, b, 6.0)


def _product(cupy: Any) -> None:
    a = _memory(cupy)
    _require(cupy, importlib.import_module("cupy.cublas").gemm("N", "N", a, a), 18.0)


def _require(cupy: Any, array: Any, value: float) -> None:
    found = cupy.asnumpy(array)
    if not (found == value).all():
        raise ArithmeticError(f"it gave {found.tolist()} where all must be {value:g}")


# The libraries come first: the other jobs fail for other reasons too.
_JOBS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("load {nvrtc}, which compiles kernels", lambda cupy: cupy.cuda.nvrtc.getVersion()),
    ("load {cublas}, which multiplies matrices", lambda cupy: importlib.import_module("cupy.cublas")),
    ("use the GPU's memory", _memory),
    ("compile and run a kernel ({nvrtc})", _kernel),
    ("multiply matrices ({cublas})", _product),
)


def _work_fault(cupy: Any, setting: _Setting) -> Fault | None:
    """What a network needs and the GPU does not do."""
    names = {"nvrtc": "hipRTC", "cublas": "hipBLAS"} if setting.rocm else {"nvrtc": "NVRTC", "cublas": "cuBLAS"}
    for what, job in _JOBS:
        try:
            job(cupy)
        except Exception as problem:  # CUDA's own, and CuPy's for each library that it cannot load
            remedy = setting.install()
            if job is _memory:
                remedy = f"run {'rocm-smi' if setting.rocm else 'nvidia-smi'}, which shows what holds it"
            return Fault(f"CuPy cannot {what.format(**names)}: {first_line(problem)}", remedy)
    return None
