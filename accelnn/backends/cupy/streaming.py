"""Batches of data that stay on the host, in two stages, one of which is filled while the other is trained on.

The host gathers a batch into pinned memory, from which it travels on a stream of its own. Events keep the order: a
stage's device memory is written after the step that reads it, and its pinned memory after the copy that reads that.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accelnn.backends.cupy.sparse import PLACES, STARTS, Rows, SparseBatch

__all__ = ["Stage", "Stages"]


class _Buffer:
    """Pinned memory, and as much on the device."""

    def __init__(self, cupy: Any, shape: tuple[int, ...], dtype: Any):
        size = math.prod(shape)
        memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        self.pinned = np.frombuffer(memory, dtype, size).reshape(shape)
        self.device = cupy.empty(shape, dtype=dtype)

    def send(self, length: int, stream: Any) -> None:
        """Start the way of the first lines."""
        if length:
            self.device[:length].set(self.pinned[:length], stream=stream)


class _Dense:
    """Columns of an array."""

    def __init__(self, cupy: Any, array: np.ndarray, capacity: int):
        self._examples = array.T
        self._buffer = _Buffer(cupy, (capacity, array.shape[0]), array.dtype)
        self.device = self._buffer.device.T

    def fill(self, chosen: np.ndarray | slice, stream: Any) -> None:
        """Gather some, and start their way to the device."""
        pinned = self._buffer.pinned
        if isinstance(chosen, slice):
            m = chosen.stop - chosen.start
            np.copyto(pinned[:m], self._examples[chosen])
        else:
            m = len(chosen)
            np.take(self._examples, chosen, axis=0, out=pinned[:m], mode="clip")
        self._buffer.send(m, stream)


class _Sparse:
    """Columns of a sparse matrix, in the two forms of a `SparseBatch`."""

    def __init__(self, cupy: Any, X: Any, capacity: int):
        self._examples = X.T
        n, m = X.shape
        # As many entries as the fullest examples have.
        counts = np.partition(np.diff(X.indptr), m - capacity)[m - capacity :]
        entries = max(1, int(np.sum(counts, dtype=np.int64)))
        self._forms = [
            (
                _Buffer(cupy, (lines + 1,), STARTS),
                _Buffer(cupy, (entries,), PLACES),
                _Buffer(cupy, (entries,), X.dtype),
            )
            for lines in (capacity, n)
        ]
        by_example, by_input = (Rows(*(buffer.device for buffer in form)) for form in self._forms)
        self.device = SparseBatch((n, capacity), by_example, by_input)

    def fill(self, chosen: np.ndarray | slice, stream: Any) -> None:
        """Gather some, and start their way to the device."""
        examples = self._examples[chosen]
        for form, matrix in zip(self._forms, (examples, examples.tocsc()), strict=True):
            for buffer, array in zip(form, (matrix.indptr, matrix.indices, matrix.data), strict=True):
                np.copyto(buffer.pinned[: len(array)], array)
                buffer.send(len(array), stream)


class Stage:
    """Pinned and device memory for one batch. The data must not change while it lives.

    Attributes
    ----------
    device : tuple
        For each array of the data its batch: a device array of shape (n, capacity), each column contiguous, or a
        SparseBatch.
    """

    def __init__(self, cupy: Any, data: Sequence[Any], capacity: int):
        self._parts = [(_Dense if isinstance(a, np.ndarray) else _Sparse)(cupy, a, capacity) for a in data]
        self.device = tuple(part.device for part in self._parts)
        self._copied, self._used = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self._holds: slice | None = None

    def fill(self, chosen: np.ndarray | slice, copying: Any) -> None:
        """Gather examples, and start their way to the device on the stream `copying`."""
        if isinstance(chosen, slice) and chosen == self._holds:
            return
        self._copied.synchronize()  # of this stage's pinned memory, two batches ago
        copying.wait_event(self._used)
        for part in self._parts:
            part.fill(chosen, copying)
        self._copied.record(copying)
        self._holds = chosen if isinstance(chosen, slice) else None

    def use(self, stream: Any, step: Callable[[], None]) -> None:
        """Run a step on this stream after the copy; the next copy comes after the step."""
        stream.wait_event(self._copied)
        step()
        self._used.record(stream)


class Stages:
    """The stages of one run, and the stream on which they are filled.

    Parameters
    ----------
    cupy : module
    data : sequence of arrays on the host
        X, Y and, where examples have them, their weights. X may be a ``scipy.sparse.csc_array``.
    capacity : int
        Examples of a full batch.
    """

    def __init__(self, cupy: Any, data: Sequence[Any], capacity: int):
        self._copying = cupy.cuda.Stream(non_blocking=True)
        # A full batch stays where it is.
        self._stages = [Stage(cupy, data, capacity) for _ in range(2 if capacity < data[0].shape[1] else 1)]
        # Device memory that was allocated just now belongs to the current stream first.
        self._copying.wait_event(cupy.cuda.get_current_stream().record())

    def run(
        self,
        first: int,
        end: int,
        chosen: Callable[[int], np.ndarray | slice],
        program: Callable[[int, Stage], Callable[[], None]],
        stream: Any,
    ) -> None:
        """Steps `first` to `end - 1`, each batch copied while the one before is trained on.

        Parameters
        ----------
        first, end : int
        chosen : callable
            The examples of a step.
        program : callable
            What a step does with a stage.
        stream : stream
            Where steps run.
        """
        try:
            self._fill(first, chosen)
            for step in range(first, end):
                stage = self._stage(step)
                stage.use(stream, program(step, stage))
                if step + 1 < end:
                    self._fill(step + 1, chosen)
        except BaseException:
            # A copy may be under way to memory that is let go next.
            self._copying.synchronize()
            raise

    def _stage(self, step: int) -> Stage:
        return self._stages[step % len(self._stages)]

    def _fill(self, step: int, chosen: Callable[[int], np.ndarray | slice]) -> None:
        self._stage(step).fill(chosen(step), self._copying)
