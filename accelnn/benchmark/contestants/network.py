"""accelnn itself, through `Network.fit` as a user calls it."""

from typing import Any

from accelnn.benchmark.cases import Problem
from accelnn.benchmark.contestants.base import Parameters
from accelnn.network import Network

__all__ = ["Accelnn", "create"]


class Accelnn:
    """A network on one backend.

    Parameters
    ----------
    problem : Problem
    backend : str
    """

    def __init__(self, problem: Problem, backend: str):
        case = self.case = problem.case
        self.net = Network(
            case.sizes, case.activation, case.output, case.loss, dtype=case.dtype, backend=backend, seed=0
        )
        # Where the backend computes, so that no round copies data to it.
        self.X, self.Y = self.net.check(problem.X, problem.Y)
        self.start = problem

    def reset(self) -> None:
        """`fit` gives each run an update rule without memory."""
        for l in range(1, len(self.start.W)):
            self.net.W[l][...] = self.net.backend.from_host(self.start.W[l])
            self.net.b[l][...] = self.net.backend.from_host(self.start.b[l])

    def train(self, epochs: int) -> None:
        """One call of `fit`."""
        case = self.case
        self.net.fit(
            self.X,
            self.Y,
            optimizer=case.optimizer,
            learning_rate=case.learning_rate,
            epochs=epochs,
            batch_size=case.batch_size,
            shuffle=False,
        )

    def parameters(self) -> Parameters:
        """On the host."""

        def host(arrays: list[Any]) -> list[Any]:
            return [None, *(self.net.backend.to_host(array) for array in arrays[1:])]

        return host(self.net.W), host(self.net.b)


def create(problem: Problem, threads: int, backend: str) -> Accelnn:
    """One contestant a backend."""
    return Accelnn(problem, backend)
