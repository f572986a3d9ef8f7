"""Examples that are not trained on: their loss, their score, and what these decide."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import fbeta_score, get_scorer, make_scorer, mean_absolute_error

from accelnn import Callback, DataError
from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

M = 120
X, three = make_classification(200, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.2, random_state=0)
numbers = X @ np.array([[1.0, 0.0], [-1.0, 0.5], [0.5, 2.0], [0.0, 1.0], [0.0, 0.0]])
numbers += np.random.default_rng(0).normal(size=numbers.shape)
TARGETS = {
    "classes": three,
    "two classes": (three > 0).astype(int),
    "labels": np.stack([three > 0, three > 1, X[:, 0] > 0], axis=1).astype(int),
    "number": numbers[:, 0],
    "numbers": numbers,
}
NUMBERS = ("number", "numbers")
WEIGHTS = np.random.default_rng(1).uniform(0.1, 2.0, size=200)


def make(kind, backend="numpy", **options):
    estimator = MLPRegressor if kind in NUMBERS else MLPClassifier
    options = {"random_state": 0, "hidden_layer_sizes": (16,), "learning_rate_init": 0.05, "alpha": 0.0, **options}
    return estimator(backend=backend, **options)


def data(kind, weights=None):
    """Arguments of `fit`, and the validation set."""
    y, weights = TARGETS[kind], () if weights is None else (weights,)
    return (X[:M], y[:M], *(w[:M] for w in weights)), (X[M:], y[M:], *(w[M:] for w in weights))


def parameters(model):
    return np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_])


# The loss of a validation set.


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_the_validation_loss_is_that_after_each_epoch(named_backend, kind, weights):
    """The mean of the examples' losses, without the penalty; to have it changes nothing in the training."""
    (inputs, y, *_), held = data(kind, weights)
    options = {"backend": named_backend.name, "hidden_layer_sizes": (4,), "alpha": 1.0}
    model = make(kind, max_iter=3, **options).fit(inputs[:30], y[:30], eval_set=held)
    plain = make(kind, max_iter=3, **options).fit(inputs[:30], y[:30])
    np.testing.assert_array_equal(parameters(model), parameters(plain))
    assert (model.loss_curve_, model.n_iter_, plain.validation_loss_curve_) == (plain.loss_curve_, 3, None)
    weights = np.ones(len(held[0])) if weights is None else held[2]
    if kind in NUMBERS:
        losses = np.sum((model.predict(held[0]) - held[1]).reshape(len(held[0]), -1) ** 2, axis=1) / 2
    else:
        P = model.predict_proba(held[0])
        if kind == "labels":
            losses = -np.sum(np.log(np.where(held[1], P, 1 - P)), axis=1)
        else:
            losses = -np.log(P[np.arange(len(P)), held[1]])
    expected = np.average(losses, weights=weights)
    assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)
    assert len(set(model.validation_loss_curve_)) == 3


@pytest.mark.parametrize("form", [list, tuple])
def test_a_validation_set_is_a_pair_or_three(form):
    arguments, held = data("number", np.ones(200))
    curves = [
        make("number", max_iter=2).fit(*arguments, eval_set=form(held[:n])).validation_loss_curve_ for n in (2, 3)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-12)


@pytest.mark.parametrize(
    ("eval_set", "text"),
    [
        ([data("classes")[1]], r"eval_set: give a pair \(X, y\)"),
        ([data("classes")[1], data("classes")[1]], "eval_set X: "),
        ({"X": X, "y": three}, "eval_set: give a pair"),
        (X, "eval_set: give a pair"),
        ((X, None), "eval_set y: MLPClassifier requires y"),
        ((X[:, :3], three), "eval_set X: X has 3 features"),
        ((X, three[:-1]), "eval_set y: .*inconsistent"),
        ((X, three + 1), r"eval_set y: holds classes .*\[3\]"),
        ((X, TARGETS["labels"]), "eval_set y: has shape"),
        ((X, three, np.ones(7)), "eval_set sample_weight: has shape"),
        ((X[:0], three[:0]), "eval_set X: .*0 sample"),
    ],
)
def test_validation_sets_that_are_refused(eval_set, text):
    model = make("classes", max_iter=2)
    with pytest.raises(DataError, match=f"^{text}"):
        model.fit(X, three, eval_set=eval_set)
    assert not hasattr(model, "network_")


def test_targets_of_a_validation_set_are_as_many():
    with pytest.raises(DataError, match=r"^eval_set y: has 2 target\(s\), but the network has been made for 1"):
        make("number").fit(X, TARGETS["number"], eval_set=(X, numbers))


# Early stopping.

HALF = make_scorer(fbeta_score, beta=0.5)
SCORES = {
    "classes": [None, "loss", "balanced_accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"],
    "two classes": [None, "loss", "roc_auc", "f1", "average_precision", "neg_brier_score", HALF],
    "labels": [None, "loss", "f1_micro", "roc_auc"],
    "number": [None, "loss", "neg_mean_absolute_error", "neg_root_mean_squared_error", get_scorer("r2")],
    "numbers": [None, "loss", make_scorer(mean_absolute_error, greater_is_better=False, multioutput=[1.0, 0.0])],
}
CASES = [(kind, scoring) for kind, names in SCORES.items() for scoring in names]


def scored(model, scoring, X, y, weights=None):
    """The score of a fitted model, by scikit-learn's own scorer."""
    weights = {} if weights is None else {"sample_weight": weights}
    return model.score(X, y, **weights) if scoring is None else get_scorer(scoring)(model, X, y, **weights)


@pytest.mark.parametrize(("kind", "scoring"), CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_the_best_weights_are_restored(kind, scoring, weights):
    """By any scorer: those after the epoch with the best score, which is the final model's."""
    arguments, held = data(kind, weights)
    options = {"early_stopping": True, "scoring": scoring, "n_iter_no_change": 5}
    model = make(kind, **options).fit(*arguments, eval_set=held)
    best = 1 + int(np.argmax(model.validation_scores_))
    assert best < model.n_iter_ < 200, (best, model.n_iter_)
    assert model.stopped_
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    if scoring == "loss":
        assert model.validation_scores_ == [-loss for loss in model.validation_loss_curve_]
    else:
        assert model.best_validation_score_ == pytest.approx(scored(model, scoring, *held), rel=1e-12)
    short = make(kind, max_iter=best, **options | {"early_stopping": False}).fit(*arguments, eval_set=held)
    np.testing.assert_array_equal(parameters(model), parameters(short))
    assert model.t_ == M * model.n_iter_  # nothing was held out


@pytest.mark.parametrize("kind", ["two classes", "number"])
def test_best_weights_on_each_backend(named_backend, kind):
    (inputs, y), held = data(kind)
    scoring = "neg_mean_absolute_error" if kind == "number" else "roc_auc"
    options = {"early_stopping": True, "scoring": scoring, "n_iter_no_change": 2, "hidden_layer_sizes": (4,)}
    model = make(kind, named_backend.name, **options).fit(inputs[:40], y[:40], eval_set=(held[0][:30], held[1][:30]))
    assert model.n_iter_ < 200
    assert model.best_validation_score_ == pytest.approx(scored(model, scoring, held[0][:30], held[1][:30]), rel=1e-9)


def test_a_held_out_part_is_scored_too():
    """As with an `eval_set`, without one."""
    model = make("two classes", early_stopping=True, scoring="roc_auc", validation_fraction=0.4, max_iter=30)
    model.fit(*data("two classes")[0])
    assert model.t_ == 30 * 72 or model.stopped_
    assert len(model.validation_loss_curve_) == len(model.validation_scores_)
    assert 0.5 < model.best_validation_score_ <= 1.0


def test_a_scorer_may_be_any_function():
    """Of the estimator, X and y; without early stopping nobody calls it."""
    calls = []

    def score(estimator, X, y):
        calls.append(len(estimator.loss_curve_))
        return -abs(len(calls) - 4.0)

    arguments, held = data("number")
    model = make("number", early_stopping=True, scoring=score, n_iter_no_change=3).fit(*arguments, eval_set=held)
    assert calls == list(range(1, 9))
    assert model.best_validation_score_ == 0.0
    short = make("number", max_iter=4).fit(*arguments)
    np.testing.assert_array_equal(parameters(model), parameters(short))
    make("number", scoring=score, max_iter=3).fit(*arguments)
    assert len(calls) == 8


@pytest.mark.parametrize(
    ("scoring", "text"),
    [
        ("f2", "scoring"),
        (3, "scoring"),
        (lambda estimator, X, y: np.nan, "^scoring: the validation score is NaN after epoch 1"),
    ],
)
def test_scorers_that_are_refused(scoring, text):
    arguments, held = data("number")
    model = make("number", early_stopping=True, scoring=scoring)
    with pytest.raises(ValueError, match=text):
        model.fit(*arguments, eval_set=held)
    assert not hasattr(model, "network_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_one_class_or_one_example_cannot_be_scored():
    """By scores that need more: else the initial weights would be the best."""
    arguments, (inputs, y) = data("two classes")
    with pytest.raises(DataError, match=r"^scoring: the validation score is NaN"):
        make("two classes", early_stopping=True, scoring="roc_auc").fit(*arguments, eval_set=(inputs[y > 0], y[y > 0]))
    arguments, (inputs, y) = data("number")
    with pytest.raises(DataError, match=r"^scoring: the validation score is NaN"):
        make("number", early_stopping=True).fit(*arguments, eval_set=(inputs[:1], y[:1]))


def test_weights_that_leave_nothing_to_judge_by():
    """The error is of the argument that was given."""
    y, weights = TARGETS["number"], np.zeros(200)
    weights[:3] = 1.0
    with pytest.raises(DataError, match=r"^sample_weight: "):
        make("number", early_stopping=True).fit(X, y, weights)


# Early stopping in partial_fit.


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_partial_fit_stops_as_fit_does(named_backend, kind):
    """After which nothing changes any more, and the best weights are there."""
    (inputs, y), held = data(kind)
    inputs, y, held = inputs[:40], y[:40], tuple(part[:30] for part in held)
    options = {"early_stopping": True, "n_iter_no_change": 2, "hidden_layer_sizes": (4,), "backend": named_backend.name}
    once = make(kind, **options).fit(inputs, y, eval_set=held)
    assert once.n_iter_ < 100
    parts, first = make(kind, **options), {} if kind == "number" else {"classes": [0, 1, 2]}
    for epoch in range(once.n_iter_ + 3):
        assert not getattr(parts, "stopped_", False) or epoch >= once.n_iter_
        parts.partial_fit(inputs, y, eval_set=held, **first if not epoch else {})
    assert parts.stopped_
    np.testing.assert_array_equal(parameters(parts), parameters(once))
    for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_validation_score_", "t_"):
        assert getattr(parts, name) == getattr(once, name), name
    assert parts.score(*held) == pytest.approx(parts.best_validation_score_, rel=1e-9)


def test_partial_fit_holds_out_a_part_of_each_call():
    model = make("number", early_stopping=True, validation_fraction=0.25)
    for start in (0, 40, 80):
        model.partial_fit(X[start : start + 40], numbers[start : start + 40, 0])
    assert model.t_ == 90
    assert len(model.validation_scores_) == 3


def test_partial_fit_goes_on_after_a_fit_that_stopped_nowhere():
    """From the latest weights, not from the best."""
    arguments, held = data("two classes")
    options = {"early_stopping": True, "scoring": "loss", "n_iter_no_change": 1000, "tol": 0.0}
    once, parts, warm = (
        make("two classes", max_iter=epochs, warm_start=epochs == 1, **options).fit(*arguments, eval_set=held)
        for epochs in (40, 39, 1)
    )
    assert np.argmax(once.validation_scores_) < 35
    parts.partial_fit(*arguments, eval_set=held)
    for _ in range(39):
        warm.fit(*arguments, eval_set=held)
    for model in (parts, warm):
        assert model.loss_curve_ == once.loss_curve_
        assert model.validation_scores_ == once.validation_scores_
    np.testing.assert_array_equal(parameters(warm), parameters(once))


def test_partial_fit_without_early_stopping_never_stops():
    """Of a stream, whose losses go up and down, every part is learned from."""
    model = make("number", tol=1e9, n_iter_no_change=1)
    for calls in range(1, 7):
        before = parameters(model) if calls > 1 else None
        model.partial_fit(X, TARGETS["number"])
        assert (model.t_, len(model.loss_curve_)) == (200 * calls, calls)
        assert before is None or not np.array_equal(parameters(model), before)
    assert not model.stopped_


def test_partial_fit_after_a_fit_that_converged():
    """It is asked for, and trains."""
    model = make("number", tol=1e9, n_iter_no_change=1).fit(X, TARGETS["number"])
    assert model.stopped_
    before, t = parameters(model), model.t_
    model.partial_fit(X, TARGETS["number"])
    assert model.t_ == t + 200
    assert not np.array_equal(parameters(model), before)


# What a callback sees.


class Seen(Callback):
    """Ends the training after some epochs."""

    def __init__(self, last=None):
        self.last, self.calls, self.rows = last, [], []

    def on_fit_begin(self, progress):
        self.calls.append("begin")

    def on_epoch_end(self, progress):
        self.rows.append((progress.epoch, progress.loss, progress.validation_loss))
        return progress.epoch == self.last

    def on_fit_end(self, progress):
        self.calls.append("end")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_callbacks_are_told_of_each_epoch(solver):
    seen, (arguments, held) = Seen(), data("number")
    model = make("number", solver=solver, callbacks=[seen], max_iter=4).fit(*arguments, eval_set=held)
    assert seen.calls == ["begin", "end"]
    epochs, losses, validation = map(list, zip(*seen.rows, strict=True))
    assert epochs == [1, 2, 3, 4]
    assert losses == model.loss_curve_
    assert validation == model.validation_loss_curve_


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_callback_may_end_the_training(recwarn, solver):
    """Which is then no lack of convergence; the next fit begins anew."""
    seen, (arguments, _) = Seen(last=3), data("number")
    model = make("number", solver=solver, callbacks=[Callback(), seen], max_iter=50)
    for _ in range(2):
        model.fit(*arguments)
        assert len(model.loss_curve_) == model.n_iter_ == 3
    assert not [warning for warning in recwarn if issubclass(warning.category, ConvergenceWarning)]
    assert not model.stopped_
    expected = make("number", solver=solver, max_iter=3).fit(*arguments)
    np.testing.assert_array_equal(parameters(model), parameters(expected))


def test_a_callback_that_fails_leaves_the_estimator_as_it_was():
    class Broken(Callback):
        def on_fit_end(self, progress):
            raise RuntimeError("disk full")

    arguments, _ = data("number")
    model, twin = (make("number", warm_start=True, max_iter=3).fit(*arguments) for _ in range(2))
    with pytest.raises(RuntimeError, match="disk full"):
        model.set_params(callbacks=[Broken()]).fit(*arguments)
    assert (model.loss_curve_, model.t_) == (twin.loss_curve_, twin.t_)
    np.testing.assert_array_equal(parameters(model), parameters(twin))
    model.set_params(callbacks=None).fit(*arguments)
    np.testing.assert_array_equal(parameters(model), parameters(twin.fit(*arguments)))


# What is printed.


def test_verbose_prints_scikit_learns_lines(capsys):
    arguments, held = data("number")
    options = {"early_stopping": True, "n_iter_no_change": 2, "verbose": True}
    model = make("number", **options).fit(*arguments, eval_set=held)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}"
    assert sum(line.startswith("Iteration") for line in lines) == model.n_iter_
    assert "Validation score did not improve" in lines[-1]
    make("number", max_iter=2).fit(*arguments)
    assert capsys.readouterr().out == ""
