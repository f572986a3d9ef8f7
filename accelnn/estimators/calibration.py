"""Calibrated probabilities, by scikit-learn's own tool."""

import copy
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from accelnn import checks
from accelnn.errors import DataError
from accelnn.estimators.inputs import Rows
from accelnn.estimators.labels import Labels
from accelnn.estimators.protocol import alone

__all__ = ["calibrated", "calibrators", "recalibrated", "require_calibratable"]


class _Frozen(FrozenEstimator):
    """One that scikit-learn does not warn of: it need not know of the weights."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "_Frozen":
        return self


def require_calibratable(labels: Labels, held: Rows | None) -> None:
    """Raise, before the training, unless the validation set has examples of each class.

    Raises
    ------
    DataError
    """
    if labels.multilabel:
        raise DataError("calibration: labels cannot be calibrated, of which an example may have several; use None")
    absent = np.setdiff1d(labels.classes, [] if held is None else held.y)
    if len(absent):
        raise DataError(
            f"calibration: the validation set has no example of {absent.tolist()}; give an eval_set that has some of "
            "each class, or a larger validation_fraction"
        )


def calibrated(classifier: Any, method: str, held: Rows) -> CalibratedClassifierCV:
    """The classifier with its probabilities calibrated on examples that it has not been trained on.

    Parameters
    ----------
    classifier : MLPClassifier
        Fitted; it stays as it is.
    method : str
        Of `CalibratedClassifierCV`.
    held : Rows

    Raises
    ------
    DataError
        Where scikit-learn cannot calibrate with this method, or these examples.
    """
    plain = _plain(classifier)
    X = held.X if checks.is_sparse(held.X) else checks.on_host(held.X, plain.network_.backend)
    # A network that stays as it is needs no folds: it is calibrated on all of these examples.
    everything = np.arange(len(held.y))
    tool = CalibratedClassifierCV(_Frozen(plain), method=method, cv=[(everything, everything)])
    try:
        return tool.fit(X, held.y, sample_weight=held.weights)
    except ValueError as problem:
        raise DataError(f"calibration: {method!r} cannot be used here: {problem}") from None


def _plain(classifier: Any) -> Any:
    """A shallow copy that is not calibrated."""
    plain = alone(classifier)
    plain.calibration = None
    plain.__dict__.pop("calibrated_", None)
    plain.__dict__.pop("feature_names_in_", None)  # the examples have lost their names by now
    return plain


def calibrators(tool: CalibratedClassifierCV) -> list[dict[str, Any]]:
    """What the calibrators of a tool have learned: numbers and arrays by name, of each."""
    (fitted,) = tool.calibrated_classifiers_
    states = [dict(one.__getstate__()) for one in fitted.calibrators]
    for state in states:
        state.pop("_sklearn_version", None)
    return states


def recalibrated(classifier: Any, method: str, learned: Sequence[Mapping[str, Any]]) -> CalibratedClassifierCV:
    """The tool that `calibrated` made, from what its `calibrators` had learned.

    Parameters
    ----------
    classifier : MLPClassifier
        Fitted; it stays as it is.
    method : str
    learned : sequence of dict

    Raises
    ------
    ValueError
        Where these are not what the installed scikit-learn's calibrators of this method learn.
    """
    classes, plain = classifier.classes_, _plain(classifier)
    # Scikit-learn makes its calibrators in a fit and nowhere else; that of a few numbers shows what they learn.
    few = np.arange(min(len(classes), 3))
    tool = CalibratedClassifierCV(_Frozen(_Told(few)), method=method, cv=[(few, few)])
    tool.fit(np.where(few[:, None] == few, 0.6, 0.4 / (len(few) - 1)), few)
    (fitted,) = tool.calibrated_classifiers_
    if len(learned) != (1 if method == "temperature" or len(classes) == 2 else len(classes)):
        raise ValueError(f"its calibration has {len(learned)} parts for {len(classes)} classes")
    fitted.calibrators = [_with_state(fitted.calibrators[0], state) for state in learned]
    fitted.classes = tool.classes_ = classes
    fitted.estimator = tool.estimator = _Frozen(plain)
    tool.n_features_in_ = classifier.n_features_in_
    return tool


class _Told(ClassifierMixin, BaseEstimator):
    """A classifier whose rows are the probabilities themselves."""

    def __init__(self, classes_: np.ndarray):
        self.classes_ = classes_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[X.argmax(axis=1)]


def _with_state(calibrator: Any, state: Mapping[str, Any]) -> Any:
    """Another that has learned this, if it is of the same kind as what that one has learned."""
    known = {name: value for name, value in calibrator.__getstate__().items() if name != "_sklearn_version"}
    if set(known) != set(state) or not all(_alike(value, state[name]) for name, value in known.items()):
        raise ValueError(f"its calibration is not of scikit-learn {sklearn.__version__}; fit it again")
    other = copy.copy(calibrator)
    other.__setstate__({**state, "_sklearn_version": sklearn.__version__})
    return other


def _alike(known: Any, value: Any) -> bool:
    if isinstance(known, np.ndarray):
        same = isinstance(value, np.ndarray) and value.ndim == known.ndim and value.dtype.kind == known.dtype.kind
        return same and value.size > 0 and bool(np.isfinite(value).all())
    if isinstance(known, Real) and not isinstance(known, bool):
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(float(value))
    return type(value) is type(known)
