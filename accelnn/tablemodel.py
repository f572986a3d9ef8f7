"""A network together with what stands between it and a table: statistics, class names, column names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn import storage
from accelnn.data import Standardizer
from accelnn.errors import DataError, ModelFileError
from accelnn.network import Network

if TYPE_CHECKING:
    from accelnn.backends.base import Backend
    from accelnn.datasets import Dataset

__all__ = ["TableModel"]


@dataclass
class TableModel:
    """A network that takes rows of a table in their original units.

    Attributes
    ----------
    network : Network
    task : {"classification", "regression"}
    features, classes : sequence of str
        `classes` is empty for regression.
    target : str
    inputs : Standardizer
    outputs : Standardizer or None
        For regression.
    """

    network: Network
    task: str
    features: Sequence[str]
    classes: Sequence[str]
    target: str
    inputs: Standardizer
    outputs: Standardizer | None

    @classmethod
    def untrained(
        cls, dataset: "Dataset", rows: np.ndarray, hidden: tuple[int, ...], activation: str, **network: Any
    ) -> "TableModel":
        """A new network for a data set, with the statistics of its training rows.

        Two classes get one sigmoid output, more get softmax, regression the identity (exp for a Poisson loss).

        Parameters
        ----------
        dataset : Dataset
        rows : array of int
            The training part.
        hidden : tuple of int
        activation : str
        **network
            Further arguments of :class:`accelnn.Network`.
        """
        two = len(dataset.classes) == 2
        outputs = len(dataset.classes) if len(dataset.classes) > 2 else 1
        counts = network.get("loss") == "poisson" and dataset.task == "regression"
        kind = "exp" if counts else "identity" if dataset.task == "regression" else "sigmoid" if two else "softmax"
        net = Network([dataset.X.shape[1], *hidden, outputs], activation, kind, **network)
        inputs = Standardizer.of(dataset.X[rows], dataset.features)
        if dataset.task == "classification":
            scaler = None
        elif counts:
            scaler = Standardizer(np.zeros(1), np.ones(1))  # counts are predicted as they are
        else:
            scaler = Standardizer.of(dataset.y[rows, None], [dataset.target])
        return cls(net, dataset.task, dataset.features, dataset.classes, dataset.target, inputs, scaler)

    def encoded(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their targets as `Network.fit` takes them."""
        return self.inputs.apply(X).T, y if self.outputs is None else self.outputs.apply(y[:, None]).T

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class probabilities (m, classes), or values (m,).

        Parameters
        ----------
        X : array of shape (m, n_0)
        """
        A = self.network.predict(self.inputs.apply(X).T).T.astype(np.float64)
        if self.outputs is not None:
            return self.outputs.undo(A)[:, 0]
        return np.column_stack([1.0 - A, A]) if len(self.classes) == 2 else A

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """The share of correct classes, or R² (1 minus the squared error over that of the mean;
        NaN where all y are equal).
        """
        predicted = self.predict(X)
        if self.outputs is None:
            return float(np.mean(predicted.argmax(axis=1) == y))
        variation = float(np.sum((y - y.mean()) ** 2))
        return 1.0 - float(np.sum((predicted - y) ** 2)) / variation if variation else float("nan")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :mod:`accelnn.storage`."""
        tensors = {"inputs.mean": self.inputs.mean, "inputs.scale": self.inputs.scale}
        if self.outputs is not None:
            tensors |= {"outputs.mean": self.outputs.mean, "outputs.scale": self.outputs.scale}
        names = ("task", "features", "classes", "target")
        storage.save_model(self.network, path, {name: getattr(self, name) for name in names}, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: "str | Backend" = "auto") -> "TableModel":
        """Read what `save` wrote.

        Raises
        ------
        ModelFileError
        """
        network, about, tensors = storage.load_model(path, backend)
        try:
            inputs = Standardizer(tensors["inputs.mean"], tensors["inputs.scale"])
            outputs = None
            if about["task"] == "regression":
                outputs = Standardizer(tensors["outputs.mean"], tensors["outputs.scale"])
            model = cls(network, about["task"], about["features"], about["classes"], about["target"], inputs, outputs)
            fits = len(model.features) == len(inputs.mean) == len(inputs.scale) == network.sizes[0]
        except (KeyError, TypeError) as problem:
            raise ModelFileError(f"{path}: holds a network without its table ({problem}); use Network.load") from None
        if not fits:
            raise ModelFileError(f"{path}: its columns do not fit its network")
        return model

    def write_predictions(self, X: np.ndarray, file: Any) -> None:
        """One line of CSV a row: the value, or the class and the probability of each class."""
        import csv

        writer = csv.writer(file)
        predicted = self.predict(X)
        if self.outputs is not None:
            writer.writerow([self.target])
            writer.writerows([repr(float(value))] for value in predicted)
            return
        writer.writerow([self.target, *(f"p({name})" for name in self.classes)])
        for row in predicted:
            writer.writerow([self.classes[row.argmax()], *(f"{p:.6g}" for p in row)])


def layer_widths(text: str) -> tuple[int, ...]:
    """``"64,32"`` as (64, 32); an empty text is no hidden layer."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise DataError(f"--hidden: {text!r} is no list of widths; give numbers such as 64,32") from None
