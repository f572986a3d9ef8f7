"""Models of tables in other programs: columns in, classes or values out, as accelnn itself predicts them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from accelnn import DataError, ModelFileError, Network
from accelnn.exchange import (
    import_sklearn,
    import_torch,
    load_skops,
    save_onnx,
    save_skops,
    save_torch,
    to_onnx,
    to_sklearn,
    to_torch,
)
from accelnn.exchange.files import TEXT
from accelnn.tables.frames import as_text
from accelnn.tables.model import TableModel
from accelnn.tables.origin import Origin
from accelnn.tables.schema import Categorical, Numeric, Schema, Standardizer

polars = pytest.importorskip("polars", reason="the extra tables is not installed")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CLASSES = ("oak", "ash", "pine tree", "öak")  # in no order
ALLOWED = 1e-5

MIXED = Schema(
    (
        Categorical("city", ("Bonn", "Köln", "Ulm"), imputes=True, indicator=True),
        Numeric("größe in m² / x", 171.5, 9.25),
        Numeric("age", 40.0, 12.0, median=38.5, indicator=True),
        Categorical("label", ("no", "yes")),  # the name of an output
        Numeric("smokes", 0.25, 0.433, boolean=True),
        Numeric("income", 1e6, 3e-2, median=1e6),
        Categorical("blank", ("", "a", "z"), imputes=True, indicator=True),  # of which nothing is a category
        Numeric("pressure", -3.0, 2.0, median=-3.5, indicator=True),
        Categorical("x", ("q",), imputes=True),
    )
)
PLAIN = Schema(tuple(Numeric(f"x{k}", 10.0**k, 2.0**-k) for k in range(4)))


def mixed(m, seed=0):
    """Rows with what training has seen, what it has not, and what is missing."""
    rng = np.random.default_rng(seed)

    def some(values):
        return [values[k] for k in rng.integers(len(values), size=m)]

    return polars.DataFrame(
        {
            "unused": some([1, 2]),
            "x": some(["q", None, "r"]),
            "pressure": some([None, -1.0, -9.0, 2.5]),
            "city": some(["Ulm", "Köln", "Bonn", "Bad Ems", None]),
            "größe in m² / x": rng.normal(171.0, 9.0, size=m),
            "income": some([1e6, 1e6 + 0.05, None]),
            "age": some([18, 77, None, 40]),
            "blank": some(["", "a", "z", "b", None]),
            "smokes": some([True, False]),
            "label": some(["yes", "no", "never"]),
        },
        schema_overrides={"x": polars.String, "age": polars.Int64, "pressure": polars.Float64},
    )


def model(schema, task, dtype="float32", classes=3, activation="tanh", hidden=(6, 5)):
    if task == "classification":
        units, output = (1, "sigmoid") if classes == 2 else (classes, "softmax")
        names, outputs = CLASSES[:classes], None
    else:
        units, output, names = 1, task, ()
        outputs = (
            Standardizer(np.array([2e6]), np.array([0.5]))
            if task == "identity"
            else Standardizer(np.zeros(1), np.ones(1))
        )
        task = "regression"
    net = Network([schema.width, *hidden, units], activation, output, dtype=dtype, backend="numpy")
    net.theta = np.random.default_rng(1).normal(scale=0.4, size=net.theta.shape)
    return TableModel(net, schema, task, names, "kind", outputs)


def columns(schema, table, missing):
    """The inputs of the ONNX file: doubles, or texts."""
    found = {}
    for column in schema.columns:
        series = table[column.name]
        if isinstance(column, Numeric):
            found[column.name] = series.cast(polars.Float64).to_numpy()[:, None]
        else:
            texts = series.fill_null(missing.get(column.name, ""))
            found[column.name] = np.array(texts.to_list(), dtype=object)[:, None]
    return found


def by_onnxruntime(trained, table):
    made = to_onnx(trained)
    about = {one.key: one.value for one in made.metadata_props}
    assert about["accelnn.target"] == "kind"
    assert Schema.from_json(json.loads(about["accelnn.schema"])) == trained.schema
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(trained.schema.names)
    inputs = columns(trained.schema, table, json.loads(about["accelnn.missing"]))
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, inputs), strict=True))


def predicted(trained, table):
    with pytest.warns(UserWarning, match="a category that training did not see"):
        return trained.predict(table)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_onnxruntime_classifies_a_table(classes, dtype):
    trained, table = model(MIXED, "classification", dtype, classes), mixed(1000)
    expected, found = predicted(trained, table), by_onnxruntime(trained, table)
    assert list(found) == ["label_2", "probabilities"]  # a column has the first one's name
    assert found["probabilities"].dtype == dtype
    np.testing.assert_allclose(found["probabilities"], expected, atol=ALLOWED)
    best = np.argmax(found["probabilities"], axis=1)
    assert found["label_2"].tolist() == [CLASSES[k] for k in best]
    assert np.mean(best == expected.argmax(axis=1)) > 0.99
    assert len(set(best.tolist())) > 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", ["identity", "exp"])
def test_onnxruntime_gives_values_in_the_targets_units(output, dtype):
    trained, table = model(MIXED, output, dtype), mixed(200)
    expected, found = predicted(trained, table), by_onnxruntime(trained, table)
    assert found["value"].dtype == np.float64
    # Near 2e6, float32 would have lost what there is to tell.
    allowed = ALLOWED if dtype == "float32" else 1e-9
    np.testing.assert_allclose(found["value"][:, 0] - expected.mean(), expected - expected.mean(), atol=allowed)


def test_one_row_and_columns_of_one_kind():
    for schema, table in (
        (Schema(MIXED.columns[:1]), mixed(50).select("city")),
        (Schema(MIXED.columns[2:3]), mixed(50).select("age")),
        (PLAIN, polars.DataFrame({name: np.linspace(-1, 9, 50) for name in PLAIN.names})),
    ):
        trained = model(schema, "classification")
        for rows in (table, table[:1]):
            expected = trained.predict(rows, tally=None) if "city" not in rows.columns else predicted(trained, table)
            found = by_onnxruntime(trained, rows)["probabilities"]
            np.testing.assert_allclose(found, expected[: len(rows)], atol=ALLOWED)


def test_what_accelnn_refuses_becomes_nan():
    trained = model(PLAIN, "classification")
    rows = polars.DataFrame({name: [1.0, None] for name in PLAIN.names})
    with pytest.raises(DataError, match="the value is missing"):
        trained.predict(rows)
    found = by_onnxruntime(trained, rows)["probabilities"]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def read_plainly(library, path):
    return pytest.importorskip(library).read_csv(path)


def executed(program, table):
    """What a program's names stand for after it."""
    names = {"table": table}
    exec(program, names)
    return names


LIBRARIES = ("polars", "pandas")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_printed_lines_predict(library, tmp_path):
    """A file that knows nothing of accelnn's, read as everybody reads it: of kinds and of gaps, the lines take care."""
    schema = Schema(
        (
            Categorical("city", ("Bonn", "Köln", "None", "nan"), imputes=True, indicator=True),
            Categorical("floor", ("-3", "1", "2"), imputes=True, indicator=True),  # integers with gaps
            Categorical("class", ("1", "2", "3")),
            Categorical("half", ("0.5", "1", "2.25"), imputes=True),
            Categorical("smokes", ("false", "true")),
            Categorical("often", ("false", "true"), imputes=True, indicator=True),  # booleans with gaps
            Numeric("age", 40.0, 12.0, median=38.5, indicator=True),
            Numeric("member", 0.5, 0.5, boolean=True),
        )
    )
    (tmp_path / "t.csv").write_text(
        "city,floor,class,half,smokes,often,age,member\nBonn,1,1,0.5,true,true,31,true\n,,2,1,false,,,false\n"
        "Köln,-3,3,,true,false,44,true\nUlm,2,9,2.25,false,true,51.5,false\n"
    )
    trained = model(schema, "classification", "float64")
    written = save_onnx(trained, tmp_path / "m.onnx")
    assert written.note == "it has an input for each of 8 columns, and gives label and probabilities"
    assert onnx.load(tmp_path / "m.onnx").producer_name == "accelnn"
    expected = predicted(trained, polars.read_csv(tmp_path / "t.csv"))
    found = executed(written.program, read_plainly(library, tmp_path / "t.csv"))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("indicator", [False, True])
def test_the_printed_lines_tell_an_empty_text_from_a_missing_one(indicator, library, tmp_path):
    schema = Schema((Categorical("blank", ("", "a", "z"), imputes=True, indicator=indicator),))
    trained = model(schema, "classification", "float64")
    table = polars.DataFrame({"blank": ["", "a", None, "z"]})
    written = save_onnx(trained, tmp_path / "m.onnx")
    rows = table if library == "polars" else as_pandas(table)
    found = executed(written.program, rows)["probabilities"]
    np.testing.assert_allclose(found, trained.predict(table), atol=1e-9)


def test_the_printed_lines_of_a_table_of_numbers_are_few(tmp_path):
    trained = model(PLAIN, "classification")
    written = save_onnx(trained, tmp_path / "m.onnx")
    assert len(written.program.splitlines()) == 6
    table = polars.DataFrame({name: np.linspace(-1, 9, 5) for name in PLAIN.names})
    for rows in (table, as_pandas(table)):
        found = executed(written.program, rows)["probabilities"]
        np.testing.assert_allclose(found, trained.predict(table), atol=ALLOWED)


@given(
    value=st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(max_size=4)
    # polars writes powers of ten below 0.0001 in other words
    | st.floats(allow_nan=True, allow_infinity=False).filter(lambda v: v == 0 or v != v or abs(v) >= 1e-4),
)
def test_the_printed_text_is_accelnns(value):
    text = executed("\n".join(TEXT), None)["text"]
    series = polars.Series("a", [value], dtype=polars.String if value is None else None)
    assert text(value, None) == as_text(series, Origin())[0]
    assert text(np.bool_(True), None) == "true"
    assert text(None, "?") == text(float("nan"), "?") == "?"


# scikit-learn.


def as_pandas(table):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({name: table[name].to_list() for name in table.columns})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_pipeline_of_scikit_learn_classifies_a_table(classes, dtype, tmp_path):
    pytest.importorskip("skops.io", reason="the extra skops is not installed")
    import skops.io

    trained, table = model(MIXED, "classification", dtype, classes), mixed(300)
    order = np.argsort(CLASSES[:classes])  # scikit-learn sorts them
    expected = predicted(trained, table)[:, order]
    pipeline = to_sklearn(trained)
    assert list(pipeline.classes_) == sorted(CLASSES[:classes])
    written = save_skops(trained, tmp_path / "m.skops")
    assert 'trusted=["numpy.dtype"])\n' in written.program
    assert written.note.startswith(
        "it holds a pipeline with an MLPClassifier, which takes a table's columns; categories"
    )
    again = skops.io.load(tmp_path / "m.skops", trusted=["numpy.dtype"])
    for estimator in (pipeline, again):
        for rows in (table, as_pandas(table)):
            np.testing.assert_allclose(estimator.predict_proba(rows), expected, atol=ALLOWED)
    names = np.array(sorted(CLASSES[:classes]))
    np.testing.assert_array_equal(pipeline.predict(table), names[pipeline.predict_proba(table).argmax(axis=1)])


@pytest.mark.parametrize("output", ["identity", "exp"])
def test_a_pipeline_gives_values_in_the_targets_units(output):
    trained, table = model(MIXED, output), mixed(100)
    np.testing.assert_allclose(to_sklearn(trained).predict(table), predicted(trained, table), rtol=1e-6)


def test_a_table_of_numbers_needs_a_scaler_alone(tmp_path):
    pytest.importorskip("skops.io", reason="the extra skops is not installed")
    named = Schema(tuple(Numeric(f"col {k}", 10.0**k, 2.0**-k) for k in range(4)))
    X = np.random.default_rng(0).normal(size=(50, 4)) * PLAIN._plan.scale + PLAIN._plan.mean
    for schema in (PLAIN, named):
        trained = model(schema, "classification", classes=4)
        pipeline = to_sklearn(trained)
        assert [name for name, _ in pipeline.steps] == ["scale", "network"]
        assert hasattr(pipeline, "feature_names_in_") is (schema is named)
        rows = polars.DataFrame({name: X[:, k] for k, name in enumerate(schema.names)})
        order = np.argsort(CLASSES)
        np.testing.assert_allclose(
            pipeline.predict_proba(rows if schema is named else X), trained.predict(X)[:, order], atol=ALLOWED
        )
        save_skops(trained, tmp_path / "m.skops")
        back = import_sklearn(tmp_path / "m.skops")
        assert back.schema == schema
        assert back.classes == tuple(sorted(CLASSES))
        np.testing.assert_allclose(back.predict(X), trained.predict(X)[:, order], atol=ALLOWED)


@pytest.mark.parametrize("library", LIBRARIES)
def test_categories_that_are_no_text_go_through_the_printed_lines(library, tmp_path):
    pytest.importorskip("skops.io", reason="the extra skops is not installed")
    schema = Schema(
        (
            Categorical("Pclass", ("1", "2", "3")),
            Categorical("floor", ("-3", "1", "2"), imputes=True, indicator=True),
            Categorical("smokes", ("false", "true")),
            Categorical("often", ("false", "true"), imputes=True, indicator=True),
            Categorical("city", ("Bonn", "Köln"), imputes=True, indicator=True),
            Numeric("age", 40.0, 12.0, median=38.5, indicator=True),
        )
    )
    (tmp_path / "t.csv").write_text(
        "Pclass,floor,smokes,often,city,age,more\n1,1,true,true,Bonn,31,a\n2,,false,,,,b\n"
        "3,-3,true,false,Köln,44,c\n9,2,false,true,Ulm,51,d\n"
    )
    trained = model(schema, "classification", "float64")
    table = read_plainly(library, tmp_path / "t.csv")
    names = executed(save_skops(trained, tmp_path / "m.skops").program, table)
    expected = predicted(trained, polars.read_csv(tmp_path / "t.csv"))[:, np.argsort(CLASSES[:3])]
    np.testing.assert_allclose(names["model"].predict_proba(names["texts"](table)), expected, atol=1e-9)
    if library == "pandas":  # rows have other numbers after a selection
        chosen = names["texts"](table[2:])
        np.testing.assert_allclose(names["model"].predict_proba(chosen), expected[2:], atol=1e-9)


def test_a_pipeline_of_more_does_not_come_back(tmp_path):
    pytest.importorskip("skops.io", reason="the extra skops is not installed")
    save_skops(model(MIXED, "classification"), tmp_path / "m.skops")
    assert load_skops(tmp_path / "m.skops").steps[0][0] == "encode"
    message = (
        r"m\.skops: cannot be imported \(a pipeline of ColumnTransformer, MLPClassifier has no counterpart here; .*"
    )
    with pytest.raises(ModelFileError, match=message + "keep the file that accelnn exported it from"):
        import_sklearn(tmp_path / "m.skops")


# PyTorch.


@pytest.mark.parametrize("schema", [PLAIN, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("task", ["classification", "identity", "exp"])
def test_to_pytorch_and_back_with_the_table(task, schema, tmp_path):
    trained = model(schema, task, activation="gelu")
    note = save_torch(trained, tmp_path / "m").note
    assert ("the lines above standardise" in note) is (schema is PLAIN)
    back = import_torch(tmp_path / "m")
    assert (back.schema, back.task, back.classes, back.target) == (schema, trained.task, trained.classes, "kind")
    np.testing.assert_array_equal(back.network.theta, trained.network.theta)
    if trained.outputs is not None:
        assert (back.outputs.mean, back.outputs.scale) == (trained.outputs.mean, trained.outputs.scale)
    for name, array in to_torch(trained).items():
        np.testing.assert_array_equal(load_file(tmp_path / "m")[name], array)
    with pytest.raises(DataError, match="names its classes itself; leave them out"):
        import_torch(tmp_path / "m", classes=("a", "b", "c"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("task", ["classification", "identity", "exp"])
def test_the_lines_standardise_for_pytorch(task, dtype, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    trained = model(PLAIN, task, dtype)
    X = np.random.default_rng(0).normal(size=(50, 4)) * PLAIN._plan.scale + PLAIN._plan.mean
    np.save(tmp_path / "X.npy", X)
    program = (
        f"{save_torch(trained, tmp_path / 'm.safetensors').program}import numpy as np\n"
        f"np.save({str(tmp_path / 'A.npy')!r}, predict(torch.tensor(np.load({str(tmp_path / 'X.npy')!r}))).numpy())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = trained.predict(X)
    found = np.load(tmp_path / "A.npy")
    np.testing.assert_allclose(found if expected.ndim == 2 else found[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_a_file_whose_table_is_another_networks(tmp_path):
    from safetensors.numpy import save_file

    trained = model(PLAIN, "classification")
    table = json.dumps(trained.description()["table"])
    for text, message in ((table.replace("x3", "x2"), "the same name"), ("{}", "lacks"), ("[", "is no accelnn model")):
        save_file(to_torch(trained), tmp_path / "m", metadata={"table": text})
        with pytest.raises(ModelFileError, match=message):
            import_torch(tmp_path / "m", activations="tanh", output="softmax")


def test_a_foreign_network_gets_a_table_of_numbers(tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))

    def imported(units, output, **settings):
        state = {"0.weight": rng.normal(size=(5, 4)), "2.weight": rng.normal(size=(units, 5))}
        save_file(state, tmp_path / "m")
        Z = np.tanh(X @ state["0.weight"].T) @ state["2.weight"].T
        return import_torch(tmp_path / "m", activations="tanh", output=output, **settings), Z

    found, Z = imported(3, "softmax", classes=("a", "b", "c"))
    assert (found.schema.names, found.classes) == (("x0", "x1", "x2", "x3"), ("a", "b", "c"))
    np.testing.assert_allclose(found.predict(X), np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True))
    found, Z = imported(2, "softmax")  # two classes have one unit here
    assert (found.network.sizes, found.network.output, found.classes) == ((4, 5, 1), "sigmoid", ("0", "1"))
    np.testing.assert_allclose(found.predict(X), np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True))
    found, Z = imported(1, "identity")
    np.testing.assert_allclose(found.predict(X), Z[:, 0])
    found, Z = imported(2, "identity")
    assert isinstance(found, Network)
    np.testing.assert_allclose(found.predict(X.T).T, Z)
    for units, output, classes, message in (
        (3, "softmax", ("a", "b"), "classes: 2 different names for a network with 3 classes"),
        (3, "softmax", ("a", "b", "a"), "classes: 2 different names for a network with 3 classes"),
        (1, "identity", ("a",), "classes: 1 different names for a network with 0 classes"),
        (3, "sigmoid", ("a", "b", "c"), "classes: a network with 3 sigmoid outputs has none to name"),
    ):
        with pytest.raises(DataError, match=message):
            imported(units, output, classes=classes)
