"""Numba: the page compiled to machine code, around kernels that it calls by address."""

import copy
import ctypes
import functools
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.errors import NumbaError
from numba.np.numpy_support import from_dtype

from accelnn import equations
from accelnn.activations import ACTIVATIONS, Activation
from accelnn.backends.base import Backend
from accelnn.backends.numba import compiled
from accelnn.backends.numba.compiled import ACTIVATE, DIFFERENTIATE, ENTRIES, KEY, START, THRESHOLDS, VERBS
from accelnn.backends.numba.teamwork import Team
from accelnn.binding import Binding
from accelnn.dropout import Dropout
from accelnn.errors import DataError
from accelnn.kernels import dropout, jit, loops, products, sparse
from accelnn.kernels.scalars import PRECISIONS, SCALARS
from accelnn.losses import Loss
from accelnn.optimizers import RULES, Rule
from accelnn.parameters import Layout
from accelnn.threads import thread_count

__all__ = ["NumbaBackend"]

# Taken with the import, so that it belongs to the sources that were loaded.
_PACKAGE = Path(__file__).parent.parent.parent
_COMPILED = ("activations", "binding", "elementary", "equations", "losses", "optimizers", "backends/numba/compiled")
SOURCES = tuple(_PACKAGE / f"{name}.py" for name in (*_COMPILED, "backends/numba/backend"))
_STAMP = jit.source_stamp(SOURCES)


_PARAMETERS = tuple(inspect.signature(equations.train).parameters)
_pairs: list[np.ndarray] = []  # keeps every pair of addresses alive, since compiled code holds the pair's own address
_NAMES = {np.dtype(name): name for name in PRECISIONS}  # dtype.name takes a microsecond


@cache
def _formulas(dtype: str) -> Binding:
    """Formulas as compiled functions of numbers, in one precision."""
    return Binding(SCALARS | PRECISIONS[dtype], jit.formula, np.dtype(dtype).type)


@cache
def _kernel(template: Callable, key: str, dtype: str, keep: bool = True, **formulas: Any) -> int:
    """The address of the kernel that a template becomes with these formulas."""
    bound = Binding(formulas, constant=np.dtype(dtype).type)(template)
    signature = loops.signature(template, from_dtype(np.dtype(dtype)))
    return jit.kernel(bound, signature, f"{key}-{dtype}", _STAMP, keep)


@cache
def _activation(entry: Activation, dtype: str) -> np.ndarray:
    """The pair of its kernels' addresses."""
    pair = np.zeros(2, np.int64)
    if entry.columnwise:
        pair[ACTIVATE] = _kernel(loops.activate_softmax, entry.name, dtype, **_softmax(dtype))
    elif entry.name != "identity":
        pair[ACTIVATE] = _kernel(loops.activate, entry.name, dtype, function=_formulas(dtype)(entry.function))
    if entry.backward is not None and entry.name != "identity":
        function = _formulas(dtype)(entry.backward)
        pair[DIFFERENTIATE] = _kernel(loops.differentiate, entry.name, dtype, function=function)
    _pairs.append(pair)
    return pair


@cache
def _lose_kernel(entry: Loss, dtype: str) -> int:
    key = "-".join((entry.name, entry.output, *(f"{name}={number!r}" for name, number in entry.parameters)))
    if entry.columnwise:
        return _kernel(loops.lose_softmax, key, dtype, **_softmax(dtype))
    formulas = _formulas(dtype)
    names = {"value": formulas(entry.value), "gradient": formulas(entry.gradient), **_lose_loops()}
    if not entry.custom:
        return _kernel(loops.lose, key, dtype, **names)
    # Never kept on disk, where nobody sees that a function was edited; a loss with the same functions finds it.
    try:
        return _kernel(loops.lose, "custom", dtype, keep=False, **names)
    except NumbaError as problem:
        reason = next(line for line in str(problem).splitlines() if line and not line.startswith("Failed in"))
        raise DataError(
            f"loss: {entry.name!r} cannot be compiled ({reason}); write it with numbers, arithmetic, abs, comparisons "
            "and the functions of accelnn.elementary, or use backend='numpy'"
        ) from problem


@cache
def _lose_loops() -> dict[str, Any]:
    return {"long_sum": jit.summing(loops.long_sum), "weigh": jit.compiled(loops.weigh)}


def _softmax(dtype: str) -> dict[str, Any]:
    formulas = _formulas(dtype)
    return {name: formulas(SCALARS[name]) for name in ("exp", "log1p")}


@cache
def _update_kernel(rule: Rule, dtype: str) -> int:
    count = len(inspect.signature(rule.update).parameters) - 2 - len(rule.state)
    return _kernel(
        loops.UPDATES[len(rule.state)], rule.name, dtype, function=_formulas(dtype)(rule.update), count=count
    )


@cache
def _multiply_kernel(dtype: str) -> int:
    kind = np.dtype(dtype)
    row_sums = Binding({}, jit.summing, kind.type)(products.row_sums)
    bound = Binding(products.names(kind.itemsize) | {"row_sums": row_sums}, jit.inlined, kind.type)(products.multiply)
    return jit.kernel(bound.py_func, products.signature(from_dtype(kind)), f"multiply-{dtype}", _STAMP)


@cache
def _dropout_kernel(dtype: str) -> int:
    return _kernel(dropout.drop, "dropout", dtype, philox=jit.formula(dropout.philox))


@cache
def _sparse_kernels(dtype: str) -> tuple[int, int]:
    product = _kernel(sparse.product, "sparse_product", dtype)
    return product, _kernel(sparse.gradient, "sparse_gradient", dtype)


@cache
def _entry(name: str, dtype: str, drops: bool = False) -> Callable:
    """What members enter for a function of the page, compiled on its first call or read from the kernel cache.

    With dropout it is compiled apart, so that nothing of it is left without.
    """
    constant = np.dtype(dtype).type
    verbs = Binding({"square_sum": jit.summing(loops.square_sum)}, jit.compiled, constant)
    meanings = {verb: verbs(body) for verb, body in VERBS.items()}
    # Merged into their callers, so that the page is optimised once for each entry.
    inner = Binding(meanings, jit.inlined, constant)
    meanings |= {part.__name__: inner(part) for part in (equations.forward, equations.backward)}
    # Where `train` asks for the gradient of a batch, it gets the sum over the passes that a share takes.
    one_pass = Binding(meanings, jit.compiled, constant)(equations.loss_and_gradient)
    in_passes = Binding({"one_pass": one_pass}, jit.compiled, constant)(compiled.in_passes)
    whole = Binding(meanings | {"loss_and_gradient": in_passes}, jit.compiled, constant)(getattr(equations, name))
    names = meanings | {"page_function": whole, "in_passes": in_passes}
    entry: Any = Binding(names, jit.compiled, constant)(ENTRIES[name])
    return jit.compiled_and_kept(entry.py_func, f"{name}{'-dropout' if drops else ''}-{dtype}", _STAMP)


class NumbaBackend(Backend):
    """The page compiled to machine code, run by a team of threads. Its verbs run inside compiled code only.

    Parameters
    ----------
    threads : int, optional
        See :func:`accelnn.threads.thread_count`.
    """

    name = "numba"
    takes_sparse = predicts_anew = True
    page = "compiled by Numba, many steps in one call"

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(np, overrides=VERBS)
        self.threads = threads

    def bind(self, function: Callable) -> Callable:
        """A function of the page, compiled; every member of the workspace's team enters it."""
        run = getattr(self, f"_{function.__name__}")
        return functools.wraps(function)(lambda *arguments: run(*arguments))

    def _predict(self, X, theta, layout, g, work):
        entry, (rows, _alive) = _entry("predict", _NAMES[theta.dtype]), _examples(X, work)
        out = np.empty((len(rows), work.outputs), theta.dtype)
        members = work.for_pass(_multiplications(X, theta, layout))
        work.run(entry, [(rows, out, theta, layout, g, member) for member in members])
        return out.T

    def _evaluate(self, X, Y, w, theta, layout, g, loss, work):
        entry, (X_rows, _alive) = _entry("evaluate", _NAMES[theta.dtype]), _examples(X, work)
        rows = X_rows, _rows(Y), _rows(w)
        members = work.for_pass(_multiplications(X, theta, layout))
        return sum(work.run(entry, [(*rows, theta, layout, g, loss, member) for member in members]))

    def _loss_and_gradient(self, X, Y, w, theta, dtheta, layout, g, loss, l2, drop, s, work):
        entry = _entry("loss_and_gradient", _NAMES[theta.dtype], drop is not None)
        X_rows, _alive = _examples(X, work)
        rows = X_rows, _rows(Y), _rows(w)
        own = zip(work.gradients(dtheta), work.members, strict=True)
        options = layout, g, loss, float(l2), drop, s
        return sum(work.run(entry, [(*rows, theta, d, *options, member) for d, member in own]))

    def _train(self, *arguments):
        named = dict(zip(_PARAMETERS, arguments, strict=True))
        theta, work, losses, s, end = (named[name] for name in ("theta", "work", "losses", "s", "end"))
        named["X"], _alive = _examples(named["X"], work)
        named |= {name: _rows(named[name]) for name in ("Y", "w")}
        named |= {name: float(named[name]) for name in ("l2", "clip_norm")}
        parts = [losses, *(np.zeros_like(losses) for _ in work.members[1:])]
        members = zip(work.gradients(named["dtheta"]), work.members, parts, strict=True)
        own = [{"dtheta": gradient, "work": member, "losses": part} for gradient, member, part in members]
        entry = _entry("train", _NAMES[theta.dtype], named["drop"] is not None)
        work.run(entry, [tuple((named | mine).values()) for mine in own])
        for part in parts[1:]:
            losses[s:end] += part[s:end]

    def workers(self) -> int:
        """See :func:`accelnn.threads.thread_count`."""
        return thread_count(self.threads)

    def place(self, *arrays: Any) -> tuple[Any, ...]:
        """Those of a sparse one are int64 already when a step needs them."""
        return tuple(array if isinstance(array, np.ndarray) else _with_long_indices(array) for array in arrays)

    def layout(self, layout: Layout) -> np.ndarray:
        """The table of offsets."""
        return layout.table

    def workspace(self, layout: Layout, capacity: int, dtype: str, steps: int | None = None) -> Team:
        """A team and its memory."""
        column_sums = _kernel(loops.column_sums, "column_sums", dtype)
        # What dropout leaves of a layer's activations has a place of its own.
        drops = not np.array_equal(layout.table[6, 1:], layout.table[4, 1:])
        kernels = _multiply_kernel(dtype), column_sums, _dropout_kernel(dtype) if drops else 0
        return Team(layout, capacity, dtype, self.workers(), *kernels, steps)

    def activations(self, names: Sequence[str], dtype: str) -> np.ndarray:
        """Addresses of each layer's pair of kernels."""
        return np.array([0, *(_activation(ACTIVATIONS[name], dtype).ctypes.data for name in names)])

    def loss(self, loss: Loss, dtype: str) -> int:
        """The address of its kernel."""
        return _lose_kernel(loss, dtype)

    def dropout(self, drop: Dropout, out: Any = None) -> np.ndarray:
        """An array of integers; see :mod:`accelnn.backends.numba.compiled` for their places."""
        masks = np.empty(THRESHOLDS + len(drop.thresholds), np.int64) if out is None else out
        masks[START], masks[THRESHOLDS:] = drop.first, drop.thresholds
        masks.view(np.uint64)[KEY] = drop.key
        return masks

    def rule(self, name: str, dtype: str) -> int:
        """The address of its kernel."""
        return _update_kernel(RULES[name], dtype)

    def coefficients(self, table: np.ndarray, dtype: str, out: Any = None) -> np.ndarray:
        """The table in the network's precision."""
        return np.ascontiguousarray(table, dtype=dtype)


def _examples(X: Any, work: Team) -> tuple[np.ndarray, Any]:
    """The examples of X as rows, and what must be alive while the team runs.

    Those of a sparse X have no columns: the team finds their numbers elsewhere.
    """
    if isinstance(X, np.ndarray):
        return _rows(X), None
    long = _with_long_indices(X)
    work.read(long.data, long.indices, long.indptr, _sparse_kernels(_NAMES[X.dtype]))
    return np.empty((X.shape[1], 0), X.dtype), long


def _multiplications(X: Any, theta: np.ndarray, layout: np.ndarray) -> int:
    """About how many a pass forwards takes."""
    if isinstance(X, np.ndarray):
        return X.shape[1] * theta.size
    inputs, units = layout[0, :2].tolist()
    return X.shape[1] * (theta.size - inputs * units) + X.nnz * units


def _with_long_indices(X: Any) -> Any:
    """A sparse array whose index arrays are int64; they are shared where they are so already."""
    if X.indices.dtype == X.indptr.dtype == np.int64:
        return X
    long = copy.copy(X)
    long.indices, long.indptr = (np.asarray(array, dtype=np.int64) for array in (X.indices, X.indptr))
    return long


def _rows(columns: np.ndarray) -> np.ndarray:
    """The examples as rows, marked writable: a read-only array is another type to Numba. Kernels only read from it."""
    rows = columns.T
    if rows.flags.writeable:
        return rows
    pointer = ctypes.cast(rows.ctypes.data, ctypes.POINTER(ctypes.c_byte))
    return np.ctypeslib.as_array(pointer, (rows.nbytes,)).view(rows.dtype).reshape(rows.shape)
