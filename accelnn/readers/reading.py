"""From a file or a built-in name to a data set: which reader a file needs, and which columns are what."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.datasets import DATASETS, Dataset, load_dataset
from accelnn.errors import DataError, require_known
from accelnn.readers.arrays import inputs_of, labels_of, numbered
from accelnn.readers.sources import NPY, NPZ, SVMLIGHT, TEXT, existing, listed
from accelnn.readers.svmlight import SparseTable
from accelnn.readers.targets import TASKS, target_of, words_of
from accelnn.readers.text import TextTable
from accelnn.readers.typed import TypedTable
from accelnn.tables.lazy import LazyColumns

__all__ = ["Features", "load_features", "load_table"]


@dataclass(frozen=True, eq=False)
class Features:
    """Rows to predict for.

    Attributes
    ----------
    name : str
        Of the file, or the built-in name.
    X : array, sparse array or polars.DataFrame of shape (m, n)
        As `accelnn.datasets.Dataset` has it.
    place : callable
        ``place(row)`` says where a row stands, such as "line 7".
    """

    name: str
    X: Any
    place: Callable[[int], str]


def load_table(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    task: str | None = None,
    *,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    lazy: bool = False,
) -> Dataset:
    r"""A built-in data set, or a file of examples with their targets.

    ============================== ================================================================================
    ending                         contents
    ============================== ================================================================================
    .csv, .txt; .tsv               text (UTF-8) whose first line names the columns; commas or tabs separate fields
    .parquet, .pq                  Parquet
    .arrow, .feather, .ipc         Arrow's file format
    .npy                           X of shape (m, n); `target` is another such file with y of shape (m,) or (m, 1)
    .npz                           X, and y unless `target` is an NPY file
    .svm, .svmlight, .libsvm       sparse rows with their targets; indices begin at 1
    ============================== ================================================================================

    In text, a column is numbers if every value is one, booleans if every value is "true" or "false", and else words.
    An empty field and the words NA, N/A, NaN, nan, null and NULL stand for a missing value. A column that mixes numbers
    and words is refused unless it is in `categorical`. In Parquet and Arrow files the type of a column says what it is.

    A missing value is left in X, for `accelnn.tables.Schema` to refuse or to fill in; infinities are refused, and so is
    any target that is missing, NaN or infinite.

    Limits, beyond which a file is refused before it takes memory: 50,000 columns and 131,072 bytes a field and 16 MiB a
    row in text; 2 GiB of unpacked arrays in a compressed NPZ file; 4,194,304 columns of an array or a svmlight file;
    and the memory that is free, which an NPY file of float32 or float64 does not need, as it is read where it lies.

    Parameters
    ----------
    source : str or path
        A name in `accelnn.datasets.DATASETS`, or a file.
    target : str, optional
        The column to predict, for a table with names; the NPY file of y, for an NPY or NPZ file.
    task : {"classification", "regression"}, optional
        By default, text, booleans and whole numbers of few values are classes and everything else is a number.
    categorical : sequence of str
        Columns to take as words though they look like numbers, such as codes: 3 becomes the word "3".
    ignore : sequence of str
        Columns to leave out, whatever they hold.
    lazy : bool
        Whether X stays on the disk: of a Parquet or Arrow file, `X[rows]` then reads what it is asked for. A table in
        an NPY file stays there anyhow; other files are refused.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        Naming the file, the column and the line of what cannot be used.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name) / "flats.csv"
    >>> _ = path.write_text("rooms,town,rent\n2,Ulm,640.5\n3,Bonn,815\n,Ulm,590\n")
    >>> flats = load_table(path, target="rent", task="regression")
    >>> flats.features, flats.y.tolist()
    (('rooms', 'town'), [640.5, 815.0, 590.0])
    >>> flats.X.rows(), flats.place(2)
    ([(2.0, 'Ulm'), (3.0, 'Bonn'), (None, 'Ulm')], 'line 4')
    >>> folder.cleanup()
    """
    if task is not None:
        require_known("task", task, TASKS)
    categorical, ignore = _names("categorical", categorical), _names("ignore", ignore)
    if isinstance(source, str) and source in DATASETS:
        for option, given in (("target", target), ("task", task), ("categorical", categorical), ("ignore", ignore)):
            if given:
                raise DataError(
                    f"--{option}: {source} is a built-in data set, which brings its columns and task with it"
                )
        return load_dataset(source)
    path = existing(source)
    target = None if target is None else os.fspath(target)
    ending = path.suffix.lower()
    if ending in (*NPY, *NPZ, *SVMLIGHT):
        _require_unnamed(path, categorical, ignore)
        if lazy and ending not in NPY:
            raise DataError(f"{path}: cannot be read part by part; save it as Parquet or NPY, or leave --memory out")
        return _sparse(path, target, task) if ending in SVMLIGHT else _dense(path, target, task)
    return _table(path, target, task, categorical, ignore, lazy)


def load_features(source: str | os.PathLike[str], names: Sequence[str], *, categorical: Sequence[str] = ()) -> Features:
    """The columns that a model was trained on, in its order, from a table whose columns come in any order.

    The table need not have the target, and what else it has is not looked at. The columns of an array or a svmlight
    file have no names: there have to be as many.

    Parameters
    ----------
    source : str or path
        As for :func:`load_table`; an NPZ file needs only ``X``.
    names : sequence of str
    categorical : sequence of str
        Those of them that are words, whatever they look like here.

    Raises
    ------
    DataError
        For a column that is missing, and what :func:`load_table` would refuse.
    """
    names = tuple(names)
    if isinstance(source, str) and source in DATASETS:
        dataset = load_dataset(source)
        _require_columns(source, dataset.features, names)
        places = [dataset.features.index(name) for name in names]
        return Features(source, dataset.X[:, places], dataset.place)
    path = existing(source)
    ending = path.suffix.lower()
    if ending in SVMLIGHT:
        sparse = SparseTable(path)
        return Features(path.name, sparse.read(len(names))[0], sparse.place)
    if ending in (*NPY, *NPZ):
        X = inputs_of(path)
        if X.shape[1] != len(names):
            raise DataError(f"{path}: X has {X.shape[1]} columns, but the model was trained on {len(names)}")
        return Features(path.name, X, _row)
    table = _opened(path)
    _require_columns(str(path), table.names, names)
    frame = table.read(names, frozenset(categorical))
    _require_finite(path, frame, table.place)
    return Features(path.name, frame, table.place)


def _row(row: int) -> str:
    return f"row {row}"


def _opened(path: Path) -> TextTable | TypedTable:
    return TextTable(path) if path.suffix.lower() in TEXT else TypedTable(path)


def _table(
    path: Path,
    target: str | None,
    task: str | None,
    categorical: tuple[str, ...],
    ignore: tuple[str, ...],
    lazy: bool,
) -> Dataset:
    table = _opened(path)
    if lazy and isinstance(table, TextTable):
        raise DataError(f"{path}: text cannot be read part by part; save it as Parquet, or leave --memory out")
    if target is None:
        raise DataError(f"{path}: name the column to predict with --target; it has {listed(table.names)}")
    there, ignored = frozenset(table.names), frozenset(ignore)
    for argument, wanted in (("target", (target,)), ("categorical", categorical), ("ignore", ignore)):
        for name in wanted:
            if name not in there:
                raise DataError(f"{path}: has no column {name!r} (--{argument}); it has {listed(table.names)}")
    if target in ignored:
        raise DataError(f"--ignore: {target!r} is the target, which is needed")
    features = tuple(name for name in table.names if name != target and name not in ignored)
    if not features:
        raise DataError(f"{path}: has no column beside the target {target!r}")
    if lazy and isinstance(table, TypedTable):
        column = table.read((target,), frozenset(categorical))[target]
        frame: Any = LazyColumns(table, features, frozenset(categorical))  # infinities are found as it is encoded
    else:
        frame = table.read((*features, target), frozenset(categorical), exact=target)
        column, frame = frame[target], frame.drop(target)
        _require_finite(path, frame, table.place)
    if column.null_count():
        place = table.place(int(column.is_null().arg_max()))
        raise DataError(f"{path}: column {target!r}, {place}: the target is missing; remove such rows")
    values = words_of(column) if str(column.dtype) == "String" else column.to_numpy()
    found = target_of(path, target, values, task, table.place)
    return Dataset(path.name, frame, found.y, found.task, features, found.classes, target, place=table.place)


def _dense(path: Path, target: str | None, task: str | None) -> Dataset:
    X, values, name = labels_of(path, target)
    found = target_of(path if target is None else Path(target), name, values, task, _row)
    return Dataset(path.name, X, found.y, found.task, numbered(X.shape[1]), found.classes, name)


def _sparse(path: Path, target: str | None, task: str | None) -> Dataset:
    if target is not None:
        raise DataError(f"--target: {path} holds its target in front of each row; leave the option out")
    table = SparseTable(path)
    X, values = table.read()
    found = target_of(path, "target", values, task, table.place)
    return Dataset(path.name, X, found.y, found.task, numbered(X.shape[1]), found.classes, place=table.place)


def _names(argument: str, given: Sequence[str]) -> tuple[str, ...]:
    """A single name is taken for a sequence of one."""
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"{argument}: {name!r} is no name of a column; give text")
    return names


def _require_unnamed(path: Path, categorical: tuple[str, ...], ignore: tuple[str, ...]) -> None:
    for argument, names in (("categorical", categorical), ("ignore", ignore)):
        if names:
            raise DataError(f"--{argument}: {path} has columns of numbers without names; save it as Parquet or CSV")


def _require_columns(source: str, known: Sequence[str], wanted: Sequence[str]) -> None:
    there = frozenset(known)
    if missing := [name for name in wanted if name not in there]:
        raise DataError(
            f"{source}: has no column {missing[0]!r}, which the model was trained on; it has {listed(known)}"
        )


def _require_finite(path: Path, frame: Any, place: Callable[[int], str]) -> None:
    import polars

    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    if not floats:
        return
    found = frame.select(polars.col(floats).is_infinite().any()).row(0)
    for name, infinite in zip(floats, found, strict=True):
        if infinite:
            row = int(np.argmax(frame[name].is_infinite().fill_null(False).to_numpy()))
            raise DataError(
                f"{path}: column {name!r}, {place(row)}: the value is infinite; mend it, or leave it empty if it is "
                "missing"
            )
