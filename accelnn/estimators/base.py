"""What classifier and regressor share: from scikit-learn's parameters to a network, its training and its attributes."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from accelnn.backends import get_backend
from accelnn.errors import DataError, DivergenceError
from accelnn.estimators import lbfgs, parameters
from accelnn.estimators.stopping import Watch
from accelnn.network import Network

__all__ = ["Multilayer"]


class Multilayer(BaseEstimator):
    """Base of the estimators.

    Examples are rows here, as in scikit-learn; the network sees them as columns, without a copy.
    """

    # What the two kinds say for themselves.

    def _output(self) -> tuple[str, str]:
        """Activation of layer L, and loss."""
        raise TypeError("Multilayer is the base of MLPClassifier and MLPRegressor")

    def _checked(self, X: Any, y: Any, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """X, and y as one row of numbers for each example."""
        raise TypeError("Multilayer is the base of MLPClassifier and MLPRegressor")

    def _stratified(self, Y: np.ndarray) -> np.ndarray | None:
        """What keeps its shares in a validation set."""
        return None

    def _best_possible(self, Y: np.ndarray) -> float:
        """The part of scikit-learn's loss that depends on the targets alone, which the network's leaves out."""
        return 0.0

    # Attributes, with scikit-learn's names.

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of each layer, of shape (inputs, units): on a CPU the network's own memory."""
        return [self.network_.backend.to_host(W).T for W in self._fitted().W[1:]]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Bias of each layer, of shape (units,)."""
        return [self.network_.backend.to_host(b)[:, 0] for b in self._fitted().b[1:]]

    @property
    def n_layers_(self) -> int:
        """Layers, inputs included."""
        return len(self._fitted().sizes)

    @property
    def n_outputs_(self) -> int:
        """Units of the last layer."""
        return self._fitted().sizes[-1]

    @property
    def out_activation_(self) -> str:
        """Activation of the last layer, by scikit-learn's name."""
        output = self._fitted().output
        return "logistic" if output == "sigmoid" else output

    def _fitted(self) -> Network:
        if not hasattr(self, "network_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self.network_

    # Training.

    def fit(self, X: Any, y: Any) -> "Multilayer":
        """Train.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        self

        Raises
        ------
        DataError
            For a parameter, or data, that cannot be used.
        DivergenceError
            Where the loss or the weights stop being finite.

        Notes
        -----
        After an error the estimator is as it was before the call.
        """
        return self._fit(X, y, first=not (self.warm_start and hasattr(self, "network_")))

    def _can_partial_fit(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit: the solver lbfgs needs all examples at once; use adam or sgd")
        return True

    def _partial_fit(self, X: Any, y: Any, **options: Any) -> "Multilayer":
        if self.early_stopping:
            raise DataError("early_stopping: partial_fit does not support it, since it sees the data bit by bit")
        return self._fit(X, y, first=not hasattr(self, "network_"), epochs=1, **options)

    def _fit(self, X: Any, y: Any, first: bool, epochs: int | None = None, **options: Any) -> "Multilayer":
        parameters.check(self.get_params(deep=False))
        with self._unharmed():
            X, Y = self._checked(X, y, first, **options)
            sizes = [X.shape[1], *parameters.hidden_layers(self.hidden_layer_sizes), Y.shape[1]]
            if first:
                self._start(sizes, X.dtype)
            else:
                self._check_going_on(sizes)
            if self.solver == "lbfgs":
                self.n_iter_, self.loss_, fault = lbfgs.fit(self.network_, X.T, Y.T, self)
                self.loss_ += self._best_possible(Y)
            else:
                fault = self._fit_by_steps(X, Y, epochs)
        if fault:
            warnings.warn(fault, ConvergenceWarning, stacklevel=3)
        return self

    @contextlib.contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Within, an error leaves the estimator as it was, a network that it goes on with included."""
        before = dict(self.__dict__)
        net: Network | None = before.get("network_")
        inside = (net.theta.copy(), net.epochs_trained, net.optimizer_state) if net is not None else None
        for name in ("loss_curve_", "validation_scores_"):  # they grow in place
            if before.get(name) is not None:
                setattr(self, name, list(before[name]))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            if net is not None and inside is not None:
                net.theta, net.epochs_trained, net.optimizer_state = inside
            raise

    def _check_going_on(self, sizes: list[int]) -> None:
        net, activation, (_, loss) = self.network_, parameters.ACTIVATIONS[self.activation], self._output()
        for name, has, wanted in (
            ("hidden_layer_sizes", list(net.sizes), sizes),
            ("activation", list(net.activations), [activation] * len(net.activations)),
            ("loss", net.loss, loss),
            ("backend", net.backend.name, get_backend(self.backend, device=self.device).name),
        ):
            if has != wanted:
                raise DataError(f"{name}: the network to go on with has {has}, not {wanted}; use warm_start=False")

    def _start(self, sizes: list[int], dtype: np.dtype) -> None:
        """A new network with the initial weights that scikit-learn draws, and attributes of a training to come."""
        output, loss = self._output()
        try:
            random = check_random_state(self.random_state)
        except ValueError as error:
            raise DataError(f"random_state: {error}") from None
        self.network_ = Network(
            sizes,
            parameters.ACTIVATIONS[self.activation],
            output,
            loss,
            seed=0,
            dtype=dtype.name,
            backend=self.backend,
            device=self.device,
        )
        drawn = []
        for n_prev, n in itertools.pairwise(sizes):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_prev + n))
            drawn += [random.uniform(-bound, bound, (n_prev, n)).ravel(), random.uniform(-bound, bound, n)]
        self.network_.theta = np.concatenate(drawn).astype(dtype)
        self._split = random.get_state()  # where scikit-learn draws the validation set
        self.network_.seed = int(random.randint(2**31 - 1))  # of the order of the batches
        self.n_iter_ = self.t_ = 0
        self.loss_curve_: list[float] = []
        self._slowdown = 1.0
        self._start_stopping()

    def _start_stopping(self) -> None:
        """What the rule that ends a training has seen: nothing yet."""
        self._no_improvement_count = 0
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf

    def _fit_by_steps(self, X: np.ndarray, Y: np.ndarray, part: int | None) -> str:
        """Train for `part` epochs, or until it ends; returns what there is to warn of."""
        net, score, epochs = self.network_, None, part or self.max_iter
        if (self.validation_scores_ is not None) != self.early_stopping:
            self._start_stopping()
        if self.early_stopping:
            # The same examples in every call, so that none has been trained on before.
            random = np.random.RandomState()
            random.set_state(self._split)
            X, X_held, Y, Y_held = train_test_split(
                X, Y, random_state=random, test_size=self.validation_fraction, stratify=self._stratified(Y)
            )
            if len(X_held) < 2:
                raise DataError(
                    "validation_fraction: leaves fewer than 2 examples for validation; increase it, or give more data"
                )

            def score() -> float:
                return self._score(X_held, Y_held)

            self._keep_best()
        watch = Watch(self, len(X), score, self._best_possible(Y))
        rule = parameters.optimizer(self.get_params(deep=False))
        going_on = net.optimizer_state is not None and net.optimizer_state.rule == rule.rule.name
        try:
            net.fit(
                X.T,
                Y.T,
                optimizer=rule,
                learning_rate=watch.rates,
                epochs=epochs,
                batch_size=parameters.batch_size(self.batch_size, len(X)),
                shuffle=self.shuffle,
                l2=float(self.alpha),
                callbacks=[watch],
                resume=going_on,
            )
        except DivergenceError:
            raise DivergenceError(
                f"learning_rate_init: {self.learning_rate_init!r} made training diverge: the loss or the weights are "
                "no longer finite; the estimator is as it was before. Use a smaller one, or standardise X"
            ) from None
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
            net.optimizer_state = None  # it belongs to where the run began
        self.n_iter_ = watch.epochs
        if self.early_stopping:
            net.theta = self._best
        if part is None and not watch.converged and watch.epochs == epochs:
            return f"{self.solver}: {epochs} epochs (max_iter) were not enough to converge; give more, or a larger tol"
        return ""

    def _keep_best(self) -> None:
        self._best = np.array(self.network_.backend.to_host(self.network_.theta))

    # Prediction.

    def _forward(self, X: Any) -> np.ndarray:
        """``A[L]``, a row for each example."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return self.network_.predict(X.T).T
