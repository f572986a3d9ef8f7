"""A network that knows its table: what it predicts, what its file holds, and which files it refuses."""

import csv
import dataclasses
import io
import json
import math
import time
import tracemalloc
import warnings

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from accelnn import DataError, ModelFileError, Network, Schema, TableModel
from accelnn.datasets import Dataset
from accelnn.storage import container, load_model, save_model
from accelnn.tables import model as module
from accelnn.tables.columns import Numeric
from accelnn.tables.schema import Standardizer, Tally

M = 60
CLASSES = {1: (), 2: ("no", "yes"), 3: ("ä", "b", "c")}


def table(seed=0, m=M):
    """A table with every kind of column, some values missing."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40.0, 9.0, m)
    age[rng.random(m) < 0.2] = np.nan
    city = [None if k % 11 == 3 else ["Ulm", "Bonn", "Kiel"][k % 3] for k in range(m)]
    return polars.DataFrame(
        {
            "age": polars.Series(age).fill_nan(None),
            "city": city,
            "paid": rng.random(m) < 0.5,
            "rooms": rng.integers(1, 9, m),
        }
    )


def data(outputs=2, X=None, seed=0):
    rng = np.random.default_rng(seed + 1)
    X = table(seed) if X is None else X
    classes = CLASSES[outputs]
    y = rng.integers(len(classes), size=X.shape[0]) if classes else rng.normal(100.0, 7.0, X.shape[0])
    names = tuple(X.columns) if isinstance(X, polars.DataFrame) else tuple(f"x{k}" for k in range(X.shape[1]))
    return Dataset("t.csv", X, y, "classification" if classes else "regression", names, classes, "outcome")


def trained(outputs=2, X=None, **network):
    given = data(outputs, X)
    network = {"missing": "impute", "backend": "numpy", "seed": 3, **network}
    found = TableModel.untrained(given, None, (5,), "tanh", **network)
    found.network.fit(*found.encoded(given.X, given.y), epochs=3, batch_size=16)
    return found, given


# What it predicts.


@pytest.mark.parametrize(("outputs", "shape"), [(1, (M,)), (2, (M, 2)), (3, (M, 3))])
def test_predictions_are_those_of_the_network_in_the_units_of_the_target(outputs, shape):
    found, given = trained(outputs)
    predicted = found.predict(given.X)
    assert (predicted.shape, predicted.dtype) == (shape, np.float64)
    A = found.network.predict(found.schema.encode(given.X, dtype="float32").X.T)
    if outputs == 1:
        np.testing.assert_array_equal(predicted, found.outputs.undo(A[0].astype(float)))
        assert 80 < predicted.mean() < 120
        assert found.score(given.X, predicted) == pytest.approx(1.0)
    else:
        np.testing.assert_allclose(predicted.sum(axis=1), 1.0, rtol=1e-6)
        np.testing.assert_array_equal(predicted[:, -1], A[-1])
        assert found.score(given.X, predicted.argmax(axis=1)) == 1.0


def test_the_training_part_alone_is_learned_from():
    given = data(1)
    rows = np.arange(0, M, 2)
    found = TableModel.untrained(given, rows, (3,), "relu", missing="impute", backend="numpy")
    assert found.schema == Schema.of(given.X[rows], missing="impute")
    assert found.outputs.mean[0] == given.y[rows].mean()
    with pytest.raises(DataError, match=r"^t\.csv: column 'city', .*: the value is missing; use --missing impute"):
        TableModel.untrained(data(2, table().drop("age")), None, (3,), "relu", backend="numpy")


def test_counts_are_predicted_as_they_are():
    given = dataclasses.replace(data(1), y=np.random.default_rng(0).poisson(3.0, M).astype(float))
    found = TableModel.untrained(given, None, (), "relu", missing="impute", loss="poisson", backend="numpy")
    assert (found.network.output, found.outputs.mean[0], found.outputs.scale[0]) == ("exp", 0.0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_part_by_part_gives_what_all_at_once_gives(dtype, monkeypatch):
    found, given = trained(3, dtype=dtype)
    X, y = found.encoded(given.X, given.y)
    assert X.dtype == dtype
    parts = [found.encoded(given.X[k : k + 7], given.y[k : k + 7]) for k in range(0, M, 7)]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts], axis=1), X)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), y)
    whole = found.predict(given.X)
    monkeypatch.setattr(module, "AT_ONCE", 40)
    np.testing.assert_allclose(found.predict(given.X), whole, rtol=4 * np.sqrt(np.finfo(dtype).eps))
    assert found.predict(given.X[:0]).shape == (0, 3)
    assert trained(1)[0].predict(given.X[:0]).shape == (0,)


def test_unknown_categories_are_counted_or_warned_of_or_refused():
    found, given = trained()
    new = given.X.with_columns(city=polars.lit("Rom"))
    tally = Tally()
    predicted = found.predict(new, tally=tally)
    assert tally.unknown == {"city": M}
    assert tally.imputed == {"age": given.X["age"].null_count()}
    assert found.score(new, predicted.argmax(axis=1), tally=tally) == 1.0
    assert tally.unknown == {"city": 2 * M}
    with pytest.warns(UserWarning, match=r"^column 'city': 60 rows have a category that training did not see$"):
        np.testing.assert_array_equal(found.predict(new), predicted)
    with pytest.raises(
        DataError, match=r"^u.csv: column 'city', line 7: 'Rom' is a category that training did not see"
    ):
        found.predict(new, strict=True, source="u.csv", place=lambda row: f"line {row + 7}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.predict(given.X)  # values that are missing, as training allowed for, are no surprise


@pytest.mark.parametrize("at_once", [module.AT_ONCE, 30])
def test_the_place_of_a_fault_is_that_in_the_table(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    found, given = trained()
    new = given.X.with_columns(city=polars.Series(["Ulm"] * 50 + ["Rom"] * 10))
    rows = np.arange(M)[::-1]
    for method in (found.predict, found.check):
        with pytest.raises(DataError, match=r"^column 'city', row 50: 'Rom'"):
            method(new, strict=True)
        with pytest.raises(DataError, match=r"^column 'city', row 59: 'Rom'"):
            method(new, rows, strict=True)
        method(new, rows[10:], strict=True)
    assert found.check(new).unknown == {"city": 10}
    X = given.X.with_columns(age=polars.lit(40.0))
    whole = dataclasses.replace(found, schema=Schema.of(given.X.drop_nulls()))
    for method in (whole.encoded, whole.score):
        with pytest.raises(
            DataError, match=rf"^column 'city', line {99 + 58}: the value is missing, and training did n"
        ):
            method(X, given.y, rows=np.array([57, 0, 58]), place=lambda row: f"line {99 + row}")


@pytest.mark.parametrize("outputs", [1, 3])
def test_some_rows_are_chosen(outputs):
    found, given = trained(outputs)
    rows = np.array([5, 0, 33])
    np.testing.assert_allclose(found.predict(given.X, rows), found.predict(given.X)[rows], rtol=1e-5)
    assert found.score(given.X, given.y, rows) == pytest.approx(found.score(given.X[rows], given.y[rows]), rel=1e-5)
    for a, b in zip(found.encoded(given.X, given.y, rows), found.encoded(given.X[rows], given.y[rows]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_target_that_is_too_large():
    given = dataclasses.replace(data(1), y=np.array([-1e300, 1e300] * (M // 2)))
    with pytest.raises(
        DataError, match=r"^t\.csv: column 'outcome': its values are too large to standardise; scale it"
    ):
        TableModel.untrained(given, None, (), "relu", missing="impute", backend="numpy")


def test_sparse_rows_are_trained_on_and_predicted_as_they_are():
    X = sparse.random_array((M, 30), density=0.2, rng=np.random.default_rng(0), format="csr")
    found, given = trained(3, X)
    assert sparse.issparse(found.encoded(given.X, given.y)[0])
    dense = found.predict(X.toarray())
    for other in (X, X.tocoo(), X.tocsc()):
        np.testing.assert_allclose(found.predict(other), dense, rtol=1e-5)


def test_predicting_a_memory_map_takes_little_memory(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(40_000, 50)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    found, _ = trained(2, X[:100])
    monkeypatch.setattr(module, "AT_ONCE", 2**16)
    found.predict(mapped[:2000])
    tracemalloc.start()
    try:
        found.predict(mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * X.nbytes  # of 8 MB; encoded at once it would take all of that and more


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_predictions_are_written_as_csv(outputs):
    found, given = trained(outputs)
    found = dataclasses.replace(found, target='a, "b"')
    file = io.StringIO()
    tally = found.write_predictions(given.X, file)
    assert tally.imputed.total() == given.X["age"].null_count() + given.X["city"].null_count()
    rows = list(csv.reader(io.StringIO(file.getvalue())))
    predicted = found.predict(given.X)
    assert file.getvalue().count("\n") == len(rows) == M + 1
    assert rows[0] == ['a, "b"', *(f"p({name})" for name in found.classes)]
    if outputs == 1:
        np.testing.assert_array_equal([float(row[0]) for row in rows[1:]], predicted)
    else:
        assert [row[0] for row in rows[1:]] == [found.classes[k] for k in predicted.argmax(axis=1)]
        np.testing.assert_allclose([[float(p) for p in row[1:]] for row in rows[1:]], predicted, rtol=1e-5)


# What its file holds.


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_everything_travels_in_the_file(outputs, tmp_path, backend):
    found, given = trained(outputs)
    found.save(tmp_path / "m")
    again = TableModel.load(tmp_path / "m", backend)
    assert (again.schema, again.task, again.classes, again.target) == (
        *(found.schema, found.task, found.classes),
        found.target,
    )
    if outputs == 1:
        assert again.outputs.mean[0].hex() == found.outputs.mean[0].hex()
        assert again.outputs.scale[0].hex() == found.outputs.scale[0].hex()
    np.testing.assert_allclose(again.predict(given.X), found.predict(given.X), rtol=1e-5)
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


@given(
    st.floats(-1e300, 1e300),
    st.floats(1e-300, 1e300),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=4, unique=True),
)
def test_any_description_comes_back(mean, scale, target, classes):
    schema = Schema((Numeric(target, mean, scale, mean, indicator=True),))
    for task in ("regression", "classification"):
        outputs = Standardizer(np.array([mean]), np.array([scale])) if task == "regression" else None
        n = 1 if len(classes) == 2 or outputs else len(classes)
        net = Network([2, n], output="identity" if outputs else "sigmoid" if n == 1 else "softmax", backend="numpy")
        found = TableModel(net, schema, task, () if outputs else tuple(classes), target, outputs)
        description = json.loads(json.dumps(found.description(), allow_nan=False))
        again = TableModel.from_description(net, description, "m")
        assert again.description() == found.description()
        assert again.schema == schema


def test_the_network_alone_is_told_from_one_with_a_table(tmp_path):
    Network([2, 3, 1], backend="numpy").save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"m: holds a network without a table; read it with accelnn.Network.load"):
        TableModel.load(tmp_path / "m", "numpy")
    found, _ = trained()
    found.save(tmp_path / "m")
    assert Network.load(tmp_path / "m", "numpy").sizes == found.network.sizes


def changed(**table):
    return lambda about: {"table": {**about["table"], **table}}


def first_column(**column):
    return lambda about: changed(schema=[{**about["table"]["schema"][0], **column}, *about["table"]["schema"][1:]])(
        about
    )


LIES = {
    "no table": lambda about: {},
    "a list": lambda about: {"table": [about["table"]]},
    "null": lambda about: {"table": None},
    "too much": changed(more=1),
    "too little": lambda about: {"table": {k: v for k, v in about["table"].items() if k != "target"}},
    "no columns": changed(schema=[]),
    "a column less": lambda about: changed(schema=about["table"]["schema"][1:])(about),
    "a column more": lambda about: changed(
        schema=[*about["table"]["schema"], Schema((Numeric("q", 0.0, 1.0),)).to_json()[0]]
    )(about),
    "a column twice": lambda about: changed(schema=[about["table"]["schema"][-1]] * 2)(about),
    "NaN": first_column(mean=math.nan),
    "infinity": first_column(scale=math.inf),
    "zero scale": first_column(scale=0.0),
    "no name": first_column(name=None),
    "half a character": first_column(name="\ud800"),
    "columns as text": changed(schema="age"),
    "task": changed(task="clustering"),
    "other task": changed(task="regression"),
    "target": changed(target=3),
    "one class": changed(classes=["yes"]),
    "no class": changed(classes=[]),
    "half a character in a class": changed(classes=["yes", "\ud800"]),
    "classes": changed(classes=["a", "b", "c"]),
    "classes as text": changed(classes="ab"),
    "equal classes": changed(classes=["yes", "yes"]),
    "numbers as classes": changed(classes=[0, 1]),
    "outputs": changed(outputs={"mean": 0.0, "scale": 1.0}),
    "ten million classes": changed(classes=["a"] * 10_000_000),
    "ten million categories": lambda about: changed(
        schema=[{"kind": "categorical", "name": "c", "categories": ["a"] * 10_000_000}]
    )(about),
    "many columns": lambda about: changed(schema=about["table"]["schema"] * 30_000)(about),
}
LIES_OF_REGRESSION = {
    "no outputs": changed(outputs=None),
    "NaN": changed(outputs={"mean": math.nan, "scale": 1.0}),
    "scale": changed(outputs={"mean": 0.0, "scale": -1.0}),
    "zero": changed(outputs={"mean": 0.0, "scale": 0.0}),
    "half": changed(outputs={"mean": 0.0}),
    "text": changed(outputs={"mean": "0", "scale": "1"}),
    "whole": changed(outputs={"mean": 10**400, "scale": 1.0}),
    "list": changed(outputs=[0.0, 1.0]),
    "classes": changed(classes=["a", "b"]),
}


@pytest.mark.parametrize(
    ("outputs", "lie"),
    [(2, lie) for lie in LIES.values()] + [(1, lie) for lie in LIES_OF_REGRESSION.values()],
    ids=[*LIES, *(f"regression: {name}" for name in LIES_OF_REGRESSION)],
)
def test_a_description_that_lies_is_refused_quickly(outputs, lie):
    found, _ = trained(outputs)
    honest = found.description()
    assert TableModel.from_description(found.network, json.loads(json.dumps(honest)), "m").description() == honest
    description = lie(honest)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"^m: ") as problem:
            TableModel.from_description(found.network, description, "m")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(problem.value)) < 400
    assert peak < 100e6
    assert time.perf_counter() - start < 10


def test_a_file_with_a_good_checksum_and_a_lie_is_refused(tmp_path):
    found, _ = trained()
    found.save(tmp_path / "m")
    network, description, _ = load_model(tmp_path / "m", "numpy")
    save_model(network, tmp_path / "m", description, {})
    TableModel.load(tmp_path / "m", "numpy")
    for name in ("a column less", "classes", "task", "zero scale"):
        save_model(network, tmp_path / "m", LIES[name](description), {})
        with pytest.raises(ModelFileError, match=r"m: is no accelnn model \("):
            TableModel.load(tmp_path / "m", "numpy")


def test_a_hundred_thousand_columns_fit_a_file(tmp_path):
    n = 100_000
    X = sparse.csr_array(np.random.default_rng(0).normal(size=(4, n)))
    found = TableModel.untrained(data(2, X), None, (1,), "relu", backend="numpy")
    found.save(tmp_path / "m")
    assert TableModel.load(tmp_path / "m", "numpy").schema == found.schema


def test_more_columns_than_a_file_can_describe_are_refused_before_training(monkeypatch):
    assert module.LARGEST < container._HEADER_LIMIT - 2**19
    monkeypatch.setattr(module, "LARGEST", 3000)
    X = np.random.default_rng(0).normal(size=(4, 40))
    TableModel.untrained(data(2, X[:, :10]), None, (1,), "relu", backend="numpy")
    with pytest.raises(
        DataError, match=r"^t\.csv: describing its 40 columns takes 4,\d\d\d bytes.* leave columns out "
    ):
        TableModel.untrained(data(2, X), None, (1,), "relu", backend="numpy")
