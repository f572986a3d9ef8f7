"""Arguments at the door: arrays become what the equations expect, or an error names what is wrong with them."""

import math
import sys
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from accelnn.activations import HIDDEN, activation
from accelnn.backends.base import Backend
from accelnn.errors import DataError, UnknownNameError
from accelnn.losses import Loss

__all__ = [
    "as_array",
    "dropout_rates",
    "integer",
    "is_sparse",
    "layer_sizes",
    "matrix",
    "number",
    "on_gpu",
    "on_host",
    "targets",
    "weights",
]

CPU = 1  # DLPack's number for host memory
SMALL = 4096  # elements up to which the sum of their squares takes less time than preparing for an overflowing sum


def layer_sizes(sizes: Any) -> tuple[int, ...]:
    """``n_0 .. n_L`` as integers, at least two of them, all positive."""
    try:
        listed = list(sizes)
    except TypeError:
        raise DataError(
            f"sizes: {sizes!r} is no sequence; give the units of each layer, such as [64, 100, 10]"
        ) from None
    if len(listed) < 2:
        raise DataError(
            f"sizes: {listed!r} names {len(listed)} layer(s); give the inputs and at least one layer, such as [64, 10]"
        )
    return tuple(integer(f"sizes[{l}]", n, 1) for l, n in enumerate(listed))


def integer(argument: str, value: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(f"{argument}: {value!r} is not a whole number of at least {least}")
    return int(value)


def number(argument: str, value: Any, *, positive: bool = False, finite: bool = True) -> float:
    """A number that is not negative (or is positive), and finite unless told otherwise."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise DataError(f"{argument}: {value!r} is not a number") from None
    if math.isnan(result) or result < 0 or (positive and result == 0) or (finite and math.isinf(result)):
        raise DataError(
            f"{argument}: {value!r} is out of range; give a {'positive' if positive else 'non-negative'} number"
        )
    return result


def is_sparse(array: Any) -> bool:
    """Whether it is one of scipy.sparse, which is not imported to find out."""
    scipy_sparse = None if type(array) is np.ndarray else sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and scipy_sparse.issparse(array)


def matrix(argument: str, array: Any, rows: int, dtype: str, backend: Backend) -> Any:
    """An array of shape (rows, m), finite, of this dtype, with contiguous columns, of NumPy or of the backend.

    A sparse one becomes a canonical ``scipy.sparse.csc_array``.

    Raises
    ------
    DataError
        For another shape, no example, a value that is no number, NaN or infinity (with the first bad position), or
        an array on another device.
    """
    sparse = is_sparse(array)
    array = array if sparse else as_array(argument, array, backend)
    if array.ndim != 2:
        raise DataError(
            f"{argument}: has {array.ndim} dimension(s), expected 2: shape ({rows}, m), examples as columns"
        )
    if array.shape[0] != rows:
        hint = f"; examples are columns here, so pass {argument}.T" if array.shape[1] == rows else ""
        raise DataError(f"{argument}: has shape {tuple(array.shape)}, expected ({rows}, m){hint}")
    if array.shape[1] == 0:
        raise DataError(f"{argument}: has no examples (shape {tuple(array.shape)})")
    if sparse:
        if not backend.takes_sparse:
            raise DataError(f"{argument}: is sparse, which backend={backend.name!r} cannot read; use toarray()")
        return _sparse_columns(argument, array, dtype, backend)
    _finite(argument, array, backend, "remove or impute it")
    columns = _columns(array, dtype, backend)
    if columns.dtype != array.dtype:
        _finite(argument, columns, backend, f"the value given does not fit {dtype}: scale it, or use dtype='float64'")
    return columns


def targets(argument: str, array: Any, m: int, loss: Loss, rows: int, dtype: str, backend: Backend) -> Any:
    """``Y`` of shape (n_L, m) for this loss.

    A vector of m numbers is taken for one output; for cross-entropy, a vector of m class numbers 0 .. n_L - 1
    becomes one-hot columns.
    """
    if is_sparse(array):
        raise DataError(f"{argument}: is sparse; targets are small, so pass {argument}.toarray()")
    array = as_array(argument, array, backend)
    if array.ndim == 1 and loss.targets == "distribution":
        array = _one_hot(argument, on_host(array, backend), rows)
    elif array.ndim == 1 and rows == 1:
        array = array[None, :]
    Y = matrix(argument, array, rows, dtype, backend)
    if Y.shape[1] != m:
        raise DataError(f"{argument}: has {Y.shape[1]} examples, but X has {m}")
    if loss.targets != "real":
        _in_range(argument, on_host(Y, backend), loss)
    return Y


def weights(argument: str, array: Any, m: int, backend: Backend) -> np.ndarray:
    """Weights of m examples, on the host, in double precision.

    Raises
    ------
    DataError
        For another shape, or a weight that is negative, NaN or infinite (with its place), or none above 0.
    """
    if is_sparse(array):
        raise DataError(f"{argument}: is sparse; give one weight for each example")
    array = on_host(as_array(argument, array, backend), backend)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{argument}: holds {array.dtype} values; give numbers")
    if array.shape != (m,):
        raise DataError(f"{argument}: has shape {tuple(array.shape)}, expected ({m},), one weight for each example")
    w = array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if bad.size:
        raise DataError(f"{argument}: {argument}[{bad[0]}] is {w[bad[0]]}; give finite weights from 0 on")
    if not w.any():
        raise DataError(f"{argument}: every weight is zero; give at least one above 0")
    with np.errstate(over="ignore"):
        total = float(np.sum(w))
    if not 1e-300 < total < 1e300:
        raise DataError(f"{argument}: the weights sum to {total:g}; divide them by the largest")
    return w


def dropout_rates(argument: str, value: Any, hidden: int) -> list[float]:
    """One rate for each hidden layer, and 0 for the last layer; an empty list for none at all."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, Real):
        rates = [value] * hidden
    elif isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        rates = list(value)
    else:
        raise DataError(f"{argument}: {value!r} is no rate; give a number from 0 on and below 1, or one a hidden layer")
    if len(rates) != hidden:
        raise DataError(f"{argument}: has {len(rates)} rate(s) for {hidden} hidden layer(s); give one a hidden layer")
    for rate in rates or ([value] if isinstance(value, Real) else []):
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0.0 <= float(rate) < 1.0:
            raise DataError(f"{argument}: {rate!r} is out of range; give a number from 0 on and below 1")
    return [*map(float, rates), 0.0] if any(rates) else []


def on_gpu(array: Any) -> bool:
    """Whether another library says that its array is not in the host's memory."""
    if isinstance(array, np.ndarray):
        return False
    return hasattr(array, "__cuda_array_interface__") or (
        hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] != CPU
    )


def as_array(argument: str, array: Any, backend: Backend) -> Any:
    """Anything that holds numbers as an array of NumPy or of the backend, without a copy where that can be.

    Raises
    ------
    DataError
        For what is no array, has masked values, or lives on another device.
    """
    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"{argument}: is a masked array; fill it, or leave out the examples with masked values")
    if isinstance(array, np.ndarray):
        return array
    adopted = backend.adopt(argument, array)
    if adopted is not None:
        return adopted
    if on_gpu(array):
        raise DataError(
            f"{argument}: lives on a GPU, but backend={backend.name!r} computes elsewhere; "
            f"pass cupy.asnumpy({argument}) or use backend='cupy'"
        )
    try:
        # What has no other way to NumPy.
        shared = hasattr(array, "__dlpack__") and not hasattr(array, "__array__")
        return np.from_dlpack(array) if shared else np.asarray(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as problem:
        raise DataError(f"{argument}: cannot be read as an array ({problem})") from None


def on_host(array: Any, backend: Backend) -> np.ndarray:
    """An array of NumPy or of the backend as one of NumPy."""
    return array if isinstance(array, np.ndarray) else backend.to_host(array)


def _columns(array: Any, dtype: str, backend: Backend) -> Any:
    """The same values in this dtype, each column contiguous; no copy where none is needed."""
    if isinstance(array, np.ndarray):
        if array.dtype == dtype and array.flags.f_contiguous:
            return array
        with np.errstate(over="ignore"):
            return np.asfortranarray(array, dtype=dtype)
    return backend.columns(array, dtype)


def _sparse_columns(argument: str, array: Any, dtype: str, backend: Backend) -> Any:
    """Column by column, sorted, each place once; no copy where it is so already."""
    from scipy import sparse

    if hasattr(array, "check_format"):
        try:
            array.check_format(full_check=True)  # a place outside would be read, and written to
        except ValueError as problem:
            raise DataError(f"{argument}: is no valid sparse array ({problem})") from None
    columns = sparse.csc_array(array)
    if columns.data.dtype.kind not in "fiub":
        raise DataError(f"{argument}: holds {columns.data.dtype} values; give numbers (float32 or float64)")
    if not columns.has_canonical_format:
        columns = columns.copy()  # the caller's own stays as it is
        columns.sum_duplicates()
    with np.errstate(over="ignore"):
        data = columns.data.astype(dtype, copy=False)
    bad = np.flatnonzero(~np.isfinite(data))
    if bad.size:
        k = bad[0]
        feature, example = columns.indices[k], np.searchsorted(columns.indptr, k, side="right") - 1
        raise DataError(
            f"{argument}: {argument}[{feature}, {example}] (example {example}) is {float(columns.data[k])}, which is "
            f"no finite {dtype} number; remove, impute or scale it"
        )
    return sparse.csc_array((data, columns.indices, columns.indptr), shape=columns.shape)


def _finite(argument: str, array: Any, backend: Backend, remedy: str) -> None:
    xp = backend.xp
    kind = getattr(array.dtype, "kind", "f")  # array-api-strict has none, and what is no number fails there below
    if kind not in "fiub":
        raise DataError(f"{argument}: holds {array.dtype} values; give numbers (float32 or float64)")
    if isinstance(array, np.ndarray):
        xp = np
        # For a few numbers, the sum of their squares is the quickest look; it may overflow, and then says nothing.
        if kind != "f" or (array.size <= SMALL and math.isfinite(np.vdot(array, array))):
            return
    with np.errstate(all="ignore"):
        if math.isfinite(float(xp.sum(array))):
            return
    # An overflowing sum of finite values is no fault, so look at each.
    bad = ~xp.isfinite(array.T)
    if bool(xp.any(bad)):
        place = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int64)))
        example, feature = divmod(place, array.shape[0])
        raise DataError(
            f"{argument}: {argument}[{feature}, {example}] (example {example}) is {float(array[feature, example])}; "
            f"{remedy}"
        )


def _one_hot(argument: str, labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.dtype.kind not in "iub":
        raise DataError(f"{argument}: class numbers must be integers, not {labels.dtype}")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise DataError(f"{argument}: {argument}[{bad[0]}] is {labels[bad[0]]}, but the classes are 0 to {classes - 1}")
    one_hot = np.zeros((len(labels), classes), dtype=np.float32)
    one_hot[np.arange(len(labels)), labels.astype(np.intp)] = 1.0
    return one_hot.T


_RANGES: dict[str, tuple[float, float, str]] = {
    "probability": (0.0, 1.0, "between 0 and 1"),
    "distribution": (0.0, 1.0, "between 0 and 1"),
    "count": (0.0, math.inf, "0 or more"),
}


def _in_range(argument: str, Y: np.ndarray, loss: Loss) -> None:
    low, high, words = _RANGES[loss.targets]
    outside = (low > Y.T) | (high < Y.T)
    if outside.any():
        example, output = np.argwhere(outside)[0]
        raise DataError(
            f"{argument}: {argument}[{output}, {example}] is {Y[output, example]}, "
            f"but {loss.name} needs targets {words}"
        )
    if loss.targets == "distribution":
        totals = Y.sum(axis=0, dtype=np.float64)
        wrong = np.flatnonzero(np.abs(totals - 1.0) > 1e-4)
        if wrong.size:
            raise DataError(
                f"{argument}: column {wrong[0]} sums to {totals[wrong[0]]:.6g}, but {loss.name} needs columns that sum "
                "to 1 (one-hot, or class numbers as a vector)"
            )


def names(argument: str, value: str | Sequence[str], count: int) -> list[str]:
    """One name for all hidden layers, or a list with one for each."""
    if isinstance(value, str):
        # A name is looked up even where there is no layer to use it.
        activation(argument, value, HIDDEN)
        return [value] * count
    if not isinstance(value, Sequence):
        raise UnknownNameError(argument, value, HIDDEN)
    listed = list(value)
    if len(listed) != count:
        raise DataError(
            f"{argument}: names {len(listed)} activation(s) for {count} hidden layer(s); "
            "give one name, or one a hidden layer"
        )
    return listed
