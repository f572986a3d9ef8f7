"""Of ``cupy.cuda.runtime``: CUDA's own functions, by CUDA's names."""

import ctypes
from typing import Any

import numpy as np
from gpu.double import copies, machine
from gpu.double.cuda import PROPERTIES, CUDARuntimeError, Device, current_device, stream_of
from gpu.double.machine import Access

__all__ = [
    "CUDARuntimeError",
    "deviceSynchronize",
    "driverGetVersion",
    "getDevice",
    "getDeviceCount",
    "getDeviceProperties",
    "is_hip",
    "memGetInfo",
    "memcpyAsync",
    "memcpyDeviceToDevice",
    "memcpyDeviceToHost",
    "memcpyHostToDevice",
    "runtimeGetVersion",
    "setDevice",
    "streamSynchronize",
]

is_hip = False
memcpyHostToDevice = 1  # noqa: N816
memcpyDeviceToHost = 2  # noqa: N816
memcpyDeviceToDevice = 3  # noqa: N816


def getDeviceCount() -> int:
    """How many devices there are."""
    return len(machine.devices)


def getDevice() -> int:
    """The number of the current device."""
    return current_device().number


def setDevice(device: int) -> None:
    """Make a device current."""
    Device(device).use()


def getDeviceProperties(device: int) -> dict[str, Any]:
    """What a device says of itself."""
    return PROPERTIES | {"totalGlobalMem": Device(device).mem_info[1]}


def driverGetVersion() -> int:
    """The CUDA version that the driver supports."""
    return 13000


def runtimeGetVersion() -> int:
    """The version of CUDA's runtime."""
    return 13000


def deviceSynchronize() -> None:
    """Wait for all work on the current device."""
    Device().synchronize()


def streamSynchronize(stream: int) -> None:
    """Wait for a stream."""
    stream_of(stream).synchronize()


def memGetInfo() -> tuple[int, int]:
    """Bytes of the current device that are free, and all."""
    return Device().mem_info


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    """Copy bytes between two addresses."""
    if kind == memcpyHostToDevice:
        copies.to_device(*_on_device(dst, size), _on_host(src, size), stream_of(stream))
    elif kind == memcpyDeviceToHost:
        copies.to_host(*_on_device(src, size), _on_host(dst, size), stream_of(stream), blocking=False)
    elif kind == memcpyDeviceToDevice:
        with stream_of(stream):
            copies.between(_on_device(dst, size), _on_device(src, size))
    else:
        raise CUDARuntimeError(1)


def _on_device(pointer: int, size: int) -> tuple[Access, np.ndarray]:
    memory = machine.find_memory(pointer)
    start = pointer - memory.ptr
    if start + size > memory.size:
        raise CUDARuntimeError(1)
    values = memory.bytes[start : start + size]
    return memory.access(values), values


def _on_host(pointer: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
