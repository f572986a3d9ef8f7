"""What a network knows of one column, and how that is kept as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.storage.fields import field, listed
from accelnn.tables.origin import shown

__all__ = ["MOST_CATEGORIES", "Categorical", "Numeric", "Standardizer", "column_from_json", "column_to_json"]

MOST_CATEGORIES = 1000  # a text column with more distinct values is a name or an identifier rather than a category
CONSTANT = 1e-12  # rounding leaves a constant column with a deviation of a few units in the last place of its mean


@dataclass(frozen=True)
class Standardizer:
    """Mean and scale of each column, taken from the training part and kept with the model.

    Attributes
    ----------
    mean, scale : arrays of float64, shape (n,)
        A constant column has scale 1.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, columns: np.ndarray, names: Sequence[str]) -> "Standardizer":
        """The statistics of an array of shape (m, n) whose columns have these names.

        Raises
        ------
        DataError
            For a column so large that its variance overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = columns.std(axis=0)
        if not np.isfinite(deviation).all():
            name = names[int(np.argmin(np.isfinite(deviation)))]
            raise DataError(f"column {name!r}: its values are too large to standardise; scale it")
        constant = deviation <= CONSTANT * np.abs(columns).max(axis=0)
        return cls(columns.mean(axis=0), np.where(constant, 1.0, deviation))

    def apply(self, columns: np.ndarray) -> np.ndarray:
        """To mean 0 and deviation 1."""
        return (columns - self.mean) / self.scale

    def undo(self, columns: np.ndarray) -> np.ndarray:
        """Back to the original units."""
        return columns * self.scale + self.mean


@dataclass(frozen=True)
class Numeric:
    """A column of numbers, or of booleans as 0 and 1: one input, ``(x - mean) / scale``.

    Attributes
    ----------
    name : str
    mean, scale : float
        Of the training part, once what was missing had been filled in.
    median : float or None
        What stands for a missing value; None where a missing value is refused.
    indicator : bool
        Whether a second input, 0 or 1 and not scaled, says where the value was missing: so it is if one was missing in
        the training part.
    boolean : bool
    """

    name: str
    mean: float
    scale: float
    median: float | None = None
    indicator: bool = False
    boolean: bool = False

    @property
    def width(self) -> int:
        """Inputs of the network that it becomes."""
        return 1 + self.indicator

    @property
    def imputes(self) -> bool:
        """Whether a missing value is allowed."""
        return self.median is not None


@dataclass(frozen=True)
class Categorical:
    """A column of categories: one input each, 1 for the row's own and 0 for the others (one-hot), not scaled.

    Attributes
    ----------
    name : str
    categories : tuple of str
        Those of the training part, sorted. Any other becomes all zeros, and is counted.
    imputes : bool
        Whether a missing value is allowed; it becomes all zeros.
    indicator : bool
        As of `Numeric`.
    """

    name: str
    categories: tuple[str, ...]
    imputes: bool = False
    indicator: bool = False

    @property
    def width(self) -> int:
        """Inputs of the network that it becomes."""
        return len(self.categories) + self.indicator


def column_to_json(column: Numeric | Categorical) -> dict[str, Any]:
    """As what JSON holds, without what is as usual: a hundred thousand columns have to fit a model file's header."""
    usual = {field.name: field.default for field in fields(column) if field.default is not MISSING}
    kept = {name: value for name, value in vars(column).items() if name not in usual or value != usual[name]}
    if isinstance(column, Numeric):
        return {"kind": "numeric", **kept}
    return {"kind": "categorical", **kept, "categories": list(column.categories)}


def column_from_json(given: Mapping[str, Any]) -> Numeric | Categorical:
    """What `column_to_json` gave, and nothing else.

    Raises
    ------
    TypeError, ValueError, KeyError
    """
    kind = field(given, "kind", str)
    if kind not in _KINDS:
        raise ValueError("a column is of a kind that is not known")
    if strange := set(given) - set(_KINDS[kind]) - {"kind"}:
        raise ValueError(f"a column holds an unknown {shown(min(strange))}")
    about = {name: field(given, name, _KINDS[kind][name]) for name in given if name != "kind"}
    column = Numeric(**about) if kind == "numeric" else _categorical(**about)
    column.name.encode()  # JSON can hold half a character (a lone surrogate), which no table can
    if column.indicator and not column.imputes:
        raise ValueError(f"column {shown(column.name)} has an indicator of missing values, but refuses them")
    if isinstance(column, Numeric):
        numbers = (column.mean, column.scale, column.median or 0.0)
        if not all(map(math.isfinite, numbers)) or column.scale <= 0:
            raise ValueError(f"column {shown(column.name)} has statistics that cannot be")
    return column


_KINDS: dict[str, dict[str, type]] = {
    "numeric": {"name": str, "mean": float, "scale": float, "median": float, "indicator": bool, "boolean": bool},
    "categorical": {"name": str, "categories": list, "imputes": bool, "indicator": bool},
}


def _categorical(categories: list[Any], **about: Any) -> Categorical:
    if not 1 <= len(categories) <= MOST_CATEGORIES:
        raise ValueError(f"a column has {len(categories):,} categories, where there are 1 to {MOST_CATEGORIES:,}")
    for category in listed({"categories": categories}, "categories", str):
        category.encode()
    if len(set(categories)) < len(categories):
        raise ValueError("a column has a category twice")
    return Categorical(categories=tuple(categories), **about)
