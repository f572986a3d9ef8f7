"""What is installed, with its version. Whatever cannot be found or loaded is None, and nothing raises."""

import ctypes
import importlib
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import accelnn
from accelnn.backends.availability import cupy_packages, driver_version, version_text

__all__ = ["installed"]

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "scikit-learn")


def installed() -> dict[str, str | None]:
    """Version by name: of packages as their metadata say, of libraries as they say themselves once they are loaded."""
    driver = driver_version()
    return {
        "python": platform.python_version(),
        "accelnn": accelnn.__version__,
        **{name: _package(name) for name in PACKAGES},
        "cupy": ", ".join(f"{version} ({name})" for name, version in cupy_packages().items()) or None,
        "driver": None if driver is None else f"for CUDA up to {version_text(driver)}",
        "cuda_runtime": _library("cudart", lambda library: version_text(_number(library.cudaRuntimeGetVersion))),
        "nvrtc": _library("nvrtc", _nvrtc_version),
        "cublas": _library("cublas", _cublas_version),
        "nccl": _library("nccl", _nccl_version),
        "mpi4py": _package("mpi4py"),
        "mpi": _mpi_library(),
    }


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except Exception:  # not installed, or its metadata are damaged
        return None


# CUDA's libraries, found as CuPy finds them (its wheels depend on cuda-pathfinder), else where the system has them.


def _library(name: str, version: Callable[[Any], str]) -> str | None:
    paths = [f"lib{name}.so.{major}" for major in (13, 12, 2)]
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        paths.insert(0, pathfinder.load_nvidia_dynamic_lib(name).abs_path)
    except Exception:  # no pathfinder, no such library, or one that does not load
        pass
    for path in paths:
        try:
            return version(ctypes.CDLL(path))
        except (OSError, AttributeError):
            continue
    return None


def _number(function: Any, *arguments: int) -> int:
    """What a C function writes where its last argument points."""
    value = ctypes.c_int()
    if function(*arguments, ctypes.byref(value)) != 0:
        raise OSError("the library does not know its version")
    return value.value


def _nvrtc_version(library: Any) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    if library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) != 0:
        raise OSError("the library does not know its version")
    return f"{major.value}.{minor.value}"


def _cublas_version(library: Any) -> str:
    return ".".join(str(_number(library.cublasGetProperty, part)) for part in range(3))


def _nccl_version(library: Any) -> str:
    version = _number(library.ncclGetVersion)
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def _mpi_library() -> str | None:
    """Which library mpi4py works with. MPI itself is not started."""
    try:
        importlib.import_module("mpi4py").rc.initialize = False
        words = importlib.import_module("mpi4py.MPI").Get_library_version()
    except Exception:  # no mpi4py, or none of the libraries that it knows
        return None
    # What follows the first comma or line tells who built it, and where.
    return " ".join(words.partition("\n")[0].partition(",")[0].replace(" Version:", "").split())
