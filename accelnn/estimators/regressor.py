"""Numbers from the units of the last layer, one for each target."""

from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d, validate_data

from accelnn.errors import DataError, require_known
from accelnn.estimators.base import Multilayer

__all__ = ["MLPRegressor"]

OUTPUTS = {"squared_error": "identity", "poisson": "exp"}


class MLPRegressor(RegressorMixin, Multilayer):
    """A multilayer perceptron for numbers, with scikit-learn's parameters, attributes and methods.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        Half the squared error, or the Poisson deviance, whose output is positive.
    hidden_layer_sizes : sequence of int
        Units of each hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}
    solver : {"adam", "sgd", "lbfgs"}
    alpha : float
        Weight of the L2 penalty ``alpha / (2 m) sum_l |W[l]|^2``.
    batch_size : int or "auto"
        ``"auto"`` is 200, or all examples if there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of `sgd`.
    learning_rate_init, power_t : float
    max_iter : int
        Most epochs (of `lbfgs`: iterations).
    shuffle : bool
    random_state : int, RandomState or None
    tol : float
        An improvement by less counts as none.
    verbose : bool
    warm_start : bool
        Whether `fit` goes on from the last one, its optimiser's memory included.
    momentum : float
    nesterovs_momentum : bool
    early_stopping : bool
        Whether a part of the examples is held out, whose score ends the training; the best weights are kept.
    validation_fraction : float
    beta_1, beta_2, epsilon : float
        Of `adam`.
    n_iter_no_change : int
    max_fun : int
        Most evaluations of the loss by `lbfgs`.
    backend : {"auto", "numpy", "numba", "cupy"}
        Where the network computes; see :func:`accelnn.get_backend`.
    device : int, optional
        The GPU of the cupy backend.

    Attributes
    ----------
    network_ : Network
    coefs_, intercepts_ : lists of arrays
    loss_curve_, validation_scores_ : lists of float
        J of each epoch; the validation score after each epoch, or None without early stopping.
    loss_, best_loss_, best_validation_score_ : float
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
    """

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        backend="auto",
        device=None,
    ):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.backend = backend
        self.device = device

    @available_if(lambda self: self._can_partial_fit())
    def partial_fit(self, X: Any, y: Any) -> "MLPRegressor":
        """Train for one epoch on these examples, going on from what there is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._partial_fit(X, y)

    def predict(self, X: Any) -> np.ndarray:
        """Of shape (n_samples,), or (n_samples, n_outputs) for several."""
        A = self._forward(X)
        return A[:, 0] if A.shape[1] == 1 else np.array(A)

    def _output(self) -> tuple[str, str]:
        return OUTPUTS[self.loss], self.loss

    def _checked(self, X: Any, y: Any, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        require_known("loss", self.loss, tuple(OUTPUTS))
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32), reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and (y < 0).any():
            raise DataError("y: holds negative numbers; loss='poisson' is for counts and rates, from 0 on")
        return X, y.reshape(len(y), -1).astype(X.dtype, copy=False)

    def _score(self, X: np.ndarray, Y: np.ndarray) -> float:
        A = self.network_.predict(X.T).T
        return float(r2_score(Y, A)) if np.all(np.isfinite(A)) else np.nan

    def _best_possible(self, Y: np.ndarray) -> float:
        return float(np.sum(np.mean(xlogy(Y, Y) - Y, axis=0))) if self.loss == "poisson" else 0.0
