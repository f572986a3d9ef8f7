"""Loops over one batch, in memory order: row i is example i, and element (i, j) of n columns is number ``i * n + j``.

Each function here is compiled to a kernel of its own, with pointers for arrays. `function`, `value`, `gradient` and
`count` are free names: the numba backend binds them, one kernel for each activation, loss and update rule.
"""

import inspect
import math

import numpy as np
from numba import carray, types
from numba.np.unsafe.ndarray import to_fixed_tuple

__all__ = [
    "LOSSES",
    "UPDATES",
    "activate",
    "activate_softmax",
    "differentiate",
    "lose",
    "lose_softmax",
    "mean_gradients",
    "scaled",
    "signature",
    "square_sum",
]


def _free(*arguments):
    raise NameError("a kernel's source runs only compiled, with its free names bound")


BLOCK = 4096  # elements that stay in the first-level cache from one pass over them to the next

function = value = gradient = _free
count = 0


def signature(template, dtype):
    """The C signature of a kernel: pointers to `dtype`, and integers."""
    arguments = inspect.signature(template).parameters
    result = types.float64 if template in LOSSES else types.void
    return result(*(types.int64 if name in ("m", "n", "kept", "size") else types.CPointer(dtype) for name in arguments))


def activate(b, Z, A, m, n, kept):
    """``Z += b; A = function(Z)``. Unless `kept`, Z and A are the same memory, which then holds A.

    The bias is added row by row, and the function applied to whole blocks of rows: a loop as short as a narrow layer
    is wide would not vectorise.
    """
    rows = max(1, BLOCK // n)
    for first in range(0, m, rows):
        last = min(first + rows, m)
        for i in range(first, last):
            for j in range(n):
                Z[i * n + j] += b[j]
        if kept:
            for k in range(first * n, last * n):
                A[k] = function(Z[k])
        else:
            for k in range(first * n, last * n):
                A[k] = function(A[k])


def activate_softmax(b, Z, A, m, n, kept):
    """``Z += b``, then softmax along each row into A."""
    for row in range(0, m * n, n):
        top = Z[row] + b[0]
        for j in range(n):
            z = Z[row + j] + b[j]
            Z[row + j] = z
            top = z if z > top else top
        norm = top - top
        for j in range(n):
            e = math.exp(Z[row + j] - top)
            A[row + j] = e
            norm += e
        for j in range(n):
            A[row + j] /= norm


def differentiate(dA, Z, A, size):
    """``dA = function(dA, Z, A)``, in place: the product with g'."""
    for k in range(size):
        dA[k] = function(dA[k], Z[k], A[k])


def lose(Z, Y, dZ, m, n):
    """Sum of the losses; dZ receives the gradient.

    The values pass through dZ, so that computing them vectorises though their sum, in double precision and in order,
    does not.
    """
    total = np.float64(0.0)
    for first in range(0, m * n, BLOCK):
        last = min(first + BLOCK, m * n)
        for k in range(first, last):
            dZ[k] = value(Z[k], Y[k])
        for k in range(first, last):
            total += dZ[k]
        for k in range(first, last):
            dZ[k] = gradient(Z[k], Y[k])
    return total


def lose_softmax(Z, Y, dZ, m, n):
    """Sum of the rows' cross-entropies; dZ receives ``softmax(Z) - Y``."""
    total = np.float64(0.0)
    for row in range(0, m * n, n):
        top = Z[row]
        for j in range(1, n):
            top = Z[row + j] if Z[row + j] > top else top
        norm = top - top
        for j in range(n):
            shifted = Z[row + j] - top
            total -= shifted * Y[row + j]
            e = math.exp(shifted)
            dZ[row + j] = e
            norm += e
        total += math.log(norm)
        for j in range(n):
            dZ[row + j] = dZ[row + j] / norm - Y[row + j]
    return total


def mean_gradients(dW, W, dZ, db, scale, decay):
    """``dW = scale dW + decay W`` and ``db = scale sum_i dZ(i)``, on arrays in the orientation of the equations."""
    scale, decay = dW.dtype.type(scale), dW.dtype.type(decay)
    for j in range(dW.shape[1]):
        for k in range(dW.shape[0]):
            dW[k, j] = scale * dW[k, j] + decay * W[k, j]
    # In double precision: a float32 sum over a million examples would keep two digits.
    totals = np.zeros(dZ.shape[0])
    for i in range(dZ.shape[1]):
        for k in range(dZ.shape[0]):
            totals[k] += dZ[k, i]
    for k in range(dZ.shape[0]):
        db[k, 0] = scale * totals[k]


def square_sum(array):
    """Sum of squares, in double precision."""
    total = np.float64(0.0)
    for element in array.flat:
        total += np.float64(element) * np.float64(element)
    return total


def scaled(vector, factor, out):
    """``out = factor * vector``."""
    factor = vector.dtype.type(factor)
    for k in range(vector.shape[0]):
        out[k] = factor * vector[k]


def update_plain(theta, d, state, coefficients, size):
    """A rule without state, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k] = function(theta[k], d[k], *c)


def update_one(theta, d, state, coefficients, size):
    """A rule with one state vector, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k], state[k] = function(theta[k], d[k], state[k], *c)


def update_two(theta, d, state, coefficients, size):
    """A rule with two state vectors, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k], state[k], state[size + k] = function(theta[k], d[k], state[k], state[size + k], *c)


LOSSES = (lose, lose_softmax)
UPDATES = (update_plain, update_one, update_two)
