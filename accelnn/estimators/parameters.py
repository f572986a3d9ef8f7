"""What the constructor parameters of the estimators may be; they are looked at when `fit` is called."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import is_dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names

from accelnn.activations import HIDDEN
from accelnn.callbacks import Callback
from accelnn.checks import dropout_rates
from accelnn.errors import DataError, require_known
from accelnn.optimizers import Optimizer
from accelnn.schedules import SCHEDULES, Schedule
from accelnn.schedules import schedule as find_schedule

__all__ = ["activations", "batch_size", "check", "hidden_layers", "optimizer", "schedule"]

ACTIVATIONS = {"logistic": "sigmoid", **{name: name for name in HIDDEN}}  # scikit-learn's name, and ours
SOLVERS = ("adam", "sgd", "lbfgs")
LEARNING_RATES = ("constant", "invscaling", "adaptive")  # scikit-learn's, of which the last two are for sgd

CALIBRATIONS = ("sigmoid", "isotonic", "temperature")  # the last one from scikit-learn 1.8 on

# Lowest and highest number, and whether each of them is allowed.
_REALS = {
    "alpha": (0.0, math.inf, True, False),
    "learning_rate_init": (0.0, math.inf, False, False),
    "power_t": (0.0, math.inf, True, False),
    "tol": (0.0, math.inf, True, False),
    "momentum": (0.0, 1.0, True, False),
    "validation_fraction": (0.0, 1.0, True, False),
    "beta_1": (0.0, 1.0, True, False),
    "beta_2": (0.0, 1.0, True, False),
    "epsilon": (0.0, math.inf, False, False),
}
_WHOLE = ("max_iter", "max_fun", "n_iter_no_change")
_SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "standardize_target")


def check(model: Any) -> None:
    """Look at every parameter of an estimator that both kinds have.

    Raises
    ------
    DataError
        Naming the parameter, its value and what it may be.
    """
    require_known("solver", model.solver, SOLVERS)
    if not isinstance(model.learning_rate, Schedule):
        require_known("learning_rate", model.learning_rate, (*LEARNING_RATES, *SCHEDULES))
    hidden = hidden_layers(model.hidden_layer_sizes)
    activations(model.activation, len(hidden))
    rates, max_norm = dropout_rates("dropout", model.dropout, len(hidden)), model.max_norm
    if max_norm is not None and (not _is_number(max_norm) or not max_norm > 0):
        raise DataError(f"max_norm: {max_norm!r} is out of range; give a number above 0, or None")
    for name, used in (("dropout", bool(rates)), ("max_norm", max_norm is not None)):
        if used and model.solver == "lbfgs":
            raise DataError(f"{name}: the solver lbfgs minimises one loss over all examples; use adam or sgd")
    if model.solver == "lbfgs" and model.learning_rate not in LEARNING_RATES:  # which scikit-learn passes over
        raise DataError(f"learning_rate: {model.learning_rate!r} is no use to lbfgs, which has none; use adam or sgd")
    callbacks = model.callbacks
    listed = callbacks is None or isinstance(callbacks, list | tuple)
    if not listed or not all(isinstance(one, Callback) for one in callbacks or ()):
        raise DataError(f"callbacks: {callbacks!r} must be a list of accelnn.Callback")
    for name, (low, high, with_low, with_high) in _REALS.items():
        value = getattr(model, name)
        good = _is_number(value) and low <= float(value) <= high
        if not good or (value == low and not with_low) or (value == high and not with_high):
            words = f"from {low:g}{'' if with_low else ' (excluded)'} to {high:g}{'' if with_high else ' (excluded)'}"
            raise DataError(f"{name}: {value!r} is out of range; give a number {words}")
    for name in _WHOLE:
        value = getattr(model, name)
        endless = name == "n_iter_no_change" and value == math.inf
        if not endless and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
            raise DataError(f"{name}: {value!r} is not a whole number of at least 1")
    for name in _SWITCHES:
        value = getattr(model, name, False)
        if not isinstance(value, bool | np.bool_):
            raise DataError(f"{name}: {value!r} is neither True nor False")
    verbose = model.verbose
    if not isinstance(verbose, bool | np.bool_ | Integral) or verbose < 0:
        raise DataError(f"verbose: {verbose!r} is neither True nor False, nor a whole number from 0 on")
    if model.scoring is not None and not callable(model.scoring):
        require_known("scoring", model.scoring, ("loss", *get_scorer_names()))
    if getattr(model, "calibration", None) is not None:
        require_known("calibration", model.calibration, CALIBRATIONS)
    size = model.batch_size
    if not (isinstance(size, str) and size == "auto") and (
        not isinstance(size, Integral) or isinstance(size, bool) or size < 1
    ):
        raise DataError(f"batch_size: {size!r} is neither 'auto' nor a whole number of at least 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _listed(name: str, value: Any) -> list[Any]:
    if not isinstance(value, Iterable):
        raise DataError(f"{name}: {value!r} must be a list")
    return list(value)


def activations(names: Any, hidden: int) -> list[str]:
    """The network's name of each hidden layer's activation, from one name for all or one a layer."""
    listed = [names] * hidden if isinstance(names, str) else _listed("activation", names)
    for name in listed or [names]:
        require_known("activation", name, ACTIVATIONS)
    if len(listed) != hidden:
        raise DataError(f"activation: names {len(listed)} for {hidden} hidden layer(s); give one, or one a layer")
    return [ACTIVATIONS[name] for name in listed]


def schedule(wanted: Any, epochs: int) -> Schedule | None:
    """What a learning rate follows beside scikit-learn's rules; one that ends does so after `epochs`, by default."""
    if wanted in LEARNING_RATES:
        return None
    found = find_schedule(wanted)
    if is_dataclass(found) and getattr(found, "epochs", epochs) is None:
        return replace(found, epochs=epochs)
    return found


def hidden_layers(sizes: Any) -> list[int]:
    """``hidden_layer_sizes`` as a list."""
    listed = list(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str) else [sizes]
    for size in listed:
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise DataError(f"hidden_layer_sizes: {sizes!r} must hold whole numbers > 0, one for each hidden layer")
    return [int(size) for size in listed]


def batch_size(wanted: Any, n_samples: int) -> int:
    """Examples of a batch; scikit-learn's warning where there are fewer than asked for."""
    if wanted == "auto":
        return min(200, n_samples)
    if wanted > n_samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
        )
    return min(int(wanted), n_samples)


def optimizer(model: Any) -> Optimizer:
    """The update rule of a solver that goes step by step."""
    if model.solver == "adam":
        names = {"beta1": "beta_1", "beta2": "beta_2", "epsilon": "epsilon"}
        return Optimizer("adam", **{ours: float(getattr(model, theirs)) for ours, theirs in names.items()})
    if model.momentum == 0.0:
        return Optimizer("sgd")
    return Optimizer("nesterov" if model.nesterovs_momentum else "momentum", momentum=model.momentum)
