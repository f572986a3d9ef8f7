"""Calibrated probabilities, by scikit-learn's own tool."""

from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from accelnn import checks
from accelnn.errors import DataError
from accelnn.estimators.inputs import Rows
from accelnn.estimators.labels import Labels
from accelnn.estimators.protocol import alone

__all__ = ["calibrated", "require_calibratable"]


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
    plain = alone(classifier)
    plain.calibration = None
    plain.__dict__.pop("calibrated_", None)
    plain.__dict__.pop("feature_names_in_", None)  # the examples have lost their names by now
    X = held.X if checks.is_sparse(held.X) else checks.on_host(held.X, plain.network_.backend)
    # A network that stays as it is needs no folds: it is calibrated on all of these examples.
    everything = np.arange(len(held.y))
    tool = CalibratedClassifierCV(_Frozen(plain), method=method, cv=[(everything, everything)])
    try:
        return tool.fit(X, held.y, sample_weight=held.weights)
    except ValueError as problem:
        raise DataError(f"calibration: {method!r} cannot be used here: {problem}") from None
