"""Tables without names: X of an NPY or NPZ file, as the network takes it, and y."""

from pathlib import Path

import numpy as np

from accelnn.errors import DataError
from accelnn.readers.limits import ARRAY_COLUMNS, require_memory
from accelnn.readers.npy import map_array
from accelnn.readers.npz import read_arrays
from accelnn.readers.sources import NPY, existing

__all__ = ["features_of", "inputs_of", "labels_of", "numbered", "target_file"]

BLOCK = 2**20  # values that are looked at in one go


def numbered(count: int) -> tuple[str, ...]:
    """Names of the columns of an array: x0, x1, ..."""
    return tuple(f"x{k}" for k in range(count))


def inputs_of(path: Path) -> np.ndarray:
    """X of an NPY or NPZ file, for prediction: any y is left alone."""
    return features_of(path, map_array(path) if path.suffix.lower() in NPY else read_arrays(path, ["X"])["X"])


def labels_of(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """X and y of an NPY or NPZ file, and y's name.

    Parameters
    ----------
    path : Path
    target : str, optional
        An NPY file that holds y; needed unless `path` is an NPZ file that holds one.

    Returns
    -------
    X : array of float32 or float64, shape (m, n)
        An NPY file's is a memory map where it holds such values.
    y : array, shape (m,)
    name : str
    """
    name = "y"
    if path.suffix.lower() in NPY:
        X, y = map_array(path), None
        if target is None:
            raise DataError(f"{path}: holds X alone; name the NPY file that holds y with --target")
    else:
        arrays = read_arrays(path, ["X"], ["y"] if target is None else [])
        X, y = arrays["X"], arrays.get("y")
        if y is None and target is None:
            raise DataError(f"{path}: holds no array 'y'; add it, or name the NPY file that holds it with --target")
    if target is not None:
        y, name = target_file(target), Path(target).stem
    assert y is not None
    X = features_of(path, X)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(y) != len(X):
        whose = f"{target}: " if target is not None else f"{path}: y "
        raise DataError(f"{whose}has shape {y.shape}, expected ({len(X)},) beside X of shape {X.shape}")
    return X, np.array(y), name


def target_file(target: str) -> np.ndarray:
    """The array of an NPY file that is given as a target."""
    if Path(target).suffix.lower() not in NPY:
        raise DataError(
            f"--target: {target!r} is no NPY file, and the target of an array is another one; give its path"
        )
    return map_array(existing(target, "--target"))


def features_of(path: Path, X: np.ndarray) -> np.ndarray:
    """An array as X, of float32 or float64 and without infinities; NaN stands for a missing value.

    What is of these types is not copied. Whole numbers of up to 16 bits, booleans and float16 become float32, which
    holds them exactly, and others float64.

    Raises
    ------
    DataError
    """
    if X.ndim != 2 or X.size == 0:
        raise DataError(f"{path}: X has shape {X.shape}, expected (rows, columns) with at least one of each")
    if X.dtype.kind not in "fiub":
        raise DataError(f"{path}: X holds {X.dtype} values; give numbers")
    if X.shape[1] > ARRAY_COLUMNS:
        raise DataError(
            f"{path}: X has {X.shape[1]:,} columns, and {ARRAY_COLUMNS:,} is the most; are rows and columns exchanged?"
        )
    if X.dtype not in (np.float32, np.float64) or not X.dtype.isnative:
        wanted = np.dtype(np.float32 if np.can_cast(X.dtype, np.float32) else np.float64)
        remedy = "save it as float32, which is read as it is needed"
        require_memory(f"{path}: X as {wanted}", X.size * wanted.itemsize, remedy)
        with np.errstate(over="ignore"):  # a long double beyond float64 is infinite then, and refused
            X = X.astype(wanted)
    _require_finite(path, X)
    return X


def _require_finite(path: Path, X: np.ndarray) -> None:
    """Block by block, so that a memory map need not fit into memory, in the order in which it lies there."""
    by_column = X.flags.f_contiguous and not X.flags.c_contiguous
    lines = X.T if by_column else X
    step = max(1, BLOCK // lines.shape[1])
    for start in range(0, len(lines), step):
        for left in range(0, lines.shape[1], BLOCK):
            bad = np.isinf(lines[start : start + step, left : left + BLOCK])
            if bad.any():
                first, second = np.argwhere(bad)[0] + (start, left)
                row, k = (second, first) if by_column else (first, second)
                raise DataError(
                    f"{path}: column 'x{k}', row {row}: the value is infinite; mend it, or write NaN if it is missing"
                )
