"""The device memory of one batch, and how its sums are cut into parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn.kernels.cuda import LAYER_FIELDS, TILE
from accelnn.parameters import Layout, Workspace

__all__ = ["DeviceWorkspace", "Part", "ceil_div", "is_wide"]

WIDE = 512  # inputs or units from which on cuBLAS computes a layer's products (chosen on paper; not measured)

# These fix the order of every sum, so they do not depend on the GPU at hand: the same training gives the same bits on
# another one. Blocks for about two to each of an H100's 132 multiprocessors.
BLOCKS = 256
SLICE = 64  # examples that make up for another slice of a gradient
LONGEST_SLICE = 2**14  # examples whose products are added in the network's own precision
REDUCED = 2048  # elements of a layer that make up for another block of all_reduce.cu
REDUCE_BLOCKS = 1024  # most of its blocks, over all layers
GROUP = 32  # examples of a group whose losses, or bias gradients, are added by one block


def ceil_div(a: int, b: int) -> int:
    """How many pieces of length b cover a."""
    return -(-a // b)


def is_wide(n: int, n_prev: int) -> bool:
    """Whether cuBLAS computes the products of a layer of n units with n_prev inputs."""
    return max(n, n_prev) >= WIDE


@dataclass(frozen=True)
class Part:
    """What a layer's gradient is the sum of, in the workspace's `parts`.

    Attributes
    ----------
    array : vector
        ``count`` parts, one after another: of dW and db together, or, in a wide layer, of db alone.
    count : int
    """

    array: Any
    count: int


class DeviceWorkspace(Workspace):
    """The arrays of one batch on a device.

    Parameters
    ----------
    layout : Layout
    capacity : int
        The largest number of examples.
    dtype : str
    empty : callable
        ``empty(shape, dtype)``
    from_host : callable

    Attributes
    ----------
    L : int
    wide : list of bool
        Numbered 1..L: the layers whose dW one product writes as a whole, while the sums for db come with dZ. Those that
        cuBLAS computes, and the first one where X is sparse.
    all_parts : device vector
    parts : list of Part
        Views of `all_parts`, numbered 1..L.
    table : device array of int64, shape (L, 6)
        What all_reduce.cu reads of each layer.
    groups : int
        Into how many groups losses and bias gradients are cut.
    losses : device vector of float64
        One sum a group.
    blocks : int
        Of all_reduce.cu, for each layer.
    squares : device array of float64, shape (2, L * blocks)
        Of the gradient's elements, and of the weights.
    clock : device vector of int64, length 2
        The step that comes next, and the step that all_reduce.cu and update.cu belong to.
    stages : Stages or None
        Where batches arrive that come from the host.
    staged : list of arrays
        The data that they come from.
    programs : dict
        Recorded steps, each beside what keeps its key's identities alive.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        dtype: str,
        empty: Callable[[Any, str], Any],
        from_host: Callable[[np.ndarray], Any],
    ):
        super().__init__(layout, capacity, lambda length: empty(length, dtype))
        units, inputs, W_at, b_at = layout.table[:4].tolist()
        self.L = L = len(units) - 1
        self.groups = min(BLOCKS, ceil_div(capacity, GROUP))
        self.wide = [False, *(is_wide(units[l], inputs[l]) for l in range(1, L + 1))]
        self.wide[1] |= not layout.gathers
        table, at = np.zeros((L, LAYER_FIELDS), np.int64), 0
        for l in range(1, L + 1):
            n, n_prev = units[l], inputs[l]
            if self.wide[l]:
                length, count = n, self.groups
            else:
                tiles = ceil_div(n_prev + 1, TILE) * ceil_div(n, TILE)
                filling = min(BLOCKS // tiles, ceil_div(capacity, SLICE))
                length, count = (n_prev + 1) * n, max(1, filling, ceil_div(capacity, LONGEST_SLICE))
            end = b_at[l] + n
            table[l - 1] = W_at[l], b_at[l], end, end - length, at, count
            at += count * length
        self.all_parts = empty(at, dtype)
        ends = [*table[1:, 4].tolist(), at]
        places = zip(table[:, 4].tolist(), ends, table[:, 5].tolist(), strict=True)
        self.parts = [Part(None, 0), *(Part(self.all_parts[start:end], count) for start, end, count in places)]
        self.table = from_host(table)
        largest = max(n * (n_prev + 1) for n, n_prev in zip(units[1:], inputs[1:], strict=True))
        self.blocks = min(max(1, REDUCE_BLOCKS // L), ceil_div(largest, REDUCED))
        self.squares = empty((2, L * self.blocks), "float64")
        self.losses = empty(self.groups, "float64")
        self.clock = from_host(np.zeros(2, np.int64))
        self._step: int | None = 0
        self.stages: Any = None
        self.staged: list[Any] = []
        self.programs: dict[Any, Any] = {}

    def set_clock(self, step: int) -> None:
        """Say which step comes next; nothing to do where the last one was the step before."""
        if step != self._step:
            self.clock.fill(step)
            self._step = step

    def advance(self, step: int | None) -> None:
        """Keep in mind which step comes after those that were given to the device; None where that is not known."""
        self._step = step
