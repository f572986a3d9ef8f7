"""Backends by name, the choice that ``"auto"`` makes, and why a backend is or is not usable here."""

import ctypes
import importlib.util
import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

from accelnn.errors import BackendUnavailableError, DataError, UnknownNameError, require_known

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["BACKENDS", "get_backend", "why_auto", "why_unavailable"]

BACKENDS = ("numpy", "numba", "cupy")

_log = logging.getLogger("accelnn")


def get_backend(name: "str | Backend" = "auto", threads: int | None = None) -> "Backend":
    """The backend of this name.

    Parameters
    ----------
    name : {"auto", "numpy", "numba", "cupy"} or Backend
        ``"auto"`` takes a usable GPU, else numba, else numpy, and logs which and why. A backend is returned as it is.
    threads : int, optional
        Most threads of the numba backend; see :func:`accelnn.threads.thread_count` for the default. NumPy's products
        take their number of threads from the environment, and a GPU needs none.

    Returns
    -------
    Backend
        One object a name, number of threads and process.

    Raises
    ------
    UnknownNameError
        For any other name.
    BackendUnavailableError
        For a backend that cannot run here; the message says what is missing and the command that installs it.
    """
    if not isinstance(name, str):
        from accelnn.backends.base import Backend

        if isinstance(name, Backend):
            return name
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))
    if name == "auto":
        return get_backend(_auto()[0], threads)
    require_known("backend", name, ("auto", *BACKENDS))
    reason = why_unavailable(name)
    if reason:
        raise BackendUnavailableError(f"backend={name!r} cannot run here: {reason}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise DataError(f"threads: {threads!r} is not a whole number of at least 1")
    return _create(name, threads if name == "numba" else None)


def why_auto() -> str:
    """Why ``"auto"`` takes what it takes, in one line."""
    return _auto()[1]


@cache
def why_unavailable(name: str) -> str | None:
    """None where a backend is usable, else what is missing and the remedy."""
    if name == "numba":
        return _why_no_numba()
    return _why_no_cupy() if name == "cupy" else None


@cache
def _auto() -> tuple[str, str]:
    no_gpu = why_unavailable("cupy")
    no_numba = why_unavailable("numba")
    if no_gpu is None:
        choice = "cupy", "a GPU is usable"
    elif no_numba is None:
        # What is missing, without the remedy that an explicit backend="cupy" is told.
        choice = "numba", no_gpu.rpartition("; ")[0]
    else:
        choice = "numpy", f"{no_gpu.rpartition('; ')[0]}, and {no_numba.rpartition('; ')[0]}"
    _log.info("backend='auto' takes %s: %s", *choice)
    return choice


@cache
def _create(name: str, threads: int | None) -> "Backend":
    if name == "numpy":
        from accelnn.backends.numpy import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        from accelnn.backends.numba import NumbaBackend

        return NumbaBackend(threads)
    from accelnn.backends.cupy import CupyBackend

    return CupyBackend()


def _why_no_numba() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed; run: pip install numba"
    try:
        import numba  # noqa: F401 (does it load beside this NumPy?)
    except Exception as problem:  # a mismatch of versions raises several types
        return f"Numba fails with {type(problem).__name__}: {_first_line(problem)}; run: pip install --upgrade numba"
    return None


def _why_no_cupy() -> str | None:
    driver = _driver_version()
    extra = 13 if driver is None else min(max(driver // 1000, 12), 13)
    remedy = f'run: pip install "accelnn[cuda{extra}]"'
    if driver is None:
        remedy = f"install an NVIDIA driver, then {remedy}"
    if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; {remedy}"
    try:
        import cupy

        if not cupy.is_available():
            return f"CuPy finds no usable GPU; {remedy}"
        # The smallest job that needs memory, a compiled kernel and cuBLAS.
        probe = cupy.ones((2, 2), dtype=cupy.float32)
        if float((probe @ probe + probe)[0, 0]) != 3.0:
            return f"the GPU gave a wrong result for a 2 x 2 product; {remedy}"
    except Exception as problem:  # CuPy raises many types, for each library that it cannot load
        return f"CuPy fails with {type(problem).__name__}: {_first_line(problem)}; {remedy}"
    return None


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or ["no message"])[0]


def _driver_version() -> int | None:
    """The CUDA version that the installed NVIDIA driver supports, such as 13000, or None without a driver."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        return version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else None
    except (OSError, AttributeError):
        return None
