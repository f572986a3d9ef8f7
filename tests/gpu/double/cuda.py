"""Of ``cupy.cuda``: devices, streams, events and graphs.

`submit` is the one way by which work reaches a stream; whatever launches or copies goes through it.
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from gpu.double import machine
from gpu.double.machine import Access, Memory, Timeline

__all__ = [
    "CUDARuntimeError",
    "Device",
    "Event",
    "Graph",
    "Stream",
    "Work",
    "current_device",
    "get_current_stream",
    "is_available",
    "reset",
    "restore",
    "state",
    "stream_of",
    "submit",
]


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime."""

    _NAMES: ClassVar = {
        1: "cudaErrorInvalidValue: invalid argument",
        101: "cudaErrorInvalidDevice: invalid device ordinal",
    }

    def __init__(self, status: int) -> None:
        super().__init__(self._NAMES[status])
        self.status = status


# What each device says of itself.
PROPERTIES: dict[str, Any] = {
    "name": b"Device double",
    "major": 8,
    "minor": 0,
    "maxThreadsPerBlock": 1024,
    "multiProcessorCount": 4,
    "sharedMemPerBlock": 48 * 1024,
    "warpSize": 32,
}


# ----------------------------------------------------------------------------------------------------------------------
# Devices
# ----------------------------------------------------------------------------------------------------------------------


class _Thread(threading.local):
    """What each thread has of its own: its current device, on each device its current stream, and those before it."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, Stream] = {}
        self.previous: list[tuple[int, Stream]] = []


_thread = _Thread()


def reset() -> None:
    """Make this thread's current device the first, and its null stream current."""
    restore((0, {}))


def state() -> tuple[int, dict[int, "Stream"]]:
    """This thread's current device and streams."""
    return _thread.device, dict(_thread.streams)


def restore(earlier: tuple[int, dict[int, "Stream"]]) -> None:
    """Let this thread's current device and streams be those of an earlier state."""
    _thread.device, _thread.streams = earlier


def is_available() -> bool:
    """Whether there is a device."""
    return bool(machine.devices)


def current_device() -> machine.Device:
    """The machine's device that is current in this thread."""
    return machine.devices[_thread.device]


class Device:
    """Device(device=None)

    A device by its number; the current one without.
    """

    def __init__(self, device: Any = None) -> None:
        self.id = _thread.device if device is None else int(device)
        self._previous: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> "Device":
        self._previous.append(_thread.device)
        return self.use()

    def __exit__(self, *_: object) -> None:
        _thread.device = self._previous.pop()

    def use(self) -> "Device":
        """Make this device current."""
        self._device()
        _thread.device = self.id
        return self

    def synchronize(self) -> None:
        """Wait for all work on the device."""
        get_current_stream()._refuse_capture("synchronisation")
        machine.count("synchronisations")
        machine.host_waits(self._device().submitted)

    @property
    def mem_info(self) -> tuple[int, int]:
        """Bytes that are free, and all."""
        device = self._device()
        return device.memory - device.used - device.free, device.memory

    @property
    def compute_capability(self) -> str:
        """Such as "80"."""
        return f"{PROPERTIES['major']}{PROPERTIES['minor']}"

    @property
    def attributes(self) -> dict[str, int]:
        """By the names of CUDA's enumeration, some of them."""
        self._device()
        return {
            "MaxThreadsPerBlock": PROPERTIES["maxThreadsPerBlock"],
            "MultiProcessorCount": PROPERTIES["multiProcessorCount"],
            "WarpSize": PROPERTIES["warpSize"],
        }

    def _device(self) -> machine.Device:
        if not 0 <= self.id < len(machine.devices):
            raise CUDARuntimeError(101)
        return machine.devices[self.id]


# ----------------------------------------------------------------------------------------------------------------------
# Work
# ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """A launch or a copy.

    Attributes
    ----------
    what : str
        A kernel's name, or words for a copy.
    kind : str
        The counter.
    run : callable
        Does it. It keeps no array of the device alive, as a recorded launch does not.
    reads, writes : sequence of Access
    anywhere : bool
        Whether the current device may be another than the arrays' one.
    capturable : bool
        Whether a graph can hold it.
    """

    what: str
    kind: str
    run: Callable[[], Any]
    reads: Sequence[Access] = ()
    writes: Sequence[Access] = ()
    anywhere: bool = False
    capturable: bool = True

    @property
    def kernel(self) -> str | None:
        """The name to count."""
        return self.what if self.kind == "launches" else None

    def order(self, timeline: Timeline) -> None:
        """Place the work on a timeline, or find it unordered."""
        timeline.start()
        for accesses, use in ((self.reads, Memory.read), (self.writes, Memory.write)):
            for access in accesses:
                if access.low < access.high:
                    use(self._memory(access), timeline, access.low, access.high, self.what)
        timeline.submitted()

    def check_devices(self, timeline: Timeline) -> None:
        """The stream and all arrays belong to the current device."""
        current = current_device()
        if timeline.device is not current:
            raise RuntimeError(f"{self.what}: {timeline.name} does not belong to the current device {current.number}")
        for access in (*self.reads, *self.writes):
            number = self._memory(access).device.number
            if number != current.number:
                raise ValueError(f"{self.what}: an array lives on device {number}, the current one is {current.number}")

    def _memory(self, access: Access) -> Memory:
        memory = access.memory()
        if memory is None:
            raise RuntimeError(f"{self.what}: an array that the graph uses has been freed; keep it while it can run")
        return memory


def submit(work: Work, stream: "Stream | None" = None) -> Timeline:
    """Give work to a stream, by default the current one, which runs it at once or records it."""
    stream = get_current_stream() if stream is None else stream
    timeline = stream._timeline()
    if not work.anywhere:
        work.check_devices(timeline)
    if stream._captured is not None:
        if not work.capturable:
            stream._refuse_capture(work.what)
        stream._captured.append(work)
        return timeline
    with machine.lock:
        work.order(timeline)
        machine.count(work.kind, work.kernel)
        if timeline.null:
            machine.count("default_stream")
        work.run()
    return timeline


# ----------------------------------------------------------------------------------------------------------------------
# Streams, events and graphs
# ----------------------------------------------------------------------------------------------------------------------

_handles = itertools.count(0x1000, 0x10)
_streams: weakref.WeakValueDictionary[int, "Stream"] = weakref.WeakValueDictionary()


class Stream:
    """A queue of work; ``Stream.null`` is the current device's default one."""

    null: "Stream"

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        if ptds:
            raise NotImplementedError("the double has no per-thread default streams")
        self.ptr = 0 if null else next(_handles)
        self.device_id = -1 if null else _thread.device
        self.is_non_blocking = non_blocking and not null
        self.priority = priority or 0
        self._captured: list[Work] | None = None
        if not null:
            self._own = Timeline(current_device(), f"stream {self.ptr:#x}", blocking=not non_blocking)
            _streams[self.ptr] = self

    def _timeline(self) -> Timeline:
        return current_device().null if self.ptr == 0 else self._own

    def _check_device(self) -> None:
        if self.ptr and self._own.device is not current_device():
            raise RuntimeError(f"the stream belongs to device {self.device_id}, not to the current {_thread.device}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> "Stream":
        self._check_device()
        _thread.previous.append((_thread.device, get_current_stream()))
        return self.use()

    def __exit__(self, *_: object) -> None:
        device, stream = _thread.previous.pop()
        _thread.streams[device] = stream

    def use(self) -> "Stream":
        """Make this stream current on its device."""
        self._check_device()
        _thread.streams[_thread.device] = self
        return self

    @property
    def done(self) -> bool:
        """Whether all its work has ended; here it always has, and the host knows it from now on."""
        self._refuse_capture("a query")
        machine.host_waits(self._timeline().ended)
        return True

    def synchronize(self) -> None:
        """Let the host wait for the stream's work."""
        self._refuse_capture("synchronisation")
        machine.count("synchronisations")
        timeline = self._timeline()
        timeline.catch_up()
        machine.host_waits(timeline.ended)

    def record(self, event: "Event | None" = None) -> "Event":
        """Record an event after the work that the stream has so far."""
        self._refuse_capture("an event")
        event = Event() if event is None else event
        timeline = self._timeline()
        timeline.catch_up()
        event._ended = dict(timeline.ended)
        return event

    def wait_event(self, event: "Event") -> None:
        """Let the stream's later work wait for an event; one that was never recorded is no reason to wait."""
        self._refuse_capture("an event")
        machine.join(self._timeline().ended, event._ended)

    def begin_capture(self, mode: int | None = None) -> None:
        """From now on record launches, and do not run them."""
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self._refuse_capture("a second capture")
        self._captured = []

    def end_capture(self) -> "Graph":
        """Stop recording."""
        if self._captured is None:
            raise RuntimeError("the stream is not being captured: call begin_capture first")
        graph = Graph(self._captured)
        self._captured = None
        return graph

    def is_capturing(self) -> bool:
        """Whether launches are recorded."""
        return self._captured is not None

    def _refuse_capture(self, what: str) -> None:
        if self.is_capturing():
            raise RuntimeError(f"{what}: not allowed while the stream is captured into a graph")


Stream.null = Stream(null=True)


def stream_of(pointer: int) -> Stream:
    """The stream of a handle; 0 and 1 are the null stream."""
    if pointer in (0, 1):
        return Stream.null
    if pointer not in _streams:
        raise CUDARuntimeError(1)
    return _streams[pointer]


def get_current_stream(device_id: int = -1) -> Stream:
    """The stream that is current in this thread."""
    return _thread.streams.get(_thread.device if device_id == -1 else device_id, Stream.null)


class Event:
    """A point in a stream's work."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self._ended: machine.Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        """Record the event after the work that a stream has so far."""
        (get_current_stream() if stream is None else stream).record(self)

    @property
    def done(self) -> bool:
        """Whether that work has ended; here it always has, and the host knows it from now on."""
        machine.host_waits(self._ended)
        return True

    def synchronize(self) -> None:
        """Let the host wait for that work."""
        machine.count("synchronisations")
        machine.host_waits(self._ended)


class Graph:
    """Recorded work, which one launch runs again; it does not keep the arrays alive that it uses."""

    def __init__(self, works: list[Work]) -> None:
        self._works = works

    def launch(self, stream: Stream | None = None) -> None:
        """Run the work on a stream, by default the current one."""
        stream = get_current_stream() if stream is None else stream
        stream._refuse_capture("a graph's launch")
        machine.count("graph_launches")
        timeline = stream._timeline()
        if timeline.null:
            machine.count("default_stream")
        for work in self._works:
            work.check_devices(timeline)
            work.order(timeline)
            if work.kernel is not None:
                machine.count_kernel(work.kernel)
            work.run()
