"""Data sets by name, each with a recipe that trains it well."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn.errors import require_known

__all__ = ["DATASETS", "Dataset", "Recipe", "load_dataset", "planar"]


@dataclass(frozen=True)
class Recipe:
    """How to train on a data set where nobody says otherwise; the names are those of `Network` and `fit`."""

    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epochs: int = 50
    batch_size: int | None = 32
    l2: float = 0.0
    test_fraction: float = 0.25


def _row(row: int) -> str:
    """The place of a row of what has no lines."""
    return f"row {row}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples with their targets.

    Attributes
    ----------
    name : str
    X : array, sparse array or polars.DataFrame, of shape (m, n)
        Examples are rows here, as tables have them; an array's ``X.T`` is the equations' X. It is an array of float32
        or float64 (perhaps a memory map), a ``scipy.sparse.csr_array``, or the columns of a table as they were read:
        integers, floats, Boolean and String, in which null stands for a missing value, as NaN does in arrays. Each can
        be indexed with an array of row numbers.
    y : array, shape (m,)
        Class numbers (int64), or values (float64).
    task : {"classification", "regression"}
    features : tuple of str
        Names of X's columns.
    classes : tuple of str
        Names of the classes, by number; empty for regression.
    target : str
        Name of y.
    recipe : Recipe
    place : callable
        ``place(row)`` says where a row, counted from 0, stands: "line 7" of a text file, "row 5" of anything else.
    """

    name: str
    X: Any
    y: np.ndarray
    task: str
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    target: str = "target"
    recipe: Recipe = Recipe()
    place: Callable[[int], str] = _row


def planar(examples: int = 400, seed: int = 0) -> Dataset:
    """The flower: a polar rose ``r = 4 sin 4t`` with noise in r and t, whose petals belong to two classes in turn.

    A class covers half a turn of t. Since r changes sign from petal to petal, each class reaches all round the
    origin, and a straight line separates about as well as a coin.

    Parameters
    ----------
    examples : int
        In both classes together.
    seed : int
        Fixes the noise.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(examples) * 2 // examples
    t = np.linspace(0.0, 2.0 * np.pi, examples, endpoint=False) + rng.normal(0.0, 0.2, examples)
    r = 4.0 * np.sin(4.0 * t) + rng.normal(0.0, 0.2, examples)
    X = np.column_stack([r * np.cos(t), r * np.sin(t)])
    return Dataset("planar", X, y, "classification", ("x1", "x2"), ("red", "blue"), "colour", RECIPES["planar"])


RECIPES = {
    # Full-batch gradient descent on all examples, as a first course in neural networks has it.
    "planar": Recipe((4,), "tanh", "sgd", learning_rate=1.2, epochs=10_000, batch_size=None, test_fraction=0.0),
    "digits": Recipe((100,), epochs=60),
    "breast_cancer": Recipe((32,), epochs=100, l2=1.0),
    "iris": Recipe((16,), learning_rate=0.01, epochs=60, batch_size=16),
    "wine": Recipe((32,), epochs=60, batch_size=16),
    "diabetes": Recipe((8,), "tanh", epochs=100, l2=3.0),
}
DATASETS = tuple(RECIPES)


def load_dataset(name: str) -> Dataset:
    """The built-in data set of this name.

    Parameters
    ----------
    name : str
        ``planar`` is generated; ``digits``, ``breast_cancer``, ``iris``, ``wine`` and ``diabetes`` come with
        scikit-learn, which documents them.

    Raises
    ------
    UnknownNameError
    """
    require_known("data set", name, DATASETS)
    if name == "planar":
        return planar()
    from sklearn import datasets

    source = getattr(datasets, f"load_{name}")()
    classes = tuple(map(str, getattr(source, "target_names", ())))
    return Dataset(
        name,
        np.ascontiguousarray(source.data, dtype=np.float64),
        source.target.astype(np.int64 if classes else np.float64),
        "classification" if classes else "regression",
        tuple(map(str, source.feature_names)),
        classes,
        recipe=RECIPES[name],
    )
