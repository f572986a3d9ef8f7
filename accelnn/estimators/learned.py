"""What a fit leaves behind in an estimator, beside its network: which attributes there must be, and of what kind."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.network import Network
from accelnn.schedules import Schedule

if TYPE_CHECKING:
    from accelnn.estimators.base import Multilayer

__all__ = ["require_whole"]

_Check = Callable[[Any, Network], bool]


def require_whole(model: "Multilayer") -> None:
    """Look at every attribute of an estimator that has a network.

    Raises
    ------
    ValueError, TypeError
        Where one is missing, or is not of the kind that a fit leaves behind.
    """
    net, has = model.network_, vars(model)
    for name, check in {**_ALWAYS, **_SOMETIMES}.items():
        if (name in has or name in _ALWAYS) and not (name in has and check(has[name], net)):
            raise ValueError(f"its {name} is missing, or nothing of the kind")
    if has["loss_curve_"] and "loss_" not in has:
        raise ValueError("its loss_ is missing")
    if ("target_mean_" in has) is not ("target_scale_" in has):
        raise ValueError("it has one of target_mean_ and target_scale_ alone")


def _whole(value: Any, net: Network) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63


def _number(value: Any, net: Network) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _switch(value: Any, net: Network) -> bool:
    return isinstance(value, bool | np.bool_)


def _curve(value: Any, net: Network) -> bool:
    return isinstance(value, list) and all(_number(item, net) for item in value)


def _parameters(value: Any, net: Network) -> bool:
    vector = isinstance(value, np.ndarray) and value.shape == (net.layout.n_parameters,)
    return vector and value.dtype.name == net.dtype and bool(np.isfinite(value).all())


def _settings(value: Any, net: Network) -> bool:
    if not isinstance(value, tuple) or len(value) != 3:
        return False
    solver, learning_rate, learning_rate_init = value
    return isinstance(solver, str) and isinstance(learning_rate, str | Schedule) and _number(learning_rate_init, net)


def _random(value: Any, net: Network) -> bool:
    if not isinstance(value, tuple) or [*map(type, value)] != [str, np.ndarray, int, int, float]:
        return False
    np.random.RandomState().set_state(value)
    return value[3] in (0, 1)


def _names(value: Any, net: Network) -> bool:
    listed = isinstance(value, np.ndarray) and value.shape == (net.sizes[0],)
    return listed and all(isinstance(name, str) for name in value)


def _classes(value: Any, net: Network) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1


def _units(value: Any, net: Network) -> bool:
    vector = isinstance(value, np.ndarray) and value.shape == (net.sizes[-1],)
    return vector and value.dtype == np.float64 and bool(np.isfinite(value).all())


def _optional(check: _Check) -> _Check:
    return lambda value, net: value is None or check(value, net)


_ALWAYS: dict[str, _Check] = {
    "n_features_in_": lambda value, net: _whole(value, net) and value == net.sizes[0],
    "n_iter_": _whole,
    "t_": _whole,
    "loss_curve_": _curve,
    "validation_loss_curve_": _optional(_curve),
    "validation_scores_": _optional(_curve),
    "best_validation_score_": _optional(_number),
    "best_loss_": _optional(_number),
    "stopped_": _switch,
    "_closed": _switch,
    "_slowdown": _number,
    "_slowed": _optional(_settings),
    "_no_improvement_count": _whole,
    "_best": _optional(_parameters),
    "_latest": _optional(_parameters),
    "_split_state": _random,
}
_SOMETIMES: dict[str, _Check] = {
    "loss_": _number,  # unless Ctrl-C came before the first epoch's end
    "feature_names_in_": _names,
    "classes_": _classes,
    "target_mean_": _units,
    "target_scale_": _units,
}
