"""Copies between host and device, pinned memory, and the pools.

A copy from or to pinned memory goes on while the host does, so that the host must not touch that memory before it has
waited. Two things make a program fail that does: an array that a device copies into is poisoned until the host has
waited, and one that a device copies from is then compared with what it was.
"""

import numpy as np
from gpu.double import machine
from gpu.double.cuda import Device, Stream, Work, current_device, submit
from gpu.double.machine import Access, Memory

__all__ = [
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemoryPointer",
    "PinnedMemoryPool",
    "alloc_pinned_memory",
    "between",
    "to_device",
    "to_host",
]


class MemoryPointer:
    """A place in a device's memory."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    @property
    def device_id(self) -> int:
        """The number of its device."""
        return self.mem.device.number

    @property
    def device(self) -> Device:
        """Its device."""
        return Device(self.device_id)


class MemoryPool:
    """The current device's pool; an array takes a multiple of 512 bytes."""

    def used_bytes(self) -> int:
        """Bytes of living arrays."""
        return current_device().used

    def free_bytes(self) -> int:
        """Bytes that the pool keeps for the next arrays."""
        return current_device().free

    def total_bytes(self) -> int:
        """Both."""
        return current_device().used + current_device().free

    def free_all_blocks(self, stream: Stream | None = None) -> None:
        """Give the free bytes back to the device."""
        current_device().free = 0


# ----------------------------------------------------------------------------------------------------------------------
# Pinned memory
# ----------------------------------------------------------------------------------------------------------------------

_pinned: dict[int, int] = {}  # address: size


class PinnedMemoryPointer(bytearray):
    """Memory of the host that a device can use while the host goes on."""

    ptr: int

    def size(self) -> int:
        """Bytes."""
        return len(self)

    def __del__(self) -> None:
        _pinned.pop(self.ptr, None)


class PinnedMemoryPool:
    """The pool of pinned memory."""

    def free_all_blocks(self) -> None:
        """Give the free blocks back to the host."""

    def n_free_blocks(self) -> int:
        """Blocks that the pool keeps: none, since the double's goes back to the host at once."""
        return 0


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    """Poisoned pinned memory of at least this size: CuPy's pool hands out powers of two, from 512 bytes on."""
    if size:
        size = 1 << (max(size, machine.ALIGNMENT) - 1).bit_length()
    pointer = PinnedMemoryPointer(bytes([machine.POISON]) * size)
    pointer.ptr = np.frombuffer(pointer, np.uint8).ctypes.data if size else 0
    _pinned[pointer.ptr] = size
    return pointer


def _is_pinned(array: np.ndarray) -> bool:
    place = array.ctypes.data
    return any(start <= place < start + size for start, size in list(_pinned.items()))


# ----------------------------------------------------------------------------------------------------------------------
# Copies, between contiguous arrays of the same layout
# ----------------------------------------------------------------------------------------------------------------------


def to_device(access: Access, target: np.ndarray, source: np.ndarray, stream: Stream | None) -> None:
    """Copy from the host. What is not pinned is staged: the host may change it as soon as this returns."""

    def run() -> None:
        target[...] = source

    work = Work("a copy to the device", "host_to_device", run, writes=[access], anywhere=True, capturable=False)
    timeline = submit(work, stream)
    if _is_pinned(source):
        before = source.tobytes()

        def compare() -> None:
            if source.tobytes() != before:
                raise RuntimeError("unordered: the host changed pinned memory before it had waited for its copy")

        machine.when_host_knows(timeline, compare)


def to_host(access: Access, source: np.ndarray, target: np.ndarray, stream: Stream, blocking: bool) -> None:
    """Copy to the host, which waits unless the memory is pinned and `blocking` is False."""
    values = source.copy()
    work = Work("a copy to the host", "device_to_host", lambda: None, reads=[access], anywhere=True, capturable=False)
    timeline = submit(work, stream)

    def deliver() -> None:
        target[...] = values

    target.ravel(order="K").view(np.uint8)[...] = machine.POISON
    machine.when_host_knows(timeline, deliver)
    if blocking or not _is_pinned(target):
        stream.synchronize()


def between(target: tuple[Access, np.ndarray], source: tuple[Access, np.ndarray], anywhere: bool = False) -> None:
    """Copy within a device, or from another one."""

    def run() -> None:
        target[1][...] = source[1]

    submit(Work("a copy", "device_to_device", run, reads=[source[0]], writes=[target[0]], anywhere=anywhere))
