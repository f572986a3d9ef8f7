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
from accelnn.backends.cupy.streaming import Stages
from accelnn.backends.cupy.verbs import Recorder, Table
from accelnn.errors import DataError, DeviceMemoryError
from accelnn.parameters import Layout

__all__ = ["CupyBackend"]

DATA_SHARE = 0.7  # of the free memory that one array of a data set may take; else it stays on the host
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
    page = "recorded as a list of launches, run again for every step"

    def __init__(self, device: int | None = None) -> None:
        self._cupy = cupy = importlib.import_module("cupy")
        self._gemm = importlib.import_module("cupy.cublas").gemm
        self._device = cupy.cuda.Device(device)
        own = {name: getattr(Recorder, name) for name in verbs.__all__ if hasattr(Recorder, name)}
        super().__init__(cupy, self._device.id, own)
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._graphs = os.environ.get(GRAPHS) == "1"
        self._kernels = {dtype: Kernels(cupy, dtype) for dtype in ("float32", "float64")}

    def describe(self) -> str:
        """The device in words."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self.device)
        memory = properties["totalGlobalMem"] / 2**30
        return f"GPU {self.device}: {properties['name'].decode()}, {memory:.0f} GiB"

    def rungs(self) -> dict[str, str]:
        """Which rung runs for each part."""
        parts = super().rungs()
        if self._graphs:
            parts["page (rung 3)"] += f"; a narrow network's as one CUDA graph ({GRAPHS}=1; not yet run on hardware)"
        return parts

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """On the backend's device and stream: after what the caller's stream holds, and before what it will hold."""
        with self._device, self._memory_errors():
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
        except self._cupy.cuda.memory.OutOfMemoryError as problem:
            self._cupy.get_default_memory_pool().free_all_blocks()
            free, total = self._device.mem_info
            raise DeviceMemoryError(
                f"GPU {self.device} has no room: {problem}; it has {_gib(total)}, of which {_gib(free)} are free now. "
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
                return self._cupy.asarray(array)
            out.set(array)
            return out

    def to_host(self, array: Any) -> np.ndarray:
        """A NumPy array with the values of a device array."""
        with self.context():
            return self._cupy.asnumpy(array, order="A")

    def data(self, array: np.ndarray) -> Any:
        """On the device where it has room, else the array itself: its batches then travel one by one."""
        with self.context():
            free = self._device.mem_info[0] + self._cupy.get_default_memory_pool().free_bytes()
        if array.nbytes <= DATA_SHARE * free:
            return self.from_host(array)
        _log.info("%s of data stay on the host; GPU %d has %s free", _gib(array.nbytes), self.device, _gib(free))
        return array

    def columns(self, array: Any, dtype: str) -> Any:
        """A device array in another precision, each column contiguous."""
        with self.context():
            return self._cupy.asarray(array, dtype=dtype, order="F")

    def adopt(self, argument: str, array: Any) -> Any:
        """A CuPy array, and what another library has on this GPU, without a copy."""
        with self.context():
            if not isinstance(array, self._cupy.ndarray):
                if hasattr(array, "__cuda_array_interface__"):
                    array = self._cupy.asarray(array)
                elif _on_gpu(array):
                    array = self._cupy.from_dlpack(array)
                else:
                    return None
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

    def workspace(self, layout: Layout, capacity: int, dtype: str) -> DeviceWorkspace:
        """Device memory for one batch."""
        return DeviceWorkspace(layout, capacity, dtype, self.empty, self.from_host)

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

    def _on_device(self, data: Any) -> Any:
        return self.from_host(data) if isinstance(data, np.ndarray) else data

    def _predict(self, X, theta, layout, g, work):
        recorder = self._recorder(work, theta)
        A = recorder.record(equations.predict, self._on_device(X), theta, layout, g, work)
        recorder.program.run()
        return A

    def _evaluate(self, X, Y, theta, layout, g, loss, work):
        recorder = self._recorder(work, theta)
        J = recorder.record(equations.evaluate, self._on_device(X), self._on_device(Y), theta, layout, g, loss, work)
        return self._number(recorder, J)

    def _loss_and_gradient(self, X, Y, theta, dtheta, layout, g, loss, l2, work):
        recorder = self._recorder(work, theta)
        data = self._on_device(X), self._on_device(Y)
        J = recorder.record(equations.loss_and_gradient, *data, theta, dtheta, layout, g, loss, l2, work)
        recorder.all_reduce(dtheta)
        return self._number(recorder, J)

    def _number(self, recorder: Recorder, J: Any) -> Any:
        """Run a program that ends with a loss; the loss as a device array without dimensions."""
        place = self.empty(1, "float64")
        recorder.total(J, place)
        recorder.program.run()
        return place[0]

    def _train(self, *arguments):
        named = dict(zip(_PARAMETERS, arguments, strict=True))
        X, Y, work, size, s, end = (named[name] for name in ("X", "Y", "work", "size", "s", "end"))
        batches = ceil_div(X.shape[1], size)
        work.set_clock(s)
        if isinstance(X, np.ndarray) or isinstance(Y, np.ndarray):
            self._train_streamed(named, batches)
        else:
            # Of an epoch's steps only the last may see fewer examples.
            programs = self._step(named, 0), self._step(named, batches - 1)
            for step in range(s, end):
                program = programs[step % batches == batches - 1]
                program.run()
                if self._graphs:
                    program.capture(self._stream)
        work.advance(end - s)

    def _train_streamed(self, named: dict[str, Any], batches: int) -> None:
        """The same, with each batch gathered on the host and copied while the one before is trained on."""
        work, size, s, end = (named[name] for name in ("work", "size", "s", "end"))
        m = named["X"].shape[1]
        X, Y = (data if isinstance(data, np.ndarray) else self.to_host(data) for data in (named["X"], named["Y"]))
        named = named | {"X": X, "Y": Y}
        order = self.to_host(named["order"])
        if work.stages is None:
            rows = X.shape[0], Y.shape[0]
            work.stages = Stages(self._cupy, rows, min(size, m), named["theta"].dtype.name)

        def chosen(step: int) -> Any:
            start = step % batches * size
            stop = min(start + size, m)
            return order[step // batches, start:stop] if order.shape[1] else slice(start, stop)

        work.stages.fill(s, X, Y, chosen(s))
        for step in range(s, end):
            stage = work.stages.pair[step % 2]
            stage.wait(self._stream)
            self._step(named, step % batches, stage.device).run()
            stage.release(self._stream)
            if step + 1 < end:
                work.stages.fill(step + 1, X, Y, chosen(step + 1))

    def _step(self, named: dict[str, Any], number: int, staged: tuple[Any, Any] | None = None) -> Program:
        """The program of an epoch's step `number`, and of every other step with as many examples."""
        work, size = named["work"], named["size"]
        m = min(size, named["X"].shape[1] - number * size)
        changing = {"s", "end"}
        key = m, *(id(value) for value in staged or ()), *(id(v) for name, v in named.items() if name not in changing)
        if key not in work.programs:
            if len(work.programs) >= KEPT_PROGRAMS:
                work.programs.clear()
            order = Table(named["order"] if named["order"].shape[1] else None)
            tables = {"order": order, "coefficients": Table(named["coefficients"]), "losses": Table(named["losses"])}
            recorder = self._recorder(
                work,
                named["theta"],
                batch_size=size,
                losses=tables["losses"],
                clips=bool(np.isfinite(named["clip_norm"])),
                staged=staged,
            )
            recorder.record(equations.train, *(named | tables | {"s": number, "end": number + 1}).values())
            # The arguments stay alive beside the program, so that no other object takes over an identity.
            work.programs[key] = recorder.program, named
        return work.programs[key][0]


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _on_gpu(array: Any) -> bool:
    """Whether another library says, by DLPack's device types, that its array is on a GPU (CUDA, ROCm, managed)."""
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in (2, 10, 13)
