"""A stand-in for the module ``cupy``, which proves on any machine how a program uses a GPU.

Within ``with installed():`` the program imports it as ``cupy``. It has the names of CuPy that the backend may use, with
CuPy's signatures, and no other. Its arrays live in memory that NumPy cannot reach; a `RawModule` runs in the emulator;
launches, copies, allocations and synchronisations are counted; and work on one stream that is not sure to come after
the work on another stream that it needs raises an error. `double/test_names.py` holds it against an installed CuPy.

Not modelled: that anything takes time, that freed memory comes back to another stream too early, per-thread default
streams, events within a captured graph, and access to another device's memory. Stricter than CuPy: an array of the host
is refused everywhere but by `asarray`, `array` and `asnumpy`; a captured graph holds no allocation and no copy from or
to the host; an array of indices selects nothing (`take` does).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
from gpu.double import arrays, copies, cuda, functions, kernels, machine, runtime
from gpu.double.machine import Counters, counters, counting

__all__ = ["MODULES", "Counters", "configure", "configured", "counters", "counting", "installed"]

DTYPES = ("bool_", "float32", "float64", "int32", "int64", "uint64")


def configure(devices: int = 1, memory: int = 2**30) -> None:
    """Plug in new devices, whose pools, streams and clocks are new too.

    Parameters
    ----------
    devices : int, default 1
    memory : int, default 2**30
        Bytes of each device.
    """
    machine.plug_in(devices, memory)
    cuda.reset()


@contextmanager
def configured(devices: int = 1, memory: int = 2**30) -> Iterator[None]:
    """Plug in new devices, and afterwards those that were there, with all that lives on them."""
    earlier = machine.state(), cuda.state()
    configure(devices, memory)
    try:
        yield
    finally:
        machine.restore(earlier[0])
        cuda.restore(earlier[1])


def _get_default_memory_pool() -> copies.MemoryPool:
    return _pool


def _get_default_pinned_memory_pool() -> copies.PinnedMemoryPool:
    return _pinned_pool


_pool = copies.MemoryPool()
_pinned_pool = copies.PinnedMemoryPool()


def _module(name: str, contents: dict[str, Any]) -> ModuleType:
    module = ModuleType(name, "Of the device double.")
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(contents)
    return module


def _modules() -> dict[str, ModuleType]:
    memory = {name: getattr(copies, name) for name in ("MemoryPointer", "MemoryPool")}
    memory["OutOfMemoryError"] = machine.OutOfMemoryError
    modules = {
        "cupy.cuda.memory": _module("cupy.cuda.memory", memory),
        "cupy.cuda.runtime": _module("cupy.cuda.runtime", {name: getattr(runtime, name) for name in runtime.__all__}),
        "cupy.cuda.nvrtc": _module("cupy.cuda.nvrtc", {"getVersion": kernels.getVersion}),
        "cupy.cublas": _module("cupy.cublas", {"gemm": kernels.gemm}),
    }
    of_cuda = {name: getattr(cuda, name) for name in ("Device", "Event", "Graph", "Stream", "get_current_stream")}
    of_cuda |= {name: getattr(copies, name) for name in ("MemoryPointer", "MemoryPool", "PinnedMemoryPointer")}
    modules["cupy.cuda"] = _module(
        "cupy.cuda",
        of_cuda
        | {
            "PinnedMemoryPool": copies.PinnedMemoryPool,
            "alloc_pinned_memory": copies.alloc_pinned_memory,
            "is_available": cuda.is_available,
            "memory": modules["cupy.cuda.memory"],
            "nvrtc": modules["cupy.cuda.nvrtc"],
            "runtime": modules["cupy.cuda.runtime"],
        },
    )
    modules["cupy"] = _module(
        "cupy",
        {name: getattr(functions, name) for name in functions.__all__}
        | {name: getattr(np, name) for name in DTYPES}
        | {
            "__version__": "14.2.0",
            "RawModule": kernels.RawModule,
            "cublas": modules["cupy.cublas"],
            "cuda": modules["cupy.cuda"],
            "get_default_memory_pool": _get_default_memory_pool,
            "get_default_pinned_memory_pool": _get_default_pinned_memory_pool,
            "is_available": cuda.is_available,
            "ndarray": arrays.ndarray,
        },
    )
    return modules


MODULES = _modules()


@contextmanager
def installed() -> Iterator[ModuleType]:
    """Let ``import cupy`` find the double, and afterwards what it found before."""

    def of_cupy(name: str) -> bool:
        return name.partition(".")[0] == "cupy"

    before = {name: module for name, module in sys.modules.items() if of_cupy(name)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(MODULES)
    try:
        yield MODULES["cupy"]
    finally:
        for name in [name for name in sys.modules if of_cupy(name)]:
            del sys.modules[name]
        sys.modules.update(before)


configure()
