"""Backends by name, the choice that ``"auto"`` makes, and why a backend is or is not usable here."""

import importlib
import logging
from functools import cache
from typing import TYPE_CHECKING

from accelnn.backends.availability import find_fault
from accelnn.errors import BackendUnavailableError, DataError, UnknownNameError, require_known

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["BACKENDS", "auto_choice", "get_backend", "why_auto", "why_unavailable"]

BACKENDS = ("numpy", "numba", "cupy")

_log = logging.getLogger("accelnn")


def get_backend(name: "str | Backend" = "auto", threads: int | None = None, device: int | None = None) -> "Backend":
    """The backend of this name.

    Parameters
    ----------
    name : {"auto", "numpy", "numba", "cupy"} or Backend
        ``"auto"`` takes a usable GPU, else numba, else numpy, and logs which and why. A backend is returned as it is.
    threads : int, optional
        Most threads of the numba backend; see :func:`accelnn.threads.thread_count` for the default. NumPy's products
        take their number of threads from the environment, and a GPU needs none.
    device : int, optional
        The GPU of the cupy backend, counted from 0; by default CuPy's current one.

    Returns
    -------
    Backend
        One object a name, number of threads, device and process.

    Raises
    ------
    UnknownNameError
        For any other name.
    DataError
        For a number of threads or a device that cannot be used, and for a device where no GPU computes.
    BackendUnavailableError
        For a backend that cannot run here; the message says what is missing and the command that installs it.
    """
    if threads is not None:
        _whole_number("threads", threads, 1)
    if device is not None:
        _whole_number("device", device, 0)
    if not isinstance(name, str):
        from accelnn.backends.base import Backend

        if not isinstance(name, Backend):
            raise UnknownNameError("backend", name, ("auto", *BACKENDS))
        if device is not None:
            raise DataError(f"device: {device} is for backend='cupy'; a backend that is made already has its own")
        return name
    require_known("backend", name, ("auto", *BACKENDS))
    chosen = auto_choice()[0] if name == "auto" else name
    if device is not None and chosen != "cupy":
        because = f", and backend='auto' takes {chosen} here because {why_auto()}" if name == "auto" else ""
        raise DataError(f"device: {device} is for backend='cupy'{because or f', not for backend={name!r}'}")
    reason = why_unavailable(chosen)
    if reason:
        raise BackendUnavailableError(f"backend={name!r} cannot run here: {reason}")
    return _create(chosen, threads if chosen == "numba" else None, _gpu(device) if chosen == "cupy" else None)


@cache
def auto_choice() -> tuple[str, str]:
    """What ``"auto"`` takes, and why; logged once a process."""
    no_gpu, no_numba = find_fault("cupy"), find_fault("numba")
    # What is missing, without the remedy that who asks for a backend by name is told.
    if no_gpu is None:
        choice = "cupy", "a GPU is usable"
    elif no_numba is None:
        choice = "numba", no_gpu.reason
    else:
        choice = "numpy", f"{no_gpu.reason}, and {no_numba.reason}"
    _log.info("backend='auto' takes %s: %s", *choice)
    return choice


def why_auto() -> str:
    """Why ``"auto"`` takes what it takes, in one line."""
    return auto_choice()[1]


def why_unavailable(name: str) -> str | None:
    """None where a backend is usable, else what is missing and the remedy."""
    fault = find_fault(name)
    return None if fault is None else str(fault)


@cache
def _create(name: str, threads: int | None, device: int | None) -> "Backend":
    if name == "numpy":
        from accelnn.backends.numpy import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        from accelnn.backends.numba import NumbaBackend

        return NumbaBackend(threads)
    from accelnn.backends.cupy import CupyBackend

    return CupyBackend(device)


def _gpu(device: int | None) -> int:
    """The number of a GPU that is there."""
    cuda = importlib.import_module("cupy").cuda
    count = cuda.runtime.getDeviceCount()
    if device is not None and device >= count:
        raise DataError(f"device: there is no GPU {device}; this machine has {count}, counted from 0")
    return cuda.Device().id if device is None else device


def _whole_number(argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DataError(f"{argument}: {value!r} is not a whole number of at least {least}")
