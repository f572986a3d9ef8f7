"""Batches of a data set that is too large for the device: two stages, one filled while the other is trained on.

The host gathers a batch into pinned memory, from which it travels on a stream of its own. Events keep the order: a
stage's device memory is written after the step that reads it, and its pinned memory after the copy that reads that.
"""

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
        self._pinned, device = [], []
        for n in rows:
            memory = cupy.cuda.alloc_pinned_memory(n * capacity * np.dtype(dtype).itemsize)
            self._pinned.append(np.frombuffer(memory, dtype, n * capacity).reshape(capacity, n))
            device.append(cupy.empty((capacity, n), dtype=dtype))
        self._device = device
        self.device = tuple(part.T for part in device)
        self._copied, self._used = (cupy.cuda.Event(disable_timing=True) for _ in range(2))

    def fill(self, X: np.ndarray, Y: np.ndarray, chosen: "np.ndarray | slice", copying: Any) -> None:
        """Gather examples, and start their way to the device on the stream `copying`."""
        self._copied.synchronize()  # of this stage's pinned memory, two batches ago
        copying.wait_event(self._used)
        for data, pinned, device in zip((X, Y), self._pinned, self._device, strict=True):
            rows = data.T[chosen]
            m = rows.shape[0]
            pinned[:m] = rows
            device[:m].set(pinned[:m], stream=copying)
        self._copied.record(copying)

    def wait(self, stream: Any) -> None:
        """What comes on this stream waits for the copy."""
        stream.wait_event(self._copied)

    def release(self, stream: Any) -> None:
        """What is on this stream by now is all that reads the stage."""
        self._used.record(stream)


class Stages:
    """The stages of one run, and the stream on which they are filled."""

    def __init__(self, cupy: Any, rows: tuple[int, int], capacity: int, dtype: str):
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self.pair = [Stage(cupy, rows, capacity, dtype) for _ in range(2)]
        # Device memory that was allocated just now belongs to the current stream first.
        self._copying.wait_event(cupy.cuda.get_current_stream().record())

    def fill(self, number: int, X: np.ndarray, Y: np.ndarray, chosen: "np.ndarray | slice") -> None:
        """Start filling the stage for step `number`."""
        self.pair[number % 2].fill(X, Y, chosen, self._copying)
