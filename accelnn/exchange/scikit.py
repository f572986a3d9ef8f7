"""Networks as scikit-learn's multilayer perceptrons, to and fro.

A fitted estimator is made by scikit-learn itself: one epoch on a few rows that stand for nothing sets the attributes
that this version of it has, and then the weights are put in.
"""

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.errors import DataError
from accelnn.exchange.scikit_table import pipeline_of
from accelnn.exchange.source import Source, source_of
from accelnn.network import DTYPES, Network

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["estimator_of", "from_sklearn", "to_sklearn"]

ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}  # our name: theirs
OUTPUTS = {"identity": "identity", "logistic": "sigmoid", "softmax": "softmax", "exp": "exp"}  # theirs: ours
LOSSES = {
    ("binary_cross_entropy", "sigmoid"),
    ("cross_entropy", "softmax"),
    ("squared_error", "identity"),
    ("poisson", "exp"),
}
# What a training leaves, by the same names in both.
KEPT = (
    "feature_names_in_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "n_iter_",
    "t_",
)


def to_sklearn(model: Any) -> Any:
    """A model as a fitted estimator of scikit-learn's.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's

    Returns
    -------
    MLPClassifier, MLPRegressor, or Pipeline that ends with one
        Of a network, with its weights in its dtype; classes without names are 0, 1, ... Of a table model, a pipeline
        that takes a table's columns in their units, categories as text (numbers and booleans too: 1.0 is "1", True
        "true"), and computes in double precision. It can be trained on, with the memory of its optimiser empty.

    Raises
    ------
    DataError
        Saying what of the network scikit-learn has not: more than one activation, or one that it does not know; a loss
        that it does not know.
    """
    source = source_of(model)
    return estimator_of(source, model) if source.schema is None else pipeline_of(source.schema, estimator_of(source))


def estimator_of(source: Source, model: Any = None) -> Any:
    """The network alone as a multilayer perceptron, from encoded rows to classes or to values in the target's units.

    Parameters
    ----------
    source : Source
    model : estimator of accelnn's, optional
        Whose parameters and history the estimator gets.

    Raises
    ------
    DataError
        As `to_sklearn`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    network = source.network
    _require_expressible(network)
    kind: Any = MLPClassifier if network.output in ("sigmoid", "softmax") else MLPRegressor
    known = inspect.signature(kind).parameters
    shape: dict[str, Any] = {
        "hidden_layer_sizes": tuple(network.sizes[1:-1]),
        "activation": ACTIVATIONS[network.activations[0]] if network.activations else "identity",
    }
    if network.output == "exp":
        if "loss" not in known:
            raise DataError("loss: this scikit-learn has no Poisson loss; install scikit-learn 1.7 or newer")
        shape["loss"] = "poisson"
    layers, classes = _folded(source)
    y = _any_targets(network, classes)
    estimator = kind(**shape, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(np.zeros((len(y), network.sizes[0]), dtype=layers[0][0].dtype), y)
    estimator.coefs_ = [np.array(W, order="C") for W, _ in layers]
    estimator.intercepts_ = [np.array(b) for _, b in layers]
    estimator._best_coefs, estimator._best_intercepts = list(estimator.coefs_), list(estimator.intercepts_)
    # What the made-up rows left: scikit-learn makes a new optimiser where it goes on and there is none.
    del estimator._optimizer, estimator.loss_
    estimator.loss_curve_, estimator.best_loss_, estimator.t_ = [], np.inf, 0
    estimator.n_iter_ = network.epochs_trained
    parameters = {"max_iter": 200, **(model.get_params(deep=False) if hasattr(model, "get_params") else {}), **shape}
    if parameters.get("learning_rate") not in ("constant", "invscaling", "adaptive"):
        parameters["learning_rate"] = "constant"  # a schedule of accelnn's, which predictions do not depend on
    estimator.set_params(**{name: value for name, value in parameters.items() if name in known})
    for name in KEPT:
        if hasattr(model, name):
            value = getattr(model, name)
            setattr(estimator, name, list(value) if isinstance(value, list) else value)
    return estimator


def _require_expressible(network: Network) -> None:
    """Refuse what scikit-learn's multilayer perceptrons have not."""
    names = sorted(set(network.activations))
    if len(names) > 1:
        raise DataError(
            f"activations: scikit-learn has one for all hidden layers, and this network {', '.join(names)}; "
            "export it to ONNX instead"
        )
    if names and names[0] not in ACTIVATIONS:
        raise DataError(
            f"activations: scikit-learn has no {names[0]} (it has {', '.join(ACTIVATIONS)}); export it to ONNX instead"
        )
    if network.loss_entry.custom or (network.loss, network.output) not in LOSSES:
        pairs = ", ".join(f"{loss} with {output}" for loss, output in sorted(LOSSES))
        raise DataError(
            f"loss: scikit-learn has no {network.loss} with the output {network.output} (it has {pairs}); export it to "
            "ONNX instead"
        )


def _folded(source: Source) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray | None]:
    """The layers and classes as scikit-learn has them; what follows the network goes into its last layer."""
    network, classes = source.network, source.classes
    layers = source.layers()
    if source.schema is not None or source.scale is not None:
        layers = [(W.astype(np.float64), b.astype(np.float64)) for W, b in layers]
    W, b = layers[-1]
    if source.scale is not None and source.mean is not None:
        if network.output == "identity":
            W, b = W * source.scale, b * source.scale + source.mean
        elif source.mean.any() or (source.scale != 1.0).any():
            raise DataError("outputs: a target that is standardised has no place behind exp; train it in its own units")
    if network.output == "softmax" and network.sizes[-1] == 2:
        W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]  # softmax over two is the sigmoid of the difference
    if network.output == "softmax" or (network.output == "sigmoid" and network.sizes[-1] == 1):
        classes = np.arange(max(2, network.sizes[-1])) if classes is None else classes
        order = np.argsort(classes)  # scikit-learn sorts them
        classes = classes[order]
        if W.shape[1] > 1:
            W, b = W[:, order], b[order]
        elif order[0] == 1:
            W, b = -W, -b
    return [*layers[:-1], (W, b)], classes


def _any_targets(network: Network, classes: np.ndarray | None) -> np.ndarray:
    """Targets of the right kind, that hold every class."""
    if classes is not None:
        return classes
    if network.output == "sigmoid":
        return np.eye(network.sizes[-1], dtype=np.int64)  # one label each
    return np.zeros(2) if network.sizes[-1] == 1 else np.zeros((2, network.sizes[-1]))


def from_sklearn(estimator: Any, backend: "str | Backend" = "auto") -> Network:
    """The network of one of scikit-learn's fitted multilayer perceptrons.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor of scikit-learn's
        Its probabilities, or values, are the network's predictions; of two classes, that of the second. A rate beyond
        exp(60) is cut there.
    backend : {"auto", "numpy", "numba", "cupy"} or Backend

    Raises
    ------
    DataError
        For another kind of estimator, one that is not fitted, or one whose attributes do not fit each other.
    """
    about = _attributes(estimator)
    weights, biases = (_arrays(name, about[name]) for name in ("coefs_", "intercepts_"))
    if len(weights) != len(biases) or not weights:
        raise DataError(f"estimator: has {len(weights)} coefs_ and {len(biases)} intercepts_")
    for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
        fits = W.ndim == 2 and b.shape == W.shape[1:] and (k == 0 or weights[k - 1].shape[1:] == W.shape[:1])
        if not fits or 0 in W.shape:
            raise DataError(f"estimator: coefs_[{k}] of shape {W.shape} and intercepts_[{k}] of {b.shape} do not fit")
    theirs, output = about["activation"], about["out_activation_"]
    known = {name: ours for ours, name in ACTIVATIONS.items()}
    if not isinstance(theirs, str) or theirs not in known or not isinstance(output, str) or output not in OUTPUTS:
        raise DataError(f"estimator: its activations {theirs!r} and {output!r} are none of scikit-learn's")
    dtype = np.result_type(*weights, *biases).name
    sizes = [weights[0].shape[0], *(W.shape[1] for W in weights)]
    network = Network(sizes, known[theirs], OUTPUTS[output], dtype=dtype, backend=backend)
    pairs = zip(weights, biases, strict=True)
    network.theta = np.concatenate([part.ravel() for pair in pairs for part in pair]).astype(dtype)
    epochs = about.get("n_iter_")
    network.epochs_trained = max(int(epochs), 0) if isinstance(epochs, int | np.integer) else 0
    return network


def _attributes(estimator: Any) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if type(estimator) not in (MLPClassifier, MLPRegressor):
        hint = "; it holds its network as network_ already" if hasattr(estimator, "network_") else ""
        raise DataError(
            f"estimator: {type(estimator).__name__} is neither MLPClassifier nor MLPRegressor of scikit-learn's{hint}"
        )
    about = vars(estimator)
    if missing := [name for name in ("coefs_", "intercepts_", "out_activation_", "activation") if name not in about]:
        raise DataError(f"estimator: has no {missing[0]}; fit it first")
    return about


def _arrays(name: str, arrays: Any) -> list[np.ndarray]:
    if not isinstance(arrays, list | tuple):
        raise DataError(f"estimator: {name} is no list of arrays")
    for k, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
            raise DataError(f"estimator: {name}[{k}] is no array of float32 or float64")
        if not np.isfinite(array).all():
            raise DataError(f"estimator: {name}[{k}] holds NaN or infinity")
    return list(arrays)
