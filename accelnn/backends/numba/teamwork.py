"""The memory of a batch for compiled code, and the threads that run it."""

import threading
from typing import Any

import numpy as np

from accelnn.kernels import jit, products, team
from accelnn.parameters import Layout

__all__ = ["Team"]

SHARED_GRADIENT = 2**19  # bytes of parameters from which on the members share one gradient
CACHE = 3 * 2**16  # bytes of activations that one pass over examples may fill
WORTHWHILE = 3e5  # multiplications in each of many steps that make up for another member
FEWEST = 12  # examples in each member's share that make up for fetching the parameters that the others changed
FETCHING = 2e7  # multiplications that make up for starting the other members' threads


class Team:
    """Members, each with a record, and the memory for one batch.

    Parameters
    ----------
    layout : Layout
    capacity : int
        The largest number of examples in a batch.
    dtype : str
    threads : int
        Most members.
    multiply, column_sums, dropout : int
        Addresses of kernels; that of dropout is 0 where no layer has any.
    steps : int, optional
        Most steps of one call, whose threads are started anew each time; by default many.
    """

    def __init__(
        self,
        layout: Layout,
        capacity: int,
        dtype: str,
        threads: int,
        multiply: int,
        column_sums: int,
        dropout: int = 0,
        steps: int | None = None,
    ):
        itemsize = np.dtype(dtype).itemsize
        work = capacity * (layout.n_parameters + 10 * layout.n_work)
        size = max(1, min(threads, capacity // FEWEST, int(work / WORTHWHILE)))
        if steps is not None and steps * work < FETCHING:
            size = 1
        self.size = size
        self.tiles = layout.n_parameters * itemsize > SHARED_GRADIENT
        self.outputs = layout.sizes[-1]
        share = -(-capacity // size)
        block = capacity if self.tiles else min(share, max(32, CACHE // (layout.n_work * itemsize) // 8 * 8))

        def empty(length: int) -> np.ndarray:
            return np.empty(length, dtype)

        self._buffers = [empty(layout.n_work * block) for _ in range(1 if self.tiles else size)]
        # Memory for a gathered batch; what is not needed is never touched, and so takes no memory.
        room = capacity if self.tiles else share
        row = layout.sizes[-1] + 1 + (layout.sizes[0] if layout.gathers else 0)
        self._gather = [empty(row * room) for _ in range(1 if self.tiles else size)]
        ranges = 0 if layout.gathers else 2 * room
        self._ranges = [np.empty(ranges, np.int64) for _ in range(1 if self.tiles else size)]
        self._scratch = [empty(products.scratch_length(max(layout.sizes), itemsize)) for _ in range(size)]
        self._meeting = np.zeros(team.MEETING_LENGTH, np.int64)
        self._meeting[team.NANOSECONDS] = team.LONGEST_SLEEP
        self._sums, self._gradients = np.zeros(size), np.zeros(size, np.int64)
        self._own_gradients: list[np.ndarray] = []
        self.members = []
        for index, scratch in enumerate(self._scratch):
            record = np.zeros(team.RECORD_LENGTH, np.int64)
            record[[team.SIZE, team.INDEX, team.TILES]] = size, index, self.tiles
            record[[team.BLOCK, team.CAPACITY]] = block
            record[team.BUFFER] = _address(self._buffers[0 if self.tiles else index])
            record[[team.MULTIPLY, team.COLUMN_SUMS, team.DROPOUT]] = multiply, column_sums, dropout
            record[team.GATHER] = _address(self._gather[0 if self.tiles else index])
            record[team.RANGES] = _address(self._ranges[0 if self.tiles else index])
            record[[team.SLEEP, team.YIELD]] = team.sleep_address(), team.yield_address()
            record[team.SCRATCH], record[team.MEETING] = _address(scratch), _address(self._meeting)
            record[team.SUMS], record[team.GRADIENTS] = _address(self._sums), _address(self._gradients)
            self.members.append((layout.table, record))

        # One member that works alone, where the others would take longer to come than to work.
        alone = self.members[0][1].copy()
        alone[team.SIZE] = 1
        self.alone = layout.table, alone

    def read(self, values: np.ndarray, indices: np.ndarray, starts: np.ndarray, kernels: tuple[int, int]) -> None:
        """Say where the numbers of a sparse X are; the caller keeps them alive while the team runs."""
        places = [team.VALUES, team.INDICES, team.STARTS, team.SPARSE_PRODUCT, team.SPARSE_GRADIENT]
        for _, record in (*self.members, self.alone):
            record[places] = *map(_address, (values, indices, starts)), *kernels

    def for_pass(self, multiplications: float) -> list[Any]:
        """The members for one pass without training."""
        return self.members if multiplications > FETCHING else [self.alone]

    def gradients(self, dtheta: np.ndarray) -> list[np.ndarray]:
        """Where each member puts its gradient: the first into dtheta."""
        while not self.tiles and len(self._own_gradients) < self.size - 1:
            self._own_gradients.append(np.empty_like(dtheta))
        gradients = [dtheta] * self.size if self.tiles else [dtheta, *self._own_gradients]
        self._gradients[:] = [_address(gradient) for gradient in gradients]
        return gradients

    def run(self, entry: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Every member enters with its arguments; what they return, in order.

        Threads are made for each call: no pool is left over that a fork would lose, and none that stays asleep while
        another library waits for processors.
        """
        if len(arguments) == 1:
            return [entry(*arguments[0])]
        if not entry.overloads:
            jit.compile_for(entry, arguments[0])  # once, and not in all threads
        results: list[Any] = [None] * self.size

        def enter(index: int) -> None:
            results[index] = entry(*arguments[index])

        self._meeting[[team.ARRIVALS, team.DISSOLVED]] = 0
        others = [threading.Thread(target=enter, args=(index,)) for index in range(1, self.size)]
        started = []
        try:
            for other in others:
                other.start()
                started.append(other)
            enter(0)
        except BaseException:
            # An interrupt before everybody was there: who waits goes home.
            self._meeting[team.DISSOLVED] = 1
            raise
        finally:
            for other in started:
                other.join()
        return results


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
