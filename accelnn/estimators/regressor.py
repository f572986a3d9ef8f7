"""Numbers from the units of the last layer, one for each target."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from accelnn import checks
from accelnn.errors import DataError, require_known
from accelnn.estimators import inputs
from accelnn.estimators.base import Multilayer
from accelnn.estimators.inputs import Rows
from accelnn.losses import Loss
from accelnn.losses import loss as find_loss

__all__ = ["MLPRegressor"]

OUTPUTS = {
    **dict.fromkeys(("squared_error", "absolute_error", "huber", "quantile"), "identity"),
    "poisson": "exp",
}
# The estimator's name of a loss's parameter, and the loss's own.
PARAMETERS = {
    "huber": ("delta", "delta", "above 0"),
    "quantile": ("quantile", "level", "above 0 and below 1"),
}
TARGETS = {
    "real": (-math.inf, math.inf, "numbers"),
    "count": (0.0, math.inf, "counts and rates, from 0 on"),
    "probability": (0.0, 1.0, "shares, from 0 to 1"),
}


class MLPRegressor(RegressorMixin, Multilayer):
    """A multilayer perceptron for numbers, with scikit-learn's parameters, attributes and methods.

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson"} or Loss
        Half the squared error, the size of the error, one that is either (`delta`), the pinball loss (`quantile`), the
        Poisson deviance, whose output is positive; or one's own, see :func:`accelnn.custom_loss`.
    hidden_layer_sizes : sequence of int
        Units of each hidden layer.
    activation : str or sequence of str
        Of the hidden layers, one for all or one each: identity, logistic, tanh, relu, leaky_relu, elu, gelu, softplus.
    solver : {"adam", "sgd", "lbfgs"}
    alpha : float
        Weight of the L2 penalty ``alpha / (2 m) sum_l |W[l]|^2``.
    batch_size : int or "auto"
        ``"auto"`` is 200, or all examples if there are fewer.
    learning_rate : str or Schedule
        constant, or, of `sgd`, scikit-learn's invscaling and adaptive; step, exponential, cosine, one_cycle, plateau or
        a Schedule of :mod:`accelnn.schedules`, by which `learning_rate_init` is multiplied in the course of `max_iter`
        epochs.
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
        Whether the score of examples that are held out ends the training; the best weights are kept.
    validation_fraction : float
        The share of the examples that is held out where `fit` is given no `eval_set`.
    beta_1, beta_2, epsilon : float
        Of `adam`.
    n_iter_no_change : int
    max_fun : int
        Most evaluations of the loss by `lbfgs`.
    backend : {"auto", "numpy", "numba", "cupy"}
        Where the network computes; see :func:`accelnn.get_backend`.
    device : int, optional
        The GPU of the cupy backend.
    dropout : float or sequence of float
        The share of its units that each hidden layer leaves out of a step; one number, or one a hidden layer.
    max_norm : float, optional
        Largest Euclidean norm of a step's gradient, to which a longer one is clipped.
    scoring : str or callable, optional
        What `early_stopping` goes by: a scikit-learn scorer, or ``"loss"`` (the validation loss, negated); by default
        R².
    callbacks : list of Callback, optional
        Told of each epoch; one that answers True ends the training.
    delta : float
        Of the loss huber: the residual from where on it counts by its size; with `standardize_target`, in units of
        the targets' deviation.
    quantile : float
        Of the loss quantile: the share of the targets that is to lie below the prediction.
    standardize_target : bool
        Whether the network is trained on targets of mean 0 and deviation 1; predictions are in y's units, losses are
        not.

    Attributes
    ----------
    network_ : Network
    coefs_, intercepts_ : lists of arrays
    loss_curve_, validation_loss_curve_, validation_scores_ : lists of float
        J of each epoch; the loss of the validation set after it, or None without one; its score, or None without early
        stopping.
    loss_, best_loss_, best_validation_score_ : float
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
    stopped_ : bool
        Whether a rule has ended the training; with `early_stopping`, `partial_fit` then trains no more.
    target_mean_, target_scale_ : arrays of shape (n_outputs,)
        Only with `standardize_target`.
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
        dropout=0.0,
        max_norm=None,
        scoring=None,
        callbacks=None,
        delta=1.0,
        quantile=0.5,
        standardize_target=False,
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
        self.dropout = dropout
        self.max_norm = max_norm
        self.scoring = scoring
        self.callbacks = callbacks
        self.delta = delta
        self.quantile = quantile
        self.standardize_target = standardize_target

    @available_if(lambda self: self._can_partial_fit())
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Sequence[Any] | None = None
    ) -> "MLPRegressor":
        """Train for one epoch on these examples, going on from what there is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array of shape (n_samples,), optional
        eval_set : pair of X and y, optional
            As for `fit`. With `early_stopping`, a call that sees no better score for `n_iter_no_change` calls restores
            the best weights, and later ones train no more (`stopped_`); without an `eval_set`, a part of each call's
            examples is held out.
        """
        return self._fit(X, y, sample_weight, eval_set, not hasattr(self, "network_"), part=True)

    def predict(self, X: Any) -> Any:
        """Of shape (n_samples,), or (n_samples, n_outputs) for several; float64 for standardised targets."""
        return inputs.like(X, self._in_units(self._forward(X)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² of the predictions, of several targets their mean."""
        return inputs.score(r2_score, self, X, y, sample_weight)

    def _in_units(self, A: Any) -> Any:
        if hasattr(self, "target_mean_"):
            scale, mean = self.target_scale_, self.target_mean_
            if not isinstance(A, np.ndarray):
                scale, mean = map(self.network_.backend.from_host, (scale, mean))
            A = A * scale + mean  # in double precision: a large mean would cost float32 its digits
        return A[:, 0] if A.shape[1] == 1 else A if A.flags.c_contiguous else A.copy()

    def _output(self) -> tuple[str, Loss]:
        if isinstance(self.loss, Loss):
            return self.loss.output, self.loss
        require_known("loss", self.loss, tuple(OUTPUTS))
        output = OUTPUTS[self.loss]
        if self.loss not in PARAMETERS:
            return output, find_loss(self.loss, output)
        name, ours, words = PARAMETERS[self.loss]
        try:
            return output, find_loss(self.loss, output, **{ours: getattr(self, name)})
        except DataError:
            raise DataError(f"{name}: {getattr(self, name)!r} is out of range; give a number {words}") from None

    def _targets(self, y: np.ndarray, name: str, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        _, loss = self._output()
        if y.dtype.kind == "O":
            try:
                y = y.astype(np.float64)
            except (TypeError, ValueError) as problem:
                raise DataError(f"{name}: holds what is no number ({problem})") from None
        if y.dtype.kind not in "fiub":
            raise DataError(f"{name}: holds {y.dtype} values; give numbers")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        Y = y.reshape(len(y), -1)
        if not first and Y.shape[1] != self.n_outputs_:
            raise DataError(f"{name}: has {Y.shape[1]} target(s), but the network has been made for {self.n_outputs_}")
        low, high, words = TARGETS[loss.targets]
        outside = (low > Y) | (high < Y)
        if outside.any():
            row = int(np.argmax(outside.any(axis=1)))
            raise DataError(f"{name}: row {row} is {y[row]}; loss={loss.name!r} is for {words}")
        return y, Y

    def _settled(self, rows: Rows, held: Rows | None, first: bool, part: bool) -> tuple[Rows, Rows | None]:
        if first:
            for name in ("target_mean_", "target_scale_"):
                self.__dict__.pop(name, None)
        elif bool(self.standardize_target) != hasattr(self, "target_mean_"):
            raise DataError("standardize_target: the network to go on with has the other one; use warm_start=False")
        if not self.standardize_target:
            return rows, held
        if self._output()[0] != "identity":
            raise DataError(f"standardize_target: loss={self.loss!r} is for targets in their own units; use False")
        if first:
            # In the first call of partial_fit, of its examples.
            Y = rows.Y.astype(np.float64)
            self.target_mean_ = np.average(Y, axis=0, weights=rows.weights)
            deviation = np.sqrt(np.average((Y - self.target_mean_) ** 2, axis=0, weights=rows.weights))
            constant = deviation <= 1e-12 * np.abs(Y).max(axis=0)
            self.target_scale_ = np.where(constant, 1.0, deviation)

        def scaled(part: Rows) -> Rows:
            return part._replace(Y=(part.Y - self.target_mean_) / self.target_scale_)

        return scaled(rows), None if held is None else scaled(held)

    def _score(self, rows: Rows) -> float:
        net = self.network_
        A = checks.on_host(net.predict(rows.X.T).T, net.backend)
        return float(r2_score(rows.Y, A, sample_weight=rows.weights)) if np.all(np.isfinite(A)) else np.nan

    def _best_possible(self, Y: np.ndarray, weights: np.ndarray | None) -> float:
        if self.loss != "poisson":
            return 0.0
        return float(np.sum(np.average(xlogy(Y, Y) - Y, axis=0, weights=weights)))
