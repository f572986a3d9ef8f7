"""Does a backend compute what the equations say? A small network on the backend and on the reference bodies."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import array_api_compat.numpy
import numpy as np

from accelnn.backends import get_backend
from accelnn.backends.availability import first_line
from accelnn.backends.base import Backend
from accelnn.network import Network
from accelnn.optimizers import Optimizer

__all__ = ["Check", "SelfTest", "self_test"]

# Largest difference from the reference bodies, relative to the largest element.
ALLOWED = {"float64": 1e-10, "float32": 1e-4}
ALLOWED_SLOPE = 1e-6  # of a gradient from central differences, which are no more exact themselves

SIZES, EXAMPLES = (5, 8, 6, 3), 24
SPEED_SIZES, SPEED_EXAMPLES, SPEED_BATCH = (64, 100, 10), 4000, 200
SPEED_SECONDS = 0.3


@dataclass(frozen=True)
class Check:
    """One quantity, and how far it is from what it must be (None where it is not finite)."""

    dtype: str
    what: str
    difference: float | None
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is near enough."""
        return self.difference is not None and self.difference <= self.allowed


@dataclass
class SelfTest:
    """What came out.

    Attributes
    ----------
    passed : bool
    problem : str or None
        What went wrong first.
    checks : list of Check
    examples_per_second : float or None
        Of a short training of a 64-100-10 network in float32, batches of 200.
    seconds : float
        Of the whole test; compilation on first use is the most of it.
    """

    passed: bool = False
    problem: str | None = None
    checks: list[Check] = field(default_factory=list)
    examples_per_second: float | None = None
    seconds: float = 0.0


def self_test(name: str) -> SelfTest:
    """Try the usable backend of this name. A failure is a result, whatever raises it."""
    result, began = SelfTest(), time.perf_counter()
    try:
        backend = get_backend(name)
        for dtype in ALLOWED:
            result.checks.extend(_compared(backend, dtype))
        result.examples_per_second = _speed(backend)
        wrong = next((check for check in result.checks if not check.passed), None)
        result.passed = wrong is None
        if wrong is not None:
            found = "not finite" if wrong.difference is None else f"{wrong.difference:.1e} apart"
            result.problem = f"the {wrong.what} is {found} in {wrong.dtype}, {wrong.allowed:.0e} allowed"
    except Exception as problem:
        result.problem = first_line(problem)
    result.seconds = time.perf_counter() - began
    return result


def _network(backend: Backend, dtype: str) -> Network:
    return Network(SIZES, ["relu", "tanh"], "softmax", dtype=dtype, backend=backend)


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(EXAMPLES, SIZES[0])).T, rng.integers(SIZES[-1], size=EXAMPLES)


def _compared(backend: Backend, dtype: str) -> Iterator[Check]:
    X, Y = _data()
    net, reference = _network(backend, dtype), _network(Backend(array_api_compat.numpy), dtype)
    (J, dtheta), (J_expected, dtheta_expected) = net.loss_and_gradient(X, Y), reference.loss_and_gradient(X, Y)
    dtheta = backend.to_host(dtheta)
    yield Check(dtype, "loss", _difference(J, J_expected), ALLOWED[dtype])
    yield Check(dtype, "gradient", _difference(dtheta, dtheta_expected), ALLOWED[dtype])
    if dtype == "float64":
        slopes = _central_differences(reference, X, Y)
        yield Check(dtype, "gradient against central differences", _difference(dtheta, slopes), ALLOWED_SLOPE)
    for network in (net, reference):
        # Epsilon well above float32's rounding of a gradient, which Adam would turn into steps of full length.
        network.fit(X, Y, Optimizer("adam", epsilon=1e-3), learning_rate=0.01, epochs=3, batch_size=10, l2=0.01)
    difference = _difference(backend.to_host(net.theta), reference.theta)
    yield Check(dtype, "vector of trained parameters", difference, ALLOWED[dtype])


def _central_differences(net: Network, X: Any, Y: Any, h: float = 1e-5) -> np.ndarray:
    """The gradient of the loss as its slope along each parameter."""
    start = np.array(net.theta)
    slopes = np.empty_like(start)
    for place in range(start.size):
        losses = []
        for theta in (start[place] + h, start[place] - h):
            net.theta[place] = theta
            losses.append(net.loss_and_gradient(X, Y)[0])
        slopes[place] = (losses[0] - losses[1]) / (2 * h)
        net.theta[place] = start[place]
    return slopes


def _difference(actual: Any, expected: Any) -> float | None:
    gap = float(np.max(np.abs(np.subtract(actual, expected, dtype=np.float64))))
    return gap / float(np.max(np.abs(expected))) if np.isfinite(gap) else None


def _speed(backend: Backend) -> float:
    """Examples a second of a training that is long enough to be timed."""
    rng = np.random.default_rng(0)
    net = Network(SPEED_SIZES, "relu", "softmax", backend=backend)
    X = rng.normal(size=(SPEED_EXAMPLES, SPEED_SIZES[0])).T
    X, Y = net.check(X, rng.integers(SPEED_SIZES[-1], size=SPEED_EXAMPLES))
    epochs = 1
    while True:
        history = net.fit(X, Y, learning_rate=0.01, epochs=epochs, batch_size=SPEED_BATCH)
        if history.seconds >= SPEED_SECONDS:
            return history.examples / history.seconds
        epochs *= 2
