"""What an estimator keeps from one call to the next, and what it refuses before it trains."""

import copy
import os
import pickle
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
import sklearn
from conftest import host
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import make_scorer, max_error, mean_absolute_error, r2_score

from accelnn import Callback, get_backend
from accelnn.errors import BackendUnavailableError, DataError
from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore:.*(max_iter|LIMIT):sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
NUMBERS = X @ [1.0, -2.0, 0.5]
CLASSES = (NUMBERS > 0).astype(int)
NOISE = RNG.normal(scale=4.0, size=60)
WORSE = {"eval_set": (X, -NUMBERS)}  # the better the network, the lower the score
STOPPING = {"early_stopping": True, "n_iter_no_change": 3, "tol": 0.0, "learning_rate_init": 0.01}


class Count(Callback):
    """How many trainings have begun, and the learning rates of their epochs; Ctrl-C after the last one."""

    def __init__(self, last=None):
        self.begun, self.rates, self.last = 0, [], last

    def on_fit_begin(self, progress):
        self.begun += 1

    def on_epoch_end(self, progress):
        self.rates.append(progress.learning_rate)
        if progress.epoch == self.last:
            raise KeyboardInterrupt


def make(kind=MLPRegressor, **options):
    fixed = {"backend": "numpy", "hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "warm_start": True}
    return kind(**{**fixed, **options})


def theta(model):
    return np.array(host(model.network_.theta))


def assert_refused(model, match, *data, **options):
    """By a DataError, before a step has been made."""
    count = Count()
    with pytest.raises(DataError, match=match):
        model.set_params(callbacks=[count]).fit(*data, **options)
    assert (count.begun, count.rates) == (0, [])
    assert not hasattr(model, "network_")


def test_whole_numbers_are_standardised_as_the_same_floats():
    y = np.round(100 * NUMBERS).astype(int)
    whole, real = (make(standardize_target=True).fit(X, part) for part in (y, y.astype(float)))
    assert whole.loss_curve_ == real.loss_curve_
    np.testing.assert_array_equal(whole.predict(X), real.predict(X))
    assert whole.target_scale_ == np.std(y)


def test_large_targets_keep_their_digits_with_rows_in_single_precision():
    """Next to 1.7e9 float32 knows multiples of 128 only."""
    y = 1.7e9 + 50 * X[:, 0]
    options = {"standardize_target": True, "max_iter": 200, "learning_rate_init": 0.05}
    model = make(**options).fit(X.astype(np.float32), y)
    predicted = model.predict(X.astype(np.float32))
    assert model.network_.theta.dtype == np.float32
    assert predicted.dtype == np.float64
    assert r2_score(y, predicted) > 0.9


def test_a_fit_that_early_stopping_ended_does_not_bar_partial_fit():
    model = make(**STOPPING, max_iter=100).fit(X, NUMBERS, **WORSE)
    assert model.stopped_
    before, epochs = theta(model), len(model.loss_curve_)
    model.partial_fit(X, NUMBERS, **WORSE)
    assert len(model.loss_curve_) == epochs + 1
    assert np.any(theta(model) != before)


def test_a_partial_fit_that_reached_the_stop_bars_later_ones_with_a_warning():
    model = make(**STOPPING)
    for _ in range(50):
        model.partial_fit(X, NUMBERS, **WORSE)
        if model.stopped_:
            break
    assert model.stopped_
    before, epochs = theta(model), len(model.loss_curve_)
    with pytest.warns(ConvergenceWarning, match="early stopping has ended"):
        model.partial_fit(X, NUMBERS, **WORSE)
    assert len(model.loss_curve_) == epochs
    np.testing.assert_array_equal(theta(model), before)


TEN = np.repeat(np.arange(10), 20)


@pytest.mark.parametrize("seed", range(5))
def test_the_validation_set_to_calibrate_on_has_each_of_many_classes(seed):
    """A tenth of 200 examples has two of each class, where they keep their shares."""
    data = np.random.default_rng(seed).normal(size=(200, 3)) + TEN[:, None]
    model = make(MLPClassifier, calibration="sigmoid", random_state=seed).fit(data, TEN)
    assert model.predict_proba(data).shape == (200, 10)


@pytest.mark.parametrize(
    ("y", "options", "match"),
    [
        (np.where(np.arange(60) < 57, CLASSES, 2), {"eval_set": (X, CLASSES)}, r"no example of \[2\]"),
        (np.stack([CLASSES, 1 - CLASSES, CLASSES], axis=1), {}, "labels cannot be calibrated"),
    ],
    ids=["absent", "labels"],
)
def test_what_cannot_be_calibrated_is_refused_before_training(y, options, match):
    assert_refused(make(MLPClassifier, calibration="sigmoid"), match, X, y, **options)


def test_another_scorer_judges_the_best_weights_anew():
    """No negative loss is above an accuracy."""
    held = {"eval_set": (X, CLASSES)}
    model = make(MLPClassifier, **STOPPING).fit(X, CLASSES, **held)
    before = theta(model)
    model.set_params(scoring="loss", max_iter=20).fit(X, CLASSES, **held)
    assert np.any(theta(model) != before)
    assert model.best_validation_score_ == max(model.validation_scores_[5:]) < 0
    P = model.predict_proba(X)[np.arange(60), CLASSES]
    assert np.mean(np.log(P)) == pytest.approx(model.best_validation_score_)


def test_another_eval_set_judges_the_best_weights_anew():
    """No score on targets that are mostly chance is above the one without."""
    model = make(**STOPPING, scoring="loss").fit(X, NUMBERS, eval_set=(X, NUMBERS))
    before, best, error = theta(model), model.best_validation_score_, mean_absolute_error(NUMBERS, model.predict(X))
    model.set_params(max_iter=20).fit(X, NUMBERS, eval_set=(X, NUMBERS + NOISE))
    assert np.any(theta(model) != before)
    assert model.best_validation_score_ == max(model.validation_scores_[5:]) < best
    assert mean_absolute_error(NUMBERS, model.predict(X)) < error


def test_best_weights_that_nothing_betters_are_kept_after_they_are_judged_anew():
    model = make(**STOPPING, scoring="loss").fit(X, NUMBERS, eval_set=(X, NUMBERS))
    before = theta(model)
    model.fit(X, NUMBERS, **WORSE)
    np.testing.assert_array_equal(theta(model), before)
    expected = -np.mean((model.predict(X) + NUMBERS) ** 2) / 2
    assert model.best_validation_score_ == pytest.approx(expected)


def test_without_early_stopping_a_warm_fit_goes_on_from_the_latest_weights():
    model = make(**STOPPING, max_iter=100).fit(X, NUMBERS, **WORSE)
    best, latest = theta(model), model._latest.copy()
    assert np.max(np.abs(best - latest)) > 1e-3
    model.set_params(early_stopping=False, learning_rate_init=1e-9, max_iter=1).fit(X, NUMBERS)
    np.testing.assert_allclose(theta(model), latest, rtol=0, atol=1e-7)
    assert model._best is model._latest is None


def test_a_warm_fit_after_early_stopping_is_the_run_that_never_restored():
    """On the same examples, with the same steps: early stopping only looks on."""
    once = make(max_iter=8, learning_rate_init=0.01).fit(X, NUMBERS)
    model = make(**{**STOPPING, "n_iter_no_change": 100}).fit(X, NUMBERS, **WORSE)
    assert np.any(theta(model) != model._latest)
    model.set_params(early_stopping=False, max_iter=3).fit(X, NUMBERS)
    np.testing.assert_array_equal(theta(model), theta(once))


def test_lbfgs_without_an_iteration_has_a_loss():
    options = {"solver": "lbfgs", "tol": 1e6, "hidden_layer_sizes": (5,), "random_state": 0}
    ours = make(**options).fit(X, NUMBERS)
    theirs = neural_network.MLPRegressor(**options).fit(X, NUMBERS)
    assert ours.loss_curve_ == []
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)


def test_lbfgs_goes_on_with_other_examples():
    model = make(solver="lbfgs", max_iter=20).fit(X, NUMBERS)
    first = model.loss_
    assert model.loss_ == model.best_loss_ == min(model.loss_curve_)
    model.set_params(tol=1e6).fit(X, NUMBERS + 3)
    assert model.loss_ > first + 1
    assert model.t_ == 0
    assert np.isfinite(model.best_loss_)


@pytest.mark.parametrize("anew", [None, 0.03])
def test_an_adaptive_rate_is_brought_down_until_it_is_set_anew(anew):
    """A tol that no epoch meets brings it down."""
    options = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.02, "n_iter_no_change": 1}
    count = Count()
    model = make(**options, tol=1e6, max_iter=5, callbacks=[count]).fit(X, NUMBERS)
    slow = 0.02 / model._slowdown
    assert slow <= count.rates[-1] < 0.02
    model.set_params(learning_rate_init=anew or 0.02).fit(X, NUMBERS)
    assert count.rates[5] == pytest.approx(anew or slow)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_validation_losses_stand_beside_the_losses_of_their_epochs(first, call):
    """NaN where there was no validation set, which came first or second."""
    model, held = make(max_iter=2), {"eval_set": (X, NUMBERS)}
    getattr(model, call)(X, NUMBERS, **(held if first else {}))
    half = len(model.loss_curve_)
    getattr(model, call)(X, NUMBERS, **({} if first else held))
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == 2 * half
    known = ~np.isnan(model.validation_loss_curve_)
    np.testing.assert_array_equal(known, [first] * half + [not first] * half)


MAX_ERROR = next(name for name in sklearn.metrics.get_scorer_names() if name.endswith("max_error"))


@pytest.mark.parametrize("scoring", [MAX_ERROR, make_scorer(max_error), lambda model, X, y: 0.0])
@pytest.mark.parametrize("own", [True, False])
def test_a_scorer_that_takes_no_weights_is_refused_with_them_before_training(scoring, own):
    weights = np.ones(60)
    data = (X, NUMBERS) if own else (X, NUMBERS, weights)
    options = {"eval_set": (X, NUMBERS, weights)} if own else {}
    assert_refused(make(**STOPPING, scoring=scoring), "scoring: .* takes no weights", *data, **options)
    model = make(**STOPPING, scoring=scoring).fit(X, NUMBERS, eval_set=(X, NUMBERS))
    assert len(model.validation_scores_) == len(model.loss_curve_)


@pytest.mark.parametrize("weights", [None, np.ones(60)])
def test_a_type_error_of_a_scorer_comes_through(weights):
    def broken(model, X, y, sample_weight=None):
        raise TypeError("mine alone")

    with pytest.raises(TypeError, match=r"^mine alone$"):
        make(**STOPPING, scoring=broken).fit(X, NUMBERS, weights)


@pytest.mark.slow
def test_names_of_classes_stay_numpys_where_answers_follow_x():
    """SciPy reads the variable when it is imported, so another process has it."""
    command = [sys.executable, "-W", "error", "-c", f"import {__name__} as tests; tests.classes_by_name()"]
    subprocess.run(command, check=True, env={**os.environ, "SCIPY_ARRAY_API": "1"}, cwd=os.path.dirname(__file__))


def classes_by_name():
    """Other libraries hold no text."""
    names, rows = np.array(["no", "yes"])[CLASSES], array_api_strict.asarray(X)
    options = {"tol": 0.1, "max_iter": 500}
    with sklearn.config_context(array_api_dispatch=True):
        model = make(MLPClassifier, **options).fit(rows, names)
        answer = model.predict(rows)
        assert type(answer) is np.ndarray
        np.testing.assert_array_equal(answer, make(MLPClassifier, **options).fit(X, names).predict(X))
        assert type(model.predict_proba(rows)) is type(rows)


def test_weights_can_be_assigned(named_backend):
    """One by one and all at once, as scikit-learn's; copies of the estimator are no part of it."""
    model = make(backend=named_backend.name, activation="tanh", max_iter=1).fit(X, NUMBERS)
    twin, before = copy.deepcopy(model), model.predict(X)
    W, b = [RNG.normal(size=(3, 5)), RNG.normal(size=(5, 1))], [RNG.normal(size=5), RNG.normal(size=1)]

    def expected():
        return (np.tanh(X @ model.coefs_[0] + model.intercepts_[0]) @ model.coefs_[1] + model.intercepts_[1])[:, 0]

    model.coefs_[0] = W[0]
    np.testing.assert_array_equal(model.coefs_[0], W[0])
    np.testing.assert_allclose(model.predict(X), expected(), rtol=1e-9, atol=1e-12)
    model.intercepts_[-1] = b[1]
    np.testing.assert_array_equal(model.intercepts_[1], b[1])
    np.testing.assert_allclose(model.predict(X), expected(), rtol=1e-9, atol=1e-12)
    model.coefs_, model.intercepts_ = W, b
    answer = np.tanh(X @ W[0] + b[0]) @ W[1] + b[1]
    np.testing.assert_allclose(model.predict(X), answer[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(twin.predict(X), before)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert type(pickle.loads(pickle.dumps(model.coefs_))) is list


def test_weights_of_other_shapes_are_refused():
    model = make(max_iter=1).fit(X, NUMBERS)
    before = theta(model)
    with pytest.raises(DataError, match=r"coefs_\[0\]: has shape \(5, 3\), expected \(3, 5\)"):
        model.coefs_[0] = np.zeros((5, 3))
    with pytest.raises(DataError, match=r"intercepts_\[1\]: has shape \(1, 1\)"):
        model.intercepts_[1] = np.zeros((1, 1))
    with pytest.raises(DataError, match=r"coefs_: has 1 array\(s\) for 2 layer"):
        model.coefs_ = [np.zeros((3, 5))]
    with pytest.raises(DataError, match=r"intercepts_: has 3 array\(s\) for 2 layer"):
        model.intercepts_ = [np.zeros(5)] * 3
    np.testing.assert_array_equal(theta(model), before)


def test_a_pickle_from_a_machine_with_another_backend_loads_on_auto(monkeypatch):
    model = make(max_iter=2).fit(X, NUMBERS)
    saved = pickle.dumps(model)

    def only_auto(name="auto", *options, **more):
        if name != "auto":
            raise BackendUnavailableError(f"backend={name!r} cannot run here: it is missing")
        return get_backend("auto")

    monkeypatch.setattr("accelnn.network.get_backend", only_auto)
    with pytest.warns(UserWarning, match="goes on with .*backend='numpy' cannot run here"):
        loaded = pickle.loads(saved)
    assert loaded.network_.backend is get_backend("auto")
    np.testing.assert_allclose(host(loaded.predict(X)), model.predict(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"callbacks": (Callback() for _ in range(2))}, "callbacks: .* must be a list"),
        ({"batch_size": np.array([1, 2])}, "batch_size: .* is neither 'auto' nor"),
        ({"learning_rate": "cosine", "solver": "lbfgs"}, "learning_rate: 'cosine' is no use to lbfgs"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options, match):
    model = make(**options)
    with pytest.raises(DataError, match=match):
        model.fit(X, NUMBERS)
    assert not hasattr(model, "network_")


def test_lbfgs_passes_over_scikit_learns_own_learning_rates():
    fitted = [make(solver="lbfgs", tol=1.0, learning_rate=rate).fit(X, NUMBERS) for rate in ("adaptive", "constant")]
    np.testing.assert_array_equal(*map(theta, fitted))


def test_an_interrupted_fit_can_be_gone_on_with():
    """It ends with a warning, after which a warm fit has the optimiser's memory."""
    once = make(max_iter=7).fit(X, NUMBERS)
    model = make(max_iter=7, callbacks=[Count(last=3)])
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, NUMBERS)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.network_.optimizer_state is not None
    model.set_params(callbacks=None, max_iter=4).fit(X, NUMBERS)
    np.testing.assert_array_equal(theta(model), theta(once))
    assert model.loss_curve_ == once.loss_curve_
