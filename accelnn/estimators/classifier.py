"""Classes from the units of the last layer: one for two classes or for each label, else one a class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if

from accelnn import checks
from accelnn.errors import DataError
from accelnn.estimators import inputs
from accelnn.estimators.base import Multilayer
from accelnn.estimators.calibration import calibrated, require_calibratable
from accelnn.estimators.inputs import Rows
from accelnn.estimators.labels import MULTILABEL, Labels, balanced, checked

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, Multilayer):
    """A multilayer perceptron for classes, with scikit-learn's parameters, attributes and methods.

    Parameters
    ----------
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
        the accuracy.
    callbacks : list of Callback, optional
        Told of each epoch; one that answers True ends the training.
    class_weight : dict, list of dict, "balanced" or None
        What the `sample_weight` of each class's examples is multiplied by in training; "balanced" makes all classes
        weigh the same. Of labels, a dict each, whose weights are multiplied. It does not count in validation.
    calibration : {"sigmoid", "isotonic", "temperature"}, optional
        How probabilities are calibrated on the validation set, by scikit-learn's `CalibratedClassifierCV`; by default
        they are the network's own. See there for what the installed version offers.

    Attributes
    ----------
    network_ : Network
    classes_ : array
    coefs_, intercepts_ : lists of arrays
    loss_curve_, validation_loss_curve_, validation_scores_ : lists of float
        J of each epoch; the loss of the validation set after it, or None without one; its score, or None without early
        stopping.
    loss_, best_loss_, best_validation_score_ : float
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
    stopped_ : bool
        Whether a rule has ended the training; with `early_stopping`, `partial_fit` then trains no more.
    calibrated_ : CalibratedClassifierCV
        Only with `calibration`.
    """

    def __init__(
        self,
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
        class_weight=None,
        calibration=None,
    ):
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
        self.class_weight = class_weight
        self.calibration = calibration

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(lambda self: self._can_partial_fit())
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        eval_set: Sequence[Any] | None = None,
    ) -> "MLPClassifier":
        """Train for one epoch on these examples, going on from what there is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array of shape (n_samples,), optional
        classes : array, optional
            All classes that will ever come; needed in the first call.
        eval_set : pair of X and y, optional
            As for `fit`. With `early_stopping`, a call that sees no better score for `n_iter_no_change` calls restores
            the best weights, and later ones train no more (`stopped_`); without an `eval_set`, a part of each call's
            examples is held out.
        """
        if classes is None and not hasattr(self, "classes_"):
            raise DataError("classes: the first call of partial_fit needs all classes that will ever come")
        return self._fit(X, y, sample_weight, eval_set, not hasattr(self, "network_"), part=True, classes=classes)

    def predict(self, X: Any) -> Any:
        """The most probable class of each row; for labels, 1 where the probability is above a half."""
        P = self._probabilities(X) if hasattr(self, "calibrated_") else self._forward(X)
        decided = self._labels.decide(P)
        return inputs.like(X, decided if self._labels.multilabel else self._named(decided))

    def predict_proba(self, X: Any) -> Any:
        """Probabilities, a column for each class or label."""
        return inputs.like(X, self._probabilities(X))

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of `predict_proba`."""
        P = self._probabilities(X)
        with np.errstate(divide="ignore"):
            return inputs.like(X, np.log(P) if isinstance(P, np.ndarray) else self.network_.backend.xp.log(P))

    def _probabilities(self, X: Any) -> Any:
        if hasattr(self, "calibrated_"):
            backend = self.network_.backend
            X = inputs.features(self, X, backend)
            if isinstance(X, np.ndarray) or checks.is_sparse(X):
                return self.calibrated_.predict_proba(X)
            return backend.from_host(self.calibrated_.predict_proba(backend.to_host(X)))
        A = self._forward(X)
        if A.shape[1] > 1:
            return A if A.flags.c_contiguous else A.copy()
        shape, net = (len(A), 2), self.network_
        P = np.empty(shape, A.dtype) if isinstance(A, np.ndarray) else net.backend.empty(shape, net.dtype)
        P[:, 0], P[:, 1] = 1 - A[:, 0], A[:, 0]
        return P

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of the predictions; for labels, the share of the rows that have all of them right."""
        return inputs.score(accuracy_score, self, X, y, sample_weight)

    def _named(self, numbers: Any) -> Any:
        """Classes by their numbers, where those are; names that are no numbers are the host's."""
        if isinstance(numbers, np.ndarray):
            return self.classes_[numbers]
        backend = self.network_.backend
        if self.classes_.dtype.kind not in "iufb":
            return self.classes_[backend.to_host(numbers)]
        return backend.xp.take(backend.from_host(self.classes_), numbers, axis=0)

    def _output(self) -> tuple[str, str]:
        several = not self._labels.binary and not self._labels.multilabel
        return ("softmax", "cross_entropy") if several else ("sigmoid", "binary_cross_entropy")

    def _targets(self, y: np.ndarray, name: str, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        y, kind = checked(y, name)
        if classes is not None:
            classes = np.asarray(classes)
            inputs.require_finite("classes", classes)
        if first:
            given = y if classes is None or kind == MULTILABEL else classes
            self._labels = Labels(given, kind, name if given is y else "classes")
            self.classes_ = self._labels.classes
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise DataError(f"classes: {classes!r} are not those of the first call, {self.classes_!r}")
        return y, self._labels.encode(y, kind, name)

    def _settled(self, rows: Rows, held: Rows | None, first: bool, part: bool) -> tuple[Rows, Rows | None]:
        self.__dict__.pop("calibrated_", None)  # it belongs to the network as it was
        if self.calibration is not None:
            if part:
                raise DataError("calibration: partial_fit sees a part of the examples; use fit, or calibration=None")
            require_calibratable(self._labels, held)
        if self.class_weight is None:
            return rows, held
        if part and isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise DataError(
                "class_weight: 'balanced' needs all examples at once, and partial_fit sees a part of them; give a dict "
                "with a weight for each class, for instance from sklearn.utils.class_weight.compute_class_weight"
            )
        weights = self._class_weights(rows.y, rows.weights)
        if rows.weights is not None:
            weights = weights * rows.weights
        return rows._replace(weights=weights), held

    def _class_weights(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """What each example's `sample_weight` is multiplied by."""
        wanted, single = self.class_weight, not self._labels.multilabel
        if isinstance(wanted, str) and wanted == "balanced":
            return balanced(y, sample_weight)
        if single and not isinstance(wanted, dict):
            raise DataError(f"class_weight: {wanted!r} must be a dict with a weight for each class, or 'balanced'")
        try:
            if single:
                # Of all classes: these examples need not have each of them.
                of_class = compute_class_weight(wanted, classes=self.classes_, y=y)
                weights = of_class[np.searchsorted(self.classes_, y)]
            else:
                weights = compute_sample_weight(wanted, y)
        except ValueError as problem:
            raise DataError(f"class_weight: {problem}") from None
        if not np.all(np.isfinite(weights) & (weights >= 0)):
            raise DataError(f"class_weight: {wanted!r} must hold finite weights from 0 on")
        return weights

    def _needs_held_out(self) -> bool:
        return self.calibration is not None

    def _finish(self, held: Rows | None) -> None:
        if self.calibration is not None and held is not None:
            self.calibrated_ = calibrated(self, self.calibration, held)

    def _stratified(self, Y: np.ndarray) -> np.ndarray | None:
        # To stop early, two classes only, as scikit-learn does: a class may have a single example, and the validation
        # set fewer than there are classes. To calibrate, each class is needed.
        if self._labels.binary or self.calibration is None or self._labels.multilabel:
            return Y if self._labels.binary else None
        numbers, few = self._labels.decide(Y), len(self.classes_)
        share = self.validation_fraction * len(Y)
        enough = min(share, len(Y) - share) >= few and np.bincount(numbers, minlength=few).min() >= 2
        return numbers if enough else None

    def _score(self, rows: Rows) -> float:
        net = self.network_
        decided = self._labels.decide(checks.on_host(net.predict(rows.X.T).T, net.backend))
        right = decided == self._labels.decide(rows.Y)
        return float(np.average(right.all(axis=1) if right.ndim == 2 else right, weights=rows.weights))
