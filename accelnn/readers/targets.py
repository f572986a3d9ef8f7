"""What is to be predicted: classes or a number, and as which numbers the network gets it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.errors import DataError

__all__ = ["TASKS", "Target", "Words", "target_of", "words_of"]

TASKS = ("classification", "regression")
MOST_CLASSES = 20  # an integer target with more distinct values than this, and than 5 % of the rows, is a number


@dataclass(frozen=True)
class Words:
    """A target of text, without a Python object for each row.

    Attributes
    ----------
    words : tuple of str
        The distinct ones, sorted.
    numbers : array of int64, shape (m,)
        Their places in `words`.
    """

    words: tuple[str, ...]
    numbers: np.ndarray


@dataclass(frozen=True)
class Target:
    """A target as a network takes it.

    Attributes
    ----------
    y : array, shape (m,)
        Class numbers (int64), or values (float64).
    task : {"classification", "regression"}
    classes : tuple of str
        By number; empty for regression.
    """

    y: np.ndarray
    task: str
    classes: tuple[str, ...]


def words_of(column: Any) -> Words:
    """A text column of a table, free of nulls.

    Parameters
    ----------
    column : polars.Series of String
    """
    import polars

    words = column.unique().sort()
    numbers = column.cast(polars.Enum(words)).to_physical().to_numpy()
    return Words(tuple(words.to_list()), numbers.astype(np.int64))


def target_of(
    path: Path, name: str, values: np.ndarray | Words, task: str | None, place: Callable[[int], str]
) -> Target:
    """A target as classes or as a number.

    Parameters
    ----------
    path : Path
    name : str
        Of the target.
    values : array of shape (m,), of numbers, booleans or text; or Words
    task : {"classification", "regression"}, optional
        By default, text, booleans and whole numbers of few values are classes and everything else is a number.
    place : callable
        Names a row.

    Raises
    ------
    DataError
        For a value that is missing or infinite, a kind of value that does not fit the task, and a target that is the
        same in every row.
    """
    if not isinstance(values, Words) and values.dtype.kind in "US":
        values = _words(path, name, values, place)
    if isinstance(values, Words):
        if task == "regression":
            raise DataError(f"{path}: target {name!r} holds text, which --task regression cannot predict")
        _require_several(path, name, values.words, "holds one class only ({})")
        return Target(values.numbers, "classification", values.words)
    return _numbers(path, name, values, task, place)


def _numbers(path: Path, name: str, y: np.ndarray, task: str | None, place: Callable[[int], str]) -> Target:
    if y.dtype.kind not in "fiub":
        raise DataError(f"{path}: target {name!r} holds {y.dtype} values; give numbers or text")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y)))
        what = "missing" if np.isnan(y[row]) else "infinite"
        raise DataError(f"{path}: column {name!r}, {place(row)}: the target is {what}; remove such rows")
    distinct, numbers = np.unique(y, return_inverse=True)
    whole = y.dtype.kind in "iub" or bool(np.all(distinct == np.round(distinct)))
    if task is None:
        few = y.dtype.kind == "b" or len(distinct) <= max(MOST_CLASSES, len(y) // 20)
        task = "classification" if whole and few else "regression"
    if task == "regression":
        _require_several(path, name, distinct, "is {} in every row")
        return Target(y.astype(np.float64), task, ())
    names = tuple(str(int(v)) if y.dtype.kind == "f" and v == np.round(v) else str(v) for v in distinct)
    _require_several(path, name, names, "holds one class only ({})")
    return Target(numbers.astype(np.int64), task, names)


def _require_several(path: Path, name: str, distinct: Sequence[Any] | np.ndarray, what: str) -> None:
    if len(distinct) < 2:
        raise DataError(f"{path}: target {name!r} {what.format(str(distinct[0])[:40])}; there is nothing to learn")


def _words(path: Path, name: str, y: np.ndarray, place: Callable[[int], str]) -> Words:
    """Text of an array, which has to be Unicode, none of it missing."""
    try:
        distinct, numbers = np.unique(y, return_inverse=True)
        words = tuple(_decoded(word) for word in distinct)
    except (ValueError, SystemError) as problem:
        raise DataError(f"{path}: target {name!r} holds text that is no Unicode ({problem}); save it again") from None
    if "" in words:
        row = int(np.argmax(numbers == words.index("")))
        raise DataError(f"{path}: column {name!r}, {place(row)}: the target is missing; remove such rows")
    return Words(words, numbers.astype(np.int64))


def _decoded(word: Any) -> str:
    text = word.decode("utf-8") if isinstance(word, bytes) else str(word)
    text.encode("utf-8")  # half a character is no text
    return text
