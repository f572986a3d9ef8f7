"""Every kind of array that the estimators take, what they answer with, and what they refuse."""

import pickle
import tempfile

import numpy as np
import pandas
import polars
import pytest
from conftest import host
from probes.inputs import DLPACK, memory_map, producer, read_only
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelnn import DataError, get_backend
from accelnn.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Small whole numbers, which every kind holds exactly.
rng = np.random.default_rng(0)
M = 30
X = rng.integers(-2, 3, size=(M, 4)).astype(np.float64)
CLASSES = rng.integers(0, 3, size=M)
LABELS = rng.integers(0, 2, size=(M, 2))
NUMBERS = rng.integers(-3, 4, size=M).astype(np.float64)
WEIGHTS = rng.integers(1, 4, size=M).astype(np.float64)
TEXT = np.array(["b", "a", "c"])[CLASSES]
NAMES = [f"feature {j}" for j in range(4)]


def classifier(backend="numpy", **options):
    return MLPClassifier(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, **options}, backend=backend)


def regressor(backend="numpy", **options):
    return MLPRegressor(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, **options}, backend=backend)


def parameters(model):
    return np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_])


# What is taken.

ARRAYS = {
    "whole numbers": lambda array: array.astype(np.int16),
    "single precision": lambda array: array.astype(np.float32).astype(np.float64),
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "Fortran order": np.asfortranarray,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "read-only": read_only,
    "lists": lambda array: array.tolist(),
    "a memory map": memory_map,
    "objects": lambda array: array.astype(object),
    "DLPack": lambda array: producer(array, *DLPACK),
}
TABLES = {
    "pandas": lambda array: pandas.DataFrame(array, index=np.arange(len(array))[::-1]),
    "pandas with nullable numbers": lambda array: pandas.DataFrame(array).astype("Float64"),
    "polars": lambda array: polars.DataFrame(array),
}
SPARSE = {
    kind.__name__: kind
    for kind in (sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.lil_array, sparse.csr_matrix)
}
VECTORS = {
    "a series": lambda array: pandas.Series(array, index=np.arange(len(array))[::-1] * 10),
    "a series with nullable numbers": lambda array: pandas.Series(array).astype("Float64"),
    "a series of polars": polars.Series,
}


def one_that_is(kinds, kind, backend):
    """A conversion; `backend's own` is for the GPU."""
    if kind in kinds:
        return kinds[kind]
    if backend.name != "cupy":
        pytest.skip("arrays of this backend are NumPy's")
    return lambda array: backend.from_host(np.ascontiguousarray(array))


@pytest.mark.parametrize("kind", [*ARRAYS, *TABLES, *SPARSE, "backend's own"])
def test_every_kind_of_features(named_backend, kind):
    """In training, in validation and in prediction, and in the parts that are held out."""
    convert = one_that_is(ARRAYS | TABLES | SPARSE, kind, named_backend)
    for options in ({}, {"early_stopping": True, "validation_fraction": 0.3}):
        found, expected = (
            classifier(named_backend.name, **options).fit(
                given, CLASSES, eval_set=None if options else (given, CLASSES)
            )
            for given in (convert(X), X)
        )
        np.testing.assert_allclose(parameters(found), parameters(expected), rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-9)
        for method in ("predict", "predict_proba", "predict_log_proba", "transform"):
            mine, other = getattr(found, method)(convert(X)), getattr(expected, method)(X)
            np.testing.assert_allclose(host(mine), other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [*ARRAYS, *VECTORS, "backend's own"])
def test_every_kind_of_targets_and_weights(named_backend, kind):
    """Of the validation set too."""
    convert = one_that_is(ARRAYS | VECTORS, kind, named_backend)
    weights = WEIGHTS if kind != "objects" else WEIGHTS.tolist()
    given = convert(NUMBERS), weights if kind == "objects" else convert(WEIGHTS)
    found = regressor(named_backend.name).fit(X, *given, eval_set=(X, *given))
    expected = regressor(named_backend.name).fit(X, NUMBERS, WEIGHTS, eval_set=(X, NUMBERS, WEIGHTS))
    np.testing.assert_array_equal(parameters(found), parameters(expected))
    assert found.validation_loss_curve_ == expected.validation_loss_curve_
    if kind != "DLPack":
        assert found.score(X, *given) == expected.score(X, NUMBERS, WEIGHTS)


@pytest.mark.parametrize("kind", [*TABLES, *SPARSE, *ARRAYS])
def test_every_kind_of_several_targets(kind):
    convert, several = (ARRAYS | TABLES | SPARSE)[kind], np.stack([NUMBERS, WEIGHTS], axis=1)
    found, expected = regressor().fit(X, convert(several)), regressor().fit(X, several)
    np.testing.assert_array_equal(parameters(found), parameters(expected))
    if kind != "objects":  # of which scikit-learn cannot say that they are labels
        found, expected = classifier().fit(X, convert(LABELS)), classifier().fit(X, LABELS)
        np.testing.assert_array_equal(parameters(found), parameters(expected))


@pytest.mark.parametrize(
    "y",
    [
        TEXT,
        TEXT.astype(object),
        TEXT.tolist(),
        pandas.Series(TEXT),
        pandas.Series(TEXT).astype("category"),
        polars.Series(TEXT),
        polars.Series(TEXT).cast(polars.Categorical),
    ],
    ids=lambda y: f"{type(y).__module__.split('.')[0]}-{getattr(y, 'dtype', None)}",
)
def test_every_kind_of_text(y):
    model = classifier().fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert set(model.predict(X).tolist()) <= set("abc")
    assert 0.0 <= model.score(X, y) <= 1.0
    np.testing.assert_array_equal(parameters(model), parameters(classifier().fit(X, TEXT)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32, np.float64, bool])
def test_classes_keep_their_type(dtype):
    y = (CLASSES > 0 if dtype is bool else CLASSES).astype(dtype)
    model = classifier().fit(X, y)
    assert model.predict(X).dtype == model.classes_.dtype == dtype


@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_column_is_taken_for_a_vector_with_scikit_learns_warning(make):
    y = CLASSES if make is classifier else NUMBERS
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = make().fit(X, y[:, None])
    assert model.predict(X).shape == (M,)


def test_a_file_that_is_larger_than_what_is_used_of_it():
    """A memory map on a disk, read only."""
    with tempfile.NamedTemporaryFile() as file:
        np.save(file, np.tile(X, (20, 1)))
        file.flush()
        mapped = np.load(file.name, mmap_mode="r")
        model = classifier().fit(mapped, np.tile(CLASSES, 20))
        assert model.predict(mapped[:5]).shape == (5,)


# What comes back.

METHODS = {
    classifier: ("predict", "predict_proba", "predict_log_proba", "transform"),
    regressor: ("predict", "transform"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("make", list(METHODS))
@pytest.mark.parametrize("targets", ["one", "two classes", "several"])
def test_answers_are_where_the_features_are(cupy_by_name, make, targets):
    """CuPy for CuPy and NumPy for NumPy, whatever the network was trained on; names that are text are the host's."""
    y = {"one": CLASSES, "two classes": CLASSES % 2, "several": LABELS}[targets]
    y = y if make is classifier else y.astype(np.float64)
    backend = get_backend("cupy")
    device = backend.from_host(X)
    for given in (X, device):
        model = make("cupy").fit(given, y)
        for method in METHODS[make]:
            on_host, on_device = getattr(model, method)(X), getattr(model, method)(device)
            assert type(on_host) is np.ndarray
            assert type(on_device) is type(device), method
            np.testing.assert_allclose(host(on_device), on_host, rtol=0, atol=1e-9)
        assert type(make("cupy").fit(given, y).fit_transform(given, y)) is type(given)
    if make is classifier and targets == "one":
        named = classifier("cupy").fit(device, TEXT)
        assert type(named.predict(device)) is np.ndarray
        assert named.score(device, TEXT) == named.score(X, TEXT)


@pytest.mark.gpu
@pytest.mark.parametrize("scoring", [None, "loss", "accuracy", "neg_log_loss"])
def test_all_that_happens_on_the_host_takes_arrays_of_the_gpu(cupy_by_name, scoring):
    """Scorers, calibration and `score`."""
    backend = get_backend("cupy")
    device = [backend.from_host(array) for array in (X, CLASSES, WEIGHTS)]
    options = {"early_stopping": True, "scoring": scoring, "calibration": "sigmoid", "max_iter": 2}
    found = classifier("cupy", **options).fit(*device, eval_set=device)
    expected = classifier("cupy", **options).fit(X, CLASSES, WEIGHTS, eval_set=(X, CLASSES, WEIGHTS))
    np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-9)
    np.testing.assert_allclose(host(found.predict_proba(device[0])), expected.predict_proba(X), rtol=1e-9)
    assert found.score(*device) == found.score(X, CLASSES, WEIGHTS)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["X", "y", "sample_weight", "eval_set X", "eval_set y", "eval_set sample_weight"])
def test_arrays_of_the_gpu_are_refused_by_other_backends(cupy_by_name, name):
    given = {"X": X, "y": NUMBERS, "sample_weight": WEIGHTS}
    given |= {f"eval_set {part}": array for part, array in given.items()}
    given[name] = get_backend("cupy").from_host(given[name])
    with pytest.raises(DataError, match=rf"^{name}: lives on a GPU, but backend='numpy'.*backend='cupy'"):
        fit(regressor(), given)


@pytest.mark.parametrize("table", [pandas, polars])
@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("hidden", [(3,), (4, 2), ()])
def test_features_of_the_last_hidden_layer(make, hidden, table):
    """As a table with names, in a pipeline too."""
    frame = table.DataFrame(dict(zip(NAMES, X.T, strict=True)))
    model = make(hidden_layer_sizes=hidden).set_output(transform=table.__name__)
    answer = model.fit(frame, CLASSES).transform(frame)
    names = [f"{type(model).__name__.lower()}{unit}" for unit in range(hidden[-1] if hidden else 4)]
    assert isinstance(answer, table.DataFrame)
    assert list(answer.columns) == model.get_feature_names_out().tolist() == names
    plain = model.set_output(transform="default").transform(frame)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(np.asarray(answer), plain)
    steps = make_pipeline(StandardScaler(), make(hidden_layer_sizes=hidden), regressor())
    steps.set_output(transform=table.__name__).fit(frame, CLASSES)
    assert steps[-1].feature_names_in_.tolist() == names


def test_features_of_a_table_keep_its_index():
    frame = pandas.DataFrame(X, columns=NAMES, index=np.arange(M) + 7)
    answer = classifier().set_output(transform="pandas").fit_transform(frame, CLASSES)
    assert answer.index.equals(frame.index)


# What is refused.

GIVEN = {"X": X, "y": NUMBERS, "sample_weight": WEIGHTS}
GIVEN |= {f"eval_set {name}": array for name, array in GIVEN.items()}
PLACES = {"first": 0, "middle": 13, "last": M - 1}
FAULTS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def fit(model, given):
    eval_set = tuple(given[f"eval_set {name}"] for name in ("X", "y", "sample_weight"))
    return model.fit(given["X"], given["y"], given["sample_weight"], eval_set=eval_set)


def spoiled(array, row, value):
    array = array.copy()
    array[(row, 2) if array.ndim == 2 else row] = value
    return array


def refused(model, call, text):
    """The error says what is wrong, and the model is the one that it was, down to its bits."""
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=text):
        call()
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("name", list(GIVEN))
def test_numbers_that_are_not_finite(named_backend, name, fault, place):
    row = PLACES[place]
    text = rf"^{name}: (row {row}\b|{name}\[{row}\] is) ?.*(?i:{fault.lstrip('-')})"
    given = {**GIVEN, name: spoiled(GIVEN[name], row, FAULTS[fault])}
    fresh, fitted = regressor(named_backend.name), fit(regressor(named_backend.name), GIVEN)
    refused(fresh, lambda: fit(fresh, given), text)
    refused(fitted, lambda: fit(fitted, given), text)
    refused(
        fitted, lambda: fitted.partial_fit(given["X"], given["y"], given["sample_weight"]), text
    ) if " " not in name else None
    if name == "X":
        for method in ("predict", "transform"):
            refused(fitted, lambda method=method: getattr(fitted, method)(given["X"]), text)


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("kind", [*TABLES, *SPARSE])
def test_numbers_that_are_not_finite_in_tables_and_sparse_arrays(kind, place):
    """The column of a table with names goes by its name."""
    row = PLACES[place]
    bad = spoiled(X, row, np.nan)
    convert = (TABLES | SPARSE)[kind]
    with pytest.raises(DataError, match=rf"^X: row {row}, column '?(2|column_2)'? is NaN"):
        classifier().fit(convert(bad), CLASSES)
    if kind in TABLES:
        frame = pandas.DataFrame(bad, columns=NAMES)
        with pytest.raises(DataError, match=rf"^X: row {row}, column 'feature 2' is NaN"):
            classifier().fit(frame, CLASSES)


@pytest.mark.parametrize(
    "missing",
    [
        lambda y: np.where(np.arange(M) == 13, None, y.astype(object)),
        lambda y: pandas.Series(y).mask(np.arange(M) == 13),
        lambda y: pandas.Series(y).mask(np.arange(M) == 13).astype("category"),
        lambda y: polars.Series([None if i == 13 else label for i, label in enumerate(y.tolist())]),
    ],
)
@pytest.mark.parametrize("y", [TEXT, CLASSES], ids=["text", "numbers"])
def test_targets_that_are_missing(y, missing):
    with pytest.raises(DataError, match=r"^y: row 13 is (NaN|missing)"):
        classifier().fit(X, missing(y))


WRONG = {
    "unseen classes": (classifier, {"y": np.where(np.arange(M) == 3, 7, CLASSES)}, r"y: holds classes .*\[7\]"),
    "unseen classes to validate": (classifier, {"eval_set y": CLASSES + 1}, r"eval_set y: holds classes .*\[3\]"),
    "numbers for classes": (classifier, {"y": NUMBERS + 0.5}, "Unknown label type"),
    "several columns of classes": (classifier, {"y": np.stack([CLASSES, CLASSES], 1)}, "y: has 2 columns of classes"),
    "labels for classes": (classifier, {"y": LABELS}, "y: has shape"),
    "text for numbers": (regressor, {"y": TEXT}, "y: holds <U1 values"),
    "another number of targets": (regressor, {"y": np.stack([NUMBERS, NUMBERS], 1)}, r"y: has 2 target\(s\)"),
    "negative weights": (regressor, {"sample_weight": spoiled(WEIGHTS, 4, -0.5)}, r"sample_weight: .*\[4\] is -0.5"),
    "no weight": (regressor, {"sample_weight": np.zeros(M)}, "sample_weight: every weight is zero"),
    "no weight to validate": (regressor, {"eval_set sample_weight": np.zeros(M)}, "eval_set sample_weight: every"),
    "weights in a column": (regressor, {"sample_weight": WEIGHTS[:, None]}, r"sample_weight: has shape \(30, 1\)"),
    "weights in words": (regressor, {"sample_weight": "balanced"}, "sample_weight: holds <U8 values"),
    "masked features": (regressor, {"X": np.ma.masked_array(X, X > 1)}, "X: is a masked array"),
    "masked targets": (regressor, {"y": np.ma.masked_array(NUMBERS, NUMBERS > 1)}, "y: is a masked array"),
    "features less": (regressor, {"X": X[:, :3]}, "X has 3 features"),
    **{
        f"rows less of {name}": (regressor, {name: GIVEN[name][:-1]}, name if "weight" in name else "inconsistent")
        for name in GIVEN
        if name != "X"
    },
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_cannot_be_used_leaves_a_fitted_model_as_it_was(named_backend, what):
    """In a training that would have gone on."""
    make, change, text = WRONG[what]
    base = {**GIVEN, **({"y": CLASSES, "eval_set y": CLASSES} if make is classifier else {})}
    model = fit(make(named_backend.name, warm_start=True), base)
    refused(model, lambda: fit(model, {**base, **change}), text)
    untouched = fit(fit(make(named_backend.name, warm_start=True), base), base)
    np.testing.assert_array_equal(parameters(fit(model, base)), parameters(untouched))


@pytest.mark.parametrize(
    ("classes", "text"),
    [([1], "classes: holds one class only"), ([0, 1], r"y: holds classes .*\[2\]"), ([0, 1, np.nan], "classes: row 2")],
)
def test_classes_of_partial_fit(classes, text):
    fresh = classifier()
    refused(fresh, lambda: fresh.partial_fit(X, CLASSES, classes=classes), f"^{text}")


def test_one_class_is_refused_in_fit():
    fitted = classifier().fit(X, CLASSES)
    refused(fitted, lambda: fitted.fit(X, np.ones(M, dtype=int)), r"^y: holds one class only, \[1\]")


@pytest.mark.parametrize("kind", ["y", "eval_set y"])
def test_a_target_that_single_precision_cannot_hold(kind):
    """X decides on the precision."""
    given = {name: array.astype(np.float32) if "X" in name else array for name, array in GIVEN.items()}
    given[kind] = spoiled(NUMBERS, 13, 1e39)
    fresh = regressor()
    refused(fresh, lambda: fit(fresh, given), rf"^{kind}: row 13 is 1e\+39")
