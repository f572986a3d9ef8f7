"""Backends by name, the choice that ``"auto"`` makes, and why a backend is or is not usable here."""

import ctypes
import importlib.util
import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

from accelnn.errors import BackendUnavailableError, UnknownNameError

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["BACKENDS", "get_backend", "why_auto", "why_unavailable"]

BACKENDS = ("numpy", "numba", "cupy")

_log = logging.getLogger("accelnn")


def get_backend(name: "str | Backend" = "auto") -> "Backend":
    """The backend of this name.

    Parameters
    ----------
    name : {"auto", "numpy", "numba", "cupy"} or Backend
        ``"auto"`` takes a usable GPU, else numba, else numpy, and logs which and why. A backend is returned as it is.

    Returns
    -------
    Backend
        One object a name and process.

    Raises
    ------
    UnknownNameError
        For any other name.
    BackendUnavailableError
        For a backend that cannot run here; the message says what is missing and the command that installs it.
    """
    if not isinstance(name, str):
        return name
    if name == "auto":
        return get_backend(_auto()[0])
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))
    reason = why_unavailable(name)
    if reason:
        raise BackendUnavailableError(f"backend={name!r} cannot run here: {reason}")
    return _create(name)


def why_auto() -> str:
    """Which backend ``"auto"`` takes, and why, in one line."""
    name, why = _auto()
    return f"{name} ({why})"


@cache
def why_unavailable(name: str) -> str | None:
    """None where a backend is usable, else what is missing and the remedy."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return "Numba is not installed; run: pip install numba"
    return _why_no_cupy() if name == "cupy" else None


@cache
def _auto() -> tuple[str, str]:
    no_gpu = why_unavailable("cupy")
    no_numba = why_unavailable("numba")
    if no_gpu is None:
        choice = "cupy", "a GPU is usable"
    elif no_numba is None:
        choice = "numba", f"no GPU: {no_gpu}"
    else:
        choice = "numpy", f"no GPU: {no_gpu}; no numba: {no_numba}"
    _log.info("backend='auto' takes %s: %s", *choice)
    return choice


@cache
def _create(name: str) -> "Backend":
    if name == "numpy":
        from accelnn.backends.numpy import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        from accelnn.backends.numba import NumbaBackend

        return NumbaBackend()
    from accelnn.backends.cupy import CupyBackend

    return CupyBackend()


def _why_no_cupy() -> str | None:
    driver = _driver_version()
    install = f'pip install "accelnn[cuda{13 if driver is None else min(max(driver // 1000, 12), 13)}]"'
    if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
        first = "" if driver else "no NVIDIA driver was found (install one first), and "
        return f"{first}CuPy is not installed; run: {install}"
    try:
        import cupy

        if not cupy.is_available():
            return (
                "CuPy finds no usable GPU"
                + ("" if driver else ", because no NVIDIA driver is installed")
                + f"; with a driver, run: {install}"
            )
        # The smallest job that needs memory, a compiled kernel and cuBLAS.
        probe = cupy.ones((2, 2), dtype=cupy.float32)
        if float((probe @ probe + probe)[0, 0]) != 3.0:
            return "the GPU gave a wrong result for a 2 x 2 product"
    except Exception as problem:  # CuPy raises many types, for each library that it cannot load
        return f"CuPy fails with {type(problem).__name__}: {_first_line(problem)}; run: {install}"
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
