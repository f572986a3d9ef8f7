"""Run an elementwise formula with NumPy, in place and in cache-sized blocks.

NumPy evaluates ``1.0 / (1.0 + exp(-z))`` with a new array for each operation. A :class:`Tape` calls the formula once
with recording placeholders in place of arrays, keeps the list of operations, and then runs that list over blocks of
the data with ``out=`` into a few registers that stay in the cache and are reused for ever. A common subexpression is
computed once.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from accelnn.backends.recording import Recording, Value

__all__ = ["BLOCK", "Tape", "scratch"]

BLOCK = 8192  # elements: a register of float32 is 32 KiB, and a formula's few registers stay in the L2 cache


def _select(condition, x, y, out):
    np.copyto(out, y)
    np.copyto(out, x, where=condition)


def _in_place(operation: str) -> Callable:
    return _select if operation == "where" else getattr(np, operation)


class _Registers(threading.local):
    """Scratch vectors, one set for each thread and dtype, shared by all tapes."""

    def __init__(self) -> None:
        self._memory: dict[Any, list[np.ndarray]] = {}

    def take(self, count: int, dtype: Any, length: int) -> list[np.ndarray]:
        memory = self._memory.setdefault(dtype, [])
        while len(memory) < count:
            memory.append(np.empty(BLOCK, dtype))
        return [register[:length] for register in memory[:count]]


scratch = _Registers()


class Tape:
    """An elementwise formula as a list of in-place operations.

    Parameters
    ----------
    *formulas : callable
        Each takes the same arrays, then the same numbers, and returns one value or a tuple of values.
    arrays, numbers : int
        How many it takes of each.
    """

    def __init__(self, *formulas: Callable, arrays: int, numbers: int = 0):
        recording = Recording(*formulas, inputs=arrays + numbers)
        inputs, operations = recording.inputs, recording.operations
        # A result that is an input is copied first: another result may go where the input lies.
        given = set(map(id, inputs))
        results = [recording.append("positive", (x,)) if id(x) in given else x for x in recording.results]
        result_at = {id(x): k for k, x in reversed(list(enumerate(results)))}
        self._arrays = arrays
        self._results = len(results)

        # Slots: the inputs, the constants, then the outputs and the registers, which `__call__` appends.
        place: dict[int, int] = {id(node): k for k, node in enumerate(inputs)}
        self._constants: list[float] = []
        last_use = {id(x): k for k, node in enumerate(operations) for x in node.operands if isinstance(x, Value)}
        last_use.update((id(result), len(operations)) for result in results)
        constants = {x for node in operations for x in node.operands if not isinstance(x, Value)}
        for number in sorted(constants):
            self._constants.append(number)
        constant_at = {number: len(inputs) + k for k, number in enumerate(self._constants)}
        outputs_at = len(inputs) + len(self._constants)
        registers_at = outputs_at + len(results)

        free: dict[bool, list[int]] = {False: [], True: []}
        self._boolean: list[bool] = []
        self._program: list[tuple[Callable, tuple[int, ...], int]] = []
        for k, node in enumerate(operations):
            final = k == len(operations) - 1 and node.operation != "where" and id(node) in result_at
            if final:
                # The last operation may write its result over an input, since nothing is read after it.
                place[id(node)] = outputs_at + result_at[id(node)]
            elif free[node.boolean]:
                place[id(node)] = free[node.boolean].pop()
            else:
                place[id(node)] = registers_at + len(self._boolean)
                self._boolean.append(node.boolean)
            operands = tuple(place[id(x)] if isinstance(x, Value) else constant_at[x] for x in node.operands)
            self._program.append((_in_place(cast(str, node.operation)), operands, place[id(node)]))
            for x in {id(x): x for x in node.operands if isinstance(x, Value)}.values():
                if x.operation is not None and last_use[id(x)] == k:
                    free[x.boolean].append(place[id(x)])
        self._copies = [
            (place[id(result)], outputs_at + k)
            for k, result in enumerate(results)
            if place[id(result)] != outputs_at + k
        ]

    def __call__(
        self, arrays: Sequence[np.ndarray], numbers: Sequence[float], out: Sequence[np.ndarray | None]
    ) -> float:
        """Evaluate the formula.

        Parameters
        ----------
        arrays : sequence of arrays
            All of one dtype and shape, and each contiguous in the same order.
        numbers : sequence of float
        out : sequence of arrays or None
            Where each result goes; may be one of `arrays`. None for a result of which only the sum is wanted.

        Returns
        -------
        float
            The sum of the results for which `out` is None.
        """
        vectors = [_flat(array) for array in arrays]
        outputs = [None if array is None else _flat(array) for array in out]
        total, length, dtype = 0.0, vectors[0].shape[0], vectors[0].dtype
        real, boolean = self._boolean.count(False), self._boolean.count(True)
        summed = [k for k, array in enumerate(outputs) if array is None]
        n = 0
        for start in range(0, length, BLOCK):
            stop = min(start + BLOCK, length)
            if stop - start != n:
                n = stop - start
                floats, flags = (
                    iter(scratch.take(real + len(summed), dtype, n)),
                    iter(scratch.take(boolean, np.bool_, n)),
                )
                registers = [next(flags if flag else floats) for flag in self._boolean]
                sums = dict(zip(summed, floats, strict=True))
            if n == length:
                results = [sums[k] if array is None else array for k, array in enumerate(outputs)]
                slots: list[Any] = [*vectors, *numbers, *self._constants, *results, *registers]
            else:
                results = [sums[k] if array is None else array[start:stop] for k, array in enumerate(outputs)]
                slots = [*(v[start:stop] for v in vectors), *numbers, *self._constants, *results, *registers]
            for operation, operands, target in self._program:
                operation(*[slots[at] for at in operands], out=slots[target])
            for source, target in self._copies:
                np.copyto(slots[target], slots[source])
            for k in summed:
                total += float(results[k].sum())
        return total


def _flat(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array as a vector, without a copy."""
    return array.T.reshape(-1, copy=False) if array.flags.f_contiguous else array.reshape(-1, copy=False)
