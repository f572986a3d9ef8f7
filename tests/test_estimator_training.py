"""The estimators train as scikit-learn's do, go on where they ended, and survive what cannot be trained on."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning

from accelnn import DivergenceError
from accelnn.estimators import MLPClassifier, MLPRegressor
from accelnn.estimators.stopping import Watch

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CPU = pytest.mark.parametrize("backend", ["numpy", "numba"])
GOES_ON = {"tol": 0.0, "n_iter_no_change": 1000}  # nothing stops
SOLVERS = {
    "adam": {},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1},
}


def examples(kind, m=90, dtype="float64"):
    """X with five features, and targets of each kind that the estimators know."""
    X, y = make_classification(m, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
    numbers = make_regression(m, 5, n_targets=2, noise=1.0, random_state=0)[1] / 100
    targets = {
        "multiclass": y,
        "binary": np.array(["no", "yes"])[(y > 0).astype(int)],
        "multilabel": np.stack([y > 0, y > 1, X[:, 0] > 0], axis=1).astype(int),
        "number": numbers[:, 0],
        "numbers": numbers,
        "counts": np.random.default_rng(0).poisson(np.exp(0.3 * X[:, 0])).astype(float),
    }
    return X.astype(dtype), targets[kind]


CLASSES = ("multiclass", "binary", "multilabel")
KINDS = (*CLASSES, "number", "numbers", "counts")


def both(kind, backend="numpy", **options):
    """Our estimator and scikit-learn's, full batch."""
    options = {"random_state": 3, "batch_size": 90, "hidden_layer_sizes": (7, 4)} | options
    if kind == "counts":
        options["loss"] = "poisson"
    ours, other = (MLPClassifier, theirs.MLPClassifier) if kind in CLASSES else (MLPRegressor, theirs.MLPRegressor)
    return ours(backend=backend, **options), other(**options)


def fitted(kind, backend="numpy", **options):
    return [model.fit(*examples(kind)) for model in both(kind, backend, **options)]


def insides(model):
    """All that an estimator holds, as bytes where it is arrays, to be compared before and after."""
    state = {name: copy.deepcopy(value) for name, value in vars(model).items() if name != "network_"}
    if hasattr(model, "network_"):
        net = model.network_
        steps = net.optimizer_state
        state["network"] = id(net), net.epochs_trained, net.seed, net.theta.tobytes()
        state["optimizer"] = steps and (steps.rule, steps.step, steps.vectors.tobytes())
    return {
        name: pickle.dumps(value) if name in ("_labels", "_split") else repr(value) for name, value in state.items()
    }


# The same training as scikit-learn's.


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights(kind, activation):
    ours, other = fitted(kind, activation=activation, solver="sgd", learning_rate_init=1e-14, max_iter=1)
    for name in ("coefs_", "intercepts_"):
        for mine, expected in zip(getattr(ours, name), getattr(other, name), strict=True):
            assert mine.shape == expected.shape
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-12)


@CPU
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "numbers"])
def test_first_loss(kind, backend):
    ours, other = fitted(kind, backend, max_iter=1, alpha=0.5)
    assert ours.loss_ == pytest.approx(other.loss_, rel=1e-6)


def test_first_loss_of_several_numbers():
    """scikit-learn's loss is the mean over the targets, though its gradient is of the sum; ours is the sum."""
    ours, other = fitted("numbers", max_iter=1, alpha=0.0)
    assert ours.loss_ == pytest.approx(2 * other.loss_, rel=1e-6)


@CPU
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_attributes_are_scikit_learns(solver, kind, backend):
    ours, other = fitted(kind, backend, max_iter=30, activation="tanh", n_iter_no_change=4, **SOLVERS[solver])
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "validation_scores_"):
        assert getattr(ours, name) == getattr(other, name), name
    # The two put Adam's epsilon at different places.
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if solver == "adam" else {"rtol": 1e-9, "atol": 1e-12}
    for mine, expected in zip(ours.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(mine, expected, **tolerance)
    if kind != "numbers":
        np.testing.assert_allclose(ours.loss_curve_, other.loss_curve_, **tolerance)
        assert ours.best_loss_ == pytest.approx(other.best_loss_, rel=1e-3) == min(ours.loss_curve_)
    if kind in CLASSES:
        np.testing.assert_array_equal(ours.classes_, other.classes_)
        X = examples(kind)[0]
        np.testing.assert_allclose(ours.predict_proba(X), other.predict_proba(X), atol=1e-3)
        np.testing.assert_array_equal(ours.predict(X), other.predict(X), strict=True)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_without_shuffling_are_scikit_learns(shuffle):
    ours, other = fitted("multiclass", batch_size=20, shuffle=shuffle, solver="sgd", max_iter=5)
    assert np.allclose(ours.loss_curve_, other.loss_curve_, rtol=1e-10, atol=0) == (not shuffle)


# When it stops.


@CPU
@pytest.mark.parametrize("patience", [1, 5])
def test_stops_after_epochs_without_improvement(backend, patience):
    ours, other = fitted("binary", backend, solver="sgd", tol=0.01, n_iter_no_change=patience, max_iter=500)
    assert ours.n_iter_ == other.n_iter_ < 500
    curve, best = ours.loss_curve_, np.inf
    improved = [0]
    for epoch, loss in enumerate(curve, 1):
        if loss <= best - 0.01:
            improved.append(epoch)
        best = min(best, loss)
    assert len(curve) - improved[-1] == patience + 1


@CPU
def test_an_adaptive_rate_is_divided_until_it_is_too_small(backend, capsys):
    options = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.01}
    ours, other = fitted("binary", backend, n_iter_no_change=2, max_iter=500, **options)
    assert ours.n_iter_ == other.n_iter_ < 500
    both("binary", backend, n_iter_no_change=2, max_iter=500, verbose=True, **options)[0].fit(*examples("binary"))
    printed = capsys.readouterr().out
    assert "Setting learning rate to 0.100000" in printed
    assert "Setting learning rate to 0.020000" in printed
    assert printed.count("Iteration") == ours.n_iter_


@CPU
@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_holds_out_what_scikit_learn_does(kind, backend):
    options = {"early_stopping": True, "validation_fraction": 0.2, "solver": "sgd", "learning_rate_init": 0.05}
    options["batch_size"] = 72
    ours, other = fitted(kind, backend, n_iter_no_change=5, max_iter=100, **options)
    np.testing.assert_allclose(ours.validation_scores_, other.validation_scores_, rtol=1e-6, atol=1e-9)
    assert (ours.n_iter_, ours.t_) == (other.n_iter_, other.t_)
    assert ours.best_validation_score_ == max(ours.validation_scores_)
    assert ours.best_loss_ is None


@CPU
@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_early_stopping_restores_the_best_weights(kind, backend):
    options = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 5, "learning_rate_init": 0.1}
    options["batch_size"] = 21
    long, _ = fitted(kind, backend, max_iter=60, **options)
    best = 1 + int(np.argmax(long.validation_scores_))
    assert best < long.n_iter_
    short, _ = fitted(kind, backend, max_iter=best, **options)
    for mine, expected in zip(long.coefs_, short.coefs_, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_early_stopping_with_a_rare_class():
    X, y = examples("multiclass")
    y = y.copy()
    y[0] = 9
    assert 9 in MLPClassifier(early_stopping=True, max_iter=2, backend="numpy").fit(X, y).classes_


@pytest.mark.parametrize(("solver", "text"), [("adam", "max_iter"), ("sgd", "max_iter"), ("lbfgs", "LIMIT")])
def test_too_few_epochs_warn_where_fit_is_called(solver, text):
    with pytest.warns(ConvergenceWarning, match=text) as caught:
        both("binary", solver=solver, max_iter=3)[0].fit(*examples("binary"))
    assert [warning.filename for warning in caught] == [__file__]


def test_no_warning_when_it_converges_or_in_partial_fit():
    X, y = examples("binary")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both("binary", tol=0.5, n_iter_no_change=1)[0].fit(X, y).partial_fit(X, y)


@CPU
@pytest.mark.parametrize("kind", KINDS)
def test_lbfgs_is_scikit_learns(kind, backend):
    options = {"solver": "lbfgs", "activation": "tanh", "alpha": 10.0, "tol": 1e-8}
    ours, other = fitted(kind, backend, max_iter=20, **options)
    if kind == "numbers":  # there scikit-learn's gradient is not its loss's
        assert ours.score(*examples(kind)) > other.score(*examples(kind))
        return
    assert ours.n_iter_ == other.n_iter_ == 20
    for mine, expected in zip(ours.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-6)
    ours, other = fitted(kind, backend, max_iter=500, **options)
    assert ours.loss_ == pytest.approx(other.loss_, rel=1e-6)
    assert ours.n_iter_ < 500


# Going on.


def small(kind, backend, **options):
    return both(kind, backend, batch_size=8, hidden_layer_sizes=(4,), **GOES_ON | options)[0]


def assert_equal_inside(one, other):
    """Apart from the parameters, everything is the same."""
    for mine, expected in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(mine, expected)
    for name in ("t_", "loss_", "best_loss_", "loss_curve_", "_no_improvement_count", "_slowdown"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_five_and_five_epochs_are_ten(named_backend, solver, kind):
    X, y = examples(kind, 90)
    X, y = X[:30], y[:30]
    options = SOLVERS[solver] | ({"n_iter_no_change": 2, "tol": 0.1} if solver == "adaptive" else {})
    once = small(kind, named_backend.name, max_iter=10, **options).fit(X, y)
    warm = small(kind, named_backend.name, max_iter=5, warm_start=True, **options).fit(X, y)
    assert warm.n_iter_ == 5
    assert_equal_inside(warm.fit(X, y), once)
    part = small(kind, named_backend.name, max_iter=10, **options)
    for epoch in range(10):
        part.partial_fit(X, y, **({"classes": np.unique(y)} if kind == "multiclass" and not epoch else {}))
        assert part.n_iter_ == 1
    assert_equal_inside(part, once)
    if solver == "adaptive":
        assert once._slowdown > 1


@CPU
def test_going_on_after_a_pickle(backend):
    X, y = examples("binary")
    once = small("binary", backend, max_iter=10).fit(X, y)
    half = small("binary", backend, max_iter=5, warm_start=True).fit(X, y)
    assert_equal_inside(pickle.loads(pickle.dumps(half)).fit(X, y), once)


@CPU
def test_a_new_learning_rate_counts_when_going_on(backend):
    X, y = examples("binary")
    model = small("binary", backend, max_iter=3, warm_start=True).fit(X, y)
    before = [W.copy() for W in model.coefs_]
    model.set_params(learning_rate_init=1e-14).fit(X, y)
    for mine, expected in zip(model.coefs_, before, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-10)


def test_early_stopping_may_be_switched_when_going_on():
    X, y = examples("binary")
    model = small("binary", "numpy", max_iter=3, warm_start=True).fit(X, y)
    assert len(model.set_params(early_stopping=True).fit(X, y).validation_scores_) == 3
    assert model.set_params(early_stopping=False).fit(X, y).best_loss_ < np.inf


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_going_on_with_another_solver(solver):
    X, y = examples("binary")
    model = small("binary", "numpy", max_iter=20, warm_start=True, solver="lbfgs").fit(X, y)
    loss = model.loss_
    assert model.set_params(solver=solver).fit(X, y).loss_ <= loss + 1e-3


def test_lbfgs_moves_on_without_the_memory_of_adam():
    X, y = examples("binary")
    model = small("binary", "numpy", max_iter=5, warm_start=True).fit(X, y)
    assert model.set_params(solver="lbfgs").fit(X, y).network_.optimizer_state is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden_layer_sizes": (5,)}, r"hidden_layer_sizes: .*\[5, 4, 1\], not \[5, 5, 1\]"),
        ({"activation": "tanh"}, "activation: "),
    ],
)
def test_a_changed_network_cannot_go_on(change, text):
    X, y = examples("binary")
    model = small("binary", "numpy", max_iter=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=text):
        model.set_params(**change).fit(X, y)


def test_keyboard_interrupt_keeps_what_was_trained(monkeypatch):
    whole = Watch.on_epoch_end

    def interrupted(watch, progress):
        whole(watch, progress)
        if progress.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "on_epoch_end", interrupted)
    model = small("binary", "numpy", max_iter=10)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(*examples("binary"))
    assert model.n_iter_ == len(model.loss_curve_) == 4
    model.predict(examples("binary")[0])


# Types.


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind, solver, named_backend):
    X, y = examples(kind, dtype="float32")
    model = small(kind, named_backend.name, max_iter=2, solver=solver).fit(X[:20], y[:20])
    assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype("float32")}
    answer = model.predict_proba(X[:5]) if kind in CLASSES else model.predict(X[:5])
    assert answer.dtype == np.float32
    assert isinstance(answer, np.ndarray)


# What cannot be trained on.

BAD = {
    "NaN in X": (
        lambda X, y: (np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X), y),
        {},
        "X: row 1, column 2 is NaN",
    ),
    "infinity in X": (lambda X, y: (np.full_like(X, np.inf), y), {}, "X: row 0, column 0 is inf"),
    "other lengths": (lambda X, y: (X, y[:-1]), {}, "inconsistent numbers of samples"),
    "a parameter": (lambda X, y: (X, y), {"alpha": -1.0}, "alpha: -1.0"),
    "an unknown backend": (lambda X, y: (X, y), {"backend": "abacus"}, "backend: 'abacus'"),
}
BAD_CLASSES = {
    "one class": (lambda X, y: (X[y == y[0]], y[y == y[0]]), {}, "y: holds one class only"),
    "numbers": (lambda X, y: (X, X[:, 0]), {}, "Unknown label type"),
}
BAD_NUMBERS = {
    "NaN in y": (lambda X, y: (X, np.where(y == y[0], np.nan, y)), {}, "y: row 0 is NaN"),
    "too little to hold out": (lambda X, y: (X[:9], y[:9]), {"early_stopping": True}, "validation_fraction"),
    "negative counts": (lambda X, y: (X, y - 1e6), {"loss": "poisson"}, "y: row 0 is -"),
    "divergence": (lambda X, y: (X, y), {"learning_rate_init": 1e200, "solver": "sgd"}, "learning_rate_init: 1e"),
    "divergence of lbfgs": (lambda X, y: (X * 1e200, y * 1e200), {"solver": "lbfgs"}, "X: lbfgs"),
}
CASES = [(kind, name, *case) for kind in ("binary", "number") for name, case in BAD.items()]
CASES += [("binary", name, *case) for name, case in BAD_CLASSES.items()]
CASES += [("number", name, *case) for name, case in BAD_NUMBERS.items()]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("kind", "what", "spoil", "change", "text"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_failed_fit_changes_nothing(kind, what, spoil, change, text, warm):
    X, y = examples(kind)
    change = change | {"hidden_layer_sizes": (4,)}
    fresh = small(kind, "numpy", max_iter=3).set_params(**change)
    parameters = insides(fresh)
    with np.errstate(all="ignore"), pytest.raises((ValueError, DivergenceError), match=text):
        fresh.fit(*spoil(X, y))
    assert insides(fresh) == parameters

    if warm and what == "one class":
        return  # an earlier fit has told of the others
    model = small(kind, "numpy", max_iter=3).fit(X, y).set_params(warm_start=warm, **change)
    before, predicted = insides(model), model.predict(X)
    with np.errstate(all="ignore"), pytest.raises((ValueError, DivergenceError)):
        model.fit(*spoil(X, y))
    assert insides(model) == before
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_a_failure_in_the_middle_changes_nothing(named_backend, monkeypatch):
    """Not only what the network itself takes back."""
    X, y = examples("binary")
    model = small("binary", named_backend.name, max_iter=2, warm_start=True).fit(X[:20], y[:20])
    coefs, curve = [W.copy() for W in model.coefs_], list(model.loss_curve_)
    twin = small("binary", named_backend.name, max_iter=4).fit(X[:20], y[:20])

    def broken(watch, progress):
        watch.estimator.loss_curve_.append(0.0)
        raise MemoryError

    whole = Watch.on_epoch_end
    monkeypatch.setattr(Watch, "on_epoch_end", broken)
    with pytest.raises(MemoryError):
        model.fit(X[:20], y[:20])
    monkeypatch.setattr(Watch, "on_epoch_end", whole)
    assert model.loss_curve_ == curve
    for mine, expected in zip(model.coefs_, coefs, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert_equal_inside(model.fit(X[:20], y[:20]), twin)


def test_partial_fit_knows_its_classes():
    X, y = examples("multiclass")
    model = MLPClassifier(backend="numpy", random_state=0)
    with pytest.raises(ValueError, match="classes: the first call"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y: holds classes .*\[2\]"):
        model.partial_fit(X, y, classes=[0, 1])
    assert not [name for name in vars(model) if name.endswith("_")]
    model.partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    before = insides(model)
    for bad, options in ((y + 1, {}), (y, {"classes": [0, 1]}), (y.astype(str), {})):
        with pytest.raises(ValueError, match="classes"):
            model.partial_fit(X, bad, **options)
        assert insides(model) == before
    assert model.predict_proba(X).shape == (90, 3)


def test_partial_fit_is_not_for_everybody():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="class_weight: 'balanced' needs all"):
        MLPClassifier(class_weight="balanced").partial_fit(*examples("binary"), classes=["no", "yes"])


def test_batch_size_above_the_number_of_examples_warns():
    with pytest.warns(UserWarning, match="batch_size") as caught:
        large = both("binary", batch_size=91, max_iter=3)[0].fit(*examples("binary"))
    assert {warning.filename for warning in caught} == {__file__}
    assert large.loss_curve_ == fitted("binary", max_iter=3)[0].loss_curve_


def test_warnings_as_errors_come_after_the_training():
    model = small("binary", "numpy", max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.fit(*examples("binary"))
    assert model.n_iter_ == 3
