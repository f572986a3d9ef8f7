"""An estimator in one file: its parameters, its network, where its training stands, and what it has learned besides."""

import os
import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn import config_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from accelnn.backends import BACKENDS, get_backend
from accelnn.errors import BackendUnavailableError, DataError, ModelFileError, require_known
from accelnn.estimators import parameters
from accelnn.estimators.calibration import calibrators, recalibrated
from accelnn.estimators.labels import MULTILABEL, Labels
from accelnn.estimators.learned import require_whole
from accelnn.storage import container
from accelnn.storage.fields import field, only, readable
from accelnn.storage.networks import described, rebuilt
from accelnn.storage.training_state import described_state, rebuilt_state
from accelnn.storage.values import packed, unpacked

if TYPE_CHECKING:
    from accelnn.backends.base import Backend
    from accelnn.estimators.base import Multilayer

__all__ = ["load", "save"]

ESTIMATOR = "estimator"
_SECTIONS = ("class", "parameters", "attributes", "multilabel", "calibration", "requests", "output")
# What is said of a parameter that a file cannot hold.
_REMEDIES = {
    "callbacks": "use set_params(callbacks=None) before, and give them again after load",
    "scoring": "give the name of a scorer of scikit-learn's, or use set_params(scoring=None) before",
    "random_state": "use set_params(random_state=0) before: a fitted model draws no more from it",
    "loss": "a loss of your own goes with joblib; or fit with one of accelnn's",
    "learning_rate": "a schedule of your own goes with joblib; or use one of accelnn.schedules",
    "backend": f"give its name, by set_params before: auto, {', '.join(BACKENDS)}",
}
# Attributes that have a place of their own in the file.
_APART = ("network_", "_labels", "calibrated_", "_metadata_request", "_sklearn_output_config")
_OF_CALLBACKS = ("_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx")
_ROUTED = ("fit", "partial_fit", "score")  # methods for which scikit-learn's metadata routing can ask something

M = TypeVar("M", bound="Multilayer")


def save(model: "Multilayer", path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator; see :meth:`accelnn.estimators.base.Multilayer.save`."""
    check_is_fitted(model)
    if getattr(model, "_skl_callbacks", None):
        raise DataError("set_callbacks: a file cannot hold callbacks; use set_callbacks() before, without any")
    arrays: dict[str, np.ndarray] = {}
    given = {name: _parameter(name, value, arrays) for name, value in model.get_params(deep=False).items()}
    _require_usable(model)
    learned = {name: _put(value, name, "attributes", arrays) for name, value in _learned(model).items()}
    network, tensors = described(model.network_)
    training = None
    if model.network_.optimizer_state is not None:
        training, vectors = described_state(model.network_)
        tensors |= vectors
        if training["schedule"] is not None and "own" in training["schedule"]:
            raise DataError(f"learning_rate: it was trained with a schedule of your own; {_REMEDIES['learning_rate']}")
    labels, tool = getattr(model, "_labels", None), getattr(model, "calibrated_", None)
    calibration = None if tool is None else {"method": tool.method, "learned": calibrators(tool)}
    about = {
        "class": type(model).__name__,
        "parameters": given,
        "attributes": learned,
        "multilabel": None if labels is None else labels.multilabel,
        "calibration": _put(calibration, "calibrated_", "calibration", arrays),
        "requests": _requests(model),
        "output": getattr(model, "_sklearn_output_config", {}).get("transform"),
    }
    container.write(path, ESTIMATOR, {**tensors, **arrays}, {**network, "training": training, "estimator": about})


def load(cls: type[M], path: str | os.PathLike[str], backend: "str | Backend" = "auto") -> M:
    """Read an estimator; see :meth:`accelnn.estimators.base.Multilayer.load`."""
    get_backend(backend)
    about, tensors = container.read(path, (ESTIMATOR,))
    with readable(path):
        section = field(about, "estimator", dict)
        only(section, _SECTIONS, "its estimator")
        name = field(section, "class", str)
        if name != cls.__name__:
            raise ModelFileError(f"{path}: holds a model of {name[:80]}; read it with {name[:80]}.load")
        model = _untrained(cls, field(section, "parameters", dict), tensors)
        model.network_ = rebuilt(path, about, tensors, _backend(model, backend))
        if about["training"] is not None:
            training = field(about, "training", dict)
            model.network_.optimizer_state = rebuilt_state(path, training, tensors, model.network_)
        for attribute, value in _got(field(section, "attributes", dict), "attributes", tensors).items():
            if hasattr(cls, attribute) or attribute in _APART or attribute.startswith("__"):
                raise ValueError(f"{attribute!r} is no attribute that a model learns")
            setattr(model, attribute, value)
        require_whole(model)
        _label(model, section["multilabel"])
        _calibrate(model, _got(section["calibration"], "calibration", tensors))
        _ask(model, field(section, "requests", dict), section["output"])
        if tensors:
            raise ValueError(f"its array {min(tensors)!r} belongs to nothing")
        return model


# Values, and their arrays under the name of a section.


def _put(value: Any, name: str, section: str, arrays: dict[str, np.ndarray]) -> Any:
    own: dict[str, np.ndarray] = {}
    about = packed(value, name, own)
    arrays |= {f"{section}.{key}": array for key, array in own.items()}
    return about


def _got(about: Any, section: str, tensors: dict[str, np.ndarray]) -> Any:
    """What was put; of a dict of several values each."""
    prefix = f"{section}."
    own = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
    if section == "calibration":
        value = unpacked(about, own)
    else:
        value = {name: unpacked(one, own) for name, one in about.items()}
    if own:
        raise ValueError(f"its array {prefix}{min(own)} belongs to nothing")
    return value


# Parameters.


def _parameter(name: str, value: Any, arrays: dict[str, np.ndarray]) -> Any:
    try:
        return _put(value, name, "parameters", arrays)
    except DataError as problem:
        if name not in _REMEDIES:
            raise
        what = str(problem).partition(": ")[2].rpartition(";")[0]
        raise DataError(f"{name}: {what}; {_REMEDIES[name]}") from None


def _untrained(cls: type[M], about: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> M:
    only(about, tuple(cls._get_param_names()), f"its {cls.__name__}")
    model = cls(**_got(about, "parameters", tensors))
    _require_usable(model)
    return model


def _require_usable(model: "Multilayer") -> None:
    """Look at every parameter, also at those that `fit` looks at in some cases only.

    Raises
    ------
    DataError
    """
    parameters.check(model)
    require_known("backend", model.backend, ("auto", *BACKENDS))
    device = model.device
    if device is not None and (not isinstance(device, Integral) or isinstance(device, bool) or int(device) < 0):
        raise DataError(f"device: {device!r} is neither None nor the number of a GPU")
    try:
        check_random_state(model.random_state)
    except ValueError as problem:
        raise DataError(f"random_state: {problem}") from None
    weights = getattr(model, "class_weight", None)
    if not (weights is None or (isinstance(weights, str) and weights == "balanced")):
        listed = weights if isinstance(weights, list) else [weights]
        if not all(isinstance(one, dict) and all(isinstance(v, Real) for v in one.values()) for one in listed):
            raise DataError(f"class_weight: {weights!r} must be a dict with a weight for each class, or 'balanced'")
    for name in ("delta", "quantile"):
        if not isinstance(getattr(model, name, 1.0), Real):
            raise DataError(f"{name}: {getattr(model, name)!r} is no number")
    if hasattr(model, "loss"):
        model._output()


def _backend(model: "Multilayer", backend: "str | Backend") -> "Backend":
    """Where the network goes, which is where `fit` will look for it."""
    if backend not in ("auto", model.backend):
        model.set_params(backend=backend, device=None)
    try:
        return get_backend(model.backend, device=model.device)
    except (BackendUnavailableError, DataError) as problem:
        if backend != "auto":
            raise
        warnings.warn(f"the model was made elsewhere and goes on with backend='auto': {problem}", stacklevel=4)
        model.set_params(backend="auto", device=None)
        return get_backend("auto")


# Attributes.


def _learned(model: "Multilayer") -> dict[str, Any]:
    """Those that are neither parameters nor have a place of their own in the file."""
    passed = {*model._get_param_names(), *_APART, *_OF_CALLBACKS}
    learned = {name: value for name, value in vars(model).items() if name not in passed}
    if model._slowdown == 1.0:  # then it makes no difference with which settings it began, be they of any kind
        learned["_slowed"] = None
    return learned


def _label(model: "Multilayer", multilabel: Any) -> None:
    """Give a classifier its labels."""
    classes, net = getattr(model, "classes_", None), model.network_
    if (multilabel is None) is not (classes is None) or type(multilabel) not in (bool, type(None)):
        raise ValueError("its classes are missing, or not needed")
    if classes is None:
        return
    given = np.empty((0, len(classes))) if multilabel else classes
    model._labels = labels = Labels(given, MULTILABEL if multilabel else "", "classes_")
    units = 1 if labels.binary else len(classes)
    if not np.array_equal(labels.classes, classes) or net.sizes[-1] != units or net.output != model._output()[0]:
        raise ValueError("its classes do not fit its network")
    labels.classes = classes


def _calibrate(model: "Multilayer", about: Any) -> None:
    """Give a classifier its calibrated probabilities."""
    if about is None:
        return
    only(about, ("method", "learned"), "its calibration")
    require_known("calibration", about["method"], parameters.CALIBRATIONS)
    if not hasattr(model, "_labels") or model._labels.multilabel:
        raise ValueError("it has a calibration without classes")
    model.calibrated_ = recalibrated(model, about["method"], field(about, "learned", list))


def _requests(model: "Multilayer") -> dict[str, Any]:
    """What the estimator asks of scikit-learn's metadata routing, by method."""
    request = getattr(model, "_metadata_request", None)
    asked = {} if request is None else {name: dict(getattr(request, name).requests) for name in _ROUTED}
    return {name: requests for name, requests in asked.items() if requests}


def _ask(model: "Multilayer", requests: Mapping[str, Any], output: Any) -> None:
    """Ask for that again, and for answers of `transform` in this form."""
    with config_context(enable_metadata_routing=True):
        for name in requests:
            require_known("requests", name, _ROUTED)
            asked = field(requests, name, dict)
            if not all(value is None or type(value) in (bool, str) for value in asked.values()):
                raise TypeError("it asks for metadata by what is no name")
            getattr(model, f"set_{name}_request")(**asked)
    if output is not None:
        require_known("output", output, ("default", "pandas", "polars"))
        model.set_output(transform=output)
