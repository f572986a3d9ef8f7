"""What a column of a table is: numbers, booleans or text; and what is none of these.

A column of a text table is what its values look like, taken together. One of another file is what its type says.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NoReturn

from accelnn.tables.frames import as_text
from accelnn.tables.origin import Origin, shown

__all__ = ["MISSING", "Refuse", "column_of_texts", "columns_of_types"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")  # what stands for no value in a text table
Refuse = Callable[[int | None, str], NoReturn]  # of a row of the column, or None for all of it, and the complaint

REMEDY = "read the column as text (categorical=, --categorical), or leave it out (ignore=, --ignore)"

_WHOLE = {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_AS_THEY_ARE = {*_WHOLE, "Float32", "Float64", "Boolean", "String"}  # polars' types

_COMMA = r"^[+-]?(\d*,\d+|\d{1,3}(,\d{3})+(\.\d*)?)([eE][+-]?\d+)?$"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?"
_MOMENT = rf"^(\d{{4}}-\d{{2}}-\d{{2}}([T ]{_CLOCK}\s?(Z|UTC|[+-]\d{{2}}:?\d{{2}})?)?|{_CLOCK})$"


def column_of_texts(texts: Any, categorical: bool, refuse: Refuse) -> Any:
    """A column of a text table as numbers, booleans or text; what is missing becomes null.

    Numbers, if every value is one; booleans, if every value is "true" or "false" in upper or lower case; else text.
    Spaces around a number, a boolean or a word of `MISSING` do not count. Text is kept as it is.

    Parameters
    ----------
    texts : polars.Series of String
    categorical : bool
        Take it as text whatever it looks like.
    refuse : callable
        Called for a column in which numbers and words are mixed, for numbers with commas, for dates and times.

    Returns
    -------
    polars.Series of Float64, Boolean or String
    """
    import polars

    stripped = texts.str.strip_chars()
    known = _without(stripped, stripped.is_in(MISSING))
    if categorical:
        return _without(texts, known.is_null())
    numbers = known.cast(polars.Float64, strict=False)
    words = known.is_not_null() & numbers.is_null()
    if not words.any():
        return numbers.fill_nan(None)
    counted = numbers.is_finite().fill_null(False)  # "inf" among words is a word
    if counted.any():
        _refuse_mixture(known, words, counted, refuse)
    lower = known.str.to_lowercase()
    if lower.drop_nulls().is_in(["true", "false"]).all():
        return lower == "true"
    _refuse_other_numbers(known, refuse)
    return _without(texts, known.is_null())


def _without(column: Any, dropped: Any) -> Any:
    """A column whose values are null where they are dropped."""
    import polars

    return polars.select(polars.when(dropped).then(None).otherwise(column).alias(column.name)).to_series()


def _refuse_mixture(known: Any, words: Any, numbers: Any, refuse: Refuse) -> NoReturn:
    """Name what there is less of: a word among numbers, or a number among words."""
    if words.sum() > numbers.sum():
        row = numbers.arg_max()
        refuse(row, f"{shown(known[row])} is a number, and others of the column are not; mend it, {REMEDY}")
    row = words.arg_max()
    if known.filter(words).str.contains(_COMMA).all():
        _refuse_comma(row, known[row], refuse)
    empty = "mend it, leave the field empty if the value is missing"
    refuse(row, f"{shown(known[row])} is no number, as others of the column are; {empty}, {REMEDY}")


def _refuse_other_numbers(known: Any, refuse: Refuse) -> None:
    """Refuse what would be read as so many words, though a person sees numbers or moments."""
    row = known.is_not_null().arg_max()
    present = known.drop_nulls()
    if present.str.contains(_COMMA).all():
        _refuse_comma(row, known[row], refuse)
    if present.str.contains(_MOMENT).all():
        what = "is a date or a time; turn it into a number, such as days since a first one"
        refuse(row, f"{shown(known[row])} {what}, {REMEDY}")


def _refuse_comma(row: int, value: str, refuse: Refuse) -> NoReturn:
    refuse(row, f"{shown(value)} has a comma in a number; write a decimal point and no thousands' separators, {REMEDY}")


def columns_of_types(frame: Any, categorical: Collection[str], refuse: Callable[..., NoReturn]) -> Any:
    """Columns of a Parquet or Arrow file as numbers, booleans or text; what is missing, or NaN, becomes null.

    Parameters
    ----------
    frame : polars.DataFrame
    categorical : collection of str
        Those to take as text; a whole number is written without a decimal point.
    refuse : callable
        ``refuse(name, row or None, complaint)``, called for a column of dates, times, lists, structures, bytes and the
        like.

    Returns
    -------
    polars.DataFrame
        Of integers, floats, Boolean and String.
    """
    import polars

    frame = frame.with_columns(polars.selectors.float().fill_nan(None))
    # There may be many columns, and most need no look of their own.
    others = [name for name, dtype in frame.schema.items() if name in categorical or str(dtype) not in _AS_THEY_ARE]
    return frame.with_columns(
        _column_of_type(frame[name], name in categorical, partial(refuse, name)) for name in others
    )


def _column_of_type(column: Any, categorical: bool, refuse: Refuse) -> Any:
    import polars

    dtype = column.dtype
    name = str(dtype)
    if dtype == polars.Null:
        return column.cast(polars.String if categorical else polars.Float64)
    if dtype == polars.Decimal or name == "Float16" or name.endswith("Int128"):
        column, dtype = column.cast(polars.Float64), polars.Float64
    if dtype.is_float():
        return as_text(column, Origin()) if categorical else column
    if dtype.is_integer() or dtype == polars.Boolean:
        return column.cast(polars.String) if categorical else column
    if dtype in (polars.String, polars.Categorical, polars.Enum):
        return column.cast(polars.String)
    remedy = "turn them into numbers or text, or leave the column out (ignore=, --ignore)"
    return refuse(None, f"holds {name[:40]} values; {remedy}")
