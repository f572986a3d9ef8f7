"""Numba: the verbs as fused kernels, and the page itself compiled.

Activations, losses and rules reach compiled code as numbers; `select` chains lead from a number to its kernel. The
page is compiled once for float32 and once for float64 and serves every network.
"""

import ctypes
import functools
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba.np.numpy_support import from_dtype

import accelnn
from accelnn import equations
from accelnn.activations import ACTIVATIONS, Activation
from accelnn.backends.base import Backend
from accelnn.binding import Binding, free
from accelnn.kernels import jit, loops
from accelnn.kernels.blocks import layer_blocks
from accelnn.kernels.calls import call, call_for_sum
from accelnn.kernels.loops import mean_gradients, scaled, square_sum
from accelnn.kernels.scalars import PRECISIONS, SCALARS
from accelnn.losses import LOSSES, Loss
from accelnn.optimizers import RULES, Rule
from accelnn.parameters import Layout

__all__ = ["NumbaBackend"]

ACTIVATE, DIFFERENTIATE = 0, 1  # columns of the table that verbs receive as g


def linear_activation(W, b, A_prev, g, out=None):
    """Product, then bias and activation in one pass."""
    if out is None:
        m, n = A_prev.shape[1], W.shape[0]
        Z, A = np.empty((m, n), W.dtype).T, np.empty((m, n), W.dtype).T
    else:
        Z, A = out
    np.dot(A_prev.T, W.T, Z.T)
    call(g[ACTIVATE], (b, Z, A, Z.shape[1], Z.shape[0], int(Z.ctypes.data != A.ctypes.data)))
    return Z, A


def loss_gradient(Z, Y, loss, out=None):
    """Value and gradient in one pass."""
    dZ = np.empty((Z.shape[1], Z.shape[0]), Z.dtype).T if out is None else out
    return call_for_sum(loss, (Z, Y, dZ, Z.shape[1], Z.shape[0])) / Z.shape[1], dZ


def linear_gradients(dZ, A_prev, W, l2, out=None):
    """Product, then mean, penalty and bias gradient."""
    if out is None:
        n, n_prev = W.shape
        dW, db = np.empty((n_prev, n), W.dtype).T, np.empty((1, n), W.dtype).T
    else:
        dW, db = out
    m = dZ.shape[1]
    np.dot(A_prev, dZ.T, dW.T)
    mean_gradients(dW, W, dZ, db, 1.0 / m, l2 / m)
    return dW, db


def backpropagate(W, dZ, Z_prev, A_prev, g, out=None):
    """Product, then times g' in place."""
    dZ_prev = np.empty((dZ.shape[1], W.shape[1]), W.dtype).T if out is None else out
    np.dot(dZ.T, W, dZ_prev.T)
    call(g[DIFFERENTIATE], (dZ_prev, Z_prev, A_prev, dZ_prev.size))
    return dZ_prev


def penalty(W, l2, m):
    """Sums of squares in one pass."""
    total = np.float64(0.0)
    if l2 != 0.0:
        for l in range(1, len(W)):
            total += square_sum(W[l])
    return l2 / (2 * m) * total


def clip_gradient(dtheta, limit, out=None):
    """Norm in one pass, scaled in place."""
    if limit == np.inf:
        return dtheta
    norm = np.sqrt(square_sum(dtheta))
    if norm <= limit:
        return dtheta
    target = np.empty_like(dtheta) if out is None else out
    scaled(dtheta, limit / norm, target)
    return target


def update(theta, dtheta, state, rule, coefficients, out=None):
    """The rule in one pass over the flat vector, in place."""
    call(rule, (theta, dtheta, state, coefficients, theta.size))
    return theta, state


# In compiled code a layout is its table, and a workspace is the pair of a flat buffer and that table.


def compiled_parameters(theta, layout):
    """W and b as sequences of views."""
    units, inputs = layout[0], layout[1]
    nothing = theta[:0].reshape(0, 1).T
    W = layer_blocks(theta, layout[2], units, inputs, 1, 0, nothing)
    b = layer_blocks(theta, layout[3], units, inputs, 1, 1, nothing)
    return W, b


def compiled_activations(work, X):
    """A, Z and dZ as sequences of views."""
    buffer, layout = work
    units, capacity, m = layout[0], compiled_capacity(work), X.shape[1]
    A = layer_blocks(buffer, layout[4], units, units, capacity, m, X)
    Z = layer_blocks(buffer, layout[5], units, units, capacity, m, X)
    dZ = layer_blocks(buffer, layout[6], units, units, capacity, m, X)
    return A, Z, dZ


def compiled_batch(X, Y, order, start, stop, work):
    """Slices of the data, or examples gathered into the workspace."""
    if order.shape[0] == 0:
        return X.T[start:stop].T, Y.T[start:stop].T
    buffer, layout = work
    m, n_0, n_L = stop - start, X.shape[0], Y.shape[0]
    at = layout[6, 0] * compiled_capacity(work)
    X_rows = buffer[: m * n_0].reshape(m, n_0)
    Y_rows = buffer[at : at + m * n_L].reshape(m, n_L)
    for i in range(m):
        k = order[start + i]
        for j in range(n_0):
            X_rows[i, j] = X[j, k]
        for j in range(n_L):
            Y_rows[i, j] = Y[j, k]
    return X_rows.T, Y_rows.T


def compiled_capacity(work):
    """How many examples the buffer has room for."""
    buffer, layout = work
    return buffer.shape[0] // (layout[6, 0] + layout[0, -1])


# Entry points. Python hands matrices over in memory order: an array of one row or one column counts as C-ordered
# and as Fortran-ordered, and Numba would take it for either.


page_function = free  # the function that is entered


def enter_with_inputs(X_rows, *arguments):
    """A function of the page that takes X."""
    return page_function(X_rows.T, *arguments)


def enter_with_targets(X_rows, Y_rows, *arguments):
    """A function of the page that takes X and Y."""
    return page_function(X_rows.T, Y_rows.T, *arguments)


_VERBS: dict[str, Callable] = {
    verb.__name__: verb
    for verb in (linear_activation, loss_gradient, linear_gradients, backpropagate, penalty, clip_gradient, update)
}
_VIEWS: dict[str, Callable] = {
    "parameters": compiled_parameters,
    "activations": compiled_activations,
    "batch": compiled_batch,
}


# Taken with the import, so that it belongs to the sources that were loaded.
_STAMP = jit.source_stamp(Path(accelnn.__file__).parent)


@cache
def _formulas(dtype: str) -> Binding:
    """Formulas as compiled functions of numbers, in one precision."""
    return Binding(SCALARS | PRECISIONS[dtype], jit.compiled, np.dtype(dtype).type)


@cache
def _kernel(template: Callable, key: str, dtype: str, **formulas: Any) -> int:
    """The address of the kernel that a template becomes with these formulas."""
    bound = Binding(formulas, constant=np.dtype(dtype).type)(template)
    return jit.kernel(bound, loops.signature(template, from_dtype(np.dtype(dtype))), f"{key}-{dtype}", _STAMP)


def _activate_kernel(entry: Activation, dtype: str) -> int:
    if entry.columnwise:
        return _kernel(loops.activate_softmax, entry.name, dtype)
    return _kernel(loops.activate, entry.name, dtype, function=_formulas(dtype)(entry.function))


def _differentiate_kernel(entry: Activation, dtype: str) -> int:
    assert entry.backward is not None
    return _kernel(loops.differentiate, entry.name, dtype, function=_formulas(dtype)(entry.backward))


def _lose_kernel(entry: Loss, dtype: str) -> int:
    key = f"{entry.name}-{entry.output}"
    if entry.columnwise:
        return _kernel(loops.lose_softmax, key, dtype)
    formulas = _formulas(dtype)
    return _kernel(loops.lose, key, dtype, value=formulas(entry.value), gradient=formulas(entry.gradient))


def _update_kernel(rule: Rule, dtype: str) -> int:
    count = len(inspect.signature(rule.update).parameters) - 2 - len(rule.state)
    return _kernel(
        loops.UPDATES[len(rule.state)], rule.name, dtype, function=_formulas(dtype)(rule.update), count=count
    )


@cache
def _page(dtype: str) -> dict[str, Callable]:
    """What the names on the page mean, in one precision: compiled verbs, and the page's own inner functions."""
    constant = np.dtype(dtype).type
    verbs = Binding({}, jit.compiled, constant)
    meanings = {name: verbs(verb) for name, verb in (_VERBS | _VIEWS).items()}
    inner = Binding(meanings, jit.inlined, constant)
    parts = (equations.forward, equations.backward, equations.loss_and_gradient)
    return meanings | {part.__name__: inner(part) for part in parts}


@cache
def _entry(function: Callable, dtype: str) -> Callable:
    """A function of the page, compiled on its first call or read from the kernel cache."""
    template = enter_with_targets if "Y" in inspect.signature(function).parameters else enter_with_inputs
    whole = Binding(_page(dtype), jit.compiled, np.dtype(dtype).type)(function)
    entry = Binding({"page_function": whole})(template)
    return jit.compiled_and_kept(entry, f"{function.__name__}-{dtype}", _STAMP)


class NumbaBackend(Backend):
    """The page compiled to machine code. Its verbs run inside compiled code only."""

    name = "numba"
    page = "compiled by Numba, many steps in one call"

    def __init__(self) -> None:
        super().__init__(np, overrides=_VERBS | _VIEWS)

    def bind(self, function: Callable) -> Callable:
        """A function of the page, compiled; X and Y enter in memory order."""
        matrices = 2 if "Y" in inspect.signature(function).parameters else 1

        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            rows = [_readable(matrix.T) for matrix in arguments[:matrices]]
            result = _entry(function, arguments[matrices].dtype.name)(*rows, *arguments[matrices:])
            # An array is a view of the workspace that does not keep it alive.
            return result.copy(order="K") if isinstance(result, np.ndarray) else result

        return run

    def layout(self, layout: Layout) -> np.ndarray:
        """The table of offsets."""
        return layout.table

    def workspace(self, layout: Layout, capacity: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """A flat buffer and the table of offsets."""
        return self.empty(layout.n_work * capacity, dtype), layout.table

    def activations(self, names: Sequence[str], dtype: str) -> np.ndarray:
        """Addresses of each layer's two kernels."""
        table = np.zeros((len(names) + 1, 2), dtype=np.int64)
        for l, name in enumerate(names, start=1):
            entry = ACTIVATIONS[name]
            table[l, ACTIVATE] = _activate_kernel(entry, dtype)
            if entry.backward is not None:
                table[l, DIFFERENTIATE] = _differentiate_kernel(entry, dtype)
        return table

    def loss(self, name: str, output: str, dtype: str) -> int:
        """The address of its kernel."""
        return _lose_kernel(LOSSES[name, output], dtype)

    def rule(self, name: str, dtype: str) -> int:
        """The address of its kernel."""
        return _update_kernel(RULES[name], dtype)

    def coefficients(self, table: np.ndarray, dtype: str) -> np.ndarray:
        """The table in the network's precision."""
        return np.ascontiguousarray(table, dtype=dtype)


def _readable(rows: np.ndarray) -> np.ndarray:
    """The same memory marked writable: a read-only array is another type to Numba. Kernels only read from it."""
    if rows.flags.writeable:
        return rows
    pointer = ctypes.cast(rows.ctypes.data, ctypes.POINTER(ctypes.c_byte))
    return np.ctypeslib.as_array(pointer, (rows.nbytes,)).view(rows.dtype).reshape(rows.shape)
