"""Multilayer perceptrons with scikit-learn's interface: change the import, keep the code."""

from accelnn.estimators.classifier import MLPClassifier
from accelnn.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
