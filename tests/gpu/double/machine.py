"""The machine that the double pretends: devices with memory, the order of work on their streams, and what is counted.

Work runs at once, whatever its stream. What would be sure of its order on a device is followed beside it: a clock says
which work has ended, and a memory remembers who read and wrote which of its bytes. Work that meets bytes of another
stream's work which is not sure to have ended raises an error, since on a device the two could overlap.
"""

import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.array_utils import byte_bounds

__all__ = [
    "Access",
    "Clock",
    "Counters",
    "Device",
    "Memory",
    "OutOfMemoryError",
    "Timeline",
    "count",
    "count_kernel",
    "counters",
    "counting",
    "devices",
    "find_memory",
    "host_waits",
    "join",
    "lock",
    "plug_in",
    "restore",
    "state",
    "when_host_knows",
]

ALIGNMENT = 512  # bytes; CuPy's pool rounds every size up to this
lock = threading.RLock()  # one thing happens at a time, whichever thread asks for it
POISON = 0xFF  # a byte of new memory: NaN in every floating type, -1 in every signed integer


# ----------------------------------------------------------------------------------------------------------------------
# Counters
# ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Counters:
    """How often a device was asked for something.

    Attributes
    ----------
    launches : int
        Kernels launched: our own, cuBLAS' and those that CuPy generates for its functions and operators.
    kernels : Counter
        The same by name; those of a graph too, which `launches` does not count.
    graph_launches : int
    host_to_device, device_to_host, device_to_device : int
        Copies.
    allocations : int
        Requests for device memory, whether the pool holds enough or not.
    synchronisations : int
        How often the host waited.
    default_stream : int
        Launches and copies on the null stream.
    """

    launches: int = 0
    kernels: Counter = field(default_factory=Counter)
    graph_launches: int = 0
    host_to_device: int = 0
    device_to_host: int = 0
    device_to_device: int = 0
    allocations: int = 0
    synchronisations: int = 0
    default_stream: int = 0


counters = Counters()
_counting = [counters]


def count(name: str, kernel: str | None = None) -> None:
    """Count one more of something, and the kernel's name."""
    with lock:
        for counts in _counting:
            setattr(counts, name, getattr(counts, name) + 1)
            if kernel is not None:
                counts.kernels[kernel] += 1


def count_kernel(name: str) -> None:
    """Count a kernel that a graph launched."""
    for counts in _counting:
        counts.kernels[name] += 1


@contextmanager
def counting() -> Iterator[Counters]:
    """Counters of what happens within the block."""
    counts = Counters()
    _counting.append(counts)
    try:
        yield counts
    finally:
        # By identity: two counters with the same numbers are equal.
        _counting[:] = [other for other in _counting if other is not counts]


# ----------------------------------------------------------------------------------------------------------------------
# Order
# ----------------------------------------------------------------------------------------------------------------------

# How much of each timeline's work is sure to have ended: a vector clock.
Clock = dict[int, int]

_numbers = itertools.count(1)


def join(clock: Clock, other: Clock) -> None:
    """Know what the other clock knows too."""
    with lock:
        for number, time in other.items():
            if clock.get(number, 0) < time:
                clock[number] = time


class Timeline:
    """The work of one stream on one device."""

    def __init__(self, device: "Device", name: str, null: bool = False, blocking: bool = True) -> None:
        self.device, self.name, self.null, self.blocking = device, name, null, blocking
        self.number = next(_numbers)
        self.ended: Clock = {}  # what will have ended when this stream's next work starts

    @property
    def time(self) -> int:
        """The number of the latest work."""
        return self.ended.get(self.number, 0)

    def catch_up(self) -> None:
        """Come after what the host has waited for, and after what the null stream makes this one wait for."""
        join(self.ended, _host)
        if self.null:
            join(self.ended, self.device.blocking)
        elif self.blocking:
            join(self.ended, self.device.null.ended)

    def start(self) -> None:
        """One more piece of work."""
        self.catch_up()
        self.ended[self.number] = self.time + 1

    def submitted(self) -> None:
        """Tell the device, whose synchronisation waits for it."""
        join(self.device.submitted, self.ended)
        if self.blocking:
            join(self.device.blocking, self.ended)


_host: Clock = {}
_awaited: list[tuple[int, int, Callable[[], None]]] = []


def host_waits(clock: Clock) -> None:
    """Let the host know that what a clock holds has ended."""
    with lock:
        join(_host, clock)
        ended = [_host.get(number, 0) >= time for number, time, _ in _awaited]
        actions = [entry[2] for entry, now in zip(_awaited, ended, strict=True) if now]
        _awaited[:] = [entry for entry, now in zip(_awaited, ended, strict=True) if not now]
        for action in actions:
            action()


def when_host_knows(timeline: Timeline, action: Callable[[], None]) -> None:
    """Call a function as soon as the host has waited for a timeline's latest work."""
    with lock:
        _awaited.append((timeline.number, timeline.time, action))


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """More memory was asked for than a device has."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")
        self._arguments = size, total, limit

    def __reduce__(self):
        return type(self), self._arguments


class Device:
    """Its memory, as CuPy's pool shares it out, and the clocks of its streams.

    Attributes
    ----------
    used, free : int
        Bytes of living arrays, and bytes that the pool keeps for the next ones.
    """

    def __init__(self, number: int, memory: int) -> None:
        self.number, self.memory = number, memory
        self.used = self.free = 0
        self.submitted: Clock = {}
        self.blocking: Clock = {}  # work that the null stream waits for
        self.null = Timeline(self, "the null stream", null=True)

    def allocate(self, size: int) -> None:
        """Take bytes from the pool, or from the device."""
        with lock:
            if size > self.free:
                if self.used + self.free + size > self.memory:
                    self.free = 0  # the pool gives its free blocks back before it gives up
                if self.used + size > self.memory:
                    raise OutOfMemoryError(size, self.used)
            else:
                self.free -= size
            self.used += size

    def release(self, size: int) -> None:
        """Give bytes back to the pool."""
        with lock:
            self.used -= size
            self.free += size


devices: list[Device] = []


State = tuple[list[Device], Clock, list[tuple[int, int, Callable[[], None]]]]


def state() -> State:
    """The devices, and what the host knows of their work and waits for."""
    return list(devices), dict(_host), list(_awaited)


def restore(earlier: State) -> None:
    """Let the devices be those of an earlier state."""
    devices[:], _awaited[:] = earlier[0], earlier[2]
    _host.clear()
    _host.update(earlier[1])


def plug_in(number: int, memory: int) -> None:
    """Replace all devices by new ones of so many bytes each."""
    restore(([Device(k, memory) for k in range(number)], {}, []))


@dataclass(frozen=True)
class Access:
    """A range of a memory's bytes that work uses; it does not keep the memory alive."""

    memory: "weakref.ref[Memory]"
    low: int
    high: int


# The latest work on each range of bytes; of several readers of a range, on each timeline.
Records = dict[tuple[int, ...], tuple[Timeline, int]]

_living: weakref.WeakValueDictionary[int, "Memory"] = weakref.WeakValueDictionary()


def find_memory(pointer: int) -> "Memory":
    """The memory of the array to which an address belongs."""
    for memory in list(_living.values()):
        if memory.ptr <= pointer < memory.ptr + memory.size:
            return memory
    raise ValueError(f"no array of a device has the address {pointer:#x}")


class Memory:
    """Bytes of a device, poisoned, and who has used which of them.

    Attributes
    ----------
    ptr, size : int
        Address and length; the address of no bytes is 0.
    """

    def __init__(self, size: int, device: Device) -> None:
        self.device, self.size = device, size
        self._rounded = -(-size // ALIGNMENT) * ALIGNMENT
        device.allocate(self._rounded)
        if size:
            count("allocations")
        raw = np.full(self._rounded + ALIGNMENT, POISON, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start : start + size]
        self.ptr = self.bytes.ctypes.data if size else 0
        self._writes: Records = {}
        self._reads: Records = {}
        _living[id(self)] = self

    def __del__(self) -> None:
        if hasattr(self, "ptr"):
            self.device.release(self._rounded)

    def access(self, array: np.ndarray) -> "Access":
        """The bytes from an array's first element to its last."""
        low, high = byte_bounds(array) if array.size else (0, 0)
        return Access(weakref.ref(self), low, high)

    def read(self, timeline: Timeline, low: int, high: int, what: str) -> None:
        """Work reads bytes: those who wrote them must have ended."""
        self._check(self._writes, "written", timeline, low, high, what)
        self._reads[low, high, timeline.number] = timeline, timeline.time

    def write(self, timeline: Timeline, low: int, high: int, what: str) -> None:
        """Work writes bytes: those who read or wrote them must have ended."""
        self._check(self._writes, "written", timeline, low, high, what)
        self._check(self._reads, "read", timeline, low, high, what)
        for records in (self._writes, self._reads):
            for span in [span for span in records if low <= span[0] and span[1] <= high]:
                del records[span]  # whoever comes after this write comes after them
        self._writes[low, high] = timeline, timeline.time

    def _check(self, records: Records, verb: str, timeline: Timeline, low: int, high: int, what: str) -> None:
        for (start, stop, *_), (other, time) in records.items():
            if start < high and low < stop and timeline.ended.get(other.number, 0) < time:
                raise RuntimeError(
                    f"unordered: {what} on {timeline.name} uses bytes {low - self.ptr} to {high - self.ptr} of an "
                    f"array that are {verb} on {other.name}; record an event there after that work and let this "
                    "stream wait for it, or synchronise"
                )
