"""The machine as accelnn meets it: GPUs, processors, threads, NumPy's BLAS, and where compiled kernels are kept."""

import ctypes
import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.backends.availability import driver_library, find_fault
from accelnn.benchmark.machine import cpu_model
from accelnn.errors import DataError
from accelnn.threads import VARIABLES, thread_count

__all__ = ["blas", "gpus", "kernel_cache", "processors", "threads"]


def gpus() -> list[dict[str, Any]]:
    """Name and bytes of memory of each, in the order of their numbers. Those that a driver sees need no CuPy."""
    if find_fault("cupy") is None:
        runtime = importlib.import_module("cupy").cuda.runtime
        found = (runtime.getDeviceProperties(number) for number in range(runtime.getDeviceCount()))
        return [{"name": gpu["name"].decode(), "memory": int(gpu["totalGlobalMem"])} for gpu in found]
    try:
        return _gpus_of_driver(driver_library())
    except AttributeError:  # no driver
        return []


def _gpus_of_driver(library: Any) -> list[dict[str, Any]]:
    count, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    library.cuInit(0)
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0:  # the driver did not start, or sees none
        return []
    found = []
    # The driver names a device by a handle that it gives for the device's number.
    for number in range(count.value):
        device = ctypes.c_int()
        library.cuDeviceGet(ctypes.byref(device), number)
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        found.append({"name": name.value.decode(errors="replace"), "memory": memory.value})
    return found


def processors() -> dict[str, Any]:
    """Model, and how many."""
    return {"model": cpu_model(), "count": os.cpu_count()}


def threads() -> dict[str, Any]:
    """How many the numba backend takes, which environment variable decided, and what is wrong with that."""
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    try:
        return {"count": thread_count(), "variable": variable, "problem": None}
    except DataError as problem:
        return {"count": None, "variable": variable, "problem": str(problem)}


def blas() -> dict[str, Any]:
    """The library beneath NumPy's products, its version and its threads (None where they cannot be found out)."""
    built: Any = np.show_config(mode="dicts")
    found = {"library": built["Build Dependencies"]["blas"].get("name"), "version": None, "threads": None}
    try:
        pools = [
            pool for pool in importlib.import_module("threadpoolctl").threadpool_info() if pool["user_api"] == "blas"
        ]
    except Exception:  # not installed (it comes with scikit-learn), or broken
        return found
    # NumPy's wheels bring a BLAS of their own, and SciPy's another.
    own = [pool for pool in pools if any(part.startswith("numpy") for part in Path(pool["filepath"]).parts)]
    for pool in (own or pools)[:1]:
        found = {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
    return found


def kernel_cache() -> dict[str, Any] | None:
    """The folder of compiled kernels, and whether one could be kept there; None where Numba compiles none."""
    if find_fault("numba") is not None:
        return None
    from accelnn.kernels.jit import cache_folder, require_own

    folder: Path | str = "none"
    try:
        folder = cache_folder()
        require_own(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        return {"folder": str(folder), "writable": False, "problem": problem.strerror}
    return {"folder": str(folder), "writable": True, "problem": None}
