"""``accelnn inspect``: what a file says of itself, in words and as JSON."""

import itertools
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from typer.testing import CliRunner

import accelnn
from accelnn import MLPClassifier, ModelFileError, Network
from accelnn.checkpoints import Checkpoint
from accelnn.cli import app
from accelnn.earlystopping import EarlyStopping
from accelnn.exchange.card import card
from accelnn.exchange.card_lines import lines
from accelnn.storage import container
from accelnn.tables.model import TableModel
from accelnn.tables.schema import Categorical, Numeric, Schema, Standardizer

ROWS = np.random.default_rng(0).normal(size=(4, 40))
CLASSES = np.arange(40) % 3


def run(*arguments):
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def shown(path):
    """What is printed, and the same without its headings' column."""
    code, out, err = run(path)
    assert (code, err) == (0, "")
    return out


def as_json(path):
    code, out, err = run(path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(card(path)))
    return json.loads(out)


def network(**fit):
    net = Network([4, 6, 5, 3], ["tanh", "relu"], "softmax", seed=3, backend="numpy")
    net.fit(ROWS, CLASSES, **{"epochs": 5, "optimizer": "adam", "batch_size": 10, **fit})
    return net


def test_a_network(tmp_path):
    net = network(validation=(ROWS, CLASSES), learning_rate=0.01)
    path = tmp_path / "net.safetensors"
    net.save(path)
    out, found = shown(path), as_json(path)
    by = f"accelnn {accelnn.__version__}, numpy {np.__version__}, python {sys.version.split()[0]}"
    assert f"file      {path}, {path.stat().st_size:,} bytes, checksum verified\n" in out
    assert f"kind      model, format 2, written by {by}\n" in out
    assert "network   4-6-5-3, tanh, relu, softmax; 83 parameters, float32\n" in out
    assert "loss      cross_entropy\n" in out
    assert "trained   5 epochs, 20 steps in " in out
    for name, curve in (("loss", net.history.loss), ("validation_loss", net.history.validation_loss)):
        told = found["history"][name]
        assert (told["first"], told["last"], told["best"]) == (curve[0], curve[-1], min(curve))
        assert (told["epochs"], told["best_epoch"]) == (5, curve.index(min(curve)) + 1)
        words = f"{curve[0]:.6g} to {curve[-1]:.6g}, best {min(curve):.6g} after epoch {told['best_epoch']}"
        assert f"{name.replace('_', ' ')} {words}  {told['picture']}\n" in out
        assert len(told["picture"]) == 5
    assert "learning rate 0.01\n" in out
    assert found["kind"] == "model"
    assert found["network"]["sizes"] == [4, 6, 5, 3]
    assert found["network"]["parameters"] == 83
    assert found["sha256"] in path.read_bytes().decode("latin-1")
    assert found["tensors"]["theta"] == {"dtype": "float32", "shape": [83]}
    assert (found["epochs_trained"], found["steps_trained"]) == (5, 20)


def test_a_picture_of_a_long_history_falls_with_it(tmp_path):
    net = network(epochs=400, optimizer="adam", learning_rate=0.005)
    net.save(tmp_path / "net")
    picture = as_json(tmp_path / "net")["history"]["loss"]["picture"]
    assert len(picture) == 40
    assert picture[0] == "█"
    assert picture[-1] == "▁"
    assert sum(a >= b for a, b in itertools.pairwise(picture)) > 30


def test_an_untrained_network(tmp_path):
    Network([2, 1], (), "identity", "huber", backend="numpy").save(tmp_path / "net")
    out = shown(tmp_path / "net")
    assert "network   2-1, identity; 3 parameters, float32\n" in out
    assert "loss      huber (delta 1)\n" in out
    assert "trained   0 epochs, 0 steps\n" in out
    assert "history" not in out


def table_model(schema, classes=("oak", "ash", "öak"), outputs=None):
    units, output = (1, "identity") if outputs else (len(classes), "softmax")
    net = Network([schema.width, 3, units], "relu", output, backend="numpy")
    return TableModel(net, schema, "regression" if outputs else "classification", classes, "kind", outputs)


def test_a_model_of_a_table(tmp_path):
    schema = Schema(
        (
            Numeric("größe", 171.5, 9.25),
            Numeric("age", 40.0, 12.0, median=38.5, indicator=True),
            Numeric("smokes", 0.25, 0.5, boolean=True),
            Numeric("income", 1e6, 2e3, median=1e6),
            Categorical("city", ("Bonn", "Köln"), imputes=True, indicator=True),
            Categorical("day", tuple(f"d{k}" for k in range(7))),
        )
    )
    table_model(schema).save(tmp_path / "m")
    out, found = shown(tmp_path / "m"), as_json(tmp_path / "m")
    assert "kind      model of a table, format 2" in out
    assert "target    kind, 3 classes: oak, ash, öak\n" in out
    assert out.split("columns   ")[1].splitlines() == [
        f"6, which become {schema.width} inputs",
        "          größe   number    mean 171.5, scale 9.25; missing is refused",
        "          age     number    mean 40, scale 12; missing becomes 38.5, and is indicated",
        "          smokes  boolean   mean 0.25, scale 0.5; missing is refused",
        "          income  number    mean 1e+06, scale 2000; missing becomes 1e+06",
        "          city    category  2: Bonn, Köln; missing becomes zeros, and is indicated",
        "          day     category  7: d0, d1, d2, d3, d4 and 2 more; missing is refused",
    ]
    assert found["table"]["classes"] == ["oak", "ash", "öak"]
    assert Schema.from_json(found["table"]["schema"]) == schema


def test_a_regression_of_many_columns(tmp_path):
    schema = Schema(tuple(Numeric(f"column_{k}", 0.0, 1.0) for k in range(20_000)))
    outputs = Standardizer(np.array([152.5]), np.array([77.0]))
    table_model(schema, (), outputs).save(tmp_path / "m")
    out = shown(tmp_path / "m")
    assert "target    kind, a number, mean 152.5, scale 77\n" in out
    assert "columns   20,000, which become 20,000 inputs\n" in out
    assert "          column_9  number    mean 0, scale 1; missing is refused\n          and 19,990 more\n" in out
    assert len(out.splitlines()) < 25
    assert len(as_json(tmp_path / "m")["table"]["schema"]) == 20_000


def test_a_checkpoint(tmp_path):
    callbacks = [EarlyStopping(patience=50), Checkpoint(tmp_path, every=7, keep=9, description={"note": "mine"})]
    network(schedule="cosine", dropout=0.25, validation=(ROWS, CLASSES), callbacks=callbacks)
    within = tmp_path / "step-000000000014.safetensors"
    out, found = shown(within), as_json(within)
    assert "kind      checkpoint, format 2" in out
    assert "training  3 of 5 epochs and 2 steps, not finished\n" in out
    assert "optimizer adam, step 14\n" in out
    assert found["training"]["steps_within_epoch"] == 2
    assert "dropout [0.25, 0.25, 0.0], schedule Cosine(" in " ".join(out.split())
    assert "backend numpy" in out
    assert "note      mine\n" in out
    validation, stopping = found["history"]["validation_loss"], found["training"]["callbacks"][0]["state"]
    assert (stopping["best_epoch"], stopping["loss"]) == (validation["best_epoch"], validation["best"])
    told = " ".join(out.split())
    assert "accelnn.earlystopping.EarlyStopping: " in told
    assert f"best_epoch {stopping['best_epoch']}, waited" in told
    assert "training  5 of 5 epochs, finished\n" in shown(Checkpoint.latest(tmp_path))


def test_an_estimator(tmp_path):
    model = MLPClassifier((4,), max_iter=3, random_state=0, backend="numpy", learning_rate="cosine", alpha=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(ROWS.T, np.array(["oak", "ash", "öak"])[CLASSES])
    model.save(tmp_path / "m")
    out, found = shown(tmp_path / "m"), as_json(tmp_path / "m")
    assert "estimator MLPClassifier, 3 classes: ash, oak, öak\n" in out
    assert " alpha 0.5, backend numpy, " in out
    assert "training  optimizer adam, step 3\n" in out
    assert max(map(len, out.splitlines()[1:])) < 130
    assert found["estimator"]["parameters"]["hidden_layer_sizes"] == [4]
    assert found["estimator"]["attributes"]["classes_"] == ["ash", "oak", "öak"]
    assert len(found["estimator"]["attributes"]["loss_curve_"]) == 3


def test_what_is_no_number_is_null(tmp_path):
    net = network()
    net.history.loss[1] = np.nan
    net.history.loss[2] = -np.inf
    net.save(tmp_path / "m")
    told = as_json(tmp_path / "m")["history"]["loss"]
    assert told["best"] == min(value for value in net.history.loss if np.isfinite(value))
    net.history.loss[0] = np.inf
    net.save(tmp_path / "m")
    assert as_json(tmp_path / "m")["history"]["loss"]["first"] is None
    assert "loss no number to " in shown(tmp_path / "m")


def test_names_do_not_reach_the_terminal_as_commands(tmp_path):
    schema = Schema((Numeric("\x1b[31mred\x07", 0.0, 1.0), Categorical("[bold]", ("a\nb", "\x9b2J"))))
    table_model(schema, ("\x1b]0;title\x07", "x" * 500, "y")).save(tmp_path / "m")
    out = shown(tmp_path / "m")
    assert not [c for c in out if not c.isprintable() and c != "\n"]
    assert r"\x1b[31mred\x07" in out
    assert "[bold]" in out
    assert "x" * 30 + "..." in out
    assert "x" * 40 not in out


def test_nothing_that_is_printed_is_a_command(tmp_path):
    """Not even what only another program could have written, with a seal that fits."""
    bad = "\x1b[2J\ud800\u202e"
    named = {"activations": [bad], **dict.fromkeys(("output", "loss", "dtype"), bad), "loss_parameters": {bad: 1.0}}
    about = {
        "network": {"sizes": [4, 3], **named},
        **dict.fromkeys(("epochs_trained", "steps_trained"), 1),
        "history": {},
        "description": {bad: bad},
        "training": {"epoch": 1, "epochs": 2, "optimizer": {"rule": bad, "step": 1}, "settings": {bad: {bad: bad}}},
    }
    container.write(tmp_path / "m", "model", {"theta": np.zeros(15, "float32")}, about)
    out = shown(tmp_path / "m")
    assert not [c for c in out if not c.isprintable() and c != "\n"]
    assert r"loss      \x1b[2J\ud800\u202e" in out
    assert r"network   4-3, \x1b[2J\ud800\u202e" in out
    as_json(tmp_path / "m")


def refused(path):
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert err.startswith("accelnn: ")
    assert err.count("\n") == 1
    return err


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "net.safetensors"
    network().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "net.safetensors: is damaged" in refused(path)
    path.write_bytes(content[:200])
    assert "net.safetensors" in refused(path)
    assert "nothing: cannot be read" in refused(tmp_path / "nothing")
    (tmp_path / "text").write_text("nothing")
    assert "is no accelnn model (it does not begin like one; accelnn import reads" in refused(tmp_path / "text")


STRANGE = {
    "no network": {"network": None},
    "no sizes": {"network": {"sizes": "4-3"}},
    "no activations": {"network": {"sizes": [4, 3], "activations": 7, "output": "softmax"}},
    "no counts": {"epochs_trained": "many"},
    "no description": {"description": 3},
    "no history": {"history": 3},
    "no table": {"description": {"table": [1, 2]}},
    "no columns": {"description": {"table": {"schema": [{}], "outputs": None, "classes": [], "target": "y"}}},
    "no training": {"training": 3},
    "no callbacks": {"training": {"callbacks": [3]}},
    "no estimator": {"estimator": {"parameters": [], "attributes": 3}},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_sealed_file_that_says_something_else(name, tmp_path):
    """Anybody can compute a checksum."""
    sound = {
        "network": {"sizes": [4, 3], "activations": [], "output": "softmax", "loss": "x", "loss_parameters": {}},
        "epochs_trained": 1,
        "steps_trained": 1,
        "history": {},
        "description": {},
    }
    sound["network"]["dtype"] = "float32"
    theta = {"theta": np.zeros(15, "float32")}
    container.write(tmp_path / "m", "model", theta, sound)
    assert "network   4-3, softmax" in shown(tmp_path / "m")
    container.write(tmp_path / "m", "model", theta, {**sound, **STRANGE[name]})
    with pytest.raises(ModelFileError, match="m: is no accelnn model"):
        list(lines(card(tmp_path / "m")))
    assert "is no accelnn model" in refused(tmp_path / "m")


def test_it_needs_no_backend_and_no_library_of_tables(tmp_path):
    schema = Schema((Numeric("a", 0.0, 1.0), Categorical("b", ("x", "y"))))
    table_model(schema).save(tmp_path / "m")
    code = (
        "import sys\nfrom accelnn.exchange.card import card\nfrom accelnn.exchange.card_lines import lines\n"
        "print(len(list(lines(card('m')))), *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    number, *loaded = out.split()
    assert int(number) > 5
    assert not {"numba", "cupy", "polars", "pandas", "sklearn", "onnx", "skops"} & set(loaded)


def test_a_description_stands_in_for_nothing_else(tmp_path):
    description = {"file": "another", "network": {}, "kind": "toy", "tensors": 1, "epochs_trained": 99}
    network(callbacks=[Checkpoint(tmp_path, description=description)])
    found = as_json(Checkpoint.latest(tmp_path))
    assert found["file"] == str(Checkpoint.latest(tmp_path))
    assert (found["kind"], found["epochs_trained"], found["network"]["parameters"]) == ("checkpoint", 5, 83)
    assert "theta" in found["tensors"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=4)
WORDS = st.sampled_from(
    [
        *("schema", "outputs", "classes", "target", "kind", "name", "mean", "scale", "categories", "epoch", "epochs"),
        *("optimizer", "rule", "step", "settings", "environment", "callbacks", "state", "parameters", "attributes"),
        *("class", "classes_", "seconds"),
    ]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=10
)


@given(
    name=st.sampled_from(["network", "epochs_trained", "history", "description", "training", "estimator", "other"]),
    value=VALUES,
    table=VALUES,
)
def test_whatever_a_sealed_file_says_is_shown_or_refused(name, value, table, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "strange"
    sound = {
        "network": {"sizes": [2], "activations": [], "output": "", "loss": "", "loss_parameters": {}, "dtype": ""},
        "epochs_trained": 1,
        "steps_trained": 1,
        "description": {"table": table},
    }
    container.write(path, "model", {"history.loss": np.ones(2)}, {**sound, name: value})
    try:
        json.dumps(card(path), allow_nan=False)
        told = list(lines(card(path)))
    except ModelFileError:
        return
    assert all(isinstance(part, str) for pair in told for part in pair)
