"""Which rows are trained on and which are held out."""

import numpy as np

from accelnn.datasets import Dataset
from accelnn.errors import DataError

__all__ = ["split"]


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a held-out part, the classes (or the deciles of a number) alike in both.

    Parameters
    ----------
    dataset : Dataset
    fraction : float
        The share that is held out.
    seed : int

    Raises
    ------
    DataError
        For a fraction that leaves either part empty, or a class that has too few examples.
    """
    y = dataset.y
    rows = np.arange(len(y))
    if fraction == 0.0:
        return rows, rows[:0]
    if dataset.classes and np.bincount(y).min() < 2:
        name = dataset.classes[int(np.bincount(y).argmin())]
        raise DataError(
            f"{dataset.name}: class {name!r} of target {dataset.target!r} has a single row, which cannot be both "
            "trained on and held out; remove it, or use --test-fraction 0"
        )
    from sklearn.model_selection import train_test_split

    # Deciles, where there are enough rows for at least ten in each part.
    enough = len(y) * min(fraction, 1.0 - fraction) >= 20
    groups = y if dataset.classes else np.argsort(np.argsort(y)) * 10 // len(y) if enough else None
    try:
        parts = train_test_split(rows, test_size=fraction, random_state=seed, stratify=groups)
    except ValueError as problem:
        raise DataError(f"--test-fraction: {fraction} of {len(y)} rows cannot be held out: {problem}") from None
    return parts[0], parts[1]
