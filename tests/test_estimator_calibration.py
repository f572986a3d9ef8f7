"""Probabilities that a classifier calibrates on examples it has not been trained on."""

import copy
import pickle

import numpy as np
import pandas
import polars
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split

from accelnn.estimators import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

METHODS = ["sigmoid", "isotonic", "temperature"]


def noisy(classes, seed, m=4000):
    """Classes of which a good part is chance, so that a network that learns them by heart is too sure of itself."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 10))
    return X, np.argmax(X[:, :classes] + rng.gumbel(scale=1.0, size=(m, classes)), axis=1)


X, y = noisy(2, 0, 300)
TEXT = np.array(["no", "yes"])[y]


def make(backend="numpy", **options):
    options = {"hidden_layer_sizes": (8,), "calibration": "sigmoid", "max_iter": 5, "random_state": 0, **options}
    return MLPClassifier(backend=backend, **options)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [2, 3])
def test_calibration_lowers_the_loss_of_an_overfitted_network(classes, method):
    """On examples that neither the network nor the calibration has seen, though the network has fewer to learn from."""
    losses = {"log loss": [], "Brier score": []}
    for seed in range(3):
        inputs, targets = noisy(classes, seed)
        X_train, X_test, y_train, y_test = train_test_split(inputs, targets, test_size=0.7, random_state=seed)
        found = []
        for calibration in (None, method):
            model = make(
                calibration=calibration, hidden_layer_sizes=(64,), max_iter=150, alpha=0.0, validation_fraction=0.25
            ).set_params(learning_rate_init=0.01, random_state=seed)
            found.append(model.fit(X_train, y_train).predict_proba(X_test))
        losses["log loss"].append([log_loss(y_test, P) for P in found])
        losses["Brier score"].append([np.mean(np.sum((np.eye(classes)[y_test] - P) ** 2, axis=1)) for P in found])
    print(classes, method, losses)
    if method == "isotonic":  # its probabilities may be 0, which the logarithm cannot forgive
        del losses["log loss"]
    for pairs in losses.values():
        assert all(calibrated < 0.95 * plain for plain, calibrated in pairs), losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("targets", [y, TEXT, noisy(3, 0, 300)[1]], ids=["numbers", "text", "three classes"])
def test_calibration_is_scikit_learns(method, targets):
    """Of the network as it was trained without, on the examples of an `eval_set`, with their weights."""
    weights = np.random.default_rng(0).uniform(0.1, 1.0, size=100)
    model = make(calibration=method).fit(X[:200], targets[:200], eval_set=(X[200:], targets[200:], weights))
    plain = make(calibration=None).fit(X[:200], targets[:200])
    tool = CalibratedClassifierCV(FrozenEstimator(plain), method=method)
    with pytest.warns(UserWarning, match="FrozenEstimator"):  # which ours does without
        tool.fit(X[200:], targets[200:], sample_weight=weights)
    np.testing.assert_allclose(model.predict_proba(X), tool.predict_proba(X), rtol=0, atol=1e-6)
    assert np.abs(model.predict_proba(X) - plain.predict_proba(X)).max() > 0.01
    np.testing.assert_array_equal(model.network_.theta, plain.network_.theta)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_predicted_is_the_most_probable(method):
    for targets in (TEXT, noisy(3, 0, 300)[1]):
        model = make(calibration=method, max_iter=100, validation_fraction=0.3).fit(X, targets)
        P = model.predict_proba(X)
        np.testing.assert_allclose(P.sum(axis=1), 1.0)
        certain = np.ptp(np.sort(P, axis=1)[:, -2:], axis=1) > 1e-9
        np.testing.assert_array_equal(model.predict(X)[certain], model.classes_[P.argmax(axis=1)][certain])
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(model.predict_log_proba(X), np.log(P))


def test_without_an_eval_set_some_examples_are_held_out():
    """Of which the network sees none: it is that of the others."""
    model, plain = (make(calibration=method, validation_fraction=0.2) for method in ("sigmoid", None))
    assert model.fit(X, y).t_ == 5 * 240
    stopped = plain.set_params(early_stopping=True, n_iter_no_change=1000).fit(X, y)
    assert stopped.t_ == model.t_
    assert model.loss_curve_ == stopped.loss_curve_
    assert len(model.validation_loss_curve_) == 5


@pytest.mark.parametrize("backend", ["numba", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_backends_calibrate_alike(backend, request):
    if backend == "cupy":
        request.getfixturevalue("cupy_by_name")
    one, other = (make(name, max_iter=2).fit(X, y).predict_proba(X[:20]) for name in (backend, "numpy"))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("table", [pandas.DataFrame, polars.DataFrame])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_names_of_features_give_no_warning(table, early_stopping):
    """Neither in training nor later, and are still looked at."""
    names = [f"feature {j}" for j in range(10)]
    frame = table({name: X[:, j] for j, name in enumerate(names)})
    model = make(early_stopping=early_stopping, scoring="neg_log_loss").fit(frame, TEXT)
    np.testing.assert_allclose(
        model.predict_proba(frame),
        make(early_stopping=early_stopping, scoring="neg_log_loss").fit(X, TEXT).predict_proba(X),
    )
    model.predict(frame)
    assert model.feature_names_in_.tolist() == names
    with pytest.warns(UserWarning, match="valid feature names"):
        model.predict_proba(X)
    with pytest.raises(ValueError, match="feature names"):
        model.predict_proba(frame[names[::-1]])


def test_sparse_inputs():
    whole = np.round(X)
    model = make().fit(sparse.csr_array(whole), y)
    np.testing.assert_allclose(model.predict_proba(sparse.csr_array(whole)), make().fit(whole, y).predict_proba(whole))


@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss", "accuracy", "loss", None])
def test_early_stopping_is_of_the_network_alone(scoring):
    """The calibration comes when training is over, in a second fit too."""
    options = {"early_stopping": True, "scoring": scoring, "validation_fraction": 0.3, "max_iter": 10}
    model, plain = make(**options), make(calibration=None, **options)
    for _ in range(2):
        assert model.fit(X, y).validation_scores_ == plain.fit(X, y).validation_scores_


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_calibrated(duplicate):
    model = make().fit(X, y)
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    expected = model.predict_proba(X)
    twin.network_.theta = np.zeros_like(twin.network_.theta)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_a_training_that_goes_on_is_calibrated_anew():
    options = {"tol": 0.0, "n_iter_no_change": 1000}
    warm = make(warm_start=True, **options).fit(X, y)
    once = make(max_iter=10, **options).fit(X, y)
    np.testing.assert_array_equal(warm.fit(X, y).predict_proba(X), once.predict_proba(X))


def test_a_fit_without_forgets_the_calibration():
    """And a parameter that is set does nothing until then."""
    model = make().fit(X, y)
    P = model.predict_proba(X)
    np.testing.assert_array_equal(model.set_params(calibration=None).predict_proba(X), P)
    plain = make(calibration=None).fit(X, y)
    np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(plain.set_params(calibration="sigmoid").predict_proba(X), model.predict_proba(X))


def test_partial_fit_refuses_to_calibrate():
    with pytest.raises(ValueError, match=r"^calibration: partial_fit"):
        make().partial_fit(X, y, classes=[0, 1])
    model = make().fit(X, y)
    P = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"^calibration: partial_fit"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), P)


def test_a_small_validation_set_is_enough():
    """Of two examples of each class; and one that lacks a class is refused, not left out of the probabilities."""
    few = np.r_[np.flatnonzero(y == 0)[:2], np.flatnonzero(y == 1)[:2]]
    assert make().fit(X, y, eval_set=(X[few], y[few])).predict_proba(X).shape == (300, 2)
    lacking = y == 0
    with pytest.raises(ValueError, match=r"^calibration: the validation set has no example of \[1\]; give"):
        make().fit(X, y, eval_set=(X[lacking], y[lacking]))


def test_what_cannot_be_calibrated():
    with pytest.raises(ValueError, match=r"^calibration: 'platt' is not known; choose from isotonic"):
        make(calibration="platt").fit(X, y)
    with pytest.raises(ValueError, match=r"^calibration: labels cannot be calibrated"):
        make().fit(X, np.stack([y, 1 - y], axis=1))


def test_a_failed_calibration_leaves_everything_as_it_was():
    """What goes on from there is not touched by other networks that train meanwhile."""
    options = {"tol": 0.0, "n_iter_no_change": 1000, "warm_start": True, "calibration": None}
    model, twin = make(**options).fit(X, y), make(**options).fit(X, y)
    with pytest.raises(ValueError, match="platt"):
        model.set_params(calibration="platt").fit(X, y)
    make(calibration=None, random_state=5).fit(X, y)
    model.set_params(calibration=None)
    np.testing.assert_array_equal(model.fit(X, y).network_.theta, twin.fit(X, y).network_.theta)


def test_inside_a_search():
    search = GridSearchCV(make(max_iter=10), {"calibration": [None, *METHODS]}, cv=2, scoring="neg_brier_score")
    search.set_params(error_score="raise").fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert not hasattr(clone(search.best_estimator_), "calibrated_")
