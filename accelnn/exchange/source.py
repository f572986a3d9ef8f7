"""What can be handed to another program: a network alone, one that knows its table, or a fitted estimator."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.network import Network
from accelnn.storage.networks import rebuilt
from accelnn.tables.model import TableModel
from accelnn.tables.schema import Schema

__all__ = ["Source", "model_of", "source_of"]


@dataclass(frozen=True)
class Source:
    """A network and what stands before and behind it.

    Attributes
    ----------
    network : Network
    schema : Schema or None
        How columns of a table become the network's inputs; without one, X enters as it is.
    classes : array of shape (n_classes,) or None
        What the network's outputs stand for; two may share one sigmoid unit.
    mean, scale : arrays of float64, shape (n_L,), or None
        What takes the network's outputs back to the target's units.
    target : str
        Its name, where it has one.
    """

    network: Network
    schema: Schema | None = None
    classes: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    target: str = ""

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each layer, host arrays: the weights (n_{l-1}, n_l), in rows one after another, and the bias (n_l,)."""
        net = self.network
        W, b = net.layout.parameters(net.backend.to_host(net.theta))
        return [(weights.T, bias[:, 0]) for weights, bias in zip(W[1:], b[1:], strict=True)]


def source_of(model: Any) -> Source:
    """What is to be exported.

    Parameters
    ----------
    model : Network, TableModel, accelnn.MLPClassifier or accelnn.MLPRegressor

    Raises
    ------
    DataError
        For anything else, for an estimator that is not fitted, and for one whose probabilities are not its network's.
    """
    if isinstance(model, Network):
        return Source(model)
    if isinstance(model, TableModel):
        classes = np.array(list(model.classes), dtype=object) if model.task == "classification" else None
        scaler = model.outputs
        mean, scale = (None, None) if scaler is None else (scaler.mean, scaler.scale)
        return Source(model.network, model.schema, classes, mean, scale, model.target)
    # The estimators live further up in the house; what they know is theirs by scikit-learn's names.
    network = getattr(model, "network_", None)
    if not isinstance(network, Network):
        what = "is not fitted yet" if hasattr(model, "fit") else "is no model"
        raise DataError(f"model: {type(model).__name__} {what}; give a Network, a TableModel or a fitted estimator")
    if hasattr(model, "calibrated_"):
        raise DataError("model: its calibrated probabilities are not the network's; fit it with calibration=None")
    classes = getattr(model, "classes_", None)
    several_labels = classes is not None and network.output == "sigmoid" and network.sizes[-1] > 1
    return Source(
        network,
        classes=None if several_labels else classes,
        mean=getattr(model, "target_mean_", None),
        scale=getattr(model, "target_scale_", None),
    )


def model_of(
    path: str | os.PathLike[str], about: dict[str, Any], tensors: dict[str, np.ndarray]
) -> Network | TableModel:
    """The model of a file that :func:`accelnn.storage.container.read` has read, with its table where it has one.

    Raises
    ------
    ModelFileError
        For a file that describes nothing of the kind.
    """
    network, description = rebuilt(path, about, tensors, "numpy"), about.get("description")
    if isinstance(description, dict) and "table" in description:
        return TableModel.from_description(network, description, path)
    return network
