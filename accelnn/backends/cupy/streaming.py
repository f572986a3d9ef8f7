"""Batches of a data set that is too large for the device: two stages, one filled while the other is trained on.

The host gathers a batch into pinned memory, from which it travels on a stream of its own. Events keep the order: a
stage's device memory is written after the step that reads it, and its pinned memory after the copy that reads that.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Stage", "Stages"]


class Stage:
    """Pinned and device memory for one batch.

    Attributes
    ----------
    device : pair of device arrays of shape (n_0, capacity) and (n_L, capacity)
        Each column contiguous.
    """

    def __init__(self, cupy: Any, rows: tuple[int, int], capacity: int, dtype: str):
        self._pinned, self._device = [], []
        for n in rows:
            memory = cupy.cuda.alloc_pinned_memory(n * capacity * np.dtype(dtype).itemsize)
            self._pinned.append(np.frombuffer(memory, dtype, n * capacity).reshape(capacity, n))
            self._device.append(cupy.empty((capacity, n), dtype=dtype))
        self.device = tuple(part.T for part in self._device)
        self._copied, self._used = (cupy.cuda.Event(disable_timing=True) for _ in range(2))

    def fill(self, data: tuple[np.ndarray, np.ndarray], chosen: np.ndarray | slice, copying: Any) -> None:
        """Gather examples of X and Y, and start their way to the device on the stream `copying`."""
        self._copied.synchronize()  # of this stage's pinned memory, two batches ago
        copying.wait_event(self._used)
        for array, pinned, device in zip(data, self._pinned, self._device, strict=True):
            if isinstance(chosen, slice):
                m = chosen.stop - chosen.start
                np.copyto(pinned[:m], array.T[chosen])
            else:
                m = len(chosen)
                np.take(array.T, chosen, axis=0, out=pinned[:m], mode="clip")
            device[:m].set(pinned[:m], stream=copying)
        self._copied.record(copying)

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
    X, Y : arrays on the host
    capacity : int
        Examples of a full batch.
    """

    def __init__(self, cupy: Any, X: np.ndarray, Y: np.ndarray, capacity: int):
        self._data = X, Y
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self._pair = [Stage(cupy, (X.shape[0], Y.shape[0]), capacity, X.dtype.name) for _ in range(2)]
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
                stage = self._pair[step % 2]
                stage.use(stream, program(step, stage))
                if step + 1 < end:
                    self._fill(step + 1, chosen)
        except BaseException:
            # A copy may be under way to memory that is let go next.
            self._copying.synchronize()
            raise

    def _fill(self, step: int, chosen: Callable[[int], np.ndarray | slice]) -> None:
        self._pair[step % 2].fill(self._data, chosen(step), self._copying)
