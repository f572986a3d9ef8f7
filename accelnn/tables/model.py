"""A network together with what stands between it and a table: its schema, class names, the target's scale."""

import csv
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn import storage
from accelnn.errors import DataError, ModelFileError
from accelnn.network import Network
from accelnn.storage.fields import field, listed, only, readable
from accelnn.tables.learning import table_of
from accelnn.tables.origin import row_number
from accelnn.tables.schema import Schema, Standardizer, Tally

if TYPE_CHECKING:
    from accelnn.backends.base import Backend
    from accelnn.datasets import Dataset

__all__ = ["TableModel"]

AT_ONCE = 2**22  # inputs, or units of the widest layer, that are computed together
LARGEST = 15 * 2**20  # bytes of description; a model file's header holds 16 MiB


@dataclass(eq=False)
class TableModel:
    """A network that takes rows of a table in their original units.

    Attributes
    ----------
    network : Network
    schema : Schema
        How the table's columns become the network's inputs.
    task : {"classification", "regression"}
    classes : tuple of str
        Empty for regression.
    target : str
        Name of what is predicted.
    outputs : Standardizer or None
        For regression: what takes the network's outputs back to the target's units.

    Examples
    --------
    >>> import numpy as np
    >>> from accelnn.datasets import load_dataset
    >>> iris = load_dataset("iris")
    >>> rows = np.arange(0, 150, 2)  # the training part
    >>> model = TableModel.untrained(iris, rows, hidden=(16,), activation="relu", backend="numpy")
    >>> X, Y = model.encoded(iris.X[rows], iris.y[rows])
    >>> history = model.network.fit(X, Y, optimizer="adam", learning_rate=0.01, epochs=100, batch_size=16)
    >>> model.score(iris.X[1::2], iris.y[1::2]) > 0.9
    True
    >>> model.predict(iris.X[:5]).shape  # one probability a class
    (5, 3)
    """

    network: Network
    schema: Schema
    task: str
    classes: Sequence[str]
    target: str
    outputs: Standardizer | None

    @classmethod
    def untrained(
        cls,
        dataset: "Dataset",
        rows: np.ndarray | None,
        hidden: Sequence[int],
        activation: str | Sequence[str],
        missing: str = "refuse",
        **network: Any,
    ) -> "TableModel":
        """A new network for a data set, with the statistics of its training rows.

        Two classes get one sigmoid output, more get softmax, regression the identity (exp for a Poisson loss).

        Parameters
        ----------
        dataset : Dataset
        rows : array of int, or None
            The training part; None for all rows.
        hidden : sequence of int
        activation : str or sequence of str
        missing : {"refuse", "impute"}
            See :meth:`accelnn.tables.schema.Schema.of`.
        **network
            Further arguments of :class:`accelnn.Network`.

        Raises
        ------
        DataError
            As from :meth:`accelnn.tables.schema.Schema.of`, and for a table with more columns than a model file can
            describe: about a hundred thousand.
        """
        two = len(dataset.classes) == 2
        outputs = len(dataset.classes) if len(dataset.classes) > 2 else 1
        counts = network.get("loss") == "poisson" and dataset.task == "regression"
        kind = "exp" if counts else "identity" if dataset.task == "regression" else "sigmoid" if two else "softmax"
        schema = Schema.of(dataset.X, dataset.features, rows, missing=missing, source=dataset.name, place=dataset.place)
        scaler = None
        if counts:
            scaler = Standardizer(np.zeros(1), np.ones(1))  # counts are predicted as they are
        elif dataset.task == "regression":
            scaler = _target_scale(dataset, rows)
        net = Network([schema.width, *hidden, outputs], activation, kind, **network)
        model = cls(net, schema, dataset.task, tuple(dataset.classes), dataset.target, scaler)
        if (size := len(json.dumps(json.dumps(model.description())))) > LARGEST:
            raise DataError(
                f"{dataset.name}: describing its {len(schema.columns):,} columns takes {size:,} bytes, and a model "
                f"file holds {LARGEST:,}; leave columns out with --ignore, or train a Network on the encoded array"
            )
        return model

    def encoded(
        self,
        X: Any,
        y: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        source: str = "",
        place: Callable[[int], str] = row_number,
        tally: Tally | None = None,
    ) -> tuple[Any, np.ndarray]:
        """Rows and their targets as `Network.fit` takes them.

        Some rows give the same as they would among others, so that a table can be encoded part by part.

        Parameters
        ----------
        X : array or sparse array of shape (m, n), or polars.DataFrame
        y : array of shape (m,)
            Class numbers, or values.
        rows : array of int, optional
            Which rows of X and y; by default all.
        source, place
            For errors; see :meth:`accelnn.tables.schema.Schema.of`.
        tally : Tally, optional
            What is counted is added to it.

        Returns
        -------
        X, Y : arrays
            Examples are columns. X has shape (n_0, m) and the network's dtype; Y has shape (1, m) for regression and
            (m,) for classes.
        """
        X, y = table_of(X), np.asarray(y)
        if rows is not None:
            X, y, place = X[rows], y[rows], _places(place, rows, 0)
        found = self.schema.encode(X, dtype=self.network.dtype, source=source, place=place)
        if tally is not None:
            tally.add(found.tally)
        return found.X.T, y if self.outputs is None else self.outputs.apply(y[:, None]).T

    def predict(
        self,
        X: Any,
        rows: np.ndarray | None = None,
        *,
        strict: bool = False,
        source: str = "",
        place: Callable[[int], str] = row_number,
        tally: Tally | None = None,
    ) -> np.ndarray:
        """Class probabilities (m, classes), or values (m,).

        Parameters
        ----------
        X : array or sparse array of shape (m, n), or polars.DataFrame
            Raw rows, as for :meth:`accelnn.tables.schema.Schema.encode`. Those of a memory map are read in blocks.
        rows : array of int, optional
            Which rows of X; by default all.
        strict : bool
            Whether a category that training did not see is an error.
        source, place
            For errors; see :meth:`accelnn.tables.schema.Schema.of`.
        tally : Tally, optional
            Unknown categories and imputed values are added to it. Without one, unknown categories give a warning.

        Raises
        ------
        DataError
        """
        found = Tally()
        parts = [self._outputs(part) for part in self._inputs(X, rows, strict, source, place, found)]
        if tally is not None:
            tally.add(found)
        elif found.unknown:
            warnings.warn(str(Tally(found.unknown)), stacklevel=2)
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)) if self.classes else 0)

    def check(
        self,
        X: Any,
        rows: np.ndarray | None = None,
        *,
        strict: bool = False,
        source: str = "",
        place: Callable[[int], str] = row_number,
    ) -> Tally:
        """Raise now what `predict` would raise for these rows, such as before a long training.

        Parameters
        ----------
        X, rows, strict, source, place
            As for `predict`.

        Returns
        -------
        Tally
            What `predict` would count.

        Raises
        ------
        DataError
        """
        tally = Tally()
        for _ in self._inputs(X, rows, strict, source, place, tally):
            pass
        return tally

    def _inputs(
        self,
        X: Any,
        rows: np.ndarray | None,
        strict: bool,
        source: str,
        place: Callable[[int], str],
        tally: Tally,
    ) -> Iterator[Any]:
        """Some rows encoded after others, so that not all of them are in memory."""
        X, size = table_of(X), max(1, AT_ONCE // max(self.network.sizes))
        for start in range(0, X.shape[0] if rows is None else len(rows), size):
            block = slice(start, start + size)
            found = self.schema.encode(
                X[block if rows is None else rows[block]],
                strict=strict,
                dtype=self.network.dtype,
                source=source,
                place=_places(place, rows, start),
            )
            tally.add(found.tally)
            yield found.X

    def _outputs(self, inputs: Any) -> np.ndarray:
        A = self.network.predict(inputs.T).T.astype(np.float64)
        if self.outputs is not None:
            return self.outputs.undo(A)[:, 0]
        return np.column_stack([1.0 - A, A]) if len(self.classes) == 2 else A

    def score(
        self,
        X: Any,
        y: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        source: str = "",
        place: Callable[[int], str] = row_number,
        tally: Tally | None = None,
    ) -> float:
        """The share of correct classes, or R² (1 minus the squared error over that of the mean; NaN where all y are
        equal).

        Parameters
        ----------
        X, source, place, tally
            As for `predict`; without a tally, unknown categories pass silently.
        y : array of shape (m,)
            Class numbers, or values.
        rows : array of int, optional
            Which rows of X and y; by default all.
        """
        predicted = self.predict(X, rows, source=source, place=place, tally=Tally() if tally is None else tally)
        y = y if rows is None else y[rows]
        if self.outputs is None:
            return float(np.mean(predicted.argmax(axis=1) == y))
        variation = float(np.sum((y - y.mean()) ** 2))
        return 1.0 - float(np.sum((predicted - y) ** 2)) / variation if variation else float("nan")

    def write_predictions(
        self,
        X: Any,
        file: Any,
        *,
        strict: bool = False,
        source: str = "",
        place: Callable[[int], str] = row_number,
    ) -> Tally:
        """One line of CSV a row: the value, or the class and the probability of each class.

        Parameters
        ----------
        X, strict, source, place
            As for `predict`.
        file : text file
            Open for writing.

        Returns
        -------
        Tally
        """
        writer, tally = csv.writer(file, lineterminator="\n"), Tally()
        writer.writerow([self.target, *(f"p({name})" for name in self.classes)])
        for part in self._inputs(X, None, strict, source, place, tally):
            predicted = self._outputs(part)
            if self.outputs is not None:
                writer.writerows([repr(value)] for value in predicted.tolist())
                continue
            for best, row in zip(predicted.argmax(axis=1).tolist(), predicted.tolist(), strict=True):
                writer.writerow([self.classes[best], *(f"{p:.6g}" for p in row)])
        return tally

    def description(self) -> dict[str, Any]:
        """What :meth:`from_description` makes the same of, beside the network: numbers come back bit for bit."""
        outputs = None
        if self.outputs is not None:
            outputs = {"mean": float(self.outputs.mean[0]), "scale": float(self.outputs.scale[0])}
        table = {
            "schema": self.schema.to_json(),
            "task": self.task,
            "target": self.target,
            "classes": list(self.classes),
            "outputs": outputs,
        }
        return {"table": table}

    @classmethod
    def from_description(
        cls, network: Network, description: Mapping[str, Any], path: str | os.PathLike[str]
    ) -> "TableModel":
        """A network with the table that was described beside it, in a model file or a checkpoint.

        Parameters
        ----------
        network : Network
        description : mapping
        path : path
            For errors.

        Raises
        ------
        ModelFileError
            Where nothing of the kind is described, or it does not fit the network.
        """
        if "table" not in description:
            raise ModelFileError(f"{path}: holds a network without a table; read it with accelnn.Network.load")
        with readable(path):
            table = field(description, "table", dict)
            only(table, ("schema", "task", "target", "classes", "outputs"), "its table")
            task, target, classes = field(table, "task", str), field(table, "target", str), table["classes"]
            # Each column is an input at least: before anything is made of many of them, they are counted.
            if len(field(table, "schema", list)) > network.sizes[0] or not _fits(task, classes, network):
                raise ValueError("its columns, task and classes do not fit its network")
            schema, classes = Schema.from_json(table["schema"]), tuple(listed(table, "classes", str))
            if schema.width != network.sizes[0]:
                raise ValueError(f"its columns make {schema.width:,} inputs, and its network has {network.sizes[0]:,}")
            outputs = _rebuilt_outputs(table["outputs"]) if task == "regression" else None
            if (outputs is None) != (table["outputs"] is None) or len(set(classes)) < len(classes):
                raise ValueError("its task and classes do not fit together")
            "\n".join((target, *classes)).encode()  # JSON can hold half a character, which no table can
        return cls(network, schema, task, classes, target, outputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :mod:`accelnn.storage`.

        Raises
        ------
        DataError, OutputError
            As from :func:`accelnn.storage.save_model`.
        """
        storage.save_model(self.network, path, self.description(), {})

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: "str | Backend" = "auto") -> "TableModel":
        """Read what `save` wrote.

        Raises
        ------
        ModelFileError
            For a file that is damaged or of another kind, and for a network without a table.
        """
        network, description, _ = storage.load_model(path, backend)
        return cls.from_description(network, description, path)


def _target_scale(dataset: "Dataset", rows: np.ndarray | None) -> Standardizer:
    y = np.asarray(dataset.y if rows is None else dataset.y[rows], dtype=np.float64)
    try:
        return Standardizer.of(y[:, None], [dataset.target])
    except DataError as problem:
        raise DataError(f"{dataset.name}: {problem}") from None


def _places(place: Callable[[int], str], rows: np.ndarray | None, start: int) -> Callable[[int], str]:
    """Names the rows of a part by where they stand in the whole."""
    return lambda row: place(start + row if rows is None else int(rows[start + row]))


def _rebuilt_outputs(about: Any) -> Standardizer:
    only(about, ("mean", "scale"), "its target")
    mean, scale = field(about, "mean", float), field(about, "scale", float)
    if not (math.isfinite(mean) and math.isfinite(scale) and scale > 0):
        raise ValueError("its target has statistics that cannot be")
    return Standardizer(np.array([mean]), np.array([scale]))


def _fits(task: str, classes: Sized, network: Network) -> bool:
    """Whether the network's outputs are those that `untrained` would give it."""
    n, output = network.sizes[-1], network.output
    if task == "regression":
        return len(classes) == 0 and n == 1 and output in ("identity", "exp")
    return (
        task == "classification"
        and len(classes) >= 2
        and (n, output) == ((1, "sigmoid") if len(classes) == 2 else (len(classes), "softmax"))
    )
