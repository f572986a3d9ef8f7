"""What the estimators can be told beyond scikit-learn: weights, dropout, clipping, activations, learning rates."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.metrics import recall_score
from sklearn.utils.class_weight import compute_sample_weight

from accelnn import Callback
from accelnn.activations import HIDDEN
from accelnn.estimators import MLPClassifier, MLPRegressor
from accelnn.schedules import SCHEDULES, Cosine, OneCycle, ReduceOnPlateau, Step

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

M = 24
X, CLASSES = make_classification(200, 4, n_informative=3, n_redundant=0, n_classes=3, random_state=0)
TARGETS = {
    "classes": CLASSES,
    "two classes": np.array(["no", "yes"])[(CLASSES > 0).astype(int)],
    "labels": np.stack([CLASSES > 0, CLASSES > 1], axis=1).astype(int),
    "number": X @ [1.0, -2.0, 0.5, 0.0],
    "numbers": X @ np.array([[1.0, 0.0], [-2.0, 1.0], [0.5, 3.0], [0.0, 1.0]]),
}
NUMBERS = ("number", "numbers")
SOLVERS = {
    "adam": {},
    "nesterov": {"solver": "sgd"},
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "lbfgs": {"solver": "lbfgs"},
}
GOES_ON = {"tol": 0.0, "n_iter_no_change": 1000}


def make(kind, backend="numpy", **options):
    estimator = MLPRegressor if kind in NUMBERS else MLPClassifier
    options = {"random_state": 0, "hidden_layer_sizes": (4,), "max_iter": 10, **GOES_ON, **options}
    return estimator(backend=backend, **options)


def parameters(model):
    return np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_])


def apart(one, other):
    return float(np.max(np.abs(parameters(one) - parameters(other))))


# Weights of examples.


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_weight_of_k_is_the_example_k_times(named_backend, solver, kind):
    """And 0 is the example left out: in a full batch, penalty included."""
    y = TARGETS[kind][:M]
    weights = np.random.default_rng(0).integers(0, 4, size=M)
    assert np.count_nonzero(weights == 0) >= 3
    options = {"alpha": 0.5, "activation": "tanh", "learning_rate_init": 0.01, **SOLVERS[solver]}
    weighted = make(kind, named_backend.name, batch_size=M, **options).fit(X[:M], y, weights)
    m = int(weights.sum())
    rows = np.repeat(np.arange(M), weights)
    repeated = make(kind, named_backend.name, batch_size=m, **options).fit(X[rows], y[rows])
    unweighted = make(kind, named_backend.name, batch_size=M, **options).fit(X[:M], y)
    found = apart(weighted, repeated)
    assert found <= 1e-6, f"{found:.1e} apart"
    assert weighted.loss_ == pytest.approx(repeated.loss_, abs=1e-6)
    assert apart(weighted, unweighted) > 1e-4


@given(st.lists(st.integers(0, 5), min_size=M, max_size=M), st.sampled_from(["adam", "sgd"]), st.floats(0.0, 10.0))
def test_any_weights_are_repetitions(weights, solver, alpha):
    """The validation set's loss too."""
    assume(any(weights))
    rows, m = np.repeat(np.arange(M), weights), sum(weights)
    y = TARGETS["number"]
    options = {"alpha": alpha, "solver": solver, "activation": "tanh", "max_iter": 3}
    weighted = make("number", batch_size=M, **options).fit(X[:M], y[:M], weights, eval_set=(X[:M], y[:M], weights))
    repeated = make("number", batch_size=m, **options).fit(X[rows], y[rows], eval_set=(X[rows], y[rows]))
    assert apart(weighted, repeated) <= 1e-6
    np.testing.assert_allclose(weighted.validation_loss_curve_, repeated.validation_loss_curve_, rtol=1e-9)


def test_one_number_is_every_examples_weight():
    y = TARGETS["number"]
    one, other = (make("number", alpha=1.0).fit(X, y, weight) for weight in (2.0, np.full(200, 2.0)))
    np.testing.assert_array_equal(parameters(one), parameters(other))
    assert apart(one, make("number", alpha=1.0).fit(X, y)) > 1e-6  # the penalty's share is smaller


def test_weights_of_a_scale_make_no_difference_without_a_penalty():
    y, weights = TARGETS["classes"], np.random.default_rng(1).uniform(size=200)
    one, other = (make("classes", alpha=0.0).fit(X, y, weights * scale) for scale in (1.0, 1e6))
    assert apart(one, other) <= 1e-9


def test_early_stopping_judges_by_the_weights():
    """Of two groups that contradict each other, the score follows the one that counts."""
    y = TARGETS["number"].copy()
    y[::2] *= -1.0
    weights = np.where(np.arange(200) % 2, 1.0, 0.0)
    options = {"early_stopping": True, "max_iter": 300, "learning_rate_init": 0.02, "validation_fraction": 0.3}
    model = make("number", **options).fit(X, y, weights)
    assert model.best_validation_score_ > 0.9, model.best_validation_score_
    assert model.score(X, y, weights) > 0.9 > 0.0 > model.score(X, y)


# Weights of classes.


def test_balanced_classes_raise_the_recall_of_a_rare_one():
    """One example of fifty is of the rare class."""
    recalls = {None: [], "balanced": []}
    for seed in range(5):
        inputs, y = make_classification(
            2000, 8, n_informative=5, weights=[0.98], class_sep=0.8, flip_y=0.0, random_state=seed
        )
        for class_weight, found in recalls.items():
            model = MLPClassifier((16,), class_weight=class_weight, max_iter=30, random_state=seed, backend="numpy")
            found.append(recall_score(y[1000:], model.fit(inputs[:1000], y[:1000]).predict(inputs[1000:])))
    print(recalls)
    plain, balanced = recalls.values()
    assert all(one < other for one, other in zip(plain, balanced, strict=True)), recalls
    assert np.mean(balanced) > np.mean(plain) + 0.3, recalls


@pytest.mark.parametrize("kind", ["classes", "two classes", "labels"])
def test_balanced_is_scikit_learns(named_backend, kind):
    """What `compute_sample_weight` gives, as weights of the examples."""
    y = TARGETS[kind][:M]
    weights = compute_sample_weight("balanced", y)
    assert np.ptp(weights) > 0
    one = make(kind, named_backend.name, class_weight="balanced", max_iter=2).fit(X[:M], y)
    other = make(kind, named_backend.name, max_iter=2).fit(X[:M], y, weights)
    assert apart(one, other) <= 1e-12


def test_balanced_counts_by_the_weights_of_the_examples():
    """So that a weight of k stays the example k times."""
    y, weights = TARGETS["classes"], np.random.default_rng(0).integers(0, 4, size=200)
    rows = np.repeat(np.arange(200), weights)
    options = {"class_weight": "balanced", "alpha": 0.5}
    one = make("classes", batch_size=200, **options).fit(X, y, weights)
    other = make("classes", batch_size=len(rows), **options).fit(X[rows], y[rows])
    assert apart(one, other) <= 1e-9


def test_a_dict_of_class_weights_multiplies_the_examples():
    y, weights = TARGETS["two classes"], np.random.default_rng(0).uniform(size=200)
    one = make("two classes", class_weight={"no": 3.0}).fit(X, y, weights)
    other = make("two classes").fit(X, y, weights * np.where(y == "no", 3.0, 1.0))
    np.testing.assert_array_equal(parameters(one), parameters(other))


def test_a_dict_of_class_weights_in_partial_fit():
    """It is of all classes: a call need not have an example of each."""
    rare, common = X[CLASSES == 2], X[CLASSES == 0]
    one, other = make("classes", class_weight={1: 5.0, 2: 7.0}), make("classes")
    for part, label, weight in ((common, 0, 1.0), (rare, 2, 7.0), (common[:1], 0, 1.0)):
        y = np.full(len(part), label)
        one.partial_fit(part, y, classes=[0, 1, 2])
        other.partial_fit(part, y, np.full(len(part), weight), classes=[0, 1, 2])
    np.testing.assert_array_equal(parameters(one), parameters(other))


def test_class_weights_of_labels():
    """One dict a label; their weights are multiplied."""
    y = TARGETS["labels"]
    one = make("labels", class_weight=[{0: 1.0, 1: 2.0}, {0: 1.0, 1: 5.0}]).fit(X, y)
    other = make("labels").fit(X, y, np.where(y[:, 0], 2.0, 1.0) * np.where(y[:, 1], 5.0, 1.0))
    np.testing.assert_array_equal(parameters(one), parameters(other))


@pytest.mark.parametrize(
    ("class_weight", "text"),
    [
        ({0: -1.0, 1: 1.0, 2: 1.0}, "from 0 on"),
        ({0: np.nan, 1: 1.0, 2: 1.0}, "finite"),
        ("balance", "must be a dict"),
        ([1.0, 2.0, 3.0], "must be a dict"),
        ({0: 1.0, "b": 2.0}, "not in class_weight"),
    ],
)
def test_class_weights_that_are_refused(class_weight, text):
    with pytest.raises(ValueError, match=f"^class_weight: .*{text}"):
        make("classes", class_weight=class_weight).fit(X, CLASSES)


def test_balanced_is_refused_in_partial_fit():
    with pytest.raises(ValueError, match=r"^class_weight: 'balanced' needs all examples at once"):
        make("classes", class_weight="balanced").partial_fit(X, CLASSES, classes=[0, 1, 2])


# Dropout, and the norm of the gradient.


@pytest.mark.parametrize(("rates", "alike"), [(0.5, [0.5, 0.5]), (0, [0.0, 0.0]), ((0.25, 0.0), np.array([0.25, 0.0]))])
def test_dropout_rates(named_backend, rates, alike):
    """One number is each hidden layer's; nothing is left out when predicting."""
    y, options = TARGETS["classes"][:M], {"hidden_layer_sizes": (6, 5), "max_iter": 2}
    models = [make("classes", named_backend.name, dropout=rate, **options).fit(X[:M], y) for rate in (rates, alike)]
    np.testing.assert_array_equal(*map(parameters, models))
    plain = make("classes", named_backend.name, **options).fit(X[:M], y)
    assert (apart(models[0], plain) == 0) == (not np.any(rates))
    np.testing.assert_array_equal(models[0].predict_proba(X), models[0].predict_proba(X))
    again = make("classes", named_backend.name, dropout=rates, **options).set_params(random_state=1).fit(X[:M], y)
    assert apart(models[0], again) > 0


def test_dropout_narrows_the_gap_of_an_overfitted_net():
    """Between what it scores on the examples it was trained on and on others."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(260, 20))
    y = (inputs[:, 0] + rng.normal(size=260) > 0).astype(int)
    gaps = {}
    for rate in (0.0, 0.5):
        model = MLPClassifier((64,), dropout=rate, max_iter=300, random_state=0, backend="numpy", **GOES_ON)
        model.fit(inputs[:60], y[:60])
        losses = [
            -np.mean(np.log(model.predict_proba(inputs[part])[range(len(y[part])), y[part]]))
            for part in (slice(60), slice(60, None))
        ]
        gaps[rate] = losses[1] - losses[0]
    assert gaps[0.5] < gaps[0.0], gaps


@pytest.mark.parametrize("max_norm", [1e-3, 1.0])
def test_a_step_is_no_longer_than_the_largest_norm(named_backend, max_norm):
    y, options = 100 * TARGETS["number"][:M], {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.5}
    start = make("number", named_backend.name, **options | {"learning_rate_init": 1e-300}, max_iter=1).fit(X[:M], y)
    moved = make("number", named_backend.name, max_norm=max_norm, max_iter=1, **options).fit(X[:M], y)
    length = float(np.linalg.norm(parameters(moved) - parameters(start)))
    assert length == pytest.approx(0.5 * max_norm, rel=1e-6)


def test_a_largest_norm_that_is_never_reached_changes_nothing():
    one, other = (make("number", max_norm=norm).fit(X, TARGETS["number"]) for norm in (None, 1e6))
    np.testing.assert_array_equal(parameters(one), parameters(other))


@pytest.mark.parametrize(("name", "value"), [("dropout", 0.1), ("dropout", [0.1]), ("max_norm", 1.0)])
def test_lbfgs_takes_no_dropout_and_no_norm(name, value):
    with pytest.raises(ValueError, match=f"^{name}: the solver lbfgs"):
        make("number", solver="lbfgs", **{name: value}).fit(X, TARGETS["number"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("dropout", value) for value in (1.0, -0.1, np.nan, "0.5", None, True, [0.1, 0.1], [])),
        *(("max_norm", value) for value in (0.0, -1.0, np.nan, "1", True)),
        *(("activation", value) for value in ("rely", ["relu", "relu"], [], None, ["rely"])),
        *(("learning_rate", value) for value in ("cosin", 0.1, None, Step)),
        *(("callbacks", value) for value in (Callback(), [Callback], "no", [print])),
    ],
)
@pytest.mark.parametrize("kind", ["classes", "number"])
def test_options_that_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name}"):
        make(kind, **{name: value}).fit(X, TARGETS[kind])


# Activations.


@pytest.mark.parametrize("name", ["logistic", *HIDDEN])
def test_each_activation(named_backend, name):
    """By scikit-learn's name for the sigmoid, or ours."""
    model = make("number", named_backend.name, activation=name, max_iter=2).fit(X[:M], TARGETS["number"][:M])
    assert model.network_.activations == ("sigmoid" if name == "logistic" else name,)
    again = make("number", named_backend.name, activation=[name], max_iter=2).fit(X[:M], TARGETS["number"][:M])
    np.testing.assert_array_equal(model.predict(X), again.predict(X))


def test_an_activation_for_each_layer(named_backend):
    """Each layer's units are what its own activation makes of them."""
    model = make("number", named_backend.name, hidden_layer_sizes=(5, 3), activation=("tanh", "softplus"), max_iter=2)
    model.fit(X[:M], TARGETS["number"][:M])
    A = np.tanh(X[:M] @ model.coefs_[0] + model.intercepts_[0])
    A = np.log1p(np.exp(A @ model.coefs_[1] + model.intercepts_[1]))
    np.testing.assert_allclose(model.transform(X[:M]), A, rtol=1e-7)
    np.testing.assert_allclose(model.predict(X[:M]), (A @ model.coefs_[2] + model.intercepts_[2])[:, 0], rtol=1e-7)


# Learning rates.


class Rates(Callback):
    """The rate of each epoch's last step; a list of the class, since an estimator's callbacks are copied by clone."""

    seen: list[float]

    def on_fit_begin(self, progress):
        self.seen = []

    def on_epoch_end(self, progress):
        self.seen.append(progress.learning_rate)


SHAPES = {
    "step": Step(),
    "cosine": Cosine(),
    "one_cycle": OneCycle(),
    "a cosine with a warm-up": Cosine(warmup=3, final=0.1),
    "one that is longer than the run": OneCycle(epochs=20),
}


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_schedule_multiplies_the_rate(named_backend, solver, name):
    rates = Rates()
    wanted = name if name in SCHEDULES else SHAPES[name]
    options = {"solver": solver, "learning_rate": wanted, "learning_rate_init": 0.03, "batch_size": 10}
    make("number", named_backend.name, callbacks=[rates], max_iter=12, **options).fit(X[:M], TARGETS["number"][:M])
    last_steps = np.arange(12) + 2 / 3  # of three in an epoch
    np.testing.assert_allclose(rates.seen, 0.03 * SHAPES[name].factors(last_steps, 12), rtol=1e-12)


def test_a_plateau_is_the_validation_losses(named_backend):
    """Where there is a validation set; its loss cannot fall here, since its targets are far away."""
    rates, plateau = Rates(), ReduceOnPlateau(factor=0.5, patience=1, threshold=0.5)
    y = TARGETS["number"][:M]
    model = make("number", named_backend.name, learning_rate=plateau, callbacks=[rates], max_iter=6)
    model.fit(X[:M], y, eval_set=(X[:M], y + 1e3))
    np.testing.assert_allclose(rates.seen, 0.001 * np.array([1, 1, 1, 0.5, 0.5, 0.25]))


def test_a_horizon_is_max_iter():
    """Unless the schedule says another."""
    for wanted in ("cosine", Cosine(epochs=10)):
        rates = Rates()
        model = make("number", learning_rate=wanted, callbacks=[rates], max_iter=5, warm_start=True)
        model.fit(X, TARGETS["number"])
        assert (rates.seen[-1] > 0.0004) == (wanted != "cosine"), rates.seen


@pytest.mark.parametrize("name", ["invscaling", "adaptive"])
def test_scikit_learns_rates_are_of_sgd(name):
    """Adam passes them over, as scikit-learn's does."""
    one, other = (make("number", learning_rate=rate).fit(X, TARGETS["number"]) for rate in ("constant", name))
    np.testing.assert_array_equal(parameters(one), parameters(other))
