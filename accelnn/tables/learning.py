"""From the rows that a network is trained on to what is kept of each column."""

from collections.abc import Callable, Iterator, Sequence
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from accelnn import checks
from accelnn.errors import DataError, require_known
from accelnn.tables.columns import CONSTANT, MOST_CATEGORIES, Categorical, Numeric
from accelnn.tables.frames import as_numbers, as_text, holds_text, is_frame
from accelnn.tables.origin import Origin

__all__ = ["MISSING", "learned", "table_of"]

MISSING = ("impute", "refuse")
# What is looked at together. The same for every kind of table, so that all of them give the same sums to the last bit.
ROWS, COLUMNS = 4096, 1024
MEDIANS = 2**25  # numbers that are held to find medians, if one column has no more


class _Statistics(NamedTuple):
    """Of some columns, each an array of one number a column."""

    mean: np.ndarray
    scale: np.ndarray
    median: np.ndarray
    missing: np.ndarray


def learned(
    X: Any, names: Sequence[str] | None, rows: np.ndarray | None, missing: str, origin: Origin
) -> tuple[Numeric | Categorical, ...]:
    """See :meth:`accelnn.tables.schema.Schema.of`."""
    require_known("missing", missing, MISSING)
    X = table_of(X)
    names = _named(X, names)
    if rows is not None:
        rows = np.asarray(rows)
        # In the order of the table, so that the first fault is the first that its owner finds.
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.sort(rows)
    if (X.shape[0] if rows is None else len(rows)) == 0:
        raise DataError("X: there is no row to learn from")
    given = _Given(X, names, rows, missing == "impute", origin)
    if is_frame(X):
        return tuple(_of_series(given, name) for name in names)
    return tuple(_of_sparse(given) if checks.is_sparse(X) else _of_array(given))


def table_of(X: Any) -> Any:
    """A table of one of the kinds that are known.

    Raises
    ------
    DataError
    """
    if is_frame(X):
        return X
    if checks.is_sparse(X):
        from scipy import sparse

        X = sparse.csr_array(X)
        if not X.has_canonical_format:
            X = X.copy()  # the caller's own stays as it is
            X.sum_duplicates()
    elif not isinstance(X, np.ndarray):
        raise DataError(
            f"X: is a {type(X).__name__}; give an array of numbers, a sparse array of scipy.sparse, or a "
            "polars.DataFrame (polars.from_pandas makes one of pandas')"
        )
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise DataError(f"X: holds {X.dtype} values in {X.ndim} dimension(s); give numbers of shape (rows, columns)")
    return X


class _Given(NamedTuple):
    X: Any
    names: Sequence[str]
    rows: np.ndarray | None
    imputes: bool
    origin: Origin

    def row(self, k: int) -> int:
        """Where the k-th row of the training part stands in X."""
        return int(k if self.rows is None else self.rows[k])

    def refuse(self, name: str, k: int) -> DataError:
        """What to raise for a missing value."""
        return DataError(
            f"{self.origin.value(name, self.row(k))}: the value is missing; use --missing impute (in Python, "
            f"missing='impute'), remove such rows, or leave the column out with --ignore {quote(name)}"
        )

    def nothing(self, name: str) -> DataError:
        """What to raise for a column without any value."""
        return DataError(
            f"{self.origin.column(name)}: holds no value in the training part; leave it out with --ignore {quote(name)}"
        )


def _named(X: Any, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return list(X.columns) if is_frame(X) else [f"x{k}" for k in range(X.shape[1])]
    listed = list(names)
    if is_frame(X):
        there = frozenset(X.columns)
        if absent := [name for name in listed if name not in there]:
            raise DataError(f"names: there is no column {absent[0]!r}")
    elif len(listed) != X.shape[1]:
        raise DataError(f"names: has {len(listed)} names for {X.shape[1]} columns")
    if len(set(listed)) < len(listed) or not listed:
        raise DataError("names: give each column a name of its own")
    return listed


# Numbers.


def _of_array(given: _Given) -> Iterator[Numeric]:
    m = given.X.shape[0] if given.rows is None else len(given.rows)
    for first in range(0, given.X.shape[1], COLUMNS):
        names = given.names[first : first + COLUMNS]

        def read(start: int, stop: int, columns: slice, first: int = first) -> np.ndarray:
            chosen = slice(first + columns.start, first + columns.stop)
            rows = slice(start, stop) if given.rows is None else given.rows[start:stop]
            return np.ascontiguousarray(given.X[rows, chosen].T, dtype=np.float64)

        yield from _numeric(names, _summarised(read, m, names, given), given)


def _of_series(given: _Given, name: str) -> Numeric | Categorical:
    series = given.X[name] if given.rows is None else given.X[name][given.rows]
    if holds_text(series):
        return _categories(series, name, given)
    values = as_numbers(series.to_frame(), [name], given.origin)[:, 0]
    statistics = _summarised(lambda start, stop, _: values[None, start:stop], len(values), [name], given)
    return next(_numeric([name], statistics, given, boolean=str(series.dtype) == "Boolean"))


def _numeric(names: Sequence[str], found: _Statistics, given: _Given, boolean: bool = False) -> Iterator[Numeric]:
    for name, mean, scale, median, missing in zip(names, *(part.tolist() for part in found), strict=True):
        yield Numeric(name, mean, scale, median if given.imputes else None, missing > 0, boolean)


def _summarised(
    read: Callable[[int, int, slice], np.ndarray], m: int, names: Sequence[str], given: _Given
) -> _Statistics:
    """Two passes over m rows, and one more for medians; ``read`` gives some rows of some columns, one column a row."""
    n, every = len(names), slice(0, len(names))
    total, largest, missing = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, m, ROWS):
            block = read(start, min(start + ROWS, m), every)
            gaps = np.isnan(block)
            if gaps.any():
                if not given.imputes:
                    row, column = np.argwhere(gaps.T)[0]
                    raise given.refuse(names[column], start + row)
                missing += gaps.sum(axis=1)
                block = np.where(gaps, 0.0, block)
            highest = np.abs(block).max(axis=1)
            if np.isinf(highest).any():
                row, column = np.argwhere(np.isinf(block.T))[0]
                where = given.origin.value(names[column], given.row(start + row))
                raise DataError(f"{where}: the value is infinite; correct it, or remove such rows")
            total += block.sum(axis=1)
            largest = np.maximum(largest, highest)
        if (missing == m).any():
            raise given.nothing(names[int(np.argmax(missing == m))])
        median = _medians(read, m, n) if given.imputes else np.zeros(n)
        mean = (total + missing * median) / m
        squares = np.zeros(n)
        for start in range(0, m, ROWS):
            block = read(start, min(start + ROWS, m), every)
            if missing.any():
                block = np.where(np.isnan(block), median[:, None], block)
            squares += ((block - mean[:, None]) ** 2).sum(axis=1)
        deviation = np.sqrt(squares / m)
    _require_finite(deviation, names, given)
    return _Statistics(mean, np.where(deviation <= CONSTANT * largest, 1.0, deviation), median, missing)


def _medians(read: Callable[[int, int, slice], np.ndarray], m: int, n: int) -> np.ndarray:
    found, together = np.empty(n), max(1, MEDIANS // m)
    for first in range(0, n, together):
        columns = slice(first, min(first + together, n))
        values = np.empty((columns.stop - first, m))
        for start in range(0, m, ROWS):
            stop = min(start + ROWS, m)
            values[:, start:stop] = read(start, stop, columns)
        found[columns] = [np.median(column[~np.isnan(column)], overwrite_input=True) for column in values]
    return found


def _require_finite(scale: np.ndarray, names: Sequence[str], given: _Given) -> None:
    if not np.isfinite(scale).all():
        name = names[int(np.argmin(np.isfinite(scale)))]
        raise DataError(f"{given.origin.column(name)}: its values are too large to standardise; scale it")


def _of_sparse(given: _Given) -> Iterator[Numeric]:
    """A mean would fill the zeros, so it is 0, and the scale is the root of the mean square."""
    X = given.X if given.rows is None else given.X[given.rows]
    (m, n), values = X.shape, X.data.astype(np.float64)
    gaps = np.isnan(values)
    for wrong in (np.isinf(values), gaps if not given.imputes else gaps[:0]):
        if wrong.any():
            at = int(np.argmax(wrong))
            row, name = int(np.searchsorted(X.indptr, at, side="right")) - 1, given.names[X.indices[at]]
            if gaps[at]:
                raise given.refuse(name, row)
            where = given.origin.value(name, given.row(row))
            raise DataError(f"{where}: the value is infinite; correct it, or remove such rows")
    missing = np.bincount(X.indices[gaps], minlength=n)
    if (missing == m).any():
        raise given.nothing(given.names[int(np.argmax(missing == m))])
    median = _sparse_medians(X) if given.imputes else np.zeros(n)
    with np.errstate(over="ignore"):
        squares = np.bincount(X.indices, weights=np.where(gaps, 0.0, values) ** 2, minlength=n)
        scale = np.sqrt((squares + missing * median**2) / m)
    _require_finite(scale, given.names, given)
    return _numeric(given.names, _Statistics(np.zeros(n), np.where(scale > 0.0, scale, 1.0), median, missing), given)


def _sparse_medians(X: Any) -> np.ndarray:
    """Zero, except where half of the values or more are something else."""
    m, n = X.shape
    median = np.zeros(n)
    by_column = X.tocsc()
    for k in np.flatnonzero(2 * np.diff(by_column.indptr) >= m):
        stored = by_column.data[by_column.indptr[k] : by_column.indptr[k + 1]].astype(np.float64)
        column = np.concatenate([stored[~np.isnan(stored)], np.zeros(m - len(stored))])
        median[k] = np.median(column)
    return median


# Categories.


def _categories(series: Any, name: str, given: _Given) -> Categorical:
    texts = as_text(series, given.origin)
    missing = texts.null_count()
    if missing and not given.imputes:
        raise given.refuse(name, int(texts.is_null().arg_max()))
    if missing == len(texts):
        raise given.nothing(name)
    categories = texts.drop_nulls().unique()
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"{given.origin.column(name)}: holds {len(categories):,} different texts, too many for categories (at most "
            f"{MOST_CATEGORIES:,}); leave it out with --ignore {quote(name)}"
        )
    return Categorical(name, tuple(categories.sort().to_list()), given.imputes, missing > 0)
