"""What a regressor can be made to minimise: the losses, one's own among them, and targets in other units."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

from accelnn import Callback, custom_loss
from accelnn.elementary import exp, log1p, maximum, minimum, where
from accelnn.estimators import MLPRegressor
from accelnn.losses import loss as find_loss
from accelnn.schedules import Cosine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.uniform(-2.0, 2.0, size=(400, 2))
y = np.sin(X[:, 0]) + 0.5 * X[:, 1]
GOES_ON = {"tol": 0.0, "n_iter_no_change": 1000}


def make(backend="numpy", **options):
    return MLPRegressor(
        backend=backend, **{"random_state": 0, "hidden_layer_sizes": (16,), "learning_rate_init": 0.01, **options}
    )


def parameters(model):
    return np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_])


# What the losses are for.


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_share_of_the_targets_lies_below_a_quantile(quantile):
    """On other examples too, though the spread grows with the input."""
    inputs = rng.uniform(0.0, 3.0, size=(6000, 1))
    targets = inputs[:, 0] + (0.2 + inputs[:, 0]) * rng.normal(size=6000)
    model = make(loss="quantile", quantile=quantile, max_iter=60).fit(inputs[:3000], targets[:3000])
    below = targets < model.predict(inputs)
    shares = {
        "trained on": below[:3000].mean(),
        "others": below[3000:].mean(),
        "narrow": below[3000:][inputs[3000:, 0] < 1.0].mean(),
        "wide": below[3000:][inputs[3000:, 0] > 2.0].mean(),
    }
    print(quantile, shares)
    for where_, allowed in zip(shares, (0.02, 0.03, 0.06, 0.06), strict=True):
        assert shares[where_] == pytest.approx(quantile, abs=allowed), shares


@pytest.mark.parametrize(
    ("loss", "expected", "options"),
    [
        ("squared_error", np.mean, {}),
        ("absolute_error", np.median, {}),
        ("huber", np.median, {"delta": 0.01}),
        ("huber", np.mean, {"delta": 1e3}),
        ("quantile", np.median, {}),
        ("quantile", lambda targets: np.quantile(targets, 0.8), {"quantile": 0.8}),
        ("poisson", np.mean, {}),
    ],
)
def test_the_best_constant(loss, expected, options):
    """Of inputs that say nothing, each loss has its own prediction, which a skewed distribution tells apart."""
    targets = np.random.default_rng(3).lognormal(0.0, 1.0, size=2001)
    model = make(loss=loss, hidden_layer_sizes=(), alpha=0.0, max_iter=400, learning_rate="cosine", **GOES_ON | options)
    model.fit(np.zeros((2001, 1)), targets)
    found = float(model.predict(np.zeros((1, 1)))[0])
    print(loss, options, found, expected(targets))
    assert found == pytest.approx(expected(targets), rel=0.01), (found, expected(targets))


def test_huber_and_the_absolute_error_bear_outliers():
    """Of which one in ten examples is."""
    spoiled = y.copy()
    spoiled[::10] += 20.0
    errors = {
        loss: float(np.sqrt(np.mean((make(loss=loss, delta=0.5, max_iter=300).fit(X, spoiled).predict(X) - y) ** 2)))
        for loss in ("squared_error", "huber", "absolute_error")
    }
    print(errors)
    assert errors["huber"] < 0.25 * errors["squared_error"], errors
    assert errors["absolute_error"] < 0.25 * errors["squared_error"], errors


def test_poisson_predicts_rates():
    """Which are positive, and add up to the counts."""
    rates = np.exp(0.5 * X[:, 0])
    counts = np.random.default_rng(0).poisson(rates)
    model = make(loss="poisson", max_iter=60).fit(X, counts)
    predicted = model.predict(X)
    assert predicted.min() > 0
    assert predicted.sum() == pytest.approx(counts.sum(), rel=0.02), (predicted.sum(), counts.sum())
    assert np.corrcoef(predicted, rates)[0, 1] > 0.95
    assert model.out_activation_ == "exp"


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile", "poisson"])
def test_several_targets_are_each_fitted(named_backend, loss, solver):
    """And training lowers the loss, by each solver."""
    Y = np.stack([np.abs(y), np.abs(X[:, 1])], axis=1)[:40]
    options = {
        "loss": loss,
        "solver": solver,
        "hidden_layer_sizes": (4,),
        "max_iter": 25,
        "backend": named_backend.name,
    }
    model = make(**options).fit(X[:40], Y)
    assert model.predict(X[:7]).shape == (7, 2)
    assert model.loss_ < make(**options | {"solver": "adam", "max_iter": 1}).fit(X[:40], Y).loss_


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "huber", "delta": 0.0}, "delta: 0.0 is out of range"),
        ({"loss": "huber", "delta": np.inf}, "delta: inf"),
        ({"loss": "huber", "delta": "1"}, "delta: '1'"),
        ({"loss": "quantile", "quantile": 1.0}, "quantile: 1.0 is out of range"),
        ({"loss": "quantile", "quantile": 0}, "quantile: 0 is"),
        ({"loss": "quantile", "quantile": None}, "quantile: None"),
        ({"loss": "square"}, "loss: 'square' is not known"),
        ({"loss": None}, "loss: None"),
        ({"loss": "cross_entropy"}, "loss: 'cross_entropy'"),
        ({"loss": "poisson", "standardize_target": True}, "standardize_target: loss='poisson'"),
        ({"standardize_target": "yes"}, "standardize_target: 'yes'"),
    ],
)
def test_losses_that_are_refused(options, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        make(**options).fit(X, np.abs(y))


def test_parameters_of_other_losses_are_passed_over():
    """As in scikit-learn: a grid may go over losses and their parameters at once."""
    one, other = (make(delta=delta, quantile=0.5, max_iter=3).fit(X, y) for delta in (1.0, -1.0))
    np.testing.assert_array_equal(parameters(one), parameters(other))


@pytest.mark.parametrize(
    ("loss", "targets", "text"),
    [
        ("poisson", -1.0, "y: row 3 is -1.0; loss='poisson' is for counts and rates"),
        ("shares", 1.5, "y: row 3 is 1.5; loss='shares' is for shares"),
        ("squared_error", "a", "y: holds what is no number"),
    ],
)
def test_targets_that_a_loss_is_not_for(loss, targets, text):
    spoiled = np.full(400, 0.5, dtype=object)
    spoiled[3] = targets
    with pytest.raises(ValueError, match=f"^{text}"):
        make(loss=SHARES if loss == "shares" else loss).fit(X, spoiled)


# One's own.


def squared(z, y):
    return 0.5 * ((z - y) * (z - y))


def squared_gradient(z, y):
    return z - y


def absolute(z, y):
    return abs(z - y)


def huber_of_2(z, y):
    r = abs(z - y)
    return where(r <= 2.0, 0.5 * r * r, 2.0 * (r - 0.5 * 2.0))


def huber_of_2_gradient(z, y):
    return minimum(maximum(z - y, -2.0), 2.0)


def log_rate(z, y):
    return exp(z) - y * z


def log_rate_gradient(z, y):
    return exp(z) - y


def share(z, y):
    """The binary cross-entropy, of which there is none among a regressor's losses."""
    return maximum(z, 0.0) - z * y + log1p(exp(-abs(z)))


def share_gradient(z, y):
    return 1.0 / (1.0 + exp(-z)) - y


SHARES = custom_loss(share, share_gradient, output="sigmoid", targets="probability", name="shares")
SAME = {
    "squared_error": (custom_loss(squared, squared_gradient), {}),
    "huber": (custom_loss(huber_of_2, huber_of_2_gradient), {"delta": 2.0}),
}


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("name", list(SAME))
def test_ones_own_loss_is_the_one_of_the_same_formula(named_backend, name, solver):
    """To the last bit."""
    own, options = SAME[name]
    models = [
        make(named_backend.name, loss=loss, solver=solver, hidden_layer_sizes=(4,), max_iter=4, **options)
        for loss in (own, name)
    ]
    for model in models:
        model.fit(X[:40], 3.0 * y[:40], eval_set=(X[40:60], y[40:60]))
    np.testing.assert_array_equal(*map(parameters, models))
    assert models[0].loss_curve_ == models[1].loss_curve_
    assert models[0].validation_loss_curve_ == models[1].validation_loss_curve_


def test_ones_own_rates_are_poissons():
    own = custom_loss(log_rate, log_rate_gradient, output="exp", targets="count")
    models = [make(loss=loss, max_iter=20).fit(X, np.abs(y)) for loss in (own, "poisson")]
    np.testing.assert_allclose(*map(parameters, models), rtol=1e-9)


def test_shares_are_predicted_between_0_and_1():
    shares = 1.0 / (1.0 + np.exp(-y))
    model = make(loss=SHARES, max_iter=300).fit(X, shares)
    predicted = model.predict(X)
    assert 0.0 < predicted.min() < predicted.max() < 1.0
    assert model.score(X, shares) > 0.95, model.score(X, shares)
    assert model.out_activation_ == "logistic"


class Count(Callback):
    """How many epochs it was told of."""

    def __init__(self):
        self.epochs = 0

    def on_epoch_end(self, progress):
        self.epochs += 1


def test_a_loss_a_schedule_and_a_callback_are_parameters():
    """For clone, pickle and deepcopy."""
    model = make(loss=SAME["huber"][0], learning_rate=Cosine(warmup=1), callbacks=[Count()], max_iter=4)
    twin = clone(model)
    assert (twin.loss, twin.learning_rate) == (model.loss, model.learning_rate)
    model.fit(X, y)
    assert (model.callbacks[0].epochs, twin.callbacks[0].epochs) == (4, 0)
    for duplicate in (copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), clone):
        again = duplicate(model).set_params(warm_start=False).fit(X, y)
        np.testing.assert_array_equal(parameters(again), parameters(model))
        assert again.loss == model.loss
    warm = pickle.loads(pickle.dumps(make(loss=SAME["huber"][0], max_iter=2, warm_start=True, **GOES_ON).fit(X, y)))
    once = make(loss=SAME["huber"][0], max_iter=4, **GOES_ON).fit(X, y)
    np.testing.assert_array_equal(parameters(warm.fit(X, y)), parameters(once))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["loky", "threading"])
def test_a_search_over_losses_and_schedules(parallel):
    """In other processes too."""
    grid = {"loss": [SAME["huber"][0], "absolute_error"], "learning_rate": [Cosine(), "constant"]}
    model = make(callbacks=[Count()], max_iter=10)
    alone = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    with joblib.parallel_config(parallel):
        search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
        scores = cross_val_score(search.best_estimator_, X, y, cv=2, n_jobs=2, error_score="raise")
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert scores.mean() == pytest.approx(search.best_score_, abs=1e-12)


def test_another_loss_cannot_go_on():
    model = make(loss=SAME["huber"][0], max_iter=2, warm_start=True).fit(X, y)
    for change in ({"loss": "huber"}, {"loss": SAME["squared_error"][0]}):
        with pytest.raises(ValueError, match=r"^loss: the network to go on with has"):
            model.set_params(**change).fit(X, y)
    model = make(loss="huber", max_iter=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"^loss: .*huber"):
        model.set_params(delta=2.0).fit(X, y)


def test_a_loss_of_the_networks_is_one_of_the_estimators():
    """With parameters and all."""
    one = make(loss=find_loss("huber", "identity", delta=0.3), max_iter=3).fit(X, y)
    other = make(loss="huber", delta=0.3, max_iter=3).fit(X, y)
    np.testing.assert_array_equal(parameters(one), parameters(other))


# Targets in other units.

FAR = {"one": 1e6 + 1e4 * y, "several": np.stack([1e6 + 1e4 * y, 1e-4 * X[:, 1] - 3.0], axis=1)}


@pytest.mark.parametrize("kind", list(FAR))
def test_standardised_targets_are_predicted_in_their_units(named_backend, kind):
    """As by scikit-learn's TransformedTargetRegressor."""
    Y, options = FAR[kind][:40], {"backend": named_backend.name, "hidden_layer_sizes": (4,), "max_iter": 5}
    model = make(standardize_target=True, **options).fit(X[:40], Y)
    other = TransformedTargetRegressor(make(**options), transformer=StandardScaler()).fit(X[:40], Y)
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=1e-9)
    np.testing.assert_allclose(model.target_mean_, np.mean(Y.reshape(40, -1), axis=0))
    np.testing.assert_allclose(model.target_scale_, np.std(Y.reshape(40, -1), axis=0))


def test_standardised_targets_can_be_learned_in_any_units():
    scores = {
        wanted: make(standardize_target=wanted).fit(X, FAR["several"]).score(X, FAR["several"])
        for wanted in (False, True)
    }
    print(scores)
    assert scores[True] > 0.95 > 0.0 > scores[False], scores


def test_standardising_goes_by_the_weights():
    weights = np.random.default_rng(0).integers(0, 4, size=400)
    rows = np.repeat(np.arange(400), weights)
    model = make(standardize_target=True, max_iter=2, batch_size=400).fit(X, FAR["several"], weights)
    np.testing.assert_allclose(model.target_mean_, FAR["several"][rows].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.target_scale_, FAR["several"][rows].std(axis=0), rtol=1e-9)


def test_standardised_constants():
    """A target that never changes is only moved."""
    model = make(standardize_target=True, max_iter=300).fit(X, np.stack([np.full(400, 1e3), y], axis=1))
    assert model.target_scale_[0] == 1.0
    assert np.abs(model.predict(X)[:, 0] - 1e3).max() < 0.5


def test_standardising_does_not_look_at_the_validation_set():
    held = (X[300:], 50.0 + FAR["one"][300:])
    model = make(standardize_target=True, max_iter=2).fit(X[:300], FAR["one"][:300], eval_set=held)
    assert model.target_mean_[0] == pytest.approx(FAR["one"][:300].mean(), rel=1e-12)
    options = {"standardize_target": True, "early_stopping": True, "max_iter": 5, "scoring": "r2"}
    stopped = make(**options).fit(X, FAR["one"], eval_set=held)
    assert stopped.best_validation_score_ == pytest.approx(stopped.score(*held), rel=1e-12)


def test_standardising_is_of_the_first_call():
    """What comes later is in the same units; a change cannot go on, and counts only when the next fit begins anew."""
    model = make(standardize_target=True).partial_fit(X[:200], FAR["one"][:200])
    mean = float(model.target_mean_[0])
    model.partial_fit(X[200:], FAR["one"][200:])
    assert model.target_mean_[0] == mean
    predicted = model.predict(X)
    model.set_params(standardize_target=False)
    np.testing.assert_array_equal(model.predict(X), predicted)
    with pytest.raises(ValueError, match=r"^standardize_target: "):
        model.partial_fit(X, FAR["one"])
    assert not hasattr(model.fit(X, y), "target_mean_")
