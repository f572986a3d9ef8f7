"""Loops over one batch, in memory order: row i is example i, and element (i, j) of n columns is number ``i * n + j``.

Each function here is compiled to a kernel of its own, with pointers for arrays. `function`, `value`, `gradient`,
`exp`, `log1p` and `count` are free names: the numba backend binds them, one kernel for each activation, loss and
update rule. (So are `long_sum` and `weigh`, which are compiled with other options.)
"""

import inspect

import numpy as np
from numba import carray, types
from numba.np.unsafe.ndarray import to_fixed_tuple

__all__ = [
    "LOSSES",
    "UPDATES",
    "activate",
    "activate_softmax",
    "column_sums",
    "differentiate",
    "lose",
    "lose_softmax",
    "signature",
    "square_sum",
]


def _free(*arguments):
    raise NameError("a kernel's source runs only compiled, with its free names bound")


BLOCK = 2048  # elements that stay in the first-level cache from one pass over them to the next

function = value = gradient = exp = log1p = _free
count = 0

_INTEGERS = dict.fromkeys(("m", "n", "kept", "size", "stride", "add", "weighted"), types.int64)
_INTEGERS |= dict.fromkeys(("number", "key", "layer", "step", "threshold", "inputs", "left", "right"), types.int64)
_INTEGERS |= dict.fromkeys(("indices", "begins", "ends"), types.CPointer(types.int64))
_DOUBLES = {"scale": types.float64, "total": types.CPointer(types.float64)}


def signature(template, dtype):
    """The C signature of a kernel: pointers to `dtype`, unless the name of a parameter says otherwise."""
    kinds = _INTEGERS | _DOUBLES
    result = types.float64 if template in LOSSES else types.void
    return result(*(kinds.get(name, types.CPointer(dtype)) for name in inspect.signature(template).parameters))


def activate(Z, A, m, n, kept):
    """``A = function(Z)``. Unless `kept`, Z and A are the same memory, which then holds A."""
    if kept:
        for k in range(m * n):
            A[k] = function(Z[k])
    else:
        for k in range(m * n):
            A[k] = function(A[k])


def activate_softmax(Z, A, m, n, kept):
    """Softmax along each row of Z into A."""
    for row in range(0, m * n, n):
        top = Z[row]
        for j in range(1, n):
            top = Z[row + j] if Z[row + j] > top else top
        for j in range(n):
            A[row + j] = Z[row + j] - top
    # In one loop over all rows, which vectorises however short they are.
    for k in range(m * n):
        A[k] = exp(A[k])
    for row in range(0, m * n, n):
        norm = A[row]
        for j in range(1, n):
            norm += A[row + j]
        for j in range(n):
            A[row + j] /= norm


def differentiate(dA, Z, A, size):
    """``dA = function(dA, Z, A)``, in place: the product with g'."""
    for k in range(size):
        dA[k] = function(dA[k], Z[k], A[k])


def lose(Z, Y, w, dZ, m, n, weighted):
    """Sum of the losses; dZ receives the gradient. Both are times the example's weight in w if `weighted`.

    The values pass through dZ, so that computing them vectorises; their sum is kept in double precision.
    """
    total = np.float64(0.0)
    for first in range(0, m * n, BLOCK):
        last = min(first + BLOCK, m * n)
        for k in range(first, last):
            dZ[k] = value(Z[k], Y[k])
        if weighted:
            weigh(dZ, w, first, last, n)
        total += long_sum(dZ, first, last)
        for k in range(first, last):
            dZ[k] = gradient(Z[k], Y[k])
        if weighted:
            weigh(dZ, w, first, last, n)
    return total


def long_sum(x, first, last):
    """``x[first] + ... + x[last - 1]`` in double precision."""
    total = np.float64(0.0)
    for k in range(first, last):
        total += x[k]
    return total


def weigh(dZ, w, first, last, n):
    """Elements ``first .. last - 1`` times their rows' weights."""
    if n == 1:
        for k in range(first, last):
            dZ[k] *= w[k]
    else:
        for i in range(first // n, (last + n - 1) // n):
            for k in range(max(first, i * n), min(last, i * n + n)):
                dZ[k] *= w[i]


def lose_softmax(Z, Y, w, dZ, m, n, weighted):
    """Sum of the rows' cross-entropies; dZ receives ``softmax(Z) - Y``. Both are times w if `weighted`."""
    total = np.float64(0.0)
    rows = max(1, BLOCK // n)
    for first in range(0, m, rows):
        last = min(first + rows, m)
        for i in range(first, last):
            row = i * n
            top = Z[row]
            for j in range(1, n):
                top = Z[row + j] if Z[row + j] > top else top
            part = top - top
            for j in range(n):
                shifted = Z[row + j] - top
                dZ[row + j] = shifted
                part += shifted * Y[row + j]
            total -= part * w[i] if weighted else part
        # In one loop over all rows, which vectorises however short they are.
        for k in range(first * n, last * n):
            dZ[k] = exp(dZ[k])
        for i in range(first, last):
            row = i * n
            norm = dZ[row]
            for j in range(1, n):
                norm += dZ[row + j]
            weight = w[i] if weighted else 1.0
            total += log1p(norm - 1.0) * weight
            inverse = 1.0 / norm
            for j in range(n):
                dZ[row + j] = (dZ[row + j] * inverse - Y[row + j]) * weight
    return total


ROWS_AT_ONCE = 64  # rows that are added in the network's own precision before their sum enters the total
WIDE = 64  # several rows of fewer elements are added as one, which fills the vectors


def column_sums(dZ, db, part, total, m, n, stride, scale, add):
    """``db = scale * sum_i dZ[i, :]`` for m rows of n columns, `stride` apart; `add`: on top of what db holds.

    The total is kept in double precision: a float32 sum over a million rows would keep two digits. `part` and `total`
    are working memory of max(n, WIDE) elements.
    """
    width = WIDE // n * n if stride == n and n < WIDE else n
    step = width if width > n else stride
    rows = m * n // width
    for j in range(width):
        total[j] = 0.0
    for first in range(0, rows, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, rows)
        left = (last - first) % 4
        for j in range(width):
            part[j] = 0.0
        for i in range(first * step, (first + left) * step, step):
            for j in range(width):
                part[j] += dZ[i + j]
        for i in range((first + left) * step, last * step, 4 * step):
            for j in range(width):
                part[j] += (dZ[i + j] + dZ[i + step + j]) + (dZ[i + 2 * step + j] + dZ[i + 3 * step + j])
        for j in range(width):
            total[j] += part[j]
    for j in range(m * n - rows * width):
        total[j] += dZ[rows * width + j]
    for j in range(n):
        for k in range(j + n, width, n):
            total[j] += total[k]
        db[j] = (db[j] if add else 0.0) + scale * total[j]


def square_sum(x, size):
    """Sum of squares, in double precision."""
    total = np.float64(0.0)
    for k in range(size):
        total += np.float64(x[k]) * np.float64(x[k])
    return total


LOSSES = (lose, lose_softmax)


def update_plain(theta, d, state, coefficients, size, stride):
    """A rule without state, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k] = function(theta[k], d[k], *c)


def update_one(theta, d, state, coefficients, size, stride):
    """A rule with one state vector, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k], state[k] = function(theta[k], d[k], state[k], *c)


def update_two(theta, d, state, coefficients, size, stride):
    """A rule with two state vectors, `stride` apart, in place."""
    c = to_fixed_tuple(carray(coefficients, (count,)), count)
    for k in range(size):
        theta[k], state[k], state[stride + k] = function(theta[k], d[k], state[k], state[stride + k], *c)


UPDATES = (update_plain, update_one, update_two)
