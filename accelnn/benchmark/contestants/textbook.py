"""NumPy as a student writes it from the equations: plain expressions, a new array for each."""

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.benchmark.cases import BETA1, BETA2, EPSILON, Problem
from accelnn.benchmark.contestants.base import Parameters

__all__ = ["Textbook", "create"]


def sigmoid(Z):
    """``1 / (1 + exp(-Z))``."""
    return 1 / (1 + np.exp(-Z))


def softmax(Z):
    """``exp(Z) / sum exp(Z)``, a column an example."""
    E = np.exp(Z - Z.max(axis=0))
    return E / E.sum(axis=0)


G: dict[str, Callable] = {
    "identity": lambda Z: Z,
    "relu": lambda Z: np.maximum(Z, 0),
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": np.tanh,
}
G_PRIME: dict[str, Callable] = {
    "identity": lambda A: np.ones_like(A),
    "relu": lambda A: (A > 0).astype(A.dtype),
    "sigmoid": lambda A: A * (1 - A),
    "tanh": lambda A: 1 - A**2,
}
TINY = 1e-30  # keeps the logarithms of the loss finite


class Textbook:
    """Forward pass, loss, backward pass, update."""

    def __init__(self, problem: Problem):
        case = self.case = problem.case
        self.problem = problem
        self.L = len(case.sizes) - 1
        self.g = ["", *[case.activation] * (self.L - 1), case.output]
        self.X, self.Y = np.ascontiguousarray(problem.X), np.ascontiguousarray(problem.Y)
        self.costs: list[float] = []
        self.reset()

    def reset(self) -> None:
        """Copies of the common weights; Adam's moments at zero."""
        self.W: list[Any] = [None, *(np.array(W, order="C") for W in self.problem.W[1:])]
        self.b: list[Any] = [None, *(np.array(b, order="C") for b in self.problem.b[1:])]
        self.t = 0
        self.V: list[Any] = [0.0] * (2 * self.L)
        self.S: list[Any] = [0.0] * (2 * self.L)
        self.costs = []

    def train(self, epochs: int) -> None:
        """Epoch by epoch, batch by batch."""
        for _ in range(epochs):
            for batch in self.problem.batches():
                self.step(self.X[:, batch], self.Y[:, batch])

    def step(self, X: np.ndarray, Y: np.ndarray) -> None:
        """One iteration."""
        L, m, W, b = self.L, X.shape[1], self.W, self.b
        A = [X]
        for l in range(1, L + 1):
            Z = W[l] @ A[l - 1] + b[l]
            A.append(G[self.g[l]](Z))
        self.costs.append(self.cost(A[L], Y))
        dZ = A[L] - Y
        gradients: list[tuple[int, np.ndarray, np.ndarray]] = []
        for l in range(L, 0, -1):
            dW = 1 / m * dZ @ A[l - 1].T
            db = 1 / m * np.sum(dZ, axis=1, keepdims=True)
            gradients.append((l, dW, db))
            if l > 1:
                dZ = W[l].T @ dZ * G_PRIME[self.g[l - 1]](A[l - 1])
        self.update(gradients)

    def cost(self, A: np.ndarray, Y: np.ndarray) -> float:
        """``J`` of this batch."""
        m = Y.shape[1]
        if self.case.loss == "cross_entropy":
            return -np.sum(Y * np.log(A + TINY)) / m
        if self.case.loss == "binary_cross_entropy":
            return -np.sum(Y * np.log(A + TINY) + (1 - Y) * np.log(1 - A + TINY)) / m
        return np.sum((A - Y) ** 2) / (2 * m)

    def update(self, gradients: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
        """Gradient descent or Adam, parameter by parameter."""
        alpha = self.case.learning_rate
        self.t += 1
        for l, *pair in gradients:
            for k, (theta, d) in enumerate(zip((self.W, self.b), pair, strict=True)):
                if self.case.optimizer == "sgd":
                    theta[l] = theta[l] - alpha * d
                    continue
                i = 2 * (l - 1) + k
                self.V[i] = BETA1 * self.V[i] + (1 - BETA1) * d
                self.S[i] = BETA2 * self.S[i] + (1 - BETA2) * d**2
                V_corrected = self.V[i] / (1 - BETA1**self.t)
                S_corrected = self.S[i] / (1 - BETA2**self.t)
                theta[l] = theta[l] - alpha * V_corrected / (np.sqrt(S_corrected) + EPSILON)

    def parameters(self) -> Parameters:
        """As they are."""
        return self.W, self.b


def create(problem: Problem, threads: int) -> Textbook:
    """The reference of the parity check."""
    return Textbook(problem)
