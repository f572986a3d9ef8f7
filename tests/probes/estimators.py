"""Every parameter and method of the estimators, tried on a backend by what `backend=` takes."""

import contextlib
import inspect
import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
from probes.common import by_name, missing
from probes.parameters import SCHEDULES, StopAfterOneEpoch, bounded, bounded_gradient
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from accelnn import MLPClassifier, MLPRegressor
from accelnn.customloss import custom_loss

rng = np.random.default_rng(3)
X, X_HELD = rng.normal(size=(24, 3)), rng.normal(size=(9, 3))
WEIGHTS = rng.integers(1, 4, size=24)
TARGETS = {
    MLPClassifier: (np.arange(24) % 3, np.arange(9) % 3),
    MLPRegressor: (X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=24), X_HELD @ [1.0, -2.0, 0.5]),
}
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 4, "batch_size": 8, "random_state": 0, "learning_rate_init": 0.01}


def made(kind, backend, **options):
    return kind(**{**SMALL, "backend": by_name(backend), **options})


def data(kind, dtype):
    return X.astype(dtype), TARGETS[kind][0]


def held(kind, dtype):
    return X_HELD.astype(dtype), TARGETS[kind][1]


def facts(model, dtype):
    """What training has left behind, and what the model answers."""
    answers = [model.predict(X_HELD.astype(dtype))]
    if isinstance(model, MLPClassifier):
        answers.append(model.predict_proba(X_HELD.astype(dtype)))
    curves = [model.loss_curve_, model.validation_loss_curve_ or [], model.validation_scores_ or []]
    return [*model.coefs_, *model.intercepts_, *curves, model.n_iter_, *answers]


def fitted(model, kind, dtype, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data(kind, dtype), **arguments)


SGD, STOPPING = {"solver": "sgd"}, {"early_stopping": True, "validation_fraction": 0.4}
# Of each parameter: what it needs, and values that make a difference to that.
COMMON = {
    "hidden_layer_sizes": ({}, [(5,), (6, 4), ()]),
    "activation": ({}, ["logistic", "tanh", "identity", "gelu", "leaky_relu", "elu", "softplus", ["sigmoid"]]),
    "solver": ({}, ["sgd", "lbfgs"]),
    "alpha": ({}, [1.0]),
    "batch_size": ({}, [5, 24]),
    "learning_rate": (SGD, ["invscaling", *SCHEDULES]),
    "learning_rate_init": ({}, [0.02]),
    "power_t": ({**SGD, "learning_rate": "invscaling"}, [0.1]),
    "max_iter": ({}, [2]),
    "shuffle": ({}, [False]),
    "random_state": ({}, [1]),
    "tol": ({"n_iter_no_change": 1, "max_iter": 9}, [10.0]),
    "momentum": (SGD, [0.5, 0.0]),
    "nesterovs_momentum": (SGD, [False]),
    "early_stopping": ({}, [True]),
    "validation_fraction": (STOPPING, [0.6]),
    "beta_1": ({}, [0.5]),
    "beta_2": ({}, [0.5]),
    "epsilon": ({}, [0.1]),
    "n_iter_no_change": ({"tol": 10.0, "max_iter": 9}, [1]),
    "max_fun": ({"solver": "lbfgs", "max_iter": 9}, [3]),
    "dropout": ({"hidden_layer_sizes": (5, 4)}, [0.5, [0.0, 0.25]]),
    "max_norm": ({}, [0.01]),
    "scoring": (STOPPING, ["loss"]),
    "callbacks": ({}, [[StopAfterOneEpoch()]]),
}
VALUES = {
    MLPClassifier: {
        **COMMON,
        "class_weight": ({}, [{0: 1.0, 1: 2.0, 2: 5.0}]),
    },
    MLPRegressor: {
        **COMMON,
        "loss": ({}, ["absolute_error", "huber", "quantile", custom_loss(bounded, bounded_gradient)]),
        "delta": ({"loss": "huber"}, [0.5]),
        "quantile": ({"loss": "quantile"}, [0.9]),
        "standardize_target": ({}, [True]),
    },
}


def with_values(kind, name):
    base, values = VALUES[kind][name]

    def probe(backend, dtype):
        plain, found = facts(fitted(made(kind, backend, **base), kind, dtype), dtype), []
        for value in values:
            changed = facts(fitted(made(kind, backend, **{**base, name: value}), kind, dtype), dtype)
            alike = len(changed) == len(plain) and all(map(np.array_equal, changed, plain))
            assert not alike, f"{name}={value!r} makes no difference"
            found += changed
        return found

    return probe


# What changes no number, or needs more than one call.


def verbose(kind):
    def probe(backend, dtype):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            model = fitted(made(kind, backend, verbose=True), kind, dtype)
        assert printed.getvalue().count("Iteration") == model.n_iter_
        return facts(model, dtype)

    return probe


def warm_start(kind):
    """Two calls of 2 epochs are one of 4."""

    def probe(backend, dtype):
        model = made(kind, backend, warm_start=True, max_iter=2)
        for _ in range(2):
            fitted(model, kind, dtype)
        once = fitted(made(kind, backend), kind, dtype)
        assert all(map(np.array_equal, model.coefs_, once.coefs_))
        return facts(model, dtype)

    return probe


def named(kind):
    def probe(backend, dtype):
        model = fitted(made(kind, backend), kind, dtype)
        assert model.network_.backend.name == backend.name
        return facts(model, dtype)

    return probe


def device(kind):
    def probe(backend, dtype):
        return facts(fitted(made(kind, backend, device=None if backend.name == "reference" else 0), kind, dtype), dtype)

    return probe


def calibrated(kind):
    """In float32 the network alone: scikit-learn's fit of a few probabilities magnifies rounding beyond 1e-4."""

    def probe(backend, dtype):
        options = {"validation_fraction": 0.5}
        model = fitted(made(kind, backend, calibration="sigmoid", **options), kind, dtype)
        plain = fitted(made(kind, backend, **options), kind, dtype)
        rows = held(kind, dtype)[0]
        P = model.predict_proba(rows)
        assert np.max(np.abs(P - plain.predict_proba(rows))) > 1e-3
        np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-6)
        return [*model.coefs_, *model.intercepts_, *([P] if dtype == "float64" else [])]

    return probe


def every_parameter(kind):
    special = {"verbose": verbose, "warm_start": warm_start, "backend": named, "device": device}
    special |= {"calibration": calibrated} if kind is MLPClassifier else {}
    known = {name: make(kind) for name, make in special.items()}
    known |= {name: with_values(kind, name) for name in VALUES[kind]}
    return {
        name: known.get(name) or missing(f"{name} of {kind.__name__}") for name in inspect.signature(kind).parameters
    }


# Methods, and arguments of fit.


def weighted(kind):
    def probe(backend, dtype):
        return facts(fitted(made(kind, backend), kind, dtype, sample_weight=WEIGHTS), dtype)

    return probe


def with_eval_set(kind):
    def probe(backend, dtype):
        model = made(kind, backend, early_stopping=True)
        found = facts(fitted(model, kind, dtype, eval_set=(*held(kind, dtype), np.arange(9))), dtype)
        assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
        return found

    return probe


def in_parts(kind):
    """Two calls, with all that the method takes."""

    def probe(backend, dtype):
        model = made(kind, backend, early_stopping=True)
        more = {"classes": [0, 1, 2]} if kind is MLPClassifier else {}
        for _ in range(2):
            model.partial_fit(*data(kind, dtype), sample_weight=WEIGHTS, eval_set=held(kind, dtype), **more)
        return facts(model, dtype)

    return probe


def from_a_file(kind):
    """It goes on as the one that was saved."""

    def probe(backend, dtype):
        model = fitted(made(kind, backend, warm_start=True, max_iter=2), kind, dtype)
        if backend.name != "reference":  # which has no name to be found by
            with tempfile.TemporaryDirectory() as folder:
                model.save(Path(folder, "model"))
                model = kind.load(Path(folder, "model"))
        return facts(fitted(model, kind, dtype), dtype)

    return probe


def method(kind, name):
    def probe(backend, dtype):
        model = fitted(made(kind, backend), kind, dtype)
        arguments = held(kind, dtype) if name == "score" else held(kind, dtype)[:1]
        return [getattr(model, name)(*arguments)]

    return probe


def sparse_rows(kind):
    """The same as of dense ones."""

    def probe(backend, dtype):
        few = np.where(np.abs(X) > 0.5, X, 0.0).astype(dtype)
        rows = few if backend.name == "reference" else sparse.csr_array(few)
        model = made(kind, backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, TARGETS[kind][0])
        return [*facts(model, dtype), model.predict(rows)]

    return probe


def own_rows(kind):
    """Arrays of the backend's own in, and out."""

    def probe(backend, dtype):
        model = fitted(made(kind, backend), kind, dtype)
        rows = model.network_.backend.from_host(held(kind, dtype)[0])
        answer = model.predict(rows)
        assert model.network_.backend.owns(answer)
        return [model.network_.backend.to_host(answer)]

    return probe


def every_method(kind):
    answers = ["predict", "score", "transform"]
    answers += ["predict_proba", "predict_log_proba"] if kind is MLPClassifier else []
    return {
        "fit(sample_weight)": weighted(kind),
        "fit(eval_set)": with_eval_set(kind),
        "partial_fit": in_parts(kind),
        **{name: method(kind, name) for name in answers},
        "save and load": from_a_file(kind),
        "scipy.sparse rows": sparse_rows(kind),
        "rows where the backend computes": own_rows(kind),
    }


ESTIMATORS = {
    f"{what} of {kind.__name__}": probes(kind)
    for kind in (MLPClassifier, MLPRegressor)
    for what, probes in (("parameter", every_parameter), ("method", every_method))
}
