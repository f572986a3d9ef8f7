"""The estimators are scikit-learn's to the letter of its own checks."""

import os
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
import sklearn
from conftest import FACTORIES, gpu_found
from sklearn.utils.estimator_checks import parametrize_with_checks

from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = MLPClassifier, MLPRegressor


def on(*backends):
    return [kind(backend=backend, max_iter=100, random_state=0) for kind in KINDS for backend in backends]


@parametrize_with_checks(on("numpy", "numba"))
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif("cupy" not in FACTORIES, reason="the emulator compiles kernels with g++, which is not installed")
@parametrize_with_checks(on("cupy"))
def test_scikit_learns_checks_on_cupy(estimator, check):
    with gpu_found():
        check(estimator.set_params(max_iter=30))


@pytest.mark.slow
def test_the_array_api_check():
    """SciPy reads the variable when it is imported, so another process has it."""
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "array_api_input and not cupy"]
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout
    assert "skipped" not in run.stdout


@pytest.mark.slow
def test_answers_follow_the_librarys_arrays():
    """With scikit-learn's array_api_dispatch, arrays of the library that X is of."""
    code = f"import {__name__} as tests; tests.follow_the_library()"
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    folder = os.path.dirname(__file__)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment, cwd=folder)


def follow_the_library():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, size=40)
    strict = array_api_strict.asarray
    with sklearn.config_context(array_api_dispatch=True):
        for kind in KINDS:
            options = {"backend": "numpy", "max_iter": 500, "tol": 0.1, "random_state": 0}
            plain = kind(**options).fit(X, y, sample_weight=np.ones(40))
            model = kind(**options).fit(strict(X), strict(y), sample_weight=strict(np.ones(40)))
            names = ["predict", "transform"]
            names += ["predict_proba", "predict_log_proba"] if kind is MLPClassifier else []
            for name in names:
                answer = getattr(model, name)(strict(X))
                assert type(answer) is type(strict(X)), name
                np.testing.assert_array_equal(np.asarray(answer), getattr(plain, name)(X))
            assert model.score(strict(X), strict(y)) == plain.score(X, y)
