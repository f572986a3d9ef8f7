"""The estimators inside scikit-learn's own tools, and their quality beside scikit-learn's estimators."""

import copy
import io
import pickle

import joblib
import numpy as np
import optuna
import pandas
import polars
import pytest
from sklearn import datasets
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, StackingClassifier, VotingClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.feature_selection import SelectFromModel
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, learning_curve, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelnn import Callback
from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CPU = pytest.mark.parametrize("backend", ["numpy", "numba"])
IRIS = datasets.load_iris()
X = StandardScaler().fit_transform(IRIS.data)
y = IRIS.target_names[IRIS.target]
GOOD = 0.9


def classifier(backend="numpy", **options):
    return MLPClassifier(backend=backend, **{"random_state": 0, "max_iter": 60, "learning_rate_init": 0.02} | options)


def regressor(backend="numpy", **options):
    return MLPRegressor(backend=backend, **{"random_state": 0, "max_iter": 60, "learning_rate_init": 0.02} | options)


@CPU
def test_pipeline(backend):
    model = make_pipeline(StandardScaler(), classifier(backend))
    assert model.fit(IRIS.data, y).score(IRIS.data, y) > GOOD
    np.testing.assert_array_equal(model.predict(IRIS.data), model[-1].predict(X))


@CPU
@pytest.mark.parametrize("parallel", ["loky", "threading"])
def test_grid_search(backend, parallel):
    model = make_pipeline(StandardScaler(), classifier(backend, max_iter=20))
    grid = {"mlpclassifier__hidden_layer_sizes": [(4,), (20, 10)], "mlpclassifier__alpha": [1e-4, 1e-1]}
    with joblib.parallel_config(parallel):
        search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(IRIS.data, y)
    alone = GridSearchCV(model, grid, cv=2, error_score="raise").fit(IRIS.data, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert search.best_params_ == alone.best_params_
    assert search.best_score_ > 0.8


def test_grid_search_goes_on_after_a_candidate_that_fails():
    grid = {"learning_rate_init": [0.02, 1e300], "activation": ["identity"], "solver": ["sgd"]}
    with pytest.warns((FitFailedWarning, UserWarning), match="made training diverge|non-finite"):
        search = GridSearchCV(classifier(max_iter=20), grid, cv=2).fit(X, y)
    assert search.best_params_["learning_rate_init"] == 0.02


@CPU
def test_cross_validation(backend):
    scores = cross_val_score(classifier(backend), X, y, cv=3, n_jobs=2, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(classifier(backend), X, y, cv=3))
    assert scores.mean() > GOOD
    assert cross_val_predict(classifier(backend), X, y, cv=3, method="predict_log_proba").shape == (150, 3)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(method):
    probabilities = CalibratedClassifierCV(classifier(), method=method, cv=2).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert np.mean(IRIS.target == probabilities.argmax(axis=1)) > GOOD


@CPU
def test_ensembles(backend):
    bag = BaggingClassifier(classifier(backend), n_estimators=3, max_samples=0.8, n_jobs=2, random_state=0).fit(X, y)
    assert bag.score(X, y) > GOOD
    assert len({model.coefs_[0].tobytes() for model in bag.estimators_}) == 3
    assert BaggingRegressor(regressor(backend), n_estimators=2, random_state=0).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.8
    parts = [("mlp", classifier(backend)), ("linear", LogisticRegression())]
    assert VotingClassifier(parts, voting="soft").fit(X, y).score(X, y) > GOOD
    assert StackingClassifier(parts, cv=2).fit(X, y).score(X, y) > GOOD


def test_other_tools():
    assert OneVsRestClassifier(classifier()).fit(X, y).score(X, y) > GOOD
    assert MultiOutputRegressor(regressor()).fit(X, X[:, :2]).score(X, X[:, :2]) > 0.8
    sizes, _, scores = learning_curve(
        classifier(), X, y, cv=2, shuffle=True, random_state=0, exploit_incremental_learning=True, error_score="raise"
    )
    assert scores.shape == (len(sizes), 2)
    assert partial_dependence(classifier().fit(X, y), X, [0], grid_resolution=5)["average"].shape == (3, 5)
    picked = SelectFromModel(
        regressor().fit(X, X[:, 2]), importance_getter=lambda m: np.abs(m.coefs_[0]).sum(axis=1), prefit=True
    )
    assert picked.fit(X).transform(X).shape[1] < 4


@CPU
def test_permutation_importance(backend):
    target = X[:, 2]
    model = regressor(backend).fit(X, target)
    importance = permutation_importance(model, X, target, n_repeats=3, random_state=0, n_jobs=2).importances_mean
    assert importance.argmax() == 2


@CPU
def test_clone_has_the_parameters_and_no_training(backend):
    model = classifier(backend, hidden_layer_sizes=[3, 2], n_iter_no_change=np.inf, solver="sgd").fit(X, y)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not [name for name in vars(fresh) if name.endswith("_") or name.startswith("_")]
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    np.testing.assert_array_equal(fresh.fit(X, y).predict_proba(X), model.predict_proba(X))


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file, compress=3)
    file.seek(0)
    return joblib.load(file)


@CPU
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_joblib], ids=str
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_copy_predicts_and_trains_the_same(backend, duplicate, early_stopping):
    options = {"warm_start": True, "max_iter": 5, "early_stopping": early_stopping}
    for make, target in ((classifier, y), (regressor, X[:, :2])):
        model = make(backend, **options).fit(X, target)
        again = duplicate(model)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.loss_curve_ == model.loss_curve_
        before = [W.copy() for W in model.coefs_]
        again.fit(X, target)
        for mine, expected in zip(model.coefs_, before, strict=True):
            np.testing.assert_array_equal(mine, expected)  # nothing is shared
        model.fit(X, target)
        for mine, expected in zip(again.coefs_, model.coefs_, strict=True):
            np.testing.assert_array_equal(mine, expected)


@CPU
def test_a_model_from_a_memory_map(backend, tmp_path):
    model = classifier(backend, hidden_layer_sizes=(300,), max_iter=5, warm_start=True).fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(mapped.fit(X, y).predict_proba(X), model.fit(X, y).predict_proba(X))


@CPU
@pytest.mark.parametrize("parallel", ["loky", "threading"])
def test_joblib(backend, parallel):
    """Also with data that joblib hands over as a read-only memory map."""
    models = [classifier(backend, max_iter=5, random_state=seed) for seed in range(4)]
    with joblib.Parallel(n_jobs=2, backend=parallel, max_nbytes=1000) as pool:
        fitted = pool(joblib.delayed(type(model).fit)(model, X, y) for model in models)
        predicted = pool(joblib.delayed(type(model).predict_proba)(fitted[0], X) for model in models)
    for model, answer in zip(fitted, predicted, strict=True):
        alone = clone(model).fit(X, y)
        np.testing.assert_array_equal(model.coefs_[0], alone.coefs_[0])
        np.testing.assert_array_equal(answer, fitted[0].predict_proba(X))


@CPU
def test_polars_frames_and_set_output(backend):
    names = [f"feature {j}" for j in range(4)]
    frame = polars.DataFrame(IRIS.data, schema=names)
    model = make_pipeline(StandardScaler(), classifier(backend)).set_output(transform="polars")
    model.fit(frame, polars.Series("species", y))
    assert model[-1].feature_names_in_.tolist() == names
    assert model.score(frame, y) > GOOD
    np.testing.assert_array_equal(model[-1].classes_, IRIS.target_names)
    plain = classifier(backend).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(frame), plain.predict_proba(X), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        model[-1].predict(frame.select(names[::-1]))
    assert model.fit(IRIS.data, y).score(IRIS.data, y) > GOOD


@CPU
def test_pandas_frames_and_set_output(backend):
    frame = pandas.DataFrame(IRIS.data, columns=list("abcd"), index=np.arange(150) + 7)
    model = make_pipeline(StandardScaler(), classifier(backend)).set_output(transform="pandas")
    model.fit(frame, pandas.Series(y, index=frame.index))
    assert model[-1].feature_names_in_.tolist() == list("abcd")
    plain = classifier(backend).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(frame), plain.predict_proba(X), rtol=0, atol=1e-9)
    several = regressor(backend).fit(frame, pandas.DataFrame(X[:, :2], index=frame.index))
    assert several.predict(frame).shape == (150, 2)


@CPU
def test_memory_layout_makes_no_difference(backend):
    model = classifier(backend, max_iter=5).fit(X, y)
    expected = model.predict_proba(X)
    wide = np.full((300, 8), np.nan)
    wide[::2, ::2] = X
    for other in (np.asfortranarray(X), wide[::2, ::2], X.tolist(), X[::-1][::-1]):
        np.testing.assert_array_equal(clone(model).fit(other, y).predict_proba(X), expected)
        np.testing.assert_array_equal(model.predict_proba(other), expected)
    whole = (X * 10).astype(int)
    clone(model).fit(whole, y).predict(whole)


ACCEPTED = {
    "hidden_layer_sizes": [5, (), (3, 2), [3], np.array([3, 2]), np.int64(4)],
    "batch_size": [1, np.int32(7)],
    "max_iter": [np.int64(2)],
    "n_iter_no_change": [np.inf, 1],
    "validation_fraction": [0.0, 0.5],
    "beta_1": [0.0],
    "beta_2": [0.0],
    "alpha": [0, np.float32(0.1)],
    "tol": [0],
    "power_t": [0],
    "shuffle": [np.bool_(False)],
    "random_state": [np.random.RandomState(1), None],
}
REFUSED = {
    "hidden_layer_sizes": [0, (3, -1), "ab", None],
    "activation": ["gelu?", None],
    "solver": ["newton", 1],
    "alpha": [-1, np.nan, np.inf, "1", None],
    "batch_size": [0, 20.0, "all"],
    "learning_rate": ["cosine?"],
    "learning_rate_init": [0, -1.0, np.inf],
    "power_t": [-1.0],
    "max_iter": [0, np.inf, 2.0],
    "max_fun": [0],
    "n_iter_no_change": [0, 1.5],
    "momentum": [-0.1, 1.1],
    "validation_fraction": [1.0, -0.1],
    "beta_1": [1.0, -0.1],
    "beta_2": [1.0],
    "epsilon": [0.0],
    "tol": [-1.0],
    **{name: ["no", 1, None] for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")},
    "verbose": ["yes", -1],
    "random_state": ["zero", -1],
}


def pairs(table):
    return [(name, value) for name, values in table.items() for value in values]


class Pruning(Callback):
    """Report each epoch to a trial, and end the training where the study gives up."""

    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, progress):
        self.trial.report(progress.validation_loss, progress.epoch)
        return self.trial.should_prune()


@CPU
def test_an_optuna_study(backend):
    """Hyperparameters of every kind, and trials that end early by a callback."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

    def objective(trial):
        model = MLPClassifier(
            hidden_layer_sizes=[trial.suggest_int("units", 4, 16)] * trial.suggest_int("layers", 1, 2),
            activation=trial.suggest_categorical("activation", ["relu", "tanh"]),
            learning_rate_init=trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True),
            learning_rate=trial.suggest_categorical("learning_rate", ["constant", "cosine"]),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            max_iter=40,
            random_state=0,
            backend=backend,
            callbacks=[Pruning(trial)],
        )
        model.fit(X_train, y_train, eval_set=(X_test, y_test))
        if trial.should_prune():
            raise optuna.TrialPruned
        return model.score(X_test, y_test)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, pruner = optuna.samplers.RandomSampler(seed=0), optuna.pruners.MedianPruner(n_startup_trials=3)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=12)
    states = [trial.state.name for trial in study.trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert study.best_value >= 0.9


@pytest.mark.parametrize(("name", "value"), pairs(ACCEPTED))
def test_parameters_that_scikit_learn_accepts(name, value):
    for kind in (theirs.MLPClassifier, MLPClassifier):
        kind(**{"max_iter": 2, name: value}).fit(X, y).predict(X)


@pytest.mark.parametrize(("name", "value"), pairs(REFUSED))
def test_parameters_that_scikit_learn_refuses(name, value):
    for kind, target in ((theirs.MLPClassifier, y), (MLPClassifier, y), (MLPRegressor, X[:, 0])):
        with pytest.raises(ValueError, match=name):
            kind(**{name: value}).fit(X, target)


SETS = {
    "digits": (datasets.load_digits, {}),
    "breast_cancer": (datasets.load_breast_cancer, {}),
    "wine": (datasets.load_wine, {}),
    "iris": (datasets.load_iris, {}),
    "diabetes": (datasets.load_diabetes, {"max_iter": 1000}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SETS))
def test_quality_is_scikit_learns(name):
    load, options = SETS[name]
    inputs, targets = load(return_X_y=True)
    ours, other = (MLPRegressor, theirs.MLPRegressor) if name == "diabetes" else (MLPClassifier, theirs.MLPClassifier)
    scores = {ours: [], other: []}
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(inputs, targets, test_size=0.3, random_state=seed)
        for kind, found in scores.items():
            model = make_pipeline(StandardScaler(), kind(random_state=seed, **options))
            found.append(model.fit(X_train, y_train).score(X_test, y_test))
    assert np.mean(scores[ours]) >= np.mean(scores[other]) - 0.005, scores
