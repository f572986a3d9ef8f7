"""The verbs as they stand inside the compiled page: thin, and around kernels that they call by address.

An array is a matrix of :mod:`accelnn.kernels.matrices` (a flat vector, one of a single column); a layout is its table;
a workspace is the table and the record of the member that runs (:mod:`accelnn.kernels.team`).
Activations, losses and rules are addresses of kernels; what decides the masks of dropout is an array of integers.

A batch is split over the examples: each member takes its share through the network. Where the parameters are few,
a member computes the gradient of its share, some examples at a time so that their activations stay in its cache, and
`all_reduce` adds the members' gradients. Where they are many, the members share one gradient and split each dW by its
rows instead (`TILES`). Everything over flat vectors is split by their elements.

A sparse X is a matrix without rows: its numbers are where the member's record says.
"""

from collections.abc import Callable

import numpy as np

from accelnn.binding import free
from accelnn.kernels.calls import address, as_element, at, call, call_for_sum, doubles, null, pointer, pointer_from
from accelnn.kernels.loops import WIDE, square_sum
from accelnn.kernels.matrices import blocks, matrix
from accelnn.kernels.team import (
    BATCH,
    BEGINS,
    BLOCK,
    BUFFER,
    CAPACITY,
    COLUMN_SUMS,
    DROPOUT,
    ENDS,
    FIRST,
    GATHER,
    GRADIENTS,
    INDEX,
    INDICES,
    LATER,
    MULTIPLY,
    RANGES,
    SCRATCH,
    SIZE,
    SPARSE_GRADIENT,
    SPARSE_PRODUCT,
    STARTS,
    SUMS,
    TILES,
    VALUES,
    meet,
    share,
)

__all__ = ["ACTIVATE", "DIFFERENTIATE", "ENTRIES", "KEY", "START", "THRESHOLDS", "VERBS", "in_passes"]

ACTIVATE, DIFFERENTIATE = 0, 1  # places of the pair that g is the address of; 0 is the identity's
START, KEY, THRESHOLDS = 0, 1, 2  # places of what decides masks: the run's first step, the key, and layers 0..L
EPILOGUE = 2**15  # elements of a product that are computed before their activation is applied


def linear_activation(W, b, A_prev, g, out=None):
    """Product with the bias as its start, and the activation over rows that are still in the cache."""
    Z, A = out
    member = A_prev.member
    n, k, m = W.rows, W.columns, A_prev.columns
    kernels = pointer_from(g, member)
    # A large W would have to come into the cache again for each group of rows.
    rows = max(64, EPILOGUE // n // 8 * 8) if n * k <= EPILOGUE else max(m, 1)
    for first in range(0, m, rows):
        count = min(rows, m - first)
        A_rows, Z_rows = at(A_prev.data, first * k), at(Z.data, first * n)
        if A_prev.rows == 0:
            values, indices, begins, ends = numbers_of(A_prev, A_prev.first + first)
            call(member[SPARSE_PRODUCT], (values, indices, begins, ends, W.data, b.data, Z_rows, count, n))
        else:
            multiply(member, A_rows, k, 1, W.data, n, 1, Z_rows, n, b.data, 0, count, n, k, 1)
        if kernels[ACTIVATE] != 0:
            call(kernels[ACTIVATE], (Z_rows, at(A.data, first * n), count, n, int(address(Z.data) != address(A.data))))
    return Z, A


def dropout(A, drop, l, s, out=None):
    """The mask is computed anew; without dropout, no code is left of this."""
    if drop is None:
        return A
    masks, member = pointer(drop), A.member
    threshold = masks[THRESHOLDS + l]
    # A rate that rounds to nothing: the layer has memory of its own for what is left.
    if threshold != 0 or address(out.data) != address(A.data):
        size, number = A.rows * A.columns, A.first * A.rows
        part = pointer_from(member[SCRATCH], A.data)
        call(member[DROPOUT], (A.data, out.data, part, size, number, l, masks[START] + s, masks[KEY], threshold))
    return out


def loss_gradient(Z, Y, w, loss, out=None):
    """Value and gradient in one pass over these examples; the mean is over the whole batch."""
    total = call_for_sum(loss, (Z.data, Y.data, w.data, out.data, Z.columns, Z.rows, w.rows))
    return total / Z.member[BATCH], out


def linear_gradients(dZ, A_prev, W, l2, out=None):
    """A member's part of dW and db: of all examples for its rows, or of its examples for all rows."""
    dW, db = out
    member = dZ.member
    n, k, m, batch = W.rows, W.columns, dZ.columns, member[BATCH]
    A_data, dZ_data = A_prev.data, dZ.data
    first, last, left, right, b_left, b_right = 0, k, 0, n, 0, n
    if member[TILES] == 1:
        meet(member)
        A_data, dZ_data = at(A_data, -member[FIRST] * k), at(dZ_data, -member[FIRST] * n)
        m, size, index = batch, member[SIZE], member[INDEX]
        b_left, b_right = share(n, size, index), share(n, size, index + 1)
        # The features of a sparse X come in any order, so that members split the units.
        if k >= n and A_prev.rows != 0:
            first, last = share(k, size, index), share(k, size, index + 1)
        else:
            left, right = b_left, b_right
    add = member[LATER]
    start = dW.data if add == 1 or l2 != 0.0 else null(dW.data)
    if l2 != 0.0:
        decay = as_element(l2 * m / (batch * batch), dW.data)
        shrink(dW.data, W.data, n, first, last, left, right, decay, add)
    dW_part, start = at(dW.data, first * n + left), at(start, first * n + left)
    A_part, dZ_part = at(A_data, first), at(dZ_data, left)
    scale = 1 / batch
    if A_prev.rows == 0:
        values, indices, begins, ends = numbers_of(A_prev, 0 if member[TILES] == 1 else A_prev.first)
        onto = 1 if l2 != 0.0 else add
        dimensions = m, n, k, left, right
        call(member[SPARSE_GRADIENT], (values, indices, begins, ends, dZ_data, dW.data, *dimensions, scale, onto))
    elif n == 1:
        # One column: as a row, it fills the vectors.
        multiply(member, dZ_part, n, 1, A_part, k, 1, dW_part, k, start, k, 1, last - first, m, scale)
    else:
        multiply(member, A_part, 1, k, dZ_part, n, 1, dW_part, n, start, n, last - first, right - left, m, scale)
    part, total = pointer_from(member[SCRATCH], dW.data), doubles(member[SCRATCH] + 8 * max(n, WIDE))
    dZ_part, db_part = at(dZ_data, b_left), at(db.data, b_left)
    call(member[COLUMN_SUMS], (dZ_part, db_part, part, total, m, b_right - b_left, n, scale, add))
    return dW, db


def shrink(dW, W, n, first, last, left, right, decay, add):
    """``dW = decay W`` for some rows and columns; `add`: on top of what dW holds."""
    for i in range(first, last):
        for j in range(i * n + left, i * n + right):
            dW[j] = (dW[j] if add == 1 else 0.0) + decay * W[j]


def numbers_of(X, first):
    """Pointers to a sparse X's numbers and features, and to the begins and ends of examples from a place on."""
    member = X.member
    values, indices = pointer_from(member[VALUES], X.data), pointer_from(member[INDICES], member)
    begins, ends = pointer_from(member[BEGINS], member), pointer_from(member[ENDS], member)
    return values, indices, at(begins, first), at(ends, first)


def backpropagate(W, dZ, Z_prev, A_prev, g, out=None):
    """Product with a transposed W, then times g' in place."""
    n, k, m = W.rows, W.columns, dZ.columns
    multiply(dZ.member, dZ.data, n, 1, W.data, 1, n, out.data, k, null(out.data), 0, m, k, n, 1)
    kernels = pointer_from(g, dZ.member)
    if kernels[DIFFERENTIATE] != 0:
        call(kernels[DIFFERENTIATE], (out.data, Z_prev.data, A_prev.data, m * k))
    return out


def penalty(W, l2, X):
    """A share of the examples carries that share of the penalty."""
    total = np.float64(0.0)
    if l2 != 0.0:
        for l in range(1, len(W)):
            total += square_sum(W[l].data, W[l].rows * W[l].columns)
    m = np.float64(X.member[BATCH])
    return l2 * X.columns / (2 * m * m) * total


def all_reduce(dtheta, out=None):
    """Sum of the members' gradients, each member for its part of the vector."""
    member = dtheta.member
    size = member[SIZE]
    if size > 1:
        meet(member)
        if member[TILES] == 0:
            first, last = part_of(dtheta)
            addresses = pointer_from(member[GRADIENTS], member)
            for t in range(size):
                if t != member[INDEX]:
                    other = pointer_from(addresses[t], dtheta.data)
                    for k in range(first, last):
                        dtheta.data[k] += other[k]
    return dtheta


def clip_gradient(dtheta, limit, out=None):
    """Norm in one pass, scaled in place; each member for its part of the vector."""
    if limit == np.inf:
        return dtheta
    member = dtheta.member
    first, last = part_of(dtheta)
    total = square_sum(at(dtheta.data, first), last - first)
    if member[SIZE] > 1:
        sums = doubles(member[SUMS])
        sums[member[INDEX]] = total
        meet(member)
        total = np.float64(0.0)
        for t in range(member[SIZE]):
            total += sums[t]
    norm = np.sqrt(total)
    if norm > limit:
        factor = as_element(limit / norm, dtheta.data)
        for k in range(first, last):
            dtheta.data[k] *= factor
    return dtheta


def update(theta, dtheta, state, rule, coefficients, out=None):
    """The rule in one pass, in place; each member for its part of the vectors."""
    first, last = part_of(dtheta)
    theta_part, d_part, state_part = at(theta.data, first), at(dtheta.data, first), at(pointer(state), first)
    call(rule, (theta_part, d_part, state_part, pointer(coefficients), last - first, dtheta.rows))
    meet(dtheta.member)
    return theta, state


def parameters(theta, layout):
    """W and b as sequences of matrices."""
    first = matrix(theta.data, 0, 0, theta.member, 0)
    units, inputs, count = table_row(layout, 0), table_row(layout, 1), layout.shape[1]
    W = blocks(theta.data, table_row(layout, 2), units, inputs, count, 1, -1, 0, first)
    b = blocks(theta.data, table_row(layout, 3), units, inputs, count, 1, 1, 0, first)
    return W, b


def activations(work, X):
    """A, Z, D and dZ as sequences of matrices."""
    layout, member = work
    units, count, m, capacity = table_row(layout, 0), layout.shape[1], X.columns, member[CAPACITY]
    data = pointer_from(member[BUFFER], X.data)
    skip = member[FIRST] if member[TILES] == 1 else 0
    A = blocks(data, table_row(layout, 4), units, units, count, capacity, m, skip, X)
    Z = blocks(data, table_row(layout, 5), units, units, count, capacity, m, skip, X)
    D = blocks(data, table_row(layout, 6), units, units, count, capacity, m, skip, X)
    dZ = blocks(data, table_row(layout, 7), units, units, count, capacity, m, skip, X)
    return A, Z, D, dZ


def batch(X, Y, w, order, start, stop, work):
    """A member's share of the batch: slices of the data, or examples that are gathered."""
    member, m = X.member, stop - start
    first, last = own_share(member, m, start)
    count = last - first
    if order.shape[0] == 0:
        return examples(X, Y, w, start + first, count, first)
    # In memory for the whole batch, or for the member's own examples.
    room, skip = (m, first) if member[TILES] == 1 else (count, 0)
    gathered = pointer_from(member[GATHER], X.data)
    X_own, Y_own = at(gathered, X.rows * skip), at(gathered, X.rows * room + Y.rows * skip)
    w_own = at(gathered, (X.rows + Y.rows) * room + w.rows * skip)
    for i in range(count):
        k = order[start + first + i]
        for j in range(X.rows):
            X_own[i * X.rows + j] = X.data[k * X.rows + j]
        for j in range(Y.rows):
            Y_own[i * Y.rows + j] = Y.data[k * Y.rows + j]
        if w.rows == 1:
            w_own[i] = w.data[k]
    if X.rows == 0:
        starts = pointer_from(member[STARTS], member)
        begins = pointer_from(member[RANGES] + 8 * skip, member)
        ends = at(begins, room)
        for i in range(count):
            k = order[start + first + i]
            begins[i], ends[i] = starts[k], starts[k + 1]
        member[BEGINS], member[ENDS] = address(begins) - 8 * first, address(ends) - 8 * first
    return (
        matrix(X_own, X.rows, count, member, first),
        matrix(Y_own, Y.rows, count, member, first),
        matrix(w_own, w.rows, count, member, first),
    )


def multiply(member, A, ra, ca, B, rb, cb, C, rc, D, rd, m, n, k, scale):
    """The product of :mod:`accelnn.kernels.products`."""
    scratch = pointer_from(member[SCRATCH], C)
    call(member[MULTIPLY], (A, ra, ca, B, rb, cb, C, rc, D, rd, m, n, k, as_element(scale, C), scratch))


def own_share(member, m, start):
    """Begin and end of the member's share of a batch, and put the batch on its record: m examples from `start` on."""
    first, last = share(m, member[SIZE], member[INDEX]), share(m, member[SIZE], member[INDEX] + 1)
    member[BATCH], member[FIRST] = m, first
    member[BEGINS] = member[STARTS] + 8 * start
    member[ENDS] = member[BEGINS] + 8
    return first, last


def some(X, start, count, first):
    """Some of a matrix's columns from `start` on; `first` is the place of the first one within the batch."""
    return matrix(at(X.data, start * X.rows), X.rows, count, X.member, first)


def examples(X, Y, w, start, count, first):
    """The same of all that there is of examples."""
    return some(X, start, count, first), some(Y, start, count, first), some(w, start, count, first)


def part_of(vector):
    """Begin and end of the member's part of a flat vector."""
    member = vector.member
    return share(vector.rows, member[SIZE], member[INDEX]), share(vector.rows, member[SIZE], member[INDEX] + 1)


def table_row(layout, row):
    """A pointer to one row of the table of offsets."""
    return at(pointer(layout), row * layout.shape[1])


VERBS = {
    verb.__name__: verb
    for verb in (
        activations,
        all_reduce,
        backpropagate,
        batch,
        clip_gradient,
        dropout,
        linear_activation,
        linear_gradients,
        loss_gradient,
        parameters,
        penalty,
        update,
    )
}


# What stands between Python and the page: the functions that members enter, with matrices in memory order.

page_function = one_pass = free  # the page's function of that name; its loss_and_gradient


def enter_predict(X_rows, out_rows, theta, layout, g, work):
    """Fills the member's share of `out_rows`."""
    member = pointer(work[1])
    if not meet(member):
        return
    n = layout[0, -1]
    X, out = from_rows(X_rows, member), pointer(out_rows)
    first, last = own_share(member, X.columns, 0)
    while first < last:
        count = min(member[BLOCK], last - first)
        A = page_function(some(X, first, count, first), vector(theta, member), layout, g, work)
        for k in range(count * n):
            out[first * n + k] = A.data[k]
        first += count


def enter_evaluate(X_rows, Y_rows, w_rows, theta, layout, g, loss, work):
    """The member's part of J."""
    member = pointer(work[1])
    J = np.float64(0.0)
    if not meet(member):
        return J
    X, Y, w = from_rows(X_rows, member), from_rows(Y_rows, member), from_rows(w_rows, member)
    first, last = own_share(member, X.columns, 0)
    while first < last:
        count = min(member[BLOCK], last - first)
        X_part, Y_part, w_part = examples(X, Y, w, first, count, first)
        J += page_function(X_part, Y_part, w_part, vector(theta, member), layout, g, loss, work)
        first += count
    return J


def enter_loss_and_gradient(X_rows, Y_rows, w_rows, theta, dtheta, layout, g, loss, l2, drop, s, work):
    """The member's part of J, and its part of the first member's dtheta."""
    member = pointer(work[1])
    if not meet(member):
        return np.float64(0.0)
    X, Y, w = from_rows(X_rows, member), from_rows(Y_rows, member), from_rows(w_rows, member)
    d = vector(dtheta, member)
    first, last = own_share(member, X.columns, 0)
    X, Y, w = examples(X, Y, w, first, last - first, first)
    J = in_passes(X, Y, w, vector(theta, member), d, layout, g, loss, l2, drop, s, work)
    d = all_reduce(d, d)
    first, last = part_of(d)
    result = pointer_from(pointer_from(member[GRADIENTS], member)[0], d.data)
    for k in range(first, last):
        result[k] = d.data[k]
    return J


def enter_train(
    X_rows,
    Y_rows,
    w_rows,
    theta,
    dtheta,
    state,
    layout,
    g,
    loss,
    rule,
    l2,
    clip_norm,
    drop,
    work,
    order,
    size,
    coefficients,
    losses,
    s,
    end,
):
    """All steps; `losses` receives the member's parts."""
    member = pointer(work[1])
    if meet(member):
        page_function(
            from_rows(X_rows, member),
            from_rows(Y_rows, member),
            from_rows(w_rows, member),
            vector(theta, member),
            vector(dtheta, member),
            state,
            layout,
            g,
            loss,
            rule,
            l2,
            clip_norm,
            drop,
            work,
            order,
            size,
            coefficients,
            losses,
            s,
            end,
        )


def in_passes(X, Y, w, theta, dtheta, layout, g, loss, l2, drop, s, work):
    """``loss_and_gradient`` over a share, as many examples at once as the cache has room for."""
    member = X.member
    J = np.float64(0.0)
    first = 0
    member[LATER] = 0
    # At least once: a member without examples has a gradient of zero, and keeps its appointments.
    while first == 0 or first < X.columns:
        count = min(member[BLOCK], X.columns - first)
        X_part, Y_part, w_part = examples(X, Y, w, first, count, X.first + first)
        J += one_pass(X_part, Y_part, w_part, theta, dtheta, layout, g, loss, l2, drop, s, work)
        member[LATER] = 1
        first += max(count, 1)
    return J


def from_rows(rows, member):
    """A C-ordered array of examples as a matrix of columns."""
    return matrix(pointer(rows), rows.shape[1], rows.shape[0], member, 0)


def vector(array, member):
    """A flat vector as a matrix of one column."""
    return matrix(pointer(array), array.shape[0], 1, member, 0)


ENTRIES: dict[str, Callable] = {
    "predict": enter_predict,
    "evaluate": enter_evaluate,
    "loss_and_gradient": enter_loss_and_gradient,
    "train": enter_train,
}
