"""The floor: a step's matrix products and nothing else. It trains nothing; no library can be far below it."""

import numpy as np

from accelnn.benchmark.cases import Problem
from accelnn.benchmark.contestants.base import Parameters

__all__ = ["Floor", "create"]


class Floor:
    """``W A``, ``dZ A^T`` and ``W^T dZ`` (for l > 1) into arrays that are there already.

    Called as `numpy.dot`, which takes less time a call than `numpy.matmul`, and far less for a single example. Without
    biases and activations this is a linear network whose weights stand still, so every number stays in range.
    """

    def __init__(self, problem: Problem):
        case = problem.case
        self.problem, self.L = problem, len(case.sizes) - 1
        rng = np.random.default_rng(0)

        def columns(n: int, m: int) -> np.ndarray:
            """Each example contiguous; written, so that the memory is there before the first round."""
            return rng.normal(size=(m, n)).astype(case.dtype).T

        self.Z = {m: [columns(n, m) for n in case.sizes] for m in {b.stop - b.start for b in problem.batches()}}
        self.dZ = {m: [columns(n, m) for n in case.sizes] for m in self.Z}
        self.dW = [None, *(np.empty_like(W) for W in problem.W[1:])]

    def reset(self) -> None:
        """Nothing changes."""

    def train(self, epochs: int) -> None:
        """The products of as many steps."""
        W, dW, L = self.problem.W, self.dW, self.L
        X, batches = self.problem.X, self.problem.batches()
        for _ in range(epochs):
            for batch in batches:
                m = batch.stop - batch.start
                Z, dZ = self.Z[m], self.dZ[m]
                A = X[:, batch]
                for l in range(1, L + 1):
                    np.dot(A.T, W[l].T, out=Z[l].T)
                    A = Z[l]
                for l in range(L, 0, -1):
                    np.dot(Z[l - 1] if l > 1 else X[:, batch], dZ[l].T, out=dW[l].T)
                    if l > 1:
                        np.dot(dZ[l].T, W[l], out=dZ[l - 1].T)

    def parameters(self) -> Parameters:
        """Those it was given."""
        return self.problem.W, self.problem.b


def create(problem: Problem, threads: int) -> Floor:
    """What the others are measured against."""
    return Floor(problem)
