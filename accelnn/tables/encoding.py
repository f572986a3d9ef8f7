"""From rows of a table to the inputs of a network."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from accelnn import checks
from accelnn.errors import DataError
from accelnn.tables.columns import Categorical, Numeric
from accelnn.tables.frames import as_numbers, as_text, is_frame
from accelnn.tables.learning import table_of
from accelnn.tables.origin import Origin, shown

__all__ = ["Encoded", "Plan", "Tally", "encoded"]

AT_ONCE = 2**20  # numbers that are encoded together
AT_ONCE_OF_FRAME = 2**22  # whose columns take some time each
NAMED = 5  # columns that a remark names


@dataclass
class Tally:
    """What came in that training had not seen, by column.

    Attributes
    ----------
    unknown : Counter
        Rows whose category is unknown.
    imputed : Counter
        Missing values that were filled in.
    """

    unknown: Counter[str] = field(default_factory=Counter)
    imputed: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count another part of the table too."""
        self.unknown.update(other.unknown)
        self.imputed.update(other.imputed)

    def __str__(self) -> str:
        """For a person; empty if there is nothing to say."""
        remarks = [
            f"{column}: {count:,} {'row has' if count == 1 else 'rows have'} a category that training did not see"
            for column, count in _named(self.unknown)
        ]
        remarks += [
            f"{column}: {count:,} missing {'value was' if count == 1 else 'values were'} filled in"
            for column, count in _named(self.imputed)
        ]
        rest = len(remarks) - NAMED
        return "; ".join(remarks[:NAMED]) + (f"; and the like {rest} more times" if rest > 0 else "")


def _named(counts: Counter[str]) -> Iterator[tuple[str, int]]:
    return ((Origin().column(name), count) for name, count in counts.items())


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows as a network takes them, once transposed.

    Attributes
    ----------
    X : array or scipy.sparse.csr_array, shape (m, width)
        Examples are rows; ``X.T`` is the equations' X.
    tally : Tally
        How many categories were unknown, and how many missing values were filled in.
    """

    X: Any
    tally: Tally


class Plan(NamedTuple):
    """A schema as arrays; those of numeric columns have one number each.

    Attributes
    ----------
    columns, numeric, categorical : sequences
        All columns; those of numbers; the number of those of categories with their first input.
    mean, scale, median, boolean : arrays
        The median is NaN where a missing value is refused.
    inputs, indicators : arrays of int
        Which input a number becomes, and which one says that it is missing (-1 for none).
    width : int
    keeps_zeros : bool
        Whether a zero becomes zero in every column.
    """

    columns: Sequence[Numeric | Categorical]
    numeric: Sequence[Numeric]
    categorical: Sequence[tuple[Categorical, int]]
    mean: np.ndarray
    scale: np.ndarray
    median: np.ndarray
    boolean: np.ndarray
    inputs: np.ndarray
    indicators: np.ndarray
    width: int
    keeps_zeros: bool

    @classmethod
    def of(cls, columns: Sequence[Numeric | Categorical]) -> "Plan":
        """For the columns of a schema."""
        starts = np.cumsum([0, *(column.width for column in columns)]).tolist()
        numeric = [(c, at) for c, at in zip(columns, starts, strict=False) if isinstance(c, Numeric)]
        categorical = [(c, at) for c, at in zip(columns, starts, strict=False) if isinstance(c, Categorical)]
        mean = np.array([c.mean for c, _ in numeric])
        return cls(
            columns,
            [c for c, _ in numeric],
            categorical,
            mean,
            np.array([c.scale for c, _ in numeric]),
            np.array([np.nan if c.median is None else c.median for c, _ in numeric]),
            np.array([c.boolean for c, _ in numeric], dtype=bool),
            np.array([at for _, at in numeric], dtype=np.int64),
            np.array([at + 1 if c.indicator else -1 for c, at in numeric], dtype=np.int64),
            starts[-1],
            not categorical and not mean.any(),
        )


def encoded(plan: Plan, X: Any, strict: bool, dtype: np.dtype, origin: Origin) -> Encoded:
    """See :meth:`accelnn.tables.schema.Schema.encode`."""
    X, tally = table_of(X), Tally()
    if is_frame(X):
        _require_columns(plan, X, origin)
    else:
        _require_numbers(plan, X, origin)
        if checks.is_sparse(X) and plan.keeps_zeros:
            return Encoded(_scaled(plan, X, dtype, tally, origin), tally)
    m = X.shape[0]
    out = np.zeros((m, plan.width), dtype)
    # In parts, so that what is needed in between stays small and in the caches.
    size = max(1, (AT_ONCE_OF_FRAME if is_frame(X) else AT_ONCE) // plan.width)
    for start in range(0, m, size):
        rows, here = slice(start, start + size), origin.later(start)
        block = X[rows]
        _numbers(plan, _values(plan, block, here), out[rows], tally, here)
        for column, at in plan.categorical:
            _one_hot(column, block[column.name], out[rows, at : at + column.width], tally, strict, here)
    return Encoded(out, tally)


def _require_columns(plan: Plan, X: Any, origin: Origin) -> None:
    known = set(X.columns)
    if absent := [column.name for column in plan.columns if column.name not in known]:
        prefix = f"{origin.source}: " if origin.source else ""
        raise DataError(f"{prefix}there is no column {shown(absent[0])}, which the model was trained on")


def _require_numbers(plan: Plan, X: Any, origin: Origin) -> None:
    prefix = f"{origin.source}: " if origin.source else ""
    if X.shape[1] != len(plan.columns):
        raise DataError(f"{prefix}X has {X.shape[1]} columns, but the model was trained on {len(plan.columns)}")
    if plan.categorical:
        name = plan.categorical[0][0].name
        raise DataError(f"{prefix}X holds numbers only, but the model needs text in column {shown(name)}; give a table")


# Numbers.


def _values(plan: Plan, X: Any, origin: Origin) -> np.ndarray:
    """The numeric columns as float64, NaN where a value is missing."""
    if checks.is_sparse(X):
        return X.toarray().astype(np.float64, copy=False)
    if isinstance(X, np.ndarray):
        return X.astype(np.float64, copy=False)
    booleans = {column.name for column in plan.numeric if column.boolean}
    return as_numbers(X, [column.name for column in plan.numeric], origin, booleans)


def _numbers(plan: Plan, values: np.ndarray, out: np.ndarray, tally: Tally, origin: Origin) -> None:
    """Into the inputs of the numeric columns."""
    if not plan.numeric:
        return
    gaps = np.isnan(values)
    if gaps.any():
        filled = np.where(gaps, plan.median, values)
        if np.isnan(filled).any():
            row, k = np.argwhere(np.isnan(filled))[0].tolist()
            raise _refused(plan.numeric[k].name, row, origin)
        values = filled
        for k in np.flatnonzero(gaps.any(axis=0)).tolist():
            tally.imputed[plan.numeric[k].name] += int(gaps[:, k].sum())
            if plan.indicators[k] >= 0:
                out[:, plan.indicators[k]] = gaps[:, k]
    if plan.boolean.any():
        which = np.flatnonzero(plan.boolean)
        chosen = values[:, which]
        wrong = (chosen != 0.0) & (chosen != 1.0) & ~gaps[:, which]
        if wrong.any():
            row, at = np.argwhere(wrong)[0].tolist()
            where = origin.value(plan.numeric[which[at]].name, row)
            raise DataError(f"{where}: {chosen[row, at]:g} is neither true (1) nor false (0); correct it")
    with np.errstate(over="ignore"):
        scaled = ((values - plan.mean) / plan.scale).astype(out.dtype)
    if not np.isfinite(scaled).all():
        row, k = np.argwhere(~np.isfinite(scaled))[0].tolist()
        raise _too_large(plan.numeric[k].name, values[row, k], row, origin)
    if len(plan.inputs) == out.shape[1]:
        out[:] = scaled
    else:
        out[:, plan.inputs] = scaled


def _scaled(plan: Plan, X: Any, dtype: np.dtype, tally: Tally, origin: Origin) -> Any:
    """A sparse table, which stays one: what is stored is divided, and a missing value gets its indicator beside it."""
    from scipy import sparse

    values, columns = X.data.astype(np.float64), X.indices
    gaps = np.isnan(values)
    if gaps.any():
        values = np.where(gaps, plan.median[columns], values)
        if np.isnan(values).any():
            at = int(np.argmax(np.isnan(values)))
            raise _refused(plan.numeric[columns[at]].name, _row(X, at), origin)
        for k, count in enumerate(np.bincount(columns[gaps])):
            if count:
                tally.imputed[plan.numeric[k].name] += int(count)
    with np.errstate(over="ignore"):
        scaled = (values / plan.scale[columns]).astype(dtype)
    if not np.isfinite(scaled).all():
        at = int(np.argmin(np.isfinite(scaled)))
        raise _too_large(plan.numeric[columns[at]].name, values[at], _row(X, at), origin)
    indices, indptr = plan.inputs.astype(columns.dtype)[columns], X.indptr
    flagged = gaps & (plan.indicators[columns] >= 0)
    if flagged.any():
        # Behind each such value, a 1 in the input that follows its own.
        behind = np.flatnonzero(flagged) + 1
        scaled = np.insert(scaled, behind, 1.0)
        indices = np.insert(indices, behind, indices[flagged] + 1)
        indptr = indptr + np.concatenate([[0], np.cumsum(flagged)])[indptr].astype(indptr.dtype)
    return sparse.csr_array((scaled, indices, indptr), shape=(X.shape[0], plan.width))


def _row(X: Any, at: int) -> int:
    return int(np.searchsorted(X.indptr, at, side="right")) - 1


# Categories.


def _one_hot(column: Categorical, series: Any, out: np.ndarray, tally: Tally, strict: bool, origin: Origin) -> None:
    """Into the inputs of a column of categories, which hold zeros."""
    import polars

    texts = as_text(series, origin)
    gaps = texts.is_null()
    if missing := int(gaps.sum()):
        if not column.imputes:
            raise _refused(column.name, int(gaps.arg_max()), origin)
        tally.imputed[column.name] += missing
        if column.indicator:
            out[:, -1] = gaps.to_numpy()
    codes = texts.cast(polars.Enum(column.categories), strict=False).to_physical()
    if unknown := codes.null_count() - missing:
        if strict:
            row = int((codes.is_null() & ~gaps).arg_max())
            raise DataError(
                f"{origin.value(column.name, row)}: {shown(texts[row])} is a category that training did not see; "
                "correct it, or predict without --strict (in Python, strict=False)"
            )
        tally.unknown[column.name] += unknown
    known = np.flatnonzero(codes.is_not_null().to_numpy())
    out[known, codes.drop_nulls().to_numpy()] = 1.0


# What to raise.


def _refused(name: str, row: int, origin: Origin) -> DataError:
    return DataError(
        f"{origin.value(name, row)}: the value is missing, and training did not allow for it; fill it in, remove such "
        "rows, or train with --missing impute"
    )


def _too_large(name: str, value: float, row: int, origin: Origin) -> DataError:
    what = "infinite" if np.isinf(value) else f"{value:g}, far beyond those of training"
    return DataError(f"{origin.value(name, row)}: the value is {what}; correct it, or remove such rows")
