"""Classes from the units of the last layer: one for two classes or for each label, else one a class."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d, validate_data

from accelnn.errors import DataError
from accelnn.estimators.base import Multilayer

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, Multilayer):
    """A multilayer perceptron for classes, with scikit-learn's parameters, attributes and methods.

    Parameters
    ----------
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
    classes_ : array
    coefs_, intercepts_ : lists of arrays
    loss_curve_, validation_scores_ : lists of float
        J of each epoch; the validation score after each epoch, or None without early stopping.
    loss_, best_loss_, best_validation_score_ : float
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(lambda self: self._can_partial_fit())
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "MLPClassifier":
        """Train for one epoch on these examples, going on from what there is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_labels)
        classes : array, optional
            All classes that will ever come; needed in the first call.
        """
        if classes is None and not hasattr(self, "classes_"):
            raise DataError("classes: the first call of partial_fit needs all classes that will ever come")
        return self._partial_fit(X, y, classes=classes)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row; for labels, 1 where the probability is above a half."""
        A = self._forward(X)
        if self._labels.y_type_ == "multilabel-indicator":
            return (A > 0.5).astype(int)
        return self.classes_[A.argmax(axis=1) if A.shape[1] > 1 else (A[:, 0] > 0.5).astype(int)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, a column for each class or label."""
        A = self._forward(X)
        return np.hstack([1 - A, A]) if A.shape[1] == 1 else np.array(A)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _output(self) -> tuple[str, str]:
        if self._labels.y_type_ == "multiclass":
            return "softmax", "cross_entropy"
        return "sigmoid", "binary_cross_entropy"

    def _checked(self, X: Any, y: Any, first: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, multi_output=True, dtype=(np.float64, np.float32), reset=first)
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first:
            given = y if classes is None or type_of_target(y).startswith("multilabel") else classes
            self._labels = LabelBinarizer().fit(given)
            self.classes_ = self._labels.classes_
            if len(self.classes_) < 2:
                raise DataError(f"y: holds one class only, {self.classes_.tolist()}; a classifier needs two or more")
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise DataError(f"classes: {classes!r} are not those of the first call, {self.classes_!r}")
        strange = np.setdiff1d(unique_labels(y), self.classes_)
        if len(strange):
            raise DataError(
                f"y: holds classes that the network has not been made for, {strange.tolist()}; it knows "
                f"{self.classes_.tolist()}. Give all classes in the first call of partial_fit, or fit anew"
            )
        return X, self._labels.transform(y).astype(X.dtype)

    def _stratified(self, Y: np.ndarray) -> np.ndarray | None:
        # Two classes only, as scikit-learn does: a class may have a single example, and the validation set fewer than
        # there are classes.
        return Y if self._labels.y_type_ == "binary" else None

    def _score(self, X: np.ndarray, Y: np.ndarray) -> float:
        predicted = self._labels.inverse_transform(self.network_.predict(X.T).T)
        return float(accuracy_score(self._labels.inverse_transform(Y), predicted))
