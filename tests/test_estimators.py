"""The estimators are scikit-learn's to the letter of its own checks, and follow its training."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [
        estimator(backend=backend, max_iter=100, random_state=0)
        for estimator in (MLPClassifier, MLPRegressor)
        for backend in ("numpy", "numba")
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
