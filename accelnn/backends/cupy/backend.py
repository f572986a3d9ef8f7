"""CuPy: the page on a CUDA GPU, recorded once for each size of batch and run again for every step.

Importing this module needs neither CuPy nor a GPU; making a backend needs both. The data set, the parameters, the
optimiser's state and the order of the batches stay on the device for a whole fit, and the losses of its steps are read
from there many steps at a time. All work goes to one stream of the backend's own.
"""

import contextlib
import functools
import importlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from accelnn import equations, verbs
from accelnn.backends.base import Backend
from accelnn.backends.cupy.launches import Kernels, Program
from accelnn.backends.cupy.memory import DeviceWorkspace, ceil_div
from accelnn.backends.cupy.sparse import on_device
from accelnn.backends.cupy.streaming import Stage, Stages
from accelnn.backends.cupy.verbs import DeviceDropout, Recorder, RowByClock
from accelnn.dropout import Dropout
from accelnn.errors import DataError, DeviceMemoryError
from accelnn.parameters import Layout

__all__ = ["CupyBackend"]

DATA_SHARE = 0.7  # of the free memory that a data set may take; else it stays on the host
FEW_BYTES = 2**18  # of data that are not worth a look for room
MOST_EXAMPLES = 2**31 - 2**16  # of a batch: kernels count them in 32 bits
GRAPHS = "ACCELNN_CUDA_GRAPHS"  # environment variable: 1 launches the step of a narrow network as one CUDA graph
KEPT_PROGRAMS = 8  # recorded steps that a workspace remembers

_PARAMETERS = tuple(inspect.signature(equations.train).parameters)
_log = logging.getLogger("accelnn")


class CupyBackend(Backend):
    """The page recorded as launches.

    Parameters
    ----------
    device : int, optional
        Number of the GPU; by default CuPy's current one.
    """

    name = "cupy"
    takes_sparse = True
    page = "recorded as a list of launches, run again for every step"
    pass_elements = 2**26

    def __init__(self, device: int | None = None) -> None:
        self._cupy = cupy = importlib.import_module("cupy")
        self._gemm = importlib.import_module("cupy.cublas").gemm
        self._device = cupy.cuda.Device(device)
        own = {name: getattr(Recorder, name) for name in verbs.__all__ if hasattr(Recorder, name)}
        super().__init__(cupy, self._device.id, own)
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            graphs = os.environ.get(GRAPHS) == "1" and not cupy.cuda.runtime.is_hip
            self._graphs = cupy.cuda.Stream(non_blocking=True) if graphs else None
        self._kernels = {dtype: Kernels(cupy, dtype) for dtype in ("float32", "float64")}

    def describe(self) -> str:
        """The device in words."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self.device)
        memory = properties["totalGlobalMem"] / 2**30
        return f"GPU {self.device}: {properties['name'].decode()}, {memory:.0f} GiB"

    def rungs(self) -> dict[str, str]:
        """Which rung runs for each part."""
        parts = super().rungs()
        if self._graphs is not None:
            parts["page (rung 3)"] += f"; a narrow network's as one CUDA graph ({GRAPHS}=1; not yet run on hardware)"
        return parts

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """On the backend's device and stream: after what the caller's stream holds, and before what it will hold.

        Entering it again within costs next to nothing, so whatever touches the device enters it.
        """
        # A Device remembers which one was current before, for all threads together: each time another.
        with self._cupy.cuda.Device(self.device), self._memory_errors():
            caller = self._cupy.cuda.get_current_stream()
            if caller == self._stream:
                yield
                return
            self._stream.wait_event(caller.record())
            try:
                with self._stream:
                    yield
            finally:
                caller.wait_event(self._stream.record())

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:
            # And what CUDA and cuBLAS say that find no room for pinned memory, a module or a handle.
            words = str(problem)
            if not isinstance(problem, self._cupy.cuda.memory.OutOfMemoryError) and not any(
                name in words for name in ("MemoryAllocation", "OUT_OF_MEMORY", "ALLOC_FAILED")
            ):
                raise
            self._cupy.get_default_memory_pool().free_all_blocks()
            self._cupy.get_default_pinned_memory_pool().free_all_blocks()
            free, total = self._device.mem_info
            raise DeviceMemoryError(
                f"GPU {self.device} has no room: {words}; it has {_gib(total)}, of which {_gib(free)} are free now. "
                "Use a smaller batch_size, a smaller network, float32, or fewer examples at once"
            ) from None

    # Rung 1

    def empty(self, shape: int | tuple[int, ...], dtype: str) -> Any:
        """New device memory, not initialised."""
        with self.context():
            return self._cupy.empty(shape, dtype=dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: str) -> Any:
        """New device memory, all zero."""
        with self.context():
            return self._cupy.zeros(shape, dtype=dtype)

    def from_host(self, array: np.ndarray, out: Any = None) -> Any:
        """A device copy of a NumPy array."""
        with self.context():
            if out is None or out.shape != array.shape or out.dtype != array.dtype:
                if not (array.flags.c_contiguous or array.flags.f_contiguous):
                    array = np.ascontiguousarray(array)
                out = self._cupy.empty(array.shape, dtype=array.dtype, order="F" if array.flags.fnc else "C")
            if array.size:
                # Not asarray, which would copy the whole through pinned memory of its own and keep that.
                out.set(array)
                self._stream.synchronize()  # the array may be gone or changed after this call
            return out

    def to_host(self, array: Any) -> np.ndarray:
        """A NumPy array with the values of a device array."""
        with self.context():
            return self._cupy.asnumpy(array, order="A")

    def place(self, *arrays: Any) -> tuple[Any, ...]:
        """On the device where there is room for all, else all on the host: their batches then travel one by one.

        So do those of a sparse X, whatever its size: only the host gathers entries.
        """
        if not all(isinstance(array, np.ndarray) or self.owns(array) for array in arrays):
            return tuple(self.to_host(array) if self.owns(array) else array for array in arrays)
        needed = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        # Looking for room takes longer than moving a few rows.
        free = needed if needed <= FEW_BYTES else DATA_SHARE * self._free_bytes()
        if needed <= free:
            return tuple(self._on_device(array) for array in arrays)
        _log.info("%s of data stay on the host; GPU %d has %s free", _gib(needed), self.device, _gib(free / DATA_SHARE))
        return tuple(array if isinstance(array, np.ndarray) else self.to_host(array) for array in arrays)

    def _free_bytes(self) -> int:
        with self.context():
            return self._device.mem_info[0] + self._cupy.get_default_memory_pool().free_bytes()

    def columns(self, array: Any, dtype: str) -> Any:
        """A device array in another precision, each column contiguous."""
        with self.context():
            return self._cupy.asarray(array, dtype=dtype, order="F")

    def adopt(self, argument: str, array: Any) -> Any:
        """A CuPy array, and what another library has on this GPU, without a copy."""
        with self.context():
            if not isinstance(array, self._cupy.ndarray):
                try:
                    # DLPack first: it orders the two libraries' streams.
                    if _on_gpu(array):
                        array = self._cupy.from_dlpack(array)
                    elif hasattr(array, "__cuda_array_interface__"):
                        array = self._cupy.asarray(array)
                    else:
                        return None
                except (BufferError, RuntimeError, TypeError) as problem:
                    raise DataError(f"{argument}: cannot be shared with CuPy ({problem})") from None
        if array.device.id != self.device:
            raise DataError(
                f"{argument}: lives on GPU {array.device.id}, but the backend computes on GPU {self.device}; move it: "
                f"with cupy.cuda.Device({self.device}): {argument} = cupy.asarray({argument})"
            )
        return array

    def owns(self, array: Any) -> bool:
        """Whether `array` is a CuPy array."""
        return isinstance(array, self._cupy.ndarray)

    def synchronize(self) -> None:
        """Wait for the backend's stream."""
        self._stream.synchronize()

    def workspace(self, layout: Layout, capacity: int, dtype: str, steps: int | None = None) -> DeviceWorkspace:
        """Device memory for one batch."""
        if capacity > MOST_EXAMPLES:
            raise DataError(f"batch_size: {capacity:,} examples at once are too many for a GPU; give {MOST_EXAMPLES:,}")
        return DeviceWorkspace(layout, capacity, dtype, self.empty, self.from_host)

    def dropout(self, drop: Dropout, out: Any = None) -> DeviceDropout:
        """The same, with the number of the first step on the device, where recorded steps read it."""
        with self.context():
            out = DeviceDropout(drop, self._cupy.empty(1, dtype="int64")) if out is None else out
            out.first.fill(drop.first)
        return out

    def coefficients(self, table: np.ndarray, dtype: str, out: Any = None) -> Any:
        """The table on the device, in the network's precision."""
        return self.from_host(np.ascontiguousarray(table, dtype=dtype), out)

    # Rung 3

    def bind(self, function: Callable) -> Callable:
        """A function of the page, recorded and run on the backend's device and stream."""
        run = getattr(self, f"_{function.__name__}")

        @functools.wraps(function)
        def entered(*arguments: Any) -> Any:
            with self.context():
                return run(*arguments)

        return entered

    def _recorder(self, work: DeviceWorkspace, theta: Any, **options: Any) -> Recorder:
        return Recorder(self._kernels[theta.dtype.name], self._gemm, work, theta, **options)

    def _on_device(self, data: Any, gradients: bool = False) -> Any:
        if isinstance(data, np.ndarray):
            return self.from_host(data)
        return data if self.owns(data) else on_device(data, self.from_host, gradients)

    def _predict(self, X, theta, layout, g, work):
        recorder = self._recorder(work, theta)
        A = recorder.record(equations.predict, self._on_device(X), theta, layout, g, work)
        recorder.program.run()
        return A

    def _evaluate(self, X, Y, w, theta, layout, g, loss, work):
        recorder = self._recorder(work, theta)
        data = map(self._on_device, (X, Y, w))
        return self._number(recorder, recorder.record(equations.evaluate, *data, theta, layout, g, loss, work))

    def _loss_and_gradient(self, X, Y, w, theta, dtheta, layout, g, loss, l2, drop, s, work):
        recorder = self._recorder(work, theta)
        data = self._on_device(X, gradients=True), self._on_device(Y), self._on_device(w)
        constants = layout, g, loss, l2, drop, s, work
        J = recorder.record(equations.loss_and_gradient, *data, theta, dtheta, *constants)
        recorder.all_reduce(dtheta)
        work.set_clock(s)
        return self._number(recorder, J)

    def _number(self, recorder: Recorder, J: Any) -> Any:
        """Run a program that ends with a loss; the loss as a device array without dimensions."""
        place = self.empty(1, "float64")
        recorder.total(J, place)
        recorder.program.run()
        return place[0]

    def _train(self, *arguments):
        named = dict(zip(_PARAMETERS, arguments, strict=True))
        X, work, size, s, end = (named[name] for name in ("X", "work", "size", "s", "end"))
        batches = ceil_div(X.shape[1], size)
        work.set_clock(s)
        work.advance(None)
        if not self.owns(X):
            self._train_streamed(named, batches)
        else:
            # Of an epoch's steps only the last may see fewer examples.
            programs = self._step(named, 0), self._step(named, batches - 1)
            for step in range(s, end):
                program = programs[step % batches == batches - 1]
                program.run()
                if self._graphs is not None:
                    program.capture(self._graphs)
        work.advance(end)

    def _train_streamed(self, named: dict[str, Any], batches: int) -> None:
        """The same with the data on the host."""
        work, size, m = named["work"], named["size"], named["X"].shape[1]
        order = self.to_host(named["order"])
        data = [named[name] for name in ("X", "Y", "w")]
        if work.stages is None or any(old is not new for old, new in zip(work.staged, data, strict=True)):
            work.stages = Stages(self._cupy, [array for array in data if array.shape[0] > 0], min(size, m))
            work.staged = data

        def chosen(step: int) -> Any:
            start = step % batches * size
            stop = min(start + size, m)
            return order[step // batches, start:stop] if order.shape[1] else slice(start, stop)

        def program(step: int, stage: Stage) -> Callable[[], None]:
            return self._step(named, step % batches, stage.device).run

        work.stages.run(named["s"], named["end"], chosen, program, self._stream)

    def _step(self, named: dict[str, Any], number: int, staged: tuple[Any, ...] | None = None) -> Program:
        """The program of an epoch's step `number`, and of every other step of this run with as many examples."""
        work, size = named["work"], named["size"]
        m = min(size, named["X"].shape[1] - number * size)
        # What the program is made for stays alive beside it, so that nothing else takes over an identity; but not the
        # workspace, which holds the programs.
        made_for = [value for name, value in named.items() if name not in ("work", "s", "end")]
        key = m, id(staged), *map(id, made_for)
        if key not in work.programs:
            if len(work.programs) >= KEPT_PROGRAMS:
                work.programs.clear()
            order = RowByClock(named["order"] if named["order"].shape[1] else None)
            coefficients, losses = RowByClock(named["coefficients"]), RowByClock(named["losses"])
            rows = {"order": order, "coefficients": coefficients, "losses": losses}
            clips = bool(np.isfinite(named["clip_norm"]))
            recorder = self._recorder(work, named["theta"], batch_size=size, losses=losses, clips=clips, staged=staged)
            recorder.record(equations.train, *(named | rows | {"s": number, "end": number + 1}).values())
            work.programs[key] = recorder.program, made_for, staged
        return work.programs[key][0]


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _on_gpu(array: Any) -> bool:
    """Whether another library says, by DLPack's device types, that its array is on a GPU (CUDA, ROCm, managed)."""
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in (2, 10, 13)
