"""From a file or a built-in name to arrays: reading tables, finding the task, splitting and standardising."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.datasets import DATASETS, Dataset, load_dataset
from accelnn.errors import DataError

__all__ = ["Standardizer", "load_features", "load_table", "split"]

TEXT = (".csv", ".tsv", ".txt")
TASKS = ("classification", "regression")
MOST_CLASSES = 20  # an integer target with more distinct values than this, and than 5 % of the rows, is a number


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
        # Rounding leaves a constant column with a deviation of a few units in the last place of its mean.
        constant = deviation <= 1e-12 * np.abs(columns).max(axis=0)
        return cls(columns.mean(axis=0), np.where(constant, 1.0, deviation))

    def apply(self, columns: np.ndarray) -> np.ndarray:
        """To mean 0 and deviation 1."""
        return (columns - self.mean) / self.scale

    def undo(self, columns: np.ndarray) -> np.ndarray:
        """Back to the original units."""
        return columns * self.scale + self.mean


def load_table(source: str, target: str | None = None, task: str | None = None) -> Dataset:
    """A built-in data set, or a file with a target.

    Parameters
    ----------
    source : str
        A name in `accelnn.datasets.DATASETS`, or the path of a CSV, TSV or Parquet file, or of an NPZ file that holds
        arrays ``X`` (m, n) and ``y`` (m,).
    target : str, optional
        The column to predict, for a table.
    task : {"classification", "regression"}, optional
        By default, text, booleans and integers of few values are classes and everything else is a number.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        Naming the file, the column and the line of what cannot be used.
    """
    if task is not None and task not in TASKS:
        raise DataError(f"task: {task!r} is not known; choose from {', '.join(TASKS)}")
    if source in DATASETS:
        if target is not None or task is not None:
            option = "--target" if target is not None else "--task"
            raise DataError(f"{option}: {source} is a built-in data set, which brings its target and task with it")
        return load_dataset(source)
    path = _existing(source)
    if path.suffix.lower() == ".npz":
        X, y = _npz(path, ("X", "y"))
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1 or len(y) != len(X):
            raise DataError(f"{path}: y has shape {y.shape}, expected ({len(X)},) beside X of shape {X.shape}")
        return _dataset(path, X, y, [f"x{k}" for k in range(X.shape[1])], "y", task)
    frame = _frame(path)
    if target is None:
        raise DataError(f"{path}: name the column to predict with --target; it has {_listed(frame.columns)}")
    if target not in frame.columns:
        raise DataError(f"{path}: has no column {target!r} (--target); it has {_listed(frame.columns)}")
    if frame[target].null_count():
        place = _place(path, int(np.argmax(frame[target].is_null().to_numpy())))
        raise DataError(f"{path}: column {target!r}, {place}: the target is missing; remove blank, short and such rows")
    features = [name for name in frame.columns if name != target]
    if not features:
        raise DataError(f"{path}: has no column beside the target {target!r}")
    return _dataset(path, _numeric(path, frame, features), frame[target].to_numpy(), features, target, task)


def load_features(source: str, features: Sequence[str]) -> np.ndarray:
    """The columns that a model was trained on, in its order, from a table whose columns come in any order.

    Parameters
    ----------
    source : str
        A built-in name or a path, as for :func:`load_table`; an NPZ file needs only ``X``.
    features : sequence of str

    Returns
    -------
    array of float64, shape (m, n)
    """
    if source in DATASETS:
        dataset = load_dataset(source)
        return dataset.X[:, _places(source, dataset.features, features)]
    path = _existing(source)
    if path.suffix.lower() == ".npz":
        (X,) = _npz(path, ("X",))
        if X.shape[1] != len(features):
            raise DataError(f"{path}: X has {X.shape[1]} columns, but the model was trained on {len(features)}")
        return X
    frame = _frame(path)
    _places(source, frame.columns, features)
    return _numeric(path, frame, features)


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a held-out part, the classes (or the deciles of a number) alike in both.

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


def _existing(source: str) -> Path:
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"{source}: no such file, and no built-in data set of this name (there are {', '.join(sorted(DATASETS))})"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty")
    return path


def _npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path}: holds one unnamed array; save X and y with numpy.savez")
            if missing := [name for name in names if name not in archive]:
                raise DataError(f"{path}: holds no array {missing[0]!r}; it has {_listed(archive.files)}")
            arrays = [archive[name] for name in names]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"{path}: cannot be read as NPZ of plain arrays of numbers or text ({problem})") from None
    X = arrays[0]
    if X.ndim != 2 or X.size == 0:
        raise DataError(f"{path}: X has shape {X.shape}, expected (rows, columns) with at least one of each")
    if X.dtype.kind not in "fiub":
        raise DataError(f"{path}: X holds {X.dtype} values; give numbers")
    arrays[0] = np.ascontiguousarray(X, dtype=np.float64)
    _refuse_missing(path, arrays[0], [f"x{k}" for k in range(X.shape[1])])
    return arrays


def _frame(path: Path) -> Any:
    try:
        import polars
    except ImportError:
        raise DataError(f'{path}: reading tables needs polars; run: pip install "accelnn[tables]"') from None
    kind = path.suffix.lower()
    separator = "\t" if kind == ".tsv" else ","
    try:
        if kind in (".parquet", ".pq"):
            frame = polars.read_parquet(path)
        elif kind in TEXT:
            _refuse_duplicates(path, separator)
            # The whole file decides each column's type, so that a late text value is no parse error.
            frame = polars.read_csv(path, separator=separator, infer_schema_length=None)
        else:
            raise DataError(f"{path}: {kind or 'no'} ending; give .csv, .tsv, .parquet or .npz")
    except (polars.exceptions.PolarsError, OSError, UnicodeDecodeError) as problem:
        reason = (str(problem).strip().splitlines() or ["no message"])[0]
        line = _ragged_line(path, separator) if kind in TEXT else None
        if line is not None:
            raise DataError(f"{path}: line {line} has another number of fields than the header") from None
        raise DataError(f"{path}: cannot be read as a table ({reason})") from None
    if frame.height == 0:
        raise DataError(f"{path}: has a header but no rows")
    if "" in frame.columns:
        place = frame.columns.index("") + 1
        raise DataError(f"{path}: column {place} has no name; name it, or drop it (in pandas, to_csv(index=False))")
    return frame


def _ragged_line(path: Path, separator: str) -> int | None:
    """The first line whose number of fields is not the header's."""
    import csv

    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file, delimiter=separator)
        width = len(next(reader, []))
        return next((reader.line_num for fields in reader if fields and len(fields) != width), None)


def _refuse_duplicates(path: Path, separator: str) -> None:
    """Polars would rename a repeated column silently."""
    import csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    seen: set[str] = set()
    for name in header:
        if name in seen:
            raise DataError(f"{path}: line 1: column {name!r} occurs twice; rename one")
        seen.add(name)


def _numeric(path: Path, frame: Any, features: Sequence[str]) -> np.ndarray:
    X = np.empty((frame.height, len(features)))
    for k, name in enumerate(features):
        column = frame[name]
        if not (column.dtype.is_numeric() or str(column.dtype) == "Boolean"):
            row = next((row for row, value in enumerate(column) if not _is_number(value)), 0)
            raise DataError(
                f"{path}: column {name!r}, {_place(path, row)}: {str(column[row])[:40]!r} is no number; encode the "
                "column, or drop it"
            )
        X[:, k] = column.cast(float).fill_null(float("nan")).to_numpy()
    _refuse_missing(path, X, features)
    return X


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True


def _place(path: Path, row: int) -> str:
    """A row's number as a person finds it: the line of a text file, counted from 1, or the row, counted from 0."""
    return f"line {row + 2}" if path.suffix.lower() in TEXT else f"row {row}"


def _refuse_missing(path: Path, X: np.ndarray, features: Sequence[str]) -> None:
    bad = ~np.isfinite(X)
    if bad.any():
        row, k = np.argwhere(bad)[0]
        what = "missing or NaN" if np.isnan(X[row, k]) else "infinite"
        raise DataError(
            f"{path}: column {features[k]!r}, {_place(path, row)}: the value is {what}; remove or impute it"
        )


def _dataset(path: Path, X: np.ndarray, y: np.ndarray, features: list[str], target: str, task: str | None) -> Dataset:
    if y.dtype.kind not in "fiubOUST":
        raise DataError(f"{path}: target {target!r} holds {y.dtype} values; give numbers or text")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y)))
        raise DataError(f"{path}: target {target!r}, row {row}: the value is {y[row]}; remove such rows")
    if y.dtype.kind == "O" and not all(isinstance(value, str | bool | np.bool_) for value in y):
        raise DataError(f"{path}: target {target!r} mixes kinds of values; give numbers, or text")
    if task is None:
        few = len(np.unique(y)) <= max(MOST_CLASSES, len(y) // 20)
        integral = y.dtype.kind in "iu" or (y.dtype.kind == "f" and bool(np.all(y == np.round(y))))
        task = "regression" if y.dtype.kind in "fiu" and not (integral and few) else "classification"
    if task == "regression":
        if y.dtype.kind not in "fiub":
            raise DataError(f"{path}: target {target!r} holds text, which --task regression cannot predict")
        if np.ptp(y) == 0:
            raise DataError(f"{path}: target {target!r} is {y[0]} in every row; there is nothing to learn")
        return Dataset(path.name, X, y.astype(np.float64), task, tuple(features), target=target)
    labels, numbers = np.unique(y.astype(str) if y.dtype.kind in "OUST" else y, return_inverse=True)
    if len(labels) < 2:
        raise DataError(f"{path}: target {target!r} holds one class only ({labels[0]}); there is nothing to learn")
    names = [f"{v:g}" if y.dtype.kind == "f" else str(v) for v in labels]
    return Dataset(path.name, X, numbers, task, tuple(features), tuple(names), target)


def _places(source: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if missing := [name for name in wanted if name not in known]:
        raise DataError(
            f"{source}: has no column {missing[0]!r}, which the model was trained on; it has {_listed(known)}"
        )
    return [list(known).index(name) for name in wanted]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
