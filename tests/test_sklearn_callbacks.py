"""scikit-learn's callbacks see the estimators' training as they see that of scikit-learn's own."""

import copy
import itertools
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from conftest import FACTORIES, host
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelnn import Callback, DataError, DivergenceError, MLPClassifier, MLPRegressor
from accelnn.estimators import protocol
from accelnn.estimators.protocol import Tasks, fit_tasks

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, CLASSES = datasets.load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0]
NAMES = np.array(["a", "b", "c"])[CLASSES]
LISTS = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
FOLLOWED = (*LISTS, "loss_", "best_loss_", "best_validation_score_")
SMALL = {"hidden_layer_sizes": (5,), "random_state": 0, "backend": "numpy"}


@pytest.fixture
def skl():
    """The module of scikit-learn's callbacks, where there is one."""
    return pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """Keeps what it is told: (hook, names of the tasks from the root on, number of the task, all that was given)."""

    def __init__(self, stop_after=None, fail=()):
        self.told, self.stop_after, self.fail = [], stop_after, dict(fail)

    def tell(self, hook, context, **given):
        self.told.append((hook, names(context), context.task_id, given))
        if hook in self.fail:
            raise self.fail[hook]

    def setup(self, estimator, context):
        self.tell("setup", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.tell("begin", context, X=X, y=y, metadata=metadata, fitted=fitted_estimator, most=context.max_subtasks)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.tell("end", context, X=X, y=y, metadata=metadata, fitted=fitted_estimator)
        return context.parent is not None and context.task_id + 1 == self.stop_after

    def teardown(self, estimator, context):
        self.tell("teardown", context)

    @property
    def hooks(self):
        return [(hook, path[-1], number) for hook, path, number, _ in self.told]

    def fitted(self, hook, task):
        """The estimators that were given with a hook of the tasks of this name."""
        return [given["fitted"] for name, path, _, given in self.told if (name, path[-1]) == (hook, task)]


class Spreading(Recorder):
    """The same for the estimators within an estimator too."""

    max_propagation_depth = None


@pytest.fixture
def recorder(skl):
    return Recorder()


def names(context):
    return (*(names(context.parent) if context.parent else ()), context.task_name)


def classifier(**options):
    return MLPClassifier(**SMALL | options)


def regressor(**options):
    return MLPRegressor(**SMALL | options)


def leftovers(estimator):
    return {name for name in vars(estimator) if "callback" in name} - {"callbacks", "_skl_callbacks"}


def whole(task, epochs, part="epoch"):
    """The hooks of a training of so many epochs."""
    told = [("setup", task, 0), ("begin", task, 0)]
    for k in range(epochs):
        told += [("begin", part, k), ("end", part, k)]
    return [*told, ("end", task, 0), ("teardown", task, 0)]


# The tasks.


@unconverged
@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"early_stopping": True}, {"batch_size": 40}])
@pytest.mark.parametrize(("make", "y"), [(classifier, NAMES), (regressor, NUMBERS)])
def test_a_fit_is_a_task_and_each_epoch_one_within(make, y, options, recorder):
    model = make(max_iter=3, **options).set_callbacks(recorder).fit(X, y)
    assert recorder.hooks == whole("fit", 3)
    assert {path for _, path, _, _ in recorder.told} == {("fit",), ("fit", "epoch")}
    assert [given["most"] for hook, _, _, given in recorder.told if hook == "begin"] == [3, 0, 0, 0]
    assert not leftovers(model)


@unconverged
def test_callbacks_see_the_data_as_fit_was_given_them(recorder):
    classifier(max_iter=2).set_callbacks(recorder).fit(X, NAMES)
    given = [given for hook, _, _, given in recorder.told if hook in ("begin", "end")]
    assert len(given) == 6
    assert all(each["X"] is X and each["y"] is NAMES and each["metadata"] is None for each in given)


@unconverged
def test_weights_reach_the_callbacks(recorder, skl):
    weights = np.linspace(0.0, 2.0, len(X))
    monitor = skl.ScoringMonitor(scoring="accuracy")
    model = classifier(max_iter=2).set_callbacks(recorder, monitor).fit(X, NAMES, weights)
    given = [given["metadata"] for hook, _, _, given in recorder.told if hook in ("begin", "end")]
    assert len(given) == 6
    assert all(each.keys() == {"sample_weight"} and each["sample_weight"] is weights for each in given)
    assert monitor.get_logs().data[0]["accuracy"] == model.score(X, NAMES, weights) != model.score(X, NAMES)


@unconverged
def test_an_ended_training_has_as_many_tasks_as_epochs(recorder):
    model = regressor(max_iter=500, tol=0.1, n_iter_no_change=2, learning_rate_init=0.05)
    model.set_callbacks(recorder).fit(X, NUMBERS)
    assert 2 < model.n_iter_ < 500
    assert recorder.hooks == whole("fit", model.n_iter_)


@unconverged
def test_lbfgs_has_a_task_for_each_iteration(recorder):
    model = regressor(solver="lbfgs", max_iter=4).set_callbacks(recorder).fit(X, NUMBERS)
    assert model.n_iter_ == 4
    assert recorder.hooks == whole("fit", 4, "iteration")


def test_the_iteration_that_lbfgs_did_not_need_is_an_empty_task(recorder):
    model = regressor(solver="lbfgs", max_iter=5000, hidden_layer_sizes=(), tol=1e-3)
    model.set_callbacks(recorder).fit(X, NUMBERS)
    assert model.n_iter_ < 5000
    assert recorder.hooks == whole("fit", model.n_iter_ + 1, "iteration")
    last = recorder.told[-3]
    assert last[:2] == ("end", ("fit", "iteration"))
    assert last[3] == {"X": None, "y": None, "metadata": None, "fitted": None}


@unconverged
def test_partial_fit_is_a_task_of_one_epoch(recorder):
    model = classifier().set_callbacks(recorder)
    model.partial_fit(X, NAMES, classes=["a", "b", "c"]).partial_fit(X, NAMES)
    assert recorder.hooks == 2 * whole("partial_fit", 1)


@unconverged
def test_a_warm_start_counts_its_own_epochs(recorder):
    model = regressor(max_iter=2, warm_start=True).set_callbacks(recorder).fit(X, NUMBERS).fit(X, NUMBERS)
    assert recorder.hooks == 2 * whole("fit", 2)
    assert [fitted.n_iter_ for fitted in recorder.fitted("end", "epoch")] == [1, 2, 1, 2]
    assert [len(fitted.loss_curve_) for fitted in recorder.fitted("end", "epoch")] == [1, 2, 3, 4]
    assert len(model.loss_curve_) == 4
    # Where the optimiser stands within a run is not known; what the first run left belongs to other weights.
    assert all(fitted.network_.optimizer_state is None for fitted in recorder.fitted("end", "epoch"))


# What they are given to predict with.


@unconverged
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive", "batch_size": 30},
        {"early_stopping": True, "learning_rate_init": 0.3, "batch_size": 30},
        {"solver": "lbfgs"},
    ],
)
def test_the_fitted_estimator_is_what_fit_would_have_left_had_it_stopped(options, named_backend, recorder):
    """A fit of k epochs is the oracle; with early stopping, it keeps the best of them."""
    part = "iteration" if options.get("solver") == "lbfgs" else "epoch"
    options = options | {"backend": named_backend.name}
    model = classifier(max_iter=6, **options).set_callbacks(recorder).fit(X, NAMES)
    after = recorder.fitted("end", part)
    assert len(after) == 6
    for k, fitted in enumerate(after, start=1):
        expected = classifier(max_iter=k, **options).fit(X, NAMES)
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
        assert fitted.n_iter_ == expected.n_iter_ == k
        for name in FOLLOWED:
            assert getattr(fitted, name) == getattr(expected, name), name
        np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))
    # An epoch begins where the one before it ended.
    for before, fitted in zip(recorder.fitted("begin", part)[1:], after, strict=False):
        np.testing.assert_array_equal(host(before.network_.theta), host(fitted.network_.theta))
    (end,) = recorder.fitted("end", "fit")
    np.testing.assert_array_equal(end.predict_proba(X), model.predict_proba(X))
    assert end.n_iter_ == model.n_iter_ == 6


@unconverged
def test_after_partial_fit_the_fitted_estimator_is_the_latest_not_the_best(recorder):
    options = {"early_stopping": True, "learning_rate_init": 0.3, "batch_size": 30}
    model, other = classifier(**options).set_callbacks(recorder), classifier(**options)
    for k in range(6):
        model.partial_fit(X, NAMES, classes=["a", "b", "c"])
        other.partial_fit(X, NAMES, classes=["a", "b", "c"])
        for task in ("epoch", "partial_fit"):
            np.testing.assert_array_equal(recorder.fitted("end", task)[k].predict_proba(X), other.predict_proba(X))


@unconverged
def test_a_fitted_estimator_in_training_is_not_calibrated_yet(recorder):
    model = classifier(max_iter=3, calibration="sigmoid", validation_fraction=0.4)
    model.set_callbacks(recorder).fit(X, NAMES)
    plain = recorder.fitted("end", "epoch")[-1]
    np.testing.assert_array_equal(plain.predict_proba(X), model.network_.predict(X.T).T)
    (end,) = recorder.fitted("end", "fit")
    np.testing.assert_array_equal(end.predict_proba(X), model.predict_proba(X))
    assert not np.allclose(end.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    (inner,) = (each.estimator for each in model.calibrated_.calibrated_classifiers_)
    assert not leftovers(inner.estimator)


@unconverged
def test_with_early_stopping_the_fitted_estimator_may_be_an_earlier_epoch(recorder):
    """Otherwise the test above would not tell the best from the latest."""
    model = classifier(max_iter=6, early_stopping=True, learning_rate_init=0.3, batch_size=30)
    model.set_callbacks(recorder).fit(X, NAMES)
    thetas = [fitted.network_.theta for fitted in recorder.fitted("end", "epoch")]
    assert any(np.array_equal(one, other) for one, other in itertools.pairwise(thetas))


@unconverged
def test_the_first_epoch_begins_with_the_initial_weights(recorder):
    regressor(max_iter=1).set_callbacks(recorder).fit(X, NUMBERS)
    (before,), (after,) = recorder.fitted("begin", "epoch"), recorder.fitted("end", "epoch")
    start = regressor(max_iter=1, learning_rate_init=1e-30).fit(X, NUMBERS)
    np.testing.assert_allclose(before.predict(X), start.predict(X), rtol=1e-12)
    assert not np.allclose(before.predict(X), after.predict(X), rtol=1e-3)


@unconverged
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_the_fitted_estimator_shares_no_memory_with_the_training(backend, recorder):
    model = regressor(max_iter=2, backend=FACTORIES[backend](), early_stopping=True)
    model.set_callbacks(recorder).fit(X, NUMBERS)
    given = [fitted for task in ("epoch", "fit") for fitted in recorder.fitted("end", task)]
    assert len(given) == 3
    theta = model.network_.theta.copy()
    for fitted in given:
        assert not np.shares_memory(fitted.network_.theta, model.network_.theta)
        assert np.shares_memory(fitted.network_.W[1], fitted.network_.theta)
        fitted.network_.theta = np.zeros_like(theta)
        for name in LISTS:
            getattr(fitted, name).clear()
    np.testing.assert_array_equal(model.network_.theta, theta)
    assert [len(getattr(model, name)) for name in LISTS] == [2, 2, 2]


@unconverged
def test_a_fitted_estimator_is_made_only_where_it_is_asked_for(skl, monkeypatch):
    class Modest(Recorder):
        def on_fit_task_begin(self, estimator, context):
            self.tell("begin", context)

        def on_fit_task_end(self, estimator, context):
            self.tell("end", context)

    def asked(estimator):
        raise AssertionError("nobody asked")

    monkeypatch.setattr(protocol, "_unshared", asked)
    recorder = Modest()
    regressor(max_iter=3).set_callbacks(recorder).fit(X, NUMBERS)
    assert recorder.hooks == whole("fit", 3)


@unconverged
def test_callbacks_do_not_change_the_training(recorder):
    watched = classifier(max_iter=5, batch_size=30).set_callbacks(recorder).fit(X, NAMES)
    alone = classifier(max_iter=5, batch_size=30).fit(X, NAMES)
    np.testing.assert_array_equal(watched.network_.theta, alone.network_.theta)
    assert watched.loss_curve_ == alone.loss_curve_


# Ends, good and bad.


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_a_callback_can_end_the_training(options, skl):
    """Without a warning: somebody wanted it."""
    recorder, other = Recorder(stop_after=3), Recorder()
    model = regressor(max_iter=50, **options).set_callbacks(other, recorder).fit(X, NUMBERS)
    part = "iteration" if options.get("solver") == "lbfgs" else "epoch"
    assert model.n_iter_ == 3
    assert recorder.hooks == other.hooks == whole("fit", 3, part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = regressor(max_iter=3, **options).fit(X, NUMBERS)
    np.testing.assert_array_equal(model.network_.theta, expected.network_.theta)


@pytest.mark.parametrize("hook", ["setup", "begin", "end", "teardown"])
@unconverged
def test_an_error_in_a_callback_still_tears_down(hook, skl):
    first, failing, last = Recorder(), Recorder(fail={hook: LookupError(hook)}), Recorder()
    model = regressor(max_iter=3).set_callbacks(first, failing, last)
    before = dict(vars(model))
    with pytest.raises(LookupError, match=hook):
        model.fit(X, NUMBERS)
    assert first.hooks[-1] == failing.hooks[-1] == ("teardown", "fit", 0)
    # What had not been set up is not torn down.
    assert (last.hooks[-1:] == [("teardown", "fit", 0)]) is (hook != "setup")
    if hook != "teardown":
        assert vars(model) == before
    assert not leftovers(model)


@pytest.mark.parametrize(
    ("options", "data", "error"),
    [
        ({}, (X, NUMBERS[:-1]), ValueError),
        ({"solver": "sgd", "learning_rate_init": 1e30}, (X, NUMBERS), DivergenceError),
        ({"early_stopping": True}, (X[:2], NUMBERS[:2]), ValueError),
    ],
)
def test_an_error_in_fit_still_tears_down(options, data, error, recorder):
    model = regressor(**options).set_callbacks(recorder)
    before = dict(vars(model))
    with pytest.raises(error):
        model.fit(*data)
    assert recorder.hooks[0] == ("setup", "fit", 0)
    assert recorder.hooks[-1] == ("teardown", "fit", 0)
    assert ("end", "fit", 0) not in recorder.hooks
    assert vars(model) == before


def test_a_bad_parameter_is_refused_before_any_callback_hears_of_it(recorder):
    with pytest.raises(DataError, match="max_iter"):
        regressor(max_iter=0).set_callbacks(recorder).fit(X, NUMBERS)
    assert recorder.told == []


def test_ctrl_c_ends_the_epoch_without_data(skl):
    class Impatient(Recorder):
        def on_fit_task_begin(self, estimator, context):
            self.tell("begin", context)
            if context.task_id == 2:
                raise KeyboardInterrupt

    recorder = Impatient()
    model = regressor(max_iter=50).set_callbacks(recorder)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, NUMBERS)
    assert recorder.hooks == whole("fit", 3)
    assert model.n_iter_ == 2
    first, second, third = recorder.fitted("end", "epoch")
    assert (first.n_iter_, second.n_iter_) == (1, 2)
    assert third is None


@unconverged
def test_an_estimator_trains_again_after_an_error(skl):
    model = regressor(max_iter=2).set_callbacks(Recorder(fail={"end": LookupError()}))
    with pytest.raises(LookupError):
        model.fit(X, NUMBERS)
    recorder = Recorder()
    model.set_callbacks(recorder).fit(X, NUMBERS)
    assert recorder.hooks == whole("fit", 2)


# scikit-learn's own callbacks.


@unconverged
def test_progress_bar(skl, capsys):
    classifier(max_iter=3).set_callbacks(skl.ProgressBar()).fit(X, NAMES)
    out = capsys.readouterr().out
    assert "MLPClassifier - fit" in out
    assert "100%" in out


@unconverged
@pytest.mark.parametrize(
    ("make", "y", "scoring"), [(classifier, NAMES, "accuracy"), (regressor, NUMBERS, "neg_mean_squared_error")]
)
def test_scoring_monitor(make, y, scoring, skl):
    from sklearn.metrics import get_scorer

    monitor = skl.ScoringMonitor(scoring=scoring)
    make(max_iter=4).set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows] == ["fit"] + 4 * ["epoch"]
    for k, row in enumerate(rows[1:], start=1):
        assert row[scoring] == get_scorer(scoring)(make(max_iter=k).fit(X, y), X, y)
    assert rows[0][scoring] == rows[-1][scoring]


@unconverged
def test_scoring_monitor_sees_the_data_frame_that_fit_was_given(skl):
    """No warning about names of features that a plain array would lack."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X, schema=["a", "b", "c", "d"])
    monitor = skl.ScoringMonitor(scoring="accuracy")
    model = classifier(max_iter=2).set_callbacks(monitor).fit(frame, NAMES)
    assert monitor.get_logs().data[0]["accuracy"] == model.score(frame, NAMES)


# Within other estimators.


@unconverged
def test_in_a_pipeline_the_epochs_stand_within_the_step(skl, capsys):
    recorder = Spreading()
    model = make_pipeline(StandardScaler(), classifier(max_iter=2))
    model.set_callbacks(recorder, skl.ProgressBar()).fit(X, NAMES)
    epochs = [path for hook, path, _, _ in recorder.told if (hook, path[-1]) == ("end", "epoch")]
    assert epochs == 2 * [("fit", "fit", "epoch")]
    assert [hook for hook, _, _ in recorder.hooks if hook in ("setup", "teardown")] == ["setup", "teardown"]
    assert "MLPClassifier - fit" in capsys.readouterr().out
    assert not hasattr(model[-1], "_skl_callbacks")
    assert not leftovers(model[-1])


@unconverged
def test_a_callback_of_a_step_alone(recorder):
    make_pipeline(StandardScaler(), classifier(max_iter=2).set_callbacks(recorder)).fit(X, NAMES)
    assert recorder.hooks[0][0] == "setup"
    assert [hook for hook in recorder.hooks if hook[1] == "epoch"] == [
        (hook, "epoch", k) for k in range(2) for hook in ("begin", "end")
    ]


@unconverged
def test_in_a_grid_search_every_fit_is_seen(skl, capsys):
    recorder = Spreading()
    search = GridSearchCV(classifier(), {"max_iter": [1, 3]}, cv=2)
    search.set_callbacks(recorder, skl.ProgressBar(max_propagation_depth=None)).fit(X, NAMES)
    depths = [len(path) for hook, path, _, _ in recorder.told if (hook, path[-1]) == ("end", "epoch")]
    best = search.best_params_["max_iter"]
    assert len(depths) == 2 * (1 + 3) + best
    assert sorted(set(depths)) == [3, 4]  # the last fit, of the best; and those of the search
    assert "MLPClassifier - fit" in capsys.readouterr().out


@pytest.mark.slow
@unconverged
def test_in_worker_processes(skl):
    monitor = skl.ScoringMonitor(scoring="accuracy")
    search = GridSearchCV(classifier(max_iter=2).set_callbacks(monitor), {"alpha": [0.0, 0.1]}, cv=2, n_jobs=2)
    with joblib.parallel_config("loky"):
        search.fit(X, NAMES)
    rows = [row for log in monitor.get_logs(select="all") for row in log.data if row["task_name"] == "epoch"]
    assert len(rows) == 2 * (4 + 1)


# Copies.


@unconverged
def test_a_clone_has_the_callbacks(recorder):
    model = classifier(max_iter=1).set_callbacks(recorder)
    for twin in (clone(model), clone(model.fit(X, NAMES))):
        recorder.told.clear()
        twin.fit(X, NAMES)
        assert recorder.hooks == whole("fit", 1)


@unconverged
def test_a_fitted_estimator_with_callbacks_can_be_copied_and_pickled(skl):
    model = classifier(max_iter=2).set_callbacks(skl.ScoringMonitor(scoring="accuracy")).fit(X, NAMES)
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        assert len(twin._skl_callbacks) == 1


@unconverged
def test_callbacks_can_be_taken_away(recorder):
    model = regressor(max_iter=1).set_callbacks(recorder).set_callbacks()
    model.fit(X, NUMBERS)
    assert recorder.told == []
    with pytest.raises(TypeError, match="callbacks must be instances"):
        model.set_callbacks(Callback())


# Without callbacks, and without scikit-learn's module.


@unconverged
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_without_callbacks_no_task_is_made(solver, monkeypatch):
    def asked(*arguments, **options):
        raise AssertionError("nobody asked")

    for name in ("_init_callback_context", "set_callbacks"):
        monkeypatch.setattr(protocol.CallbackSupportMixin, name, asked, raising=False)
    monkeypatch.setattr(protocol, "_Epochs", asked)
    monkeypatch.setattr(protocol, "_Heard", asked)
    assert regressor(max_iter=2, solver=solver).fit(X, NUMBERS).n_iter_ == 2


def test_idle_tasks_hand_on_what_they_are_given():
    own = [Callback()]
    tasks = Tasks(None)
    tasks.begin(X, NUMBERS)
    with tasks.epochs(own) as callbacks:
        assert callbacks is own
    tasks.end()


def test_own_callbacks_hear_the_same_with_tasks_as_without(recorder):
    """Every hook, in the same order, and what they answer ends the run."""
    hooks = [name for name in vars(Callback) if name.startswith("on_")]
    assert {"on_progress", "on_epoch_end"} <= set(hooks)

    class Listener(Callback):
        def __init__(self, name, stop):
            self.name, self.stop = name, stop

    def hear(hook):
        def heard(self, progress):
            log.append((self.name, hook, progress.epoch, progress.step))
            return hook == self.stop and progress.epoch == 3

        return heard

    for hook in hooks:
        setattr(Listener, hook, hear(hook))
    logs = []
    for stop in ("on_epoch_end", "on_progress", None):
        for callbacks in ([], [recorder]):
            log = []
            model = regressor().partial_fit(X, NUMBERS).set_callbacks(*callbacks)
            with fit_tasks(model, 5) as tasks, tasks.epochs([Listener("a", stop), Listener("b", None)]) as given:
                model.network_.fit(X.T, NUMBERS, epochs=5, batch_size=len(X), callbacks=given)
            logs.append(log)
        last = 5 if stop is None else 3
        assert logs[-1] == logs[-2]
        assert logs[-1][-1][2:] == (last, last)
        # No epoch was begun that never came.
        assert recorder.hooks == [("setup", "fit", 0), *whole("fit", last)[2:-2], ("teardown", "fit", 0)]
        recorder.told.clear()
    assert len(logs[-1]) > len(logs[0])


@pytest.mark.slow
def test_an_older_scikit_learn_has_none_and_all_else_works():
    """The module hidden from ours, in a process of its own."""
    code = """if True:
        import importlib.util
        import sys
        import warnings
        from pathlib import Path

        import accelnn
        from sklearn.datasets import load_iris
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import GridSearchCV

        name = "accelnn.estimators.protocol"
        place = Path(accelnn.__file__).parent / "estimators" / "protocol.py"
        protocol = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, place))
        hidden = {part: sys.modules.pop(part) for part in list(sys.modules) if part.startswith("sklearn.callback")}
        sys.modules["sklearn.callback"] = None
        protocol.__spec__.loader.exec_module(protocol)
        del sys.modules["sklearn.callback"]
        sys.modules.update(hidden)
        sys.modules[name] = protocol

        from accelnn import MLPClassifier

        assert protocol.CallbackSupportMixin.__module__ == name
        assert protocol.CallbackSupportMixin in MLPClassifier.__mro__
        assert not hasattr(MLPClassifier, "set_callbacks")
        warnings.simplefilter("ignore", ConvergenceWarning)
        X, y = load_iris(return_X_y=True)
        model = MLPClassifier(max_iter=3, backend="numpy").fit(X, y)
        assert model.n_iter_ == 3
        assert model.partial_fit(X, y).n_iter_ == 1
        assert MLPClassifier(max_iter=3, backend="numpy", solver="lbfgs").fit(X, y).n_iter_ == 3
        GridSearchCV(MLPClassifier(max_iter=1, backend="numpy"), {"alpha": [0, 1]}, cv=2).fit(X, y)
    """
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
