"""What comes in at an estimator's door: tables, arrays of any library and sparse ones become arrays for the network.

scikit-learn's own validation does what it is made for (shapes, names of features, sparse formats, tables). What is not
finite is looked for here, so that the error can say in which row. An array on a GPU stays there.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj
from sklearn import get_config
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from accelnn import checks
from accelnn.backends.base import Backend
from accelnn.errors import DataError

__all__ = ["Rows", "features", "in_precision", "like", "require_finite", "score", "some", "target_array", "vector"]

FLOATS = (np.float64, np.float32)


class Rows(NamedTuple):
    """Examples as rows.

    Attributes
    ----------
    X : array, sparse array or device array of shape (m, n_features)
    y : array of shape (m,) or (m, n_outputs)
        As it was given, checked.
    Y : array of shape (m, n_L)
        The same as numbers for the network.
    weights : array of shape (m,) or None
    """

    X: Any
    y: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None


def some(rows: Rows, chosen: np.ndarray, backend: Backend) -> Rows:
    """Those rows."""
    X, weights = rows.X, rows.weights
    on_host = isinstance(X, np.ndarray) or checks.is_sparse(X)
    X = X[chosen] if on_host else backend.xp.take(X, backend.from_host(chosen), axis=0)
    return Rows(X, rows.y[chosen], rows.Y[chosen], None if weights is None else weights[chosen])


def in_precision(rows: Rows, prefix: str = "") -> Rows:
    """With Y of X's type.

    Raises
    ------
    DataError
        For a target that it cannot hold.
    """
    with np.errstate(over="ignore"):
        Y = rows.Y.astype(rows.X.dtype, copy=False)
    bad = np.flatnonzero(~np.isfinite(Y).all(axis=1)) if Y.dtype.itemsize < 8 else np.empty(0)
    if len(bad):
        row, word = int(bad[0]), np.dtype(Y.dtype).name
        raise DataError(
            f"{prefix}y: row {row} is {rows.y[row]}, too large for {word}, X's type; scale y, or give X in float64"
        )
    return rows._replace(Y=Y)


def features(estimator: Any, X: Any, backend: Backend, name: str = "X", reset: bool = False) -> Any:
    """X as float32 or float64, finite; `reset` keeps the number and the names of its columns in the estimator.

    Raises
    ------
    DataError
        Naming the argument, the row and the column.
    ValueError
        What scikit-learn's validation finds.
    """
    if _is_plain(estimator, X, reset):
        # scikit-learn would find the same, in many times the time.
        if reset:
            estimator.n_features_in_ = X.shape[1]
            estimator.__dict__.pop("feature_names_in_", None)
    elif checks.on_gpu(X):
        X = _on_device(estimator, X, backend, name, reset)
    else:
        X = checks.as_array(name, X, backend) if hasattr(X, "__dlpack__") else X
        with _named(name):
            X = validate_data(
                estimator, X, reset=reset, dtype=FLOATS, accept_sparse=("csr", "csc"), ensure_all_finite=False
            )
    require_finite(name, X, getattr(estimator, "feature_names_in_", None), backend)
    return X


def _is_plain(estimator: Any, X: Any, reset: bool) -> bool:
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in FLOATS or X.size == 0:
        return False
    return reset or (X.shape[1] == estimator.n_features_in_ and not hasattr(estimator, "feature_names_in_"))


def target_array(y: Any, m: int, backend: Backend, name: str) -> np.ndarray:
    """Targets of m examples on the host, of one or two dimensions, finite.

    Raises
    ------
    DataError, ValueError
        Naming the argument and the row.
    """
    if type(y) is not np.ndarray or y.ndim not in (1, 2) or y.dtype.kind not in "iufbU" or len(y) != m:
        y = checks.on_host(checks.as_array(name, y, backend), backend) if hasattr(y, "__dlpack__") else y
        with _named(name):
            y = check_array(
                y, accept_sparse="csr", ensure_all_finite=False, ensure_2d=False, dtype=None, input_name=name
            )
            y = y.toarray() if checks.is_sparse(y) else y
            check_consistent_length(np.empty(m), y)
    require_finite(name, y)
    return y


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Within, what scikit-learn finds at fault with an argument that it does not know of gets its name."""
    try:
        yield
    except ValueError as problem:
        if " " not in name:
            raise
        raise DataError(f"{name}: {problem}") from None


def score(metric: Callable[..., float], estimator: Any, X: Any, y: Any, sample_weight: Any) -> float:
    """A metric of scikit-learn's for an estimator's predictions, computed on the host."""
    given = {"y": y, "y_pred": estimator.predict(X), "sample_weight": sample_weight}
    backend = estimator.network_.backend
    for name, part in given.items():
        if part is not None and checks.on_gpu(part):
            given[name] = checks.on_host(checks.as_array(name, part, backend), backend)
    return metric(given["y"], given["y_pred"], sample_weight=given["sample_weight"])


def _on_device(estimator: Any, X: Any, backend: Backend, name: str, reset: bool) -> Any:
    X = checks.as_array(name, X, backend)
    if X.ndim != 2 or 0 in X.shape:
        raise DataError(f"{name}: has shape {tuple(X.shape)}, expected (n_samples, n_features), at least one of each")
    if reset:
        estimator.n_features_in_ = X.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)
    elif X.shape[1] != estimator.n_features_in_:
        raise DataError(
            f"{name}: has {X.shape[1]} features, but the estimator was fitted with {estimator.n_features_in_}"
        )
    return X if X.dtype in FLOATS else X.astype("float32" if X.dtype.itemsize < 4 else "float64")


def like(X: Any, answer: Any) -> Any:
    """The answer where X is, if scikit-learn is told to follow X (its setting `array_api_dispatch`)."""
    if type(X) is np.ndarray or not isinstance(answer, np.ndarray) or not get_config()["array_api_dispatch"]:
        return answer
    if not is_array_api_obj(X) or answer.dtype.kind not in "iufb":  # text, say, only NumPy can hold
        return answer
    return array_namespace(X).asarray(answer, device=device(X))


def require_finite(name: str, array: Any, columns: Any = None, backend: Backend | None = None) -> None:
    """Raise unless every number is finite, naming the first bad row, and the column where there are several.

    Raises
    ------
    DataError
    """
    data = array.data if checks.is_sparse(array) else array
    if data.dtype.kind == "O":
        _require_present(name, data)
    xp = np if isinstance(data, np.ndarray) else backend.xp if backend else np
    if data.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        if np.isfinite(float(xp.sum(data))):
            return
        bad = ~xp.isfinite(data)
        if not bool(xp.any(bad)):
            return  # only their sum is too large
        if checks.is_sparse(array):
            entries = array.tocoo()
            first = int(np.lexsort((entries.coords[1], entries.coords[0], np.isfinite(entries.data)))[0])
            row, column, value = entries.coords[0][first], entries.coords[1][first], entries.data[first]
        elif data.ndim == 1:
            row, column = int(xp.argmax(bad)), None
            value = data[row]
        else:
            row, column = divmod(int(xp.argmax(bad.reshape(-1))), data.shape[1])
            value = data[row, column]
    word = "NaN" if np.isnan(float(value)) else f"{float(value)} (infinity)"
    where = f"row {row}"
    if column is not None:
        where += f", column {column if columns is None else repr(str(columns[column]))}"
    raise DataError(f"{name}: {where} is {word}; remove or impute it")


def _require_present(name: str, data: np.ndarray) -> None:
    """The same for objects: text, or numbers and text, where some may be missing."""
    for place, value in enumerate(data.reshape(-1)):
        if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
            raise DataError(f"{name}: row {place * len(data) // data.size} is missing ({value}); remove or impute it")


def vector(name: str, values: Any, m: int, backend: Backend) -> np.ndarray | None:
    """Weights of m examples on the host, as they were given; one number stands for all.

    Raises
    ------
    DataError
        Naming the argument and the row.
    """
    if values is None:
        return None
    if np.isscalar(values):
        values = np.full(m, values)
    values = checks.on_host(checks.as_array(name, values, backend), backend)
    return checks.weights(name, values, m, backend)
