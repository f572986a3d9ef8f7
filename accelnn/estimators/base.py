"""What classifier and regressor share: from scikit-learn's parameters to a network, its training and its attributes."""

import contextlib
import copy
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from accelnn import checks
from accelnn.backends import get_backend
from accelnn.backends.base import Backend
from accelnn.callbacks import Callback
from accelnn.errors import BusyError, DataError, DivergenceError
from accelnn.estimators import inputs, lbfgs, parameters
from accelnn.estimators.inputs import Rows
from accelnn.estimators.protocol import CallbackSupportMixin, Tasks, fit_tasks
from accelnn.estimators.stopping import Watch
from accelnn.estimators.weights import Weights
from accelnn.losses import Loss
from accelnn.losses import loss as find_loss
from accelnn.network import Network
from accelnn.progress import Bar, shown
from accelnn.training import evaluate

if TYPE_CHECKING:
    import os

    from accelnn.plots import HistoryDisplay

__all__ = ["Multilayer"]

_fitting: set[int] = set()  # which estimators are being fitted
_fitting_lock = threading.Lock()


class Multilayer(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators.

    Examples are rows here, as in scikit-learn; the network sees them as columns, without a copy.
    """

    # What the two kinds say for themselves.

    def _output(self) -> tuple[str, str | Loss]:
        """Activation of layer L, and loss."""
        raise TypeError("Multilayer is the base of MLPClassifier and MLPRegressor")

    def _targets(self, y: np.ndarray, name: str, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The targets as scikit-learn's scorers take them, and as one row of numbers for each example."""
        raise TypeError("Multilayer is the base of MLPClassifier and MLPRegressor")

    def _settled(self, rows: Rows, held: Rows | None, first: bool, part: bool) -> tuple[Rows, Rows | None]:
        """Training and validation set after what depends on all examples: weights of classes, standardised targets."""
        return rows, held

    def _stratified(self, Y: np.ndarray) -> np.ndarray | None:
        """What keeps its shares in a validation set."""
        return None

    def _best_possible(self, Y: np.ndarray, weights: np.ndarray | None) -> float:
        """The part of scikit-learn's loss that depends on the targets alone, which the network's leaves out."""
        return 0.0

    def _score(self, rows: Rows) -> float:
        """The score that decides about early stopping, if no other was asked for."""
        raise TypeError("Multilayer is the base of MLPClassifier and MLPRegressor")

    def _needs_held_out(self) -> bool:
        """Whether something beside early stopping needs examples that the network has not been trained on."""
        return False

    def _finish(self, held: Rows | None) -> None:
        """What a fit ends with, once the network is trained."""

    # Attributes, with scikit-learn's names.

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of each layer, of shape (inputs, units): on a CPU the network's own memory. They can be assigned."""
        return Weights(self._fitted(), "W")

    @coefs_.setter
    def coefs_(self, arrays: Sequence[Any]) -> None:
        self.coefs_[:] = arrays

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Bias of each layer, of shape (units,). They can be assigned."""
        return Weights(self._fitted(), "b")

    @intercepts_.setter
    def intercepts_(self, arrays: Sequence[Any]) -> None:
        self.intercepts_[:] = arrays

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

    @property
    def _n_features_out(self) -> int:
        return self._fitted().sizes[-2]

    def _fitted(self) -> Network:
        if not hasattr(self, "network_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self.network_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Training.

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        eval_set: Sequence[Any] | None = None,
        resume: "str | os.PathLike[str] | None" = None,
    ) -> "Multilayer":
        """Train.

        Parameters
        ----------
        X : array, sparse array or table of shape (n_samples, n_features)
            Of NumPy, SciPy, pandas, polars, CuPy (with ``backend="cupy"``) or anything with DLPack. A sparse one stays
            sparse, an array on the GPU stays there.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array of shape (n_samples,), optional
            From 0 on. In a full batch, a weight of k equals the example k times.
        eval_set : pair of X and y, or X, y and sample_weight, optional
            Examples that are not trained on. Their loss is kept in `validation_loss_curve_`; with `early_stopping`
            their score ends the training, in place of that of a part of the examples.
        resume : path, optional
            The folder of a :class:`accelnn.Checkpoint` among the `callbacks`, or one of its files: the fit that wrote
            it goes on from there, to the last bit, if it is given the same parameters and data, `random_state`
            included. A folder that holds none yet begins it.

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
        first = not (self.warm_start and hasattr(self, "network_"))
        if resume is not None:
            if not first or self.solver == "lbfgs":
                raise DataError("resume: goes on with a fit by adam or sgd that begins anew; use warm_start=False")
            if not isinstance(self.random_state, Integral):
                raise DataError("resume: needs the same initial weights again; give random_state a whole number")
        return self._fit(X, y, sample_weight, eval_set, first, resume=resume)

    def _can_partial_fit(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit: the solver lbfgs needs all examples at once; use adam or sgd")
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        eval_set: Sequence[Any] | None,
        first: bool,
        part: bool = False,
        classes: Any = None,
        resume: "str | os.PathLike[str] | None" = None,
    ) -> "Multilayer":
        parameters.check(self)
        # The tasks come first: what scikit-learn marks on the estimator for them must outlast an error.
        with (
            _fitted_alone(self),
            fit_tasks(self, 1 if part else self.max_iter, not part) as tasks,
            self._unharmed(first),
        ):
            backend = get_backend(self.backend, device=self.device)
            rows = self._rows(X, y, sample_weight, backend, first, classes)
            sizes = [rows.X.shape[1], *parameters.hidden_layers(self.hidden_layer_sizes), rows.Y.shape[1]]
            if first:
                self._start(sizes, np.dtype(rows.X.dtype), backend)
            else:
                self._check_going_on(sizes, backend)
            held = None if eval_set is None else self._eval_rows(eval_set, backend)
            if held is None and (self._stops or self._needs_held_out()):
                rows, held = self._split(rows, backend)
            rows, held = self._settled(rows, held, first, part)
            rows = inputs.in_precision(rows)
            held = None if held is None else inputs.in_precision(held, "" if eval_set is None else "eval_set ")
            tasks.begin(X, y, sample_weight)
            fault = self._train(rows, held, part, tasks, resume)
            if not part:
                self._finish(held)
            tasks.end()
        if fault:
            warnings.warn(fault, ConvergenceWarning, stacklevel=3)
        return self

    @contextlib.contextmanager
    def _unharmed(self, first: bool) -> Iterator[None]:
        """Within, an error leaves the estimator as it was, a network that it goes on with included."""
        before = dict(self.__dict__)
        net: Network | None = before.get("network_")
        inside = None if net is None or first else _network_state(net)
        for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):  # they grow in place
            if before.get(name) is not None:
                setattr(self, name, list(before[name]))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            if net is not None and inside is not None:
                net.theta, net.epochs_trained, net.steps_trained, net.optimizer_state, net.history, mark = inside
                net.history.truncate(mark)
            raise

    def _rows(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        backend: Backend,
        first: bool,
        classes: Any = None,
        prefix: str = "",
    ) -> Rows:
        """The arguments as examples, checked; `prefix` goes before their names in an error."""
        if y is None:
            raise DataError(f"{prefix}y: {type(self).__name__} requires y to be passed, but the target y is None")
        X = inputs.features(self, X, backend, f"{prefix}X", reset=first)
        y = inputs.target_array(y, X.shape[0], backend, f"{prefix}y")
        y, Y = self._targets(y, f"{prefix}y", first, classes)
        weights = inputs.vector(f"{prefix}sample_weight", sample_weight, len(Y), backend)
        return Rows(X, y, Y, weights)

    def _eval_rows(self, eval_set: Sequence[Any], backend: Backend) -> Rows:
        if not isinstance(eval_set, Sequence) or len(eval_set) not in (2, 3):
            raise DataError("eval_set: give a pair (X, y), or (X, y, sample_weight)")
        X, y, sample_weight = (*eval_set, None)[:3]
        return self._rows(X, y, sample_weight, backend, False, prefix="eval_set ")

    def _split(self, rows: Rows, backend: Backend) -> tuple[Rows, Rows]:
        """Examples to train on and to judge by: the same in every call, so that none has been trained on before."""
        if self.validation_fraction == 0:
            raise DataError("validation_fraction: 0 leaves nothing to judge by; give a number above 0, or an eval_set")
        random = np.random.RandomState()
        random.set_state(self._split_state)
        train, held = train_test_split(
            np.arange(len(rows.Y)),
            random_state=random,
            test_size=self.validation_fraction,
            stratify=self._stratified(rows.Y),
        )
        if len(held) < 2:
            raise DataError(
                "validation_fraction: leaves fewer than 2 examples for validation; increase it, or give more data"
            )
        for part, what in ((train, "train on"), (held, "judge by")):
            if rows.weights is not None and not rows.weights[part].any():
                raise DataError(
                    f"sample_weight: every example to {what} has weight 0; give an eval_set, or other weights"
                )
        return inputs.some(rows, train, backend), inputs.some(rows, held, backend)

    def _check_going_on(self, sizes: list[int], backend: Backend) -> None:
        net, (_, loss) = self.network_, self._output()
        activations = parameters.activations(self.activation, len(sizes) - 2)
        for name, has, wanted in (
            ("hidden_layer_sizes", list(net.sizes), sizes),
            ("activation", list(net.activations), activations),
            ("loss", net.loss_entry, find_loss(loss, net.output) if isinstance(loss, str) else loss),
            ("backend", net.backend.name, backend.name),
            ("device", net.backend.device, backend.device),
        ):
            if has != wanted:
                raise DataError(f"{name}: the network to go on with has {has}, not {wanted}; use warm_start=False")

    def _start(self, sizes: list[int], dtype: np.dtype, backend: Backend) -> None:
        """A new network with the initial weights that scikit-learn draws, and attributes of a training to come."""
        output, loss = self._output()
        try:
            random = check_random_state(self.random_state)
        except ValueError as error:
            raise DataError(f"random_state: {error}") from None
        activations = parameters.activations(self.activation, len(sizes) - 2)
        self.network_ = Network(sizes, activations, output, loss, seed=0, dtype=dtype.name, backend=backend)
        drawn = []
        # The last layer's weights as those of the layer before it.
        followed = [*activations, activations[-1] if activations else str(self.activation)]
        for n_prev, n, activation in zip(sizes, sizes[1:], followed, strict=False):
            bound = np.sqrt((2.0 if activation in ("sigmoid", "logistic") else 6.0) / (n_prev + n))
            drawn += [random.uniform(-bound, bound, (n_prev, n)).ravel(), random.uniform(-bound, bound, n)]
        self.network_.theta = np.concatenate(drawn).astype(dtype)
        self._split_state = random.get_state()  # where scikit-learn draws the validation set
        self.network_.seed = int(random.randint(2**31 - 1))  # of the order of the batches, and of dropout
        self.n_iter_ = self.t_ = 0
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] | None = None
        self.stopped_ = self._closed = False
        self._slowdown, self._slowed = 1.0, None
        self._best: np.ndarray | None = None
        self._latest: np.ndarray | None = None
        self._start_stopping()

    def _start_stopping(self) -> None:
        """What the rule that ends a training has seen: nothing yet."""
        self._no_improvement_count = 0
        self.validation_scores_: list[float] | None = [] if self._stops else None
        self.best_validation_score_ = -np.inf if self._stops else None
        self.best_loss_ = None if self._stops else np.inf

    @property
    def _stops(self) -> bool:
        """Whether a validation score ends the training; scikit-learn's lbfgs looks at none, either."""
        return bool(self.early_stopping) and self.solver != "lbfgs"

    def _train(
        self, rows: Rows, held: Rows | None, part: bool, tasks: Tasks, resume: "str | os.PathLike[str] | None" = None
    ) -> str:
        """Train for one epoch (`part`), or until the training ends; returns what there is to warn of."""
        net, stops = self.network_, self._stops
        if part and stops and self._closed:
            return "partial_fit: early stopping has ended the training (stopped_); call fit to start another"
        if held is not None and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = [np.nan] * len(self.loss_curve_)
        if (self.validation_scores_ is not None) != stops:
            self._start_stopping()
        elif part and self.stopped_:
            self._no_improvement_count = 0  # it was a fit that ended; this goes on
        best_possible = self._best_possible(rows.Y, rows.weights)
        best_possible_held = 0.0 if held is None else self._best_possible(held.Y, held.weights)
        score = self._scorer(held) if stops and held is not None else None
        self._go_on_from_latest(held, score, best_possible_held)
        watch = Watch(self, len(rows.Y), score, best_possible, best_possible_held)
        epochs = 1 if part else self.max_iter
        with self._watched() as (watch.prints, watchers):
            own = [watch, *watchers, *(self.callbacks or ())]
            with tasks.epochs(own, "iteration" if self.solver == "lbfgs" else "epoch") as callbacks:
                if self.solver == "lbfgs":
                    J, fault = lbfgs.fit(net, rows, held, self, callbacks)
                    self.loss_ = J + best_possible
                else:
                    self._descend(rows, held, watch, epochs, callbacks, resume)
                    enough = part or watch.converged or watch.epochs < epochs
                    advice = "were not enough to converge; give more, or a larger tol"
                    fault = "" if enough else f"{self.solver}: {epochs} epochs (max_iter) {advice}"
        self.n_iter_ = watch.epochs
        self.stopped_ = watch.converged and (stops or not part)
        self._closed = part and self.stopped_
        if stops and (not part or self.stopped_):
            self._latest = self._theta()
            net.theta = self._best
        return fault

    def _descend(
        self,
        rows: Rows,
        held: Rows | None,
        watch: Watch,
        epochs: int,
        callbacks: Sequence[Callback],
        resume: "str | os.PathLike[str] | None",
    ) -> None:
        """Train step by step."""
        net, rule = self.network_, parameters.optimizer(self)
        going_on = net.optimizer_state is not None and net.optimizer_state.rule == rule.rule.name
        try:
            net.fit(
                rows.X.T,
                rows.Y.T,
                optimizer=rule,
                learning_rate=watch.rates,
                epochs=epochs,
                batch_size=parameters.batch_size(self.batch_size, len(rows.Y)),
                shuffle=self.shuffle,
                validation=None if held is None else (held.X.T, held.Y.T, held.weights),
                l2=float(self.alpha),
                clip_norm=self.max_norm,
                callbacks=callbacks,
                resume=going_on if resume is None else resume,
                sample_weight=rows.weights,
                dropout=self.dropout,
                schedule=parameters.schedule(self.learning_rate, self.max_iter),
            )
        except DivergenceError:
            raise DivergenceError(
                f"learning_rate_init: {self.learning_rate_init!r} made training diverge: the loss or the weights are "
                "no longer finite; the estimator is as it was before. Use a smaller one, or standardise X"
            ) from None
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[tuple[bool, list[Callback]]]:
        """Whether to print lines, and what shows a bar instead, where a terminal is watched."""
        if not self.verbose:
            yield False, []
            return
        with shown(plain=Callback()) as callback:
            yield not isinstance(callback, Bar), [callback]

    def _scorer(self, held: Rows) -> Callable[[float], float]:
        """The validation score as a function of the validation loss."""
        if self.scoring is None:
            return lambda loss: self._score(held)
        if self.scoring == "loss":
            return lambda loss: -loss
        # Of the estimator as it is at that time, who has not seen the names of the features.
        scorer = check_scoring(self, scoring=self.scoring)
        weights = {} if held.weights is None else {"sample_weight": held.weights}
        if weights and not _takes_weights(scorer):
            raise DataError(
                f"scoring: {self.scoring!r} takes no weights of the examples; give an eval_set without them"
            )
        # On the host, where scikit-learn's scorers compute.
        X = held.X if checks.is_sparse(held.X) else checks.on_host(held.X, self.network_.backend)

        def score(loss: float) -> float:
            twin = copy.copy(self)
            twin.__dict__.pop("feature_names_in_", None)
            return float(scorer(twin, X, held.y, **weights))

        return score

    def _keep_best(self) -> None:
        self._best = self._theta()

    def _theta(self) -> np.ndarray:
        """A copy on the host, which any machine can unpickle."""
        return np.array(self.network_.backend.to_host(self.network_.theta))

    def _go_on_from_latest(self, held: Rows | None, score: Callable[[float], float] | None, offset: float) -> None:
        """From the best weights, which a training ended with, to the latest, which its optimiser belongs to.

        The best ones are judged anew, since the examples or the scorer may be others than before.
        """
        if score is None and self._latest is None:
            self._best = None
            return
        net, now = self.network_, self._theta()
        latest, best = self._latest, self._best
        if latest is not None and best is not None and np.array_equal(now, best):  # else somebody has set others
            now = latest
        self._latest = None
        if score is None or held is None:
            self._best = None
        elif self._best is None:
            self._best = now
        elif self.validation_scores_:
            net.theta = self._best
            loss = evaluate(net, net.examples(held.X.T, held.Y.T, held.weights)) + offset
            self.best_validation_score_ = score(loss)
        net.theta = now

    # Prediction.

    def _forward(self, X: Any) -> Any:
        """``A[L]``, a row for each example, where X is."""
        check_is_fitted(self)
        return self.network_.predict(inputs.features(self, X, self.network_.backend).T).T

    def transform(self, X: Any) -> Any:
        """What the last hidden layer makes of the examples, for use as features.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, hidden_layer_sizes[-1])
            ``A[L - 1]``; X itself without a hidden layer.
        """
        check_is_fitted(self)
        net = self.network_
        hidden, rows = len(net.sizes) - 2, inputs.features(self, X, net.backend)
        return inputs.like(X, net.layer_output(rows.T, hidden).T if hidden else rows)

    # Files.

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the fitted estimator to one file, from which `load` makes the same again.

        The file (safetensors) holds the parameters, the weights, the optimiser's memory and all attributes, so that
        predictions and another `fit` or `partial_fit` are the same to the last bit. It holds no code, and reading it
        runs none; it is sealed with a checksum. :meth:`accelnn.Network.load` reads the network of it.

        Parameters
        ----------
        path : path
            A file that is there is replaced, at once and as a whole.

        Raises
        ------
        DataError
            For what a file cannot hold: callbacks, a function as `scoring`, a RandomState, a loss or a schedule of
            one's own. joblib holds them.
        OutputError
            Where the file cannot be written; an old one is as it was.
        """
        from accelnn.estimators import storage

        storage.save(self, path)

    @classmethod
    def load(cls, path: "str | os.PathLike[str]", backend: str | Backend = "auto") -> Self:
        """Read an estimator that `save` wrote.

        Parameters
        ----------
        path : path
        backend : str or Backend
            ``"auto"`` is the one that the estimator was given, where it runs here; else a warning names another. A name
            becomes the parameter `backend`.

        Raises
        ------
        ModelFileError
            For a file that is damaged, or holds something else.
        BackendUnavailableError
            For a backend that was asked for by name and cannot run here.
        """
        from accelnn.estimators import storage

        return storage.load(cls, path, backend)

    # Pictures.

    def plot_history(self, ax: Any = None) -> "HistoryDisplay":
        """Plot the loss, and the validation loss and scores where there are any, of each epoch.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        HistoryDisplay
        """
        from accelnn.plots import HistoryDisplay

        return HistoryDisplay.from_estimator(self, ax=ax)


@contextlib.contextmanager
def _fitted_alone(estimator: Any) -> Iterator[None]:
    """Within, no other call can fit this estimator."""
    # Not an attribute: it would be copied along with the estimator.
    with _fitting_lock:
        if id(estimator) in _fitting:
            raise BusyError(
                "fit: this estimator is being fitted already, in another thread or by the call that runs this "
                "callback; wait for its end, or fit a copy (sklearn.base.clone)"
            )
        _fitting.add(id(estimator))
    try:
        yield
    finally:
        _fitting.discard(id(estimator))


def _takes_weights(scorer: Any) -> bool:
    known = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters.values()
    return any(one.name == "sample_weight" or one.kind is one.VAR_KEYWORD for one in known)


def _network_state(net: Network) -> tuple[Any, ...]:
    history = net.history
    return net.theta.copy(), net.epochs_trained, net.steps_trained, net.optimizer_state, history, history.mark()
