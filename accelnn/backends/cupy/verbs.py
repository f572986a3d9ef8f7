"""The verbs as they record a program: each appends the launches that do on the device what its reference body does.

The page runs once, in Python, with these verbs and with the arrays that it will work on; what it leaves behind is the
list of launches of one step, which then runs again for every step. Nothing in the list depends on the step's number:
kernels read that from a clock in device memory. What the page passes from verb to verb as a number (J, the penalty,
the limit of the norm) is passed here as the intention to compute it, in the launch where its parts are at hand.

A wide layer (:func:`accelnn.backends.cupy.memory.is_wide`) leaves its products to cuBLAS, with fused kernels around
them; a narrow one does product, bias and activation in one launch. A step of L layers takes at most 3 L + 3 launches
if all are narrow and 5 L + 2 if all are wide, gathering the batch and clipping included; each layer with dropout adds
two. A sparse X is multiplied by kernels of our own, in one launch each way, and not gathered: a step then takes at most
3 L + 3 launches if the other layers are narrow and 5 L if they are wide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelnn import verbs
from accelnn.activations import ACTIVATIONS
from accelnn.backends.cupy.expressions import activation_text, loss_text, rule_text
from accelnn.backends.cupy.launches import Kernels, Launch, Program
from accelnn.backends.cupy.memory import DeviceWorkspace, ceil_div, is_wide
from accelnn.backends.cupy.sparse import SparseBatch
from accelnn.binding import Binding
from accelnn.dropout import Dropout
from accelnn.kernels.cuda import ACROSS, DOWN, DRAWN, PRODUCT_THREADS, THREADS, TILE

__all__ = ["DeviceDropout", "LossParts", "Recorder", "RowByClock"]

NULL = np.uintp(0)
PRODUCT_BLOCK = PRODUCT_THREADS, 1, 1
PACKS_BLOCK = ACROSS, DOWN, 1
PACKS_ROWS = 64  # examples that a block of bias_activation.cu goes through
UPDATE_BLOCKS = 1024  # most blocks of update.cu


@dataclass(frozen=True)
class LossParts:
    """The loss that a recorded step will have computed.

    Attributes
    ----------
    inverse_m : float
        What the sum of the examples' losses is to be multiplied by.
    penalty : float
        What the sum of the squared weights is to be multiplied by.
    """

    inverse_m: float
    penalty: float = 0.0

    def __add__(self, penalty: float) -> "LossParts":
        return replace(self, penalty=penalty)


class RowByClock:
    """An array with a row for each step or epoch, of which kernels take the one that the clock names.

    Parameters
    ----------
    array : device array or None
    """

    def __init__(self, array: Any):
        self.array = array
        self.assigned: Any = None

    def __getitem__(self, row: Any) -> "RowByClock":
        return self

    def __setitem__(self, row: Any, value: Any) -> None:
        self.assigned = value


NOWHERE = RowByClock(None)


@dataclass(frozen=True)
class DeviceDropout:
    """What decides the masks of a run, so that one recorded step serves every group of its epochs.

    Attributes
    ----------
    masks : Dropout
        All but its `first`.
    first : device vector of int64, length 1
        The step that the clock's 0 stands for.
    """

    masks: Dropout
    first: Any


class Recorder:
    """The verbs, and the program that they append to.

    They keep the page's order in mind: after `loss_gradient` layer L's dZ is known, and each `linear_gradients` goes a
    layer down.

    Parameters
    ----------
    kernels : Kernels
    gemm : callable
        ``cupy.cublas.gemm``.
    work : DeviceWorkspace
    theta : device vector
    batch_size : int
        Examples of a full batch.
    losses : RowByClock
        Where the J of each step goes.
    clips : bool
        Whether the gradient's norm will be limited.
    staged : tuple, optional
        Where X, Y and perhaps the weights of a batch lie that comes from the host (see `Stage`).
    """

    def __init__(
        self,
        kernels: Kernels,
        gemm: Any,
        work: DeviceWorkspace,
        theta: Any,
        batch_size: int = 0,
        losses: RowByClock = NOWHERE,
        clips: bool = False,
        staged: tuple[Any, ...] | None = None,
    ):
        self.kernels, self.gemm, self.work, self.theta = kernels, gemm, work, theta
        self.batch_size, self.losses, self.clips, self.staged = batch_size, losses, clips, staged
        self.program = Program()
        self.layer, self.m = 0, 1  # in a backward pass: the layer whose dZ is known, and the batch's examples
        self.l2, self.limit = 0.0, math.inf

    def record(self, function: Callable, *arguments: Any) -> Any:
        """Let a function of the page append to the program; what it returns."""
        # Not kept: a recorder that held on to its own methods would outlive its run, and the data with it.
        meanings = {name: getattr(self, name, getattr(verbs, name)) for name in verbs.__all__}
        return Binding(meanings)(function)(*arguments)

    # The verbs, with the signatures of accelnn.verbs.

    def batch(self, X, Y, w, order, start, stop, work):
        """The data as they lie, or a batch that was staged, or examples that are gathered."""
        m, total, weighted = stop - start, X.shape[1], w.shape[0] > 0
        if self.staged is not None:
            parts = [part.first(m) if isinstance(part, SparseBatch) else part[:, :m] for part in self.staged]
            return tuple(parts) if weighted else (*parts, w[:, :m])
        if m == total and order.array is None:
            return X, Y, w
        *_, (X_batch, Y_batch, w_batch) = work.views(m)
        numbers = (*map(np.int32, (m, X.shape[0], Y.shape[0])), *map(np.int64, (total, self.batch_size)))
        batches = np.int64(ceil_div(total, self.batch_size))
        arguments = (
            *(X, Y, w if weighted else NULL, NULL if order.array is None else order.array),
            *(X_batch, Y_batch, w_batch if weighted else NULL),
            *(*numbers, batches, work.clock),
        )
        grid = ceil_div(m, DOWN), 1, 1
        elements = 2 * (X_batch.size + Y_batch.size + weighted * m)
        self._launch("gather", "", grid, PACKS_BLOCK, arguments, elements)
        return X_batch, Y_batch, w_batch if weighted else w[:, :m]

    def linear_activation(self, W, b, A_prev, g, out=None):
        """One launch, or cuBLAS and an epilogue for a dense wide layer; one more for softmax."""
        Z, A = out
        (n, n_prev), m, kept = W.shape, A_prev.shape[1], A is not Z
        formulas = activation_text(ACTIVATIONS["identity"] if g.columnwise else g)
        if isinstance(A_prev, SparseBatch):
            rows = A_prev.by_example
            grid, block = _sparse_shape(m, n, Z.dtype)
            arguments = (W, b, rows.starts, rows.places, rows.values, Z if kept else NULL, A, *map(np.int32, (m, n)))
            # How many entries a batch will have is not known here: the least is the results.
            self._launch("sparse_linear_activation", formulas, grid, block, arguments, n + (1 + kept) * m * n)
        elif is_wide(n, n_prev):
            self._product("N", "N", W, A_prev, Z)
            grid = ceil_div(m, PACKS_ROWS), _packs(n, Z.dtype), 1
            arguments = (Z, b, A, *map(np.int32, (m, n, PACKS_ROWS)))
            elements = (2 + kept) * m * n + n
            self._launch("bias_activation", formulas, grid, PACKS_BLOCK, arguments, elements)
        else:
            grid = ceil_div(m, TILE), ceil_div(n, TILE), 1
            arguments = (W, b, A_prev, Z if kept else NULL, A, *map(np.int32, (m, n, n_prev)))
            elements = W.size + n + A_prev.size + (1 + kept) * m * n
            self._launch("linear_activation", formulas, grid, PRODUCT_BLOCK, arguments, elements, 2 * m * n * n_prev)
        if g.columnwise:
            block = _lines(n)
            arguments = (A, *map(np.int32, (m, n)))
            self._launch("softmax", "", (ceil_div(m, block[1]), 1, 1), block, arguments, elements=2 * m * n)
        return Z, A

    def dropout(self, A, drop, l, s, out=None):
        """One launch where the layer leaves units out."""
        if drop is None or drop.masks.thresholds[l] == 0:
            return A
        masks = drop.masks
        numbers = np.int64(A.size), np.int32(masks.thresholds[l]), np.float64(masks.scale(l)), np.uint64(masks.key)
        arguments = (A, out, *numbers, np.uint64(l), drop.first, self.work.clock)
        grid = ceil_div(A.size, THREADS * DRAWN), 1, 1
        self._launch("dropout", "", grid, (THREADS, 1, 1), arguments, elements=2 * A.size)
        launches = self.program.launches
        if [launch.name for launch in launches[-2:]] == ["activation_gradient", "dropout"]:
            # In a backward pass the epilogue also sums dZ for the bias gradient, so the mask comes first. That it comes
            # before g' too makes no difference: each is a factor of every element.
            launches[-2:] = reversed(launches[-2:])
        return out

    def loss_gradient(self, Z, Y, w, loss, out=None):
        """One launch: dZ, and the loss of each group of examples; for a wide layer, its bias gradient's sums too."""
        (n, m), work = Z.shape, self.work
        self.layer, self.m = work.L, m
        numbers = (*map(np.int32, (m, n, ceil_div(m, work.groups))), np.float64(1 / m))
        arguments = (Z, Y, w if w.shape[0] else NULL, out, work.losses, self._bias_part(), *numbers)
        self._launch("loss_gradient", loss_text(loss), (work.groups, 1, 1), _lines(n), arguments, 3 * m * n + w.size)
        return LossParts(1 / m), out

    def linear_gradients(self, dZ, A_prev, W, l2, out=None):
        """One launch for each slice's sums; one product in a wide layer or for a sparse X, as db's sums are there."""
        dW, db = out
        (n, n_prev), m = W.shape, dZ.shape[1]
        if isinstance(A_prev, SparseBatch):
            rows = A_prev.by_input
            assert rows is not None  # or the pass was said to need no gradients
            grid, block = _sparse_shape(n_prev, n, dZ.dtype)
            arguments = (dZ, rows.starts, rows.places, rows.values, dW, *map(np.int32, (n, n_prev)), np.float64(1 / m))
            self._launch("sparse_linear_gradients", "", grid, block, arguments, elements=dW.size)
        elif is_wide(n, n_prev):
            self._product("N", "T", dZ, A_prev, dW, 1 / m)
        else:
            part = self.work.parts[self.layer]
            grid = ceil_div(n_prev + 1, TILE), ceil_div(n, TILE), part.count
            numbers = (*map(np.int32, (m, n, n_prev, ceil_div(m, part.count))), np.float64(1 / m))
            elements, operations = dZ.size + A_prev.size + part.array.size, 2 * m * n * (n_prev + 1)
            arguments = (dZ, A_prev, part.array, *numbers)
            self._launch("linear_gradients", "", grid, PRODUCT_BLOCK, arguments, elements, operations)
        self.l2 = l2
        self.layer -= 1
        return dW, db

    def backpropagate(self, W, dZ, Z_prev, A_prev, g, out=None):
        """One launch; beside a wide layer a product and an epilogue that sums what the bias gradient needs."""
        (n, n_prev), m = W.shape, dZ.shape[1]
        formulas = activation_text(g)
        if is_wide(n, n_prev) or self.work.wide[self.layer]:
            self._product("T", "N", W, dZ, out)
            groups = self.work.groups
            numbers = (*map(np.int32, (m, n_prev, ceil_div(m, groups))), np.float64(1 / m))
            arguments = (out, Z_prev, A_prev, self._bias_part(), *numbers)
            grid = groups, _packs(n_prev, dZ.dtype), 1
            self._launch("activation_gradient", formulas, grid, PACKS_BLOCK, arguments, elements=3 * m * n_prev)
        else:
            grid = ceil_div(m, TILE), ceil_div(n_prev, TILE), 1
            arguments = (W, dZ, Z_prev, A_prev, out, *map(np.int32, (m, n, n_prev)))
            elements = W.size + dZ.size + 2 * m * n_prev
            self._launch("backpropagate", formulas, grid, PRODUCT_BLOCK, arguments, elements, 2 * m * n * n_prev)
        return out

    def penalty(self, W, l2, X):
        """What the sum of the squared weights is to be multiplied by; all_reduce.cu adds them up."""
        return l2 / (2 * X.shape[1])

    def all_reduce(self, dtheta, out=None):
        """One launch: adds the slices of all gradients, and the squares where the norm or a penalty wants them."""
        work = self.work
        wanted = self.clips or self.l2 != 0
        numbers = np.float64(self.l2 / self.m), work.clock
        arguments = (dtheta, self.theta, work.all_parts, work.table, work.squares if wanted else NULL, *numbers)
        summed = work.all_parts.size + sum(part.array.size // part.count for part in work.parts[1:])
        elements = summed + wanted * (dtheta.size + (self.l2 != 0) * self.theta.size)
        self._launch("all_reduce", "", (work.blocks, work.L, 1), (THREADS, 1, 1), arguments, elements)
        return dtheta

    def clip_gradient(self, dtheta, limit, out=None):
        """Left to update.cu, so that dtheta stays in memory as it is."""
        self.limit = limit
        return dtheta

    def update(self, theta, dtheta, state, rule, coefficients, out=None):
        """One launch: the norm, the rule, and J into its place."""
        work, size = self.work, theta.size
        count = work.squares.shape[1]
        arguments = (
            *(theta, dtheta, state if len(rule.state) else NULL, coefficients.array, np.int64(size)),
            *(work.squares, np.int32(count), np.float64(self.limit)),
            *(self.losses.array, *self._parts_of(self.losses.assigned), work.clock),
        )
        grid = min(UPDATE_BLOCKS, ceil_div(size, THREADS)), 1, 1
        elements = (3 + 2 * len(rule.state)) * size
        self._launch("update", rule_text(rule), grid, (THREADS, 1, 1), arguments, elements)
        return theta, state

    # What stands between them.

    def total(self, loss: LossParts, place: Any) -> None:
        """One launch that puts J where it belongs, for a program without an update."""
        losses, groups, inverse_m, penalty = self._parts_of(loss)
        squares, count = self.work.squares[1], np.int32(self.work.squares.shape[1])
        arguments = losses, groups, inverse_m, squares, count, penalty, place
        self._launch("total_loss", "", (1, 1, 1), (THREADS, 1, 1), arguments)

    def _parts_of(self, loss: LossParts) -> tuple[Any, ...]:
        """What J is made of: the examples' losses, how many groups of them, and the two factors."""
        work = self.work
        return work.losses, np.int32(work.groups), np.float64(loss.inverse_m), np.float64(loss.penalty)

    def _bias_part(self) -> Any:
        """Where the sums for the bias gradient of the layer at hand go, if it is a wide one."""
        return self.work.parts[self.layer].array if self.work.wide[self.layer] else NULL

    def _product(self, trans_a: str, trans_b: str, a: Any, b: Any, out: Any, alpha: float = 1.0) -> None:
        """``out = alpha op(a) op(b)`` by cuBLAS. In the equations' orientation everything is column-major."""
        inner = a.shape[1 if trans_a == "N" else 0]
        moved = (a.size + b.size + out.size) * out.dtype.itemsize
        arguments = trans_a, trans_b, a, b, out, alpha
        self.program.launches.append(Launch("gemm", self.gemm, arguments, bytes=moved, operations=2 * out.size * inner))

    def _launch(
        self,
        name: str,
        formulas: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: tuple[Any, ...],
        elements: int = 0,
        operations: int = 0,
    ) -> None:
        kernel = self.kernels(name, formulas)
        itemsize = self.work.buffer.dtype.itemsize
        self.program.launches.append(
            Launch(name, kernel, (grid, block, arguments), grid, block, elements * itemsize, operations)
        )


def _lines(n: int) -> tuple[int, int, int]:
    """A block whose x runs along n units and whose y runs over examples."""
    across = min(ACROSS, 1 << (n - 1).bit_length())
    return across, THREADS // across, 1


def _packs(n: int, dtype: np.dtype) -> int:
    """How many blocks of ACROSS packs of 16 bytes cover n units."""
    return ceil_div(n, ACROSS * (16 // dtype.itemsize))


def _sparse_shape(rows: int, n: int, dtype: np.dtype) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Grid and block for rows of n units that are sums over entries: a line of threads a row, a thread a pack."""
    packs = ceil_div(n, 16 // dtype.itemsize)
    across = min(ACROSS, 1 << (packs - 1).bit_length())
    down = max(DOWN, ACROSS // across)
    return (ceil_div(rows, down), ceil_div(packs, across), 1), (across, down, 1)
