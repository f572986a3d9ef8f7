"""Update rules over the flat parameter vector.

A rule is two formulas. `update` is elementwise: from one parameter, its gradient and its state to their new values.
`coefficients` gives the numbers that `update` needs at step ``t = 1, 2, ...``, for many steps at once; they depend on
the step and the learning rate alone, so a backend receives them as a table and computes nothing twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType

import numpy as np

from accelnn.elementary import sqrt
from accelnn.errors import DataError, require_known

__all__ = ["RULES", "Optimizer", "Rule"]


@dataclass(frozen=True, eq=False)
class Rule:
    """An update rule.

    Attributes
    ----------
    name : str
    update : callable
        ``theta, *state = update(theta, d, *state, *coefficients)``, elementwise (one value where there is no state).
    coefficients : callable
        ``coefficients(t, alpha, **hyperparameters)`` with arrays ``t`` and ``alpha`` of shape (steps,); a tuple of
        arrays or numbers in the order in which `update` takes them.
    state : tuple of str
        Names of the state vectors, each of theta's shape; they start at zero.
    hyperparameters : mapping of str to float
        Names and defaults.
    """

    name: str
    update: Callable
    coefficients: Callable
    state: tuple[str, ...] = ()
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


def sgd(theta, d, alpha):
    """``theta - alpha d``."""
    return theta - alpha * d


def sgd_coefficients(t, alpha):
    """The learning rate."""
    return (alpha,)


def momentum(theta, d, velocity, alpha, mu):
    """``v := mu v - alpha d; theta := theta + v`` (Polyak 1964; Sutskever et al. 2013, equations 1 and 2)."""
    velocity = mu * velocity - alpha * d
    return theta + velocity, velocity


def nesterov(theta, d, velocity, alpha, mu):
    """``v := mu v - alpha d; theta := theta + mu v - alpha d`` (Sutskever et al. 2013, equations 3 and 4)."""
    velocity = mu * velocity - alpha * d
    return theta + mu * velocity - alpha * d, velocity


def momentum_coefficients(t, alpha, momentum):
    """The learning rate and the share of the velocity that is kept."""
    return alpha, momentum


def rmsprop(theta, d, square, alpha, rho, rest, epsilon):
    """``s := rho s + (1 - rho) d^2; theta := theta - alpha d / (sqrt(s) + epsilon)`` (Tieleman, Hinton 2012)."""
    square = rho * square + rest * d * d
    return theta - alpha * d / (sqrt(square) + epsilon), square


def rmsprop_coefficients(t, alpha, rho, epsilon):
    """`rest` is ``1 - rho``."""
    return alpha, rho, 1.0 - rho, epsilon


def adam(theta, d, mean, square, alpha, beta1, rest1, beta2, rest2, correction, epsilon):
    """``m := b1 m + (1-b1) d; s := b2 s + (1-b2) d^2; theta := theta - alpha m^ / (sqrt(s^) + epsilon)``.

    Kingma, Ba 2015, algorithm 1; `alpha` and `correction` carry the bias corrections of ``m^`` and ``sqrt(s^)``.
    """
    mean = beta1 * mean + rest1 * d
    square = beta2 * square + rest2 * d * d
    return theta - alpha * mean / (correction * sqrt(square) + epsilon), mean, square


def adam_coefficients(t, alpha, beta1, beta2, epsilon):
    """Bias corrections: ``alpha / (1 - beta1^t)`` and ``1 / sqrt(1 - beta2^t)``."""
    return alpha / (1.0 - beta1**t), beta1, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 / np.sqrt(1.0 - beta2**t), epsilon


def adamw(theta, d, mean, square, alpha, beta1, rest1, beta2, rest2, correction, epsilon, keep):
    """Adam after ``theta := (1 - alpha weight_decay) theta`` (Loshchilov, Hutter 2019, algorithm 2)."""
    mean = beta1 * mean + rest1 * d
    square = beta2 * square + rest2 * d * d
    return keep * theta - alpha * mean / (correction * sqrt(square) + epsilon), mean, square


def adamw_coefficients(t, alpha, beta1, beta2, epsilon, weight_decay):
    """Adam's, and ``keep = 1 - alpha weight_decay``."""
    return (*adam_coefficients(t, alpha, beta1, beta2, epsilon), 1.0 - alpha * weight_decay)


_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("sgd", sgd, sgd_coefficients),
        Rule("momentum", momentum, momentum_coefficients, ("velocity",), {"momentum": 0.9}),
        Rule("nesterov", nesterov, momentum_coefficients, ("velocity",), {"momentum": 0.9}),
        Rule("rmsprop", rmsprop, rmsprop_coefficients, ("square",), {"rho": 0.9, "epsilon": 1e-8}),
        Rule("adam", adam, adam_coefficients, ("mean", "square"), _ADAM),
        Rule("adamw", adamw, adamw_coefficients, ("mean", "square"), {**_ADAM, "weight_decay": 0.01}),
    )
}

_BELOW_ONE = ("momentum", "rho", "beta1", "beta2")


class Optimizer:
    """An update rule with its hyperparameters.

    Parameters
    ----------
    name : str
        One of `RULES`.
    **hyperparameters : float
        Those of the rule, by name: ``Optimizer("adam", beta1=0.95)``.

    Raises
    ------
    UnknownNameError
        For a rule or a hyperparameter that does not exist.
    DataError
        For a value out of range.
    """

    def __init__(self, name: str, **hyperparameters: float):
        require_known("optimizer", name, RULES)
        self.rule = RULES[name]
        for key, number in hyperparameters.items():
            require_known(f"optimizer {name}", key, self.rule.hyperparameters or ("no hyperparameter",))
            limit = 1.0 if key in _BELOW_ONE else float("inf")
            if not isinstance(number, Real) or not 0.0 <= float(number) < limit:
                below = " and below 1" if limit == 1.0 else ""
                raise DataError(f"optimizer {name}: {key}={number!r} is out of range; give a number from 0 on{below}")
        self.hyperparameters = MappingProxyType({**self.rule.hyperparameters, **hyperparameters})

    def __repr__(self) -> str:
        settings = "".join(f", {key}={number!r}" for key, number in self.hyperparameters.items())
        return f"Optimizer({self.rule.name!r}{settings})"

    def coefficients(self, t, alpha) -> np.ndarray:
        """The table that the update reads.

        Parameters
        ----------
        t : array of shape (steps,)
            Step numbers, from 1.
        alpha : array of shape (steps,)
            Learning rate of each step.

        Returns
        -------
        array of float64, shape (steps, K)
        """
        t, alpha = np.asarray(t, dtype=np.float64), np.asarray(alpha, dtype=np.float64)
        columns = self.rule.coefficients(t, alpha, **self.hyperparameters)
        table = np.empty((len(t), len(columns)))
        for k, column in enumerate(columns):
            table[:, k] = column
        return table
