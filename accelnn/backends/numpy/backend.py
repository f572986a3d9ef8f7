"""NumPy: every verb in place, with ``out=`` everywhere and no new array in a step after the first,
but for weights of examples, dropout and a sparse X.

Memory holds each example contiguously, so the products below are written for the transposes, which are C-ordered and
may receive a result of ``numpy.matmul``.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from accelnn.backends.base import Backend
from accelnn.backends.numpy.tape import BLOCK, Tape, scratch

__all__ = ["NumpyBackend"]

SHORT = 256  # examples whose plain sum loses few digits
SQUARES = 2**16  # terms of an inner product, which BLAS spreads over many partial sums


@cache
def _forward_tape(g) -> Tape:
    return Tape(g.function, arrays=1)


@cache
def _backward_tape(g) -> Tape:
    return Tape(g.backward, arrays=3)


@cache
def _loss_tape(loss) -> Tape:
    return Tape(loss.value, loss.gradient, arrays=2)


@cache
def _rule_tape(rule, numbers: int) -> Tape:
    return Tape(rule.update, arrays=2 + len(rule.state), numbers=numbers)


def _decayed(d, w, scale, weight):
    return scale * d + weight * w


_decayed_tape = Tape(_decayed, arrays=2, numbers=2)


def batch(X, Y, w, order, start, stop, work):
    """Slices of the data, or examples gathered into the workspace."""
    if len(order) == 0:
        return X[:, start:stop], Y[:, start:stop], w[:, start:stop]
    chosen = order[start:stop]
    *_, places = work.views(stop - start)
    return tuple(_gathered(array, chosen, place) for array, place in zip((X, Y, w), places, strict=True))


def _gathered(array, chosen, place):
    if not isinstance(array, np.ndarray):
        return array[:, chosen]
    if array.shape[0] == 0:
        return array[:, : len(chosen)]
    np.take(array.T, chosen, axis=0, out=place.T, mode="clip")
    return place


def linear_activation(W, b, A_prev, g, out=None):
    """Product into Z, bias added in place, then g from Z into A."""
    Z, A = out or (_like(A_prev, W.shape[0]), _like(A_prev, W.shape[0]))
    _product(A_prev.T, W.T, Z.T)
    np.add(Z, b, out=Z)
    if g.columnwise:
        _softmax(Z, A)
    elif g.name != "identity" or A is not Z:
        _forward_tape(g)((Z,), (), (A,))
    return Z, A


def dropout(A, drop, l, s, out=None):
    """The mask drawn anew, and A times it."""
    if drop is None or drop.thresholds[l] == 0:
        return A
    out = _like(A, A.shape[0]) if out is None else out
    np.multiply(A, drop.stays(l, s, A.shape), out=out)
    return np.multiply(out, drop.scale(l), out=out)


def loss_gradient(Z, Y, w, loss, out=None):
    """Value and gradient in one pass."""
    dZ = _like(Z, Z.shape[0]) if out is None else out
    weights = w[0] if len(w) else None
    if loss.columnwise:
        total = _softmax_cross_entropy(Z, Y, weights, dZ)
    elif weights is None:
        total = _loss_tape(loss)((Z, Y), (), (None, dZ))
    else:
        values = _like(Z, Z.shape[0])
        _loss_tape(loss)((Z, Y), (), (values, dZ))
        total = float(np.sum(np.multiply(values, weights, out=values), dtype=np.float64))
    if weights is not None:
        np.multiply(dZ, weights, out=dZ)
    return total / Z.shape[1], dZ


def linear_gradients(dZ, A_prev, W, l2, out=None):
    """Product into dW; mean and penalty in place."""
    dW, db = out or (_like(W, W.shape[0]), _like(dZ[:, :1], W.shape[0]))
    m = dZ.shape[1]
    _product(A_prev, dZ.T, dW.T)
    if l2 == 0.0:
        np.multiply(dW, 1.0 / m, out=dW)
    else:
        _decayed_tape((dW, W), (1.0 / m, l2 / m), (dW,))
    np.sum(dZ.T[:SHORT], axis=0, keepdims=True, out=db.T)
    if m > SHORT:
        # In blocks, added in double precision: one float32 sum over a million examples would keep two digits.
        total = db.astype(np.float64)
        for start in range(SHORT, m, SHORT):
            total += np.sum(dZ.T[start : start + SHORT], axis=0, keepdims=True).T
        db[...] = total
    np.multiply(db, 1.0 / m, out=db)
    return dW, db


def backpropagate(W, dZ, Z_prev, A_prev, g, out=None):
    """Product into dZ_prev, then times g' in place."""
    dZ_prev = _like(dZ, W.shape[1]) if out is None else out
    np.matmul(dZ.T, W, out=dZ_prev.T)
    if g.name != "identity":
        _backward_tape(g)((dZ_prev, Z_prev, A_prev), (), (dZ_prev,))
    return dZ_prev


def penalty(W, l2, X):
    """Sums of squares as inner products."""
    if l2 == 0.0:
        return 0.0
    return l2 / (2 * X.shape[1]) * sum(_square_sum(w.T.reshape(-1, copy=False)) for w in W[1:])


def clip_gradient(dtheta, limit, out=None):
    """Norm as an inner product, scaled in place."""
    if math.isinf(limit):
        return dtheta
    norm = math.sqrt(_square_sum(dtheta))
    return dtheta if norm <= limit else np.multiply(dtheta, limit / norm, out=out)


def update(theta, dtheta, state, rule, coefficients, out=None):
    """The rule's formula over blocks of theta."""
    new_theta, new_state = out or (np.empty_like(theta), np.empty_like(state))
    _rule_tape(rule, len(coefficients))((theta, dtheta, *state), coefficients, (new_theta, *new_state))
    return new_theta, new_state


def _product(a, b, out):
    """``out = a b``; a sparse `a` has no way to write into `out`."""
    if isinstance(a, np.ndarray):
        np.matmul(a, b, out=out)
    else:
        out[...] = a @ b


def _square_sum(vector):
    """In double precision, from blocks whose own sums are short; one that overflows is summed in double precision."""
    total = 0.0
    for start in range(0, vector.shape[0], SQUARES):
        part = vector[start : start + SQUARES]
        square = float(np.vdot(part, part))
        if math.isinf(square):
            part = part.astype(np.float64)
            square = float(np.vdot(part, part))
        total += square
    return total


def _like(array, rows):
    """A new (rows, m) array of the same dtype and number of columns, each column contiguous."""
    return np.empty((array.shape[1], rows), array.dtype).T


def _softmax(Z, A):
    for Z_part, A_part, row in _column_blocks(Z, A):
        np.max(Z_part, axis=0, keepdims=True, out=row)
        np.subtract(Z_part, row, out=A_part)
        np.exp(A_part, out=A_part)
        np.sum(A_part, axis=0, keepdims=True, out=row)
        np.divide(A_part, row, out=A_part)


def _softmax_cross_entropy(Z, Y, weights, dZ):
    """Sum of the columns' losses, each times its weight where there are any; dZ = softmax(Z) - Y."""
    total, start = 0.0, 0
    for Z_part, Y_part, dZ_part, row in _column_blocks(Z, Y, dZ):
        np.max(Z_part, axis=0, keepdims=True, out=row)
        np.subtract(Z_part, row, out=dZ_part)
        if weights is None:
            total -= float(np.vdot(dZ_part.T, Y_part.T))
        else:
            part = weights[start : start + row.shape[1]]
            start += row.shape[1]
            total -= float(np.vdot(np.einsum("ji,ji->i", dZ_part, Y_part), part))
        np.exp(dZ_part, out=dZ_part)
        np.sum(dZ_part, axis=0, keepdims=True, out=row)
        np.divide(dZ_part, row, out=dZ_part)
        np.subtract(dZ_part, Y_part, out=dZ_part)
        np.log(row, out=row)
        total += float(np.sum(row)) if weights is None else float(np.vdot(row[0], part))
    return total


def _column_blocks(*arrays):
    """Blocks of columns of each array, and a row of scratch memory with one place a column."""
    m = arrays[0].shape[1]
    for start in range(0, m, BLOCK):
        stop = min(start + BLOCK, m)
        (row,) = scratch.take(1, arrays[0].dtype, stop - start)
        yield *(array[:, start:stop] for array in arrays), row[None, :]


_VERBS = (
    batch,
    linear_activation,
    dropout,
    loss_gradient,
    linear_gradients,
    backpropagate,
    penalty,
    clip_gradient,
    update,
)


class NumpyBackend(Backend):
    """The page interpreted, each verb on NumPy's own loops and BLAS."""

    name = "numpy"
    takes_sparse = True

    def __init__(self) -> None:
        super().__init__(np, overrides={verb.__name__: verb for verb in _VERBS})

    def bind(self, function: Callable) -> Callable:
        """The page; overflow is no news, since a loss that is not finite is reported as a divergence."""
        return np.errstate(all="ignore")(super().bind(function))
