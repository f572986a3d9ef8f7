"""What another program has trained as a model of accelnn's that predicts tables, where it is of that kind."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from accelnn.errors import AccelnnError, DataError, ModelFileError
from accelnn.exchange.scikit import from_sklearn
from accelnn.exchange.skops_file import load_skops
from accelnn.exchange.torch_state import network_of, read_tensors
from accelnn.network import Network
from accelnn.storage.fields import field, listed, only, readable
from accelnn.tables.model import TableModel
from accelnn.tables.schema import Numeric, Schema, Standardizer

__all__ = ["import_sklearn", "import_torch", "model_of_table"]


def import_torch(
    path: str | os.PathLike[str], *, classes: Sequence[str] = (), target: str = "y", **settings: Any
) -> Network | TableModel:
    """A PyTorch model from a safetensors file.

    Parameters
    ----------
    path : path
    classes : sequence of str, optional
        Names of the classes; by default those of a file that accelnn exported, or 0, 1, ...
    target : str
        Name of what is predicted.
    **settings
        As of :func:`accelnn.exchange.from_torch`.

    Returns
    -------
    TableModel or Network
        See `model_of_table`. A file that :func:`accelnn.exchange.save_torch` wrote gives back its table, or its
        classes, or the units of its target; where these are of several values, in a network of float64.

    Raises
    ------
    ModelFileError, DataError
    """
    metadata, tensors = read_tensors(path)
    with readable(path):
        own: dict[str, Any] = {
            name: json.loads(metadata[name]) for name in ("table", "classes", "outputs") if name in metadata
        }
        outputs, named = _units(own), _class_names(own)
    if classes and ("table" in own or named):
        raise DataError(f"{path}: names its classes itself; leave them out")
    if outputs is not None and len(outputs.mean) > 1:  # float32 has no room for a mean far from zero
        settings = {"dtype": "float64", **settings}
    network = network_of(os.fspath(path), metadata, tensors, **settings, backend="numpy")
    if "table" in own:
        return TableModel.from_description(network, own, path)
    with readable(path) if named or outputs is not None else contextlib.nullcontext():
        return model_of_table(network, classes=classes or named, target=target, outputs=outputs)


def import_sklearn(path: str | os.PathLike[str], *, target: str = "y") -> Network | TableModel:
    """One of scikit-learn's multilayer perceptrons from a skops file.

    Parameters
    ----------
    path : path
        Of an MLPClassifier, an MLPRegressor, or a Pipeline of a StandardScaler and one of these.
    target : str
        Name of what is predicted.

    Returns
    -------
    TableModel or Network
        See `model_of_table`.

    Raises
    ------
    ModelFileError
        For a file that is damaged, or holds anything else.
    """
    estimator = load_skops(path)
    with _importable(path):
        scaler, perceptron = _steps(estimator)
        network = from_sklearn(perceptron, "numpy")
        known = vars(perceptron if scaler is None else scaler)
        names = known.get("feature_names_in_")
        classes = vars(perceptron).get("classes_") if network.output in ("sigmoid", "softmax") else None
        labels = network.output == "sigmoid" and network.sizes[-1] > 1
        mean, scale = _statistics(scaler, network.sizes[0])
        return model_of_table(
            network,
            names=None if names is None else [str(name) for name in np.asarray(names).tolist()],
            classes=() if classes is None or labels else [str(name) for name in np.asarray(classes).tolist()],
            mean=mean,
            scale=scale,
            target=target,
        )


def model_of_table(
    network: Network,
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    mean: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    target: str = "y",
    outputs: Standardizer | None = None,
) -> Network | TableModel:
    """The network as a model of a table of numbers, where it gives one class or one value.

    Parameters
    ----------
    network : Network
    names : sequence of str, optional
        Of the columns; by default x0, x1, ...
    classes : sequence of str, optional
        By default 0, 1, ...
    mean, scale : arrays of float64, shape (n_0,), optional
        What the columns are standardised with.
    target : str
        Name of what is predicted.
    outputs : Standardizer, optional
        What takes the network's outputs to the target's units.

    Returns
    -------
    TableModel or Network
        The network itself where it gives several values, or several labels at once. A softmax over two units becomes
        the sigmoid of their difference, which is the same.

    Raises
    ------
    DataError
        For names, or units of a target, that do not fit the network.
    """
    n_inputs, units, output = network.sizes[0], network.sizes[-1], network.output
    classifies = output == "softmax" or (output == "sigmoid" and units == 1)
    if outputs is not None and (output not in ("identity", "exp") or outputs.mean.shape != (units,)):
        raise DataError(f"outputs: {len(outputs.mean)} means and scales for a network with {units} {output} outputs")
    if not classifies and (units > 1 or output == "sigmoid"):
        if classes:
            raise DataError(f"classes: a network with {units} {output} outputs has none to name")
        if outputs is not None:
            _fold_outputs(network, outputs)
        if mean is not None and scale is not None and (mean.any() or (scale != 1.0).any()):
            _fold(network, mean, scale)
        return network
    count = max(units, 2) if classifies else 0
    named = tuple(classes) or tuple(str(k) for k in range(count))
    if len(named) != count or len(set(named)) < count:
        raise DataError(f"classes: {len(set(named))} different names for a network with {count} classes")
    listed = [f"x{k}" for k in range(n_inputs)] if names is None else list(names)
    if len(listed) != n_inputs or len(set(listed)) < n_inputs:
        raise DataError(f"names: {len(set(listed))} different names for {n_inputs} columns")
    means = np.zeros(n_inputs) if mean is None else mean
    scales = np.ones(n_inputs) if scale is None else scale
    columns = zip(listed, means.tolist(), scales.tolist(), strict=True)
    schema = Schema(tuple(Numeric(name, float(m), float(s)) for name, m, s in columns))
    if output == "softmax" and units == 2:
        network = _one_unit(network)
    scaler = None if classifies else outputs or Standardizer(np.zeros(1), np.ones(1))
    return TableModel(network, schema, "classification" if classifies else "regression", named, target, scaler)


@contextlib.contextmanager
def _importable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, whatever turns out to be wrong with an estimator becomes an error that names its file."""
    try:
        yield
    except (AccelnnError, KeyError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as problem:
        raise ModelFileError(f"{path}: cannot be imported ({problem})") from None
    except RecursionError:
        raise ModelFileError(f"{path}: cannot be imported (it is nested too deeply)") from None


def _steps(estimator: Any) -> tuple[Any, Any]:
    """The scaler, or None, and the multilayer perceptron."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    if type(estimator) is not Pipeline:
        return None, estimator
    steps = [step for _, step in vars(estimator)["steps"] if step is not None and step != "passthrough"]
    if len(steps) == 1:
        return None, steps[0]
    if len(steps) != 2 or type(steps[0]) is not StandardScaler:
        kinds = ", ".join(type(step).__name__ for step in steps)
        raise DataError(
            f"a pipeline of {kinds} has no counterpart here; save its last step alone, which takes what the others "
            "make of a table, or keep the file that accelnn exported it from"
        )
    return steps[0], steps[1]


def _statistics(scaler: Any, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mean and scale of a StandardScaler, checked."""
    if scaler is None:
        return None, None
    found = []
    for name, switch, usual in (("mean_", "with_mean", 0.0), ("scale_", "with_std", 1.0)):
        given = vars(scaler)[name] if vars(scaler)[switch] else None
        array = np.full(n, usual) if given is None else np.asarray(given, dtype=np.float64)
        if array.shape != (n,) or not np.isfinite(array).all():
            raise ValueError(f"its scaler's {name} has shape {array.shape}, expected ({n},) finite numbers")
        found.append(array)
    if (found[1] <= 0.0).any():
        raise ValueError("its scaler's scale_ holds what is not above 0")
    return found[0], found[1]


def _one_unit(network: Network) -> Network:
    """The same of two classes with one sigmoid unit: softmax over two is the sigmoid of the difference."""
    made = Network(
        [*network.sizes[:-1], 1],
        network.activations,
        "sigmoid",
        seed=network.seed,
        dtype=network.dtype,
        backend=network.backend,
    )
    L = len(network.sizes) - 1
    for l in range(1, L):
        made.W[l][...], made.b[l][...] = network.W[l], network.b[l]
    made.W[L][...] = network.W[L][1:] - network.W[L][:1]
    made.b[L][...] = network.b[L][1:] - network.b[L][:1]
    made.epochs_trained, made.steps_trained = network.epochs_trained, network.steps_trained
    return made


def _class_names(own: Mapping[str, Any]) -> tuple[str, ...]:
    """What accelnn's classifiers have written beside their weights."""
    if "classes" not in own:
        return ()
    classes = field(own, "classes", list)
    if not classes or not all(type(name) in (str, int, float, bool) for name in classes):
        raise TypeError("its classes are neither texts nor numbers")
    named = tuple(map(str, classes))
    "".join(named).encode()  # JSON can hold half a character, which no table can
    return named


def _units(own: Mapping[str, Any]) -> Standardizer | None:
    """What accelnn's regressors have written beside their weights, where they standardise their target."""
    if "outputs" not in own:
        return None
    about = field(own, "outputs", dict)
    only(about, ("mean", "scale"), "its target")
    mean, scale = (np.array(listed(about, name, float)) for name in ("mean", "scale"))
    if mean.shape != scale.shape or not np.isfinite([mean, scale]).all() or not (scale > 0).all():
        raise ValueError("its target has statistics that cannot be")
    return Standardizer(mean, scale)


def _fold_outputs(network: Network, outputs: Standardizer) -> None:
    """Let the last layer give the target's units: (W a + b) scale + mean."""
    if network.output != "identity":
        if outputs.mean.any() or (outputs.scale != 1.0).any():
            raise DataError("outputs: a target that is standardised has no place behind exp")
        return
    L = len(network.sizes) - 1
    network.W[L][...] = network.W[L] * outputs.scale[:, None]
    network.b[L][...] = network.b[L] * outputs.scale[:, None] + outputs.mean[:, None]


def _fold(network: Network, mean: np.ndarray, scale: np.ndarray) -> None:
    """Let the first layer standardise: W (x - mean) / scale + b."""
    W = network.W[1].astype(np.float64) / scale
    network.b[1][...] = network.b[1] - (W @ mean)[:, None]
    network.W[1][...] = W
