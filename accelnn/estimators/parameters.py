"""What the constructor parameters of the estimators may be; they are looked at when `fit` is called."""

import math
import warnings
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from accelnn.errors import DataError, require_known
from accelnn.optimizers import Optimizer

__all__ = ["ACTIVATIONS", "batch_size", "check", "hidden_layers", "optimizer"]

# scikit-learn's names, and ours.
ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
SOLVERS = ("adam", "sgd", "lbfgs")
LEARNING_RATES = ("constant", "invscaling", "adaptive")

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
_SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")


def check(parameters: dict[str, Any]) -> None:
    """Look at every parameter by itself.

    Raises
    ------
    DataError
        Naming the parameter, its value and what it may be.
    """
    require_known("activation", parameters["activation"], tuple(ACTIVATIONS))
    require_known("solver", parameters["solver"], SOLVERS)
    require_known("learning_rate", parameters["learning_rate"], LEARNING_RATES)
    hidden_layers(parameters["hidden_layer_sizes"])
    for name, (low, high, with_low, with_high) in _REALS.items():
        value = parameters[name]
        good = isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) <= high
        if not good or (value == low and not with_low) or (value == high and not with_high):
            words = f"from {low:g}{'' if with_low else ' (excluded)'} to {high:g}{'' if with_high else ' (excluded)'}"
            raise DataError(f"{name}: {value!r} is out of range; give a number {words}")
    for name in _WHOLE:
        value = parameters[name]
        endless = name == "n_iter_no_change" and value == math.inf
        if not endless and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
            raise DataError(f"{name}: {value!r} is not a whole number of at least 1")
    for name in _SWITCHES:
        value = parameters[name]
        if not isinstance(value, bool | np.bool_):
            raise DataError(f"{name}: {value!r} is neither True nor False")
    verbose = parameters["verbose"]
    if not isinstance(verbose, bool | np.bool_ | Integral) or verbose < 0:
        raise DataError(f"verbose: {verbose!r} is neither True nor False, nor a whole number from 0 on")
    if parameters["early_stopping"] and parameters["validation_fraction"] == 0:
        raise DataError("validation_fraction: 0 leaves nothing for early_stopping to judge by; give a number above 0")
    size = parameters["batch_size"]
    if size != "auto" and (not isinstance(size, Integral) or isinstance(size, bool) or size < 1):
        raise DataError(f"batch_size: {size!r} is neither 'auto' nor a whole number of at least 1")


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
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
        )
    return min(int(wanted), n_samples)


def optimizer(parameters: dict[str, Any]) -> Optimizer:
    """The update rule of a solver that goes step by step."""
    if parameters["solver"] == "adam":
        names = {"beta1": "beta_1", "beta2": "beta_2", "epsilon": "epsilon"}
        return Optimizer("adam", **{ours: float(parameters[theirs]) for ours, theirs in names.items()})
    if parameters["momentum"] == 0.0:
        return Optimizer("sgd")
    return Optimizer("nesterov" if parameters["nesterovs_momentum"] else "momentum", momentum=parameters["momentum"])
