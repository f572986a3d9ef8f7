"""A training in parts is the training in one go, to the last bit, with every option that it may have."""

import pickle

import numpy as np
import pytest
from conftest import host
from sklearn.datasets import make_classification
from test_checkpoints import Killed, Stop

from accelnn import Callback, Checkpoint, DataError
from accelnn.estimators import MLPClassifier, MLPRegressor
from accelnn.schedules import Cosine, Exponential, OneCycle, ReduceOnPlateau, Step

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

M = 40
X, CLASSES = make_classification(80, 4, n_informative=3, n_redundant=0, random_state=0)
NUMBERS = X @ [1.0, -1.0, 0.5, 0.0]
TARGETS = {"classes": CLASSES, "number": NUMBERS}
WEIGHTS = np.random.default_rng(0).uniform(size=80)
HELD = {kind: (X[M:], y[M:], WEIGHTS[M:]) for kind, y in TARGETS.items()}

SGD = {"solver": "sgd", "learning_rate_init": 0.02}
RULES = {
    "adam": {},
    "sgd": {**SGD, "momentum": 0.0},
    "momentum": {**SGD, "nesterovs_momentum": False},
    "nesterov": SGD,
}
RATES = {
    "invscaling": {**SGD, "learning_rate": "invscaling"},
    "adaptive": {**SGD, "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.1},
    "step": {"learning_rate": Step(every=3)},
    "exponential": {"learning_rate": Exponential(factor=0.8)},
    "cosine": {"learning_rate": Cosine(warmup=2, epochs=10)},
    "one_cycle": {"learning_rate": OneCycle(epochs=10)},
    "plateau": {"learning_rate": ReduceOnPlateau(patience=1, threshold=0.05)},
}
STOPPING = {"early_stopping": True, "validation_fraction": 0.25}
OPTIONS = {
    "dropout": {"dropout": [0.3, 0.1], "hidden_layer_sizes": (5, 3)},
    "max_norm": {"max_norm": 0.1},
    "full batch": {"batch_size": M},
    "no shuffling": {"shuffle": False},
    "early stopping": STOPPING,
    "early stopping by a scorer": {**STOPPING, "scoring": "neg_mean_squared_error"},
    "everything": {
        **STOPPING,
        **SGD,
        "scoring": "loss",
        "dropout": 0.2,
        "max_norm": 1.0,
        "learning_rate": OneCycle(epochs=10),
        "activation": ["gelu"],
        "dtype": np.float32,
    },
}
CLASSES_ONLY = {"balanced classes": {"class_weight": "balanced"}, "class weights": {"class_weight": {0: 1.0, 1: 3.0}}}
NUMBERS_ONLY = {
    **{loss: {"loss": loss} for loss in ("absolute_error", "huber", "quantile")},
    "standardised targets": {"standardize_target": True, **STOPPING},
}
CASES = [(kind, options) for kind in TARGETS for options in (RULES | RATES | OPTIONS).items()]
CASES += [("classes", options) for options in CLASSES_ONLY.items()]
CASES += [("number", options) for options in NUMBERS_ONLY.items()]
CASES = [pytest.param(kind, options, id=f"{kind}-{name}") for kind, (name, options) in CASES]


def make(kind, backend, **options):
    estimator = MLPClassifier if kind == "classes" else MLPRegressor
    fixed = {"random_state": 0, "hidden_layer_sizes": (5,), "batch_size": 16, "tol": 0.0, "n_iter_no_change": 1000}
    return estimator(backend=backend, **{**fixed, **options})


def arguments(kind, weights, dtype=np.float64):
    return (X[:M].astype(dtype), TARGETS[kind][:M], WEIGHTS[:M] if weights else None)


def assert_same(parts, once):
    """All that a training leaves: latest weights and best ones, the optimiser's memory, and what was recorded."""
    for one, other in ((parts.network_.theta, once.network_.theta), (parts._latest, once._latest)):
        np.testing.assert_array_equal(*(None if array is None else host(array) for array in (one, other)))
    for name in ("loss_curve_", "loss_", "best_loss_", "validation_loss_curve_", "validation_scores_"):
        assert getattr(parts, name) == getattr(once, name), name
    for name in ("best_validation_score_", "t_", "_no_improvement_count", "_slowdown", "stopped_"):
        assert getattr(parts, name) == getattr(once, name), name
    steps = [model.network_.optimizer_state for model in (parts, once)]
    assert len({(state.rule, state.step, state.epoch, state.schedule) for state in steps}) == 1
    np.testing.assert_array_equal(
        *(model.network_.backend.to_host(model.network_.optimizer_state.vectors) for model in (parts, once))
    )


@pytest.mark.parametrize("given", ["", "weights", "eval_set"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_five_and_five_epochs_are_ten(named_backend, kind, options, given):
    """With weights of the examples or without, and a validation set of one's own or a part of the examples."""
    options = dict(options)
    if kind == "classes" and options.get("scoring") == "neg_mean_squared_error":
        options["scoring"] = "neg_log_loss"
    data = arguments(kind, given == "weights", options.pop("dtype", np.float64))
    held = {"eval_set": HELD[kind]} if given == "eval_set" else {}
    once = make(kind, named_backend.name, max_iter=10, **options).fit(*data, **held)
    warm = make(kind, named_backend.name, max_iter=5, warm_start=True, **options).fit(*data, **held)
    half = len(warm.loss_curve_)
    assert half == 5
    assert_same(warm.fit(*data, **held), once)
    assert len(set(once.loss_curve_)) == 10


@pytest.mark.parametrize("given", ["", "weights", "eval_set"])
@pytest.mark.parametrize(("kind", "options"), [case for case in CASES if "balanced" not in str(case.id)])
def test_ten_calls_of_partial_fit_are_ten_epochs(kind, options, given):
    """Where `fit` ends with the best weights of an early stopping, an eleventh epoch goes on from the latest."""
    options = dict(options)
    if kind == "classes" and options.get("scoring") == "neg_mean_squared_error":
        options["scoring"] = "neg_log_loss"
    data = arguments(kind, given == "weights", options.pop("dtype", np.float64))
    held = {"eval_set": HELD[kind]} if given == "eval_set" else {}
    once = make(kind, "numpy", max_iter=10, **options).fit(*data, **held)
    parts = make(kind, "numpy", max_iter=10, **options)
    for epoch in range(10):
        parts.partial_fit(*data, **held, **({"classes": [0, 1]} if kind == "classes" and not epoch else {}))
    once.partial_fit(*data, **held)
    assert_same(parts.partial_fit(*data, **held), once)
    assert len(once.loss_curve_) == 11


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_pickle_goes_on_too(named_backend, kind):
    """Early stopping, dropout and a schedule included, in another estimator."""
    options = {**OPTIONS["everything"], "learning_rate": ReduceOnPlateau(patience=0, threshold=0.5)}
    data = arguments(kind, True, options.pop("dtype"))
    once = make(kind, named_backend.name, max_iter=10, **options).fit(*data)
    half = make(kind, named_backend.name, max_iter=5, warm_start=True, **options).fit(*data)
    other = pickle.loads(pickle.dumps(half))
    assert_same(other.fit(*data), once)
    assert_same(half.fit(*data), once)


class StopAfterFive(Callback):
    def on_epoch_end(self, progress):
        return progress.epoch == 5


def test_a_training_that_a_callback_ended_goes_on():
    data = arguments("number", True)
    once = make("number", "numpy", max_iter=10, **STOPPING).fit(*data)
    parts = make("number", "numpy", max_iter=99, warm_start=True, callbacks=[StopAfterFive()], **STOPPING)
    assert_same(parts.fit(*data).fit(*data), once)


def test_weights_that_somebody_sets_are_gone_on_from():
    """In place of the latest ones that early stopping remembers."""
    data = arguments("number", False)

    def score(estimator, X, y):  # the first epoch is the best of three, and the later ones are better
        epochs = len(estimator.loss_curve_)
        return epochs if epochs > 3 else -epochs

    options = {**STOPPING, "scoring": score, "warm_start": True, "learning_rate_init": 1e-9}
    model = make("number", "numpy", max_iter=3, **options).fit(*data)
    for W in model.coefs_:
        W[...] = 0.25
    model.fit(*data)
    for W in model.coefs_:
        np.testing.assert_allclose(W, 0.25, atol=1e-6)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_an_interrupted_fit_goes_on_from_a_checkpoint(named_backend, solver, early_stopping, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 4)), rng.integers(0, 3, 120)
    options = {
        "backend": named_backend.name,
        "random_state": 3,
        "max_iter": 40,
        "solver": solver,
        "dropout": 0.1,
        "early_stopping": early_stopping,
        "n_iter_no_change": 6,
        "learning_rate_init": 0.02,
        "batch_size": 16,
        **({"learning_rate": "adaptive", "tol": 1e-2} if solver == "sgd" else {}),
    }
    once = MLPClassifier((8,), **options).fit(X, y)
    stop = Stop(41, Killed)
    with pytest.raises(Killed):
        MLPClassifier((8,), **options, callbacks=[Checkpoint(tmp_path, every=5), stop]).fit(X, y)
    again = MLPClassifier((8,), **options, callbacks=[Checkpoint(tmp_path, every=5)]).fit(X, y, resume=tmp_path)
    ended = MLPClassifier((8,), **options).fit(X, y, resume=tmp_path)
    for model in (again, ended):
        np.testing.assert_array_equal(model.predict_proba(X), once.predict_proba(X))
        for name in ("n_iter_", "t_", "loss_", "loss_curve_", "validation_scores_", "best_loss_", "stopped_"):
            assert getattr(model, name) == getattr(once, name), name


def test_a_fit_that_cannot_go_on_says_why(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    for options, text in (
        ({"solver": "lbfgs", "random_state": 0}, "resume: goes on with a fit by adam or sgd"),
        ({}, "resume: needs the same initial weights again; give random_state"),
    ):
        with pytest.raises(DataError, match=text):
            MLPClassifier(**options).fit(X, y, resume=tmp_path)


@pytest.mark.parametrize("other", [{"learning_rate_init": 0.5}, {"tol": 1.0}, {"n_iter_no_change": 2}])
def test_a_fit_goes_on_with_the_same_rules_alone(other, tmp_path):
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    options = {"backend": "numpy", "random_state": 0, "max_iter": 9, "learning_rate_init": 0.01, "batch_size": 16}
    with pytest.raises(Killed):
        MLPClassifier((5,), **options, callbacks=[Checkpoint(tmp_path, every=2), Stop(7, Killed)]).fit(X, y)
    model = MLPClassifier((5,), **options | other)
    with pytest.raises(DataError, match=rf"was written with solver=.*, not .*{next(iter(other))}="):
        model.fit(X, y, resume=tmp_path)
    assert not hasattr(model, "network_")
