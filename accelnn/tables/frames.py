"""Columns of a polars frame as arrays of numbers, or as text; polars is imported by whoever has a frame."""

import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.tables.lazy import LazyColumns
from accelnn.tables.origin import Origin, shown

__all__ = ["as_numbers", "as_text", "holds_text", "is_frame"]


def is_frame(X: Any) -> bool:
    """Whether it is one of polars, which is not imported to find out, or one that stays on the disk."""
    polars = sys.modules.get("polars")
    return isinstance(X, LazyColumns) or (polars is not None and isinstance(X, polars.DataFrame))


def holds_text(column: Any) -> bool:
    """Whether a column (polars.Series) is one of categories."""
    import polars

    return column.dtype in (polars.String, polars.Categorical, polars.Enum)


def as_numbers(frame: Any, names: Sequence[str], origin: Origin, booleans: Collection[str] = ()) -> np.ndarray:
    """Some columns of a frame as float64 of shape (m, n), with NaN where a value is missing; booleans as 0 and 1.

    In `booleans`, text may be true and false, too.

    Raises
    ------
    DataError
        For text that is no number, and what is neither a number nor a boolean.
    """
    import polars

    chosen = frame.select(names)
    for column in chosen.iter_columns():
        if holds_text(column):
            chosen = chosen.with_columns(_parsed(column, origin, column.name in booleans))
        elif not (column.dtype.is_numeric() or column.dtype in (polars.Boolean, polars.Null)):
            raise _unknown_kind(column, origin)
    return chosen.cast(polars.Float64).to_numpy()


def _parsed(column: Any, origin: Origin, boolean: bool) -> Any:
    """Text as numbers; a file has text where it has no value at all, or one that is no number."""
    import polars

    texts = column.cast(polars.String)
    numbers = texts.cast(polars.Float64, strict=False)
    if boolean:
        words = texts.str.to_lowercase().replace_strict({"false": 0.0, "true": 1.0}, default=None)
        numbers = numbers.fill_null(words.cast(polars.Float64))
    if (wrong := numbers.is_null() & column.is_not_null()).any():
        row = int(wrong.arg_max())
        where = origin.value(column.name, row)
        what = "neither true nor false" if boolean else "no number"
        raise DataError(f"{where}: {shown(column[row])} is {what}, which the model needs here; correct it")
    return numbers


def as_text(column: Any, origin: Origin) -> Any:
    """A column as text, in which 7 and 7.0 are the same.

    Raises
    ------
    DataError
        For what is neither text, nor a number, nor a boolean.
    """
    import polars

    if column.dtype.is_float():
        whole = column.is_finite() & (column == column.round())
        # Every float that is whole and below this is an integer of 64 bits.
        integers = column.set(~(whole & (column.abs() < 2.0**63)), None).cast(polars.Int64)
        return integers.cast(polars.String).fill_null(column.fill_nan(None).cast(polars.String))
    if holds_text(column) or column.dtype.is_numeric() or column.dtype in (polars.Boolean, polars.Null):
        return column.cast(polars.String)
    raise _unknown_kind(column, origin)


def _unknown_kind(column: Any, origin: Origin) -> DataError:
    return DataError(f"{origin.column(column.name)}: holds {column.dtype} values; give numbers, booleans or text")
