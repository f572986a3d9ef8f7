"""scikit-learn's multilayer perceptrons, with every default that changes the result switched off."""

import warnings
from typing import Any

import numpy as np

from accelnn.benchmark.cases import BETA1, BETA2, EPSILON, Problem
from accelnn.benchmark.contestants.base import Parameters
from accelnn.errors import DataError

__all__ = ["Scikit", "create"]


class Scikit:
    """`MLPClassifier`, or `MLPRegressor` for an identity output."""

    def __init__(self, problem: Problem):
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        case = self.case = problem.case
        if case.output == "softmax" and case.sizes[-1] == 2:
            raise DataError("scikit-learn gives two classes a single sigmoid output, not a softmax of two")
        self.problem = problem
        kind = MLPRegressor if case.output == "identity" else MLPClassifier
        self.model = kind(
            hidden_layer_sizes=case.sizes[1:-1],
            activation="logistic" if case.activation == "sigmoid" else case.activation,
            solver=case.optimizer,
            alpha=0.0,
            batch_size=case.batch_size,
            learning_rate="constant",
            learning_rate_init=case.learning_rate,
            shuffle=False,
            momentum=0.0,
            nesterovs_momentum=False,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
            # Never stop early; go on from the weights that are there, with an optimiser without memory.
            tol=0.0,
            n_iter_no_change=2**31,
            warm_start=True,
        )
        self.X = problem.X.T.copy()
        if case.output == "softmax":
            self.Y = problem.labels
        elif case.output == "sigmoid":
            self.Y = problem.Y.T.astype(np.int64)
        else:
            self.Y = problem.Y.T.copy()
        if self.Y.ndim == 2 and self.Y.shape[1] == 1:
            self.Y = self.Y[:, 0]
        self.fit(1)  # makes the arrays that `reset` fills

    def fit(self, epochs: int) -> None:
        """`max_iter` counts epochs; that it is reached is what was asked for."""
        from sklearn.exceptions import ConvergenceWarning

        self.model.max_iter = epochs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(self.X, self.Y)

    def reset(self) -> None:
        """Copies, since scikit-learn updates its arrays in place."""
        model, W, b = self.model, self.problem.W, self.problem.b
        layers = range(1, len(W))
        model.coefs_ = [W[l].T.copy() for l in layers]
        model.intercepts_ = [b[l][:, 0].copy() for l in layers]
        model.loss_curve_, model.best_loss_, model._no_improvement_count = [], np.inf, 0

    def train(self, epochs: int) -> None:
        """One call of `fit`."""
        self.fit(epochs)

    def parameters(self) -> Parameters:
        """``coefs_`` are transposed."""
        coefs: list[Any] = self.model.coefs_
        return [None, *(W.T for W in coefs)], [None, *self.model.intercepts_]


def create(problem: Problem, threads: int) -> Scikit:
    """Full batches and mini-batches alike."""
    return Scikit(problem)
