"""Dropout: which units are left out of a step, as a function of the layer and the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LEVELS", "Dropout"]

LEVELS = 2**16  # the rates that there are: multiples of 1 / LEVELS


@dataclass(frozen=True)
class Dropout:
    """What decides the masks of a run.

    Unit j of the example at place i of a batch belongs to number ``i n_l + j`` of a stream of 16-bit numbers, and
    stays where that is not below the layer's threshold. The stream is Philox4x64-10 (Salmon et al. 2011, "Parallel
    random numbers: as easy as 1, 2, 3") with the counter ``[0, l, step, 0]``, so that any part of it is computed
    without the rest, alike on every backend, and no mask is ever stored.

    Attributes
    ----------
    thresholds : tuple of int
        Of the layers, numbered 1..L (place 0 is unused); 0 drops nothing.
    key : int
        Of the stream, below ``2**64``.
    first : int
        The step that ``s = 0`` stands for.
    """

    thresholds: tuple[int, ...]
    key: int
    first: int

    @classmethod
    def of(cls, rates: Sequence[float], seed: int, first: int) -> "Dropout":
        """The masks of a network.

        Parameters
        ----------
        rates : sequence of float
            The share of units that each layer 1..L leaves out, from 0 on and below 1.
        seed : int
            The network's.
        first : int
        """
        thresholds = (0, *(min(round(rate * LEVELS), LEVELS - 1) for rate in rates))
        (key,) = np.random.SeedSequence([seed, 2]).generate_state(1, np.uint64)
        return cls(thresholds, int(key), first)

    def scale(self, l: int) -> float:
        """What the units that stay are multiplied by, so that the layer's mean stays as it is."""
        return LEVELS / (LEVELS - self.thresholds[l])

    def mask(self, l: int, s: int, shape: tuple[int, int]) -> np.ndarray:
        """Factors for layer l in step s, of shape (n_l, m): 0, or `scale`."""
        return self.stays(l, s, shape) * self.scale(l)

    def stays(self, l: int, s: int, shape: tuple[int, int]) -> np.ndarray:
        """Which units of layer l stay in step s, of shape (n_l, m), each column contiguous."""
        n, m = shape
        stream = np.random.Philox(key=self.key, counter=[0, l, self.first + s, 0])
        words = stream.random_raw(-(-n * m // 4)).astype("<u8", copy=False)
        return (words.view("<u2")[: n * m] >= self.thresholds[l]).reshape(m, n).T
