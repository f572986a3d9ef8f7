"""``accelnn export`` and ``accelnn import`` as a person meets them."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from typer.testing import CliRunner

import accelnn
from accelnn import Network
from accelnn.checkpoints import Checkpoint
from accelnn.cli import app
from accelnn.exchange import to_torch
from accelnn.tables.model import TableModel
from accelnn.tables.schema import Numeric, Schema

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
polars = pytest.importorskip("polars", reason="the extra tables is not installed")
sio = pytest.importorskip("skops.io", reason="the extra skops is not installed")

WORD = {"onnx": "InferenceSession", "torch": "load_state_dict", "sklearn": "skops.io.load"}


def run(*arguments):
    """Run in this process: (exit code, standard output, standard error)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def done(*arguments):
    code, out, err = run(*arguments)
    assert code == 0, err
    return out, err


def refused(*arguments):
    """The one line on standard error, without its prefix."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("accelnn: ")
    assert err.count("\n") == 1
    return err[len("accelnn: ") :].strip()


def network(*sizes, output="softmax"):
    net = Network(sizes, "tanh", output, backend="numpy")
    net.theta = np.random.default_rng(1).normal(size=net.theta.shape)
    return net


def table_model():
    schema = Schema((Numeric("a", 1.0, 2.0), Numeric("b", -3.0, 0.5)))
    return TableModel(network(2, 5, 3), schema, "classification", ("x", "y", "z"), "kind", None)


ROWS = np.random.default_rng(0).normal(size=(12, 2))


def estimator():
    model = accelnn.MLPClassifier((4,), max_iter=2, random_state=0, backend="numpy", activation="tanh")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(ROWS, np.array(["x", "y", "z"] * 4))


@pytest.fixture(params=["network", "table", "estimator", "checkpoint"])
def saved(request, tmp_path):
    """Each kind of file that there is, and the probabilities that its model gives for ROWS."""
    path = tmp_path / "model.safetensors"
    if request.param == "checkpoint":
        net = network(2, 5, 3)
        net.fit(ROWS.T, np.arange(12) % 3, epochs=2, callbacks=[Checkpoint(tmp_path / "run")])
        return Checkpoint.latest(tmp_path / "run"), net.predict(ROWS.T).T
    model = {"network": lambda: network(2, 5, 3), "table": table_model, "estimator": estimator}[request.param]()
    model.save(path)
    if request.param == "network":
        return path, model.predict(ROWS.T).T
    return path, model.predict(ROWS) if request.param == "table" else model.predict_proba(ROWS)


def test_every_kind_of_file_goes_everywhere(saved, tmp_path):
    path, expected = saved
    before = path.read_bytes()
    for to, name in (("onnx", "m.onnx"), ("torch", "m.out"), ("sklearn", "m.skops")):
        program, note = done("export", path, "--to", to, "--out", tmp_path / name)
        assert WORD[to] in program
        assert note.startswith(f"written to {tmp_path / name}; it ")
        compile(program, name, "exec")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    inputs = session.get_inputs()
    if len(inputs) == 2:
        feed = {one.name: ROWS[:, k : k + 1] for k, one in enumerate(inputs)}
    else:
        feed = {"X": ROWS.astype("float32" if inputs[0].type == "tensor(float)" else "float64")}
    np.testing.assert_allclose(session.run(None, feed)[-1], expected, atol=1e-5)
    model = sio.load(tmp_path / "m.skops")
    rows = polars.DataFrame(ROWS, schema=["a", "b"]) if hasattr(model, "feature_names_in_") else ROWS
    np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-5)
    assert path.read_bytes() == before


@pytest.mark.parametrize("source", ["torch", "sklearn"])
@pytest.mark.parametrize("kind", ["classes", "two classes", "a number"])
def test_what_is_imported_predicts_tables(kind, source, tmp_path):
    count = {"classes": 3, "two classes": 2, "a number": 0}[kind]
    names = ["oak", "pine", "ash"][:count]
    model = (
        MLPClassifier((4,), max_iter=3, random_state=0)
        if count
        else MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(ROWS, np.array(names)[np.arange(12) % count] if count else ROWS[:, 0])
    if source == "sklearn":
        (tmp_path / "m.skops").write_bytes(sio.dumps(model))
        options = (tmp_path / "m.skops", "--from", "sklearn")
    else:
        layers = zip(model.coefs_, model.intercepts_, strict=True)
        state = {
            f"fc{k}.{name}": np.ascontiguousarray(array)
            for k, (W, b) in enumerate(layers)
            for name, array in (("weight", W.T), ("bias", b))
        }
        save_file(state, tmp_path / "m")
        output = {3: "softmax", 2: "sigmoid", 0: "identity"}[count]
        options = (tmp_path / "m", "--from", "torch", "--activation", "relu", "--output", output)
        options += ("--classes", ",".join(sorted(names))) if count else ()
    out, err = done("import", *options, "--target", "kind", "--out", tmp_path / "model.safetensors")
    assert out.startswith(f"file      {tmp_path / 'model.safetensors'}, ")  # then all that inspect says of it
    assert "\ntarget    kind, " in out
    assert err == ""
    np.savez(tmp_path / "rows.npz", X=ROWS)
    shown, _ = done("predict", tmp_path / "model.safetensors", tmp_path / "rows.npz", "--backend", "numpy")
    header, *lines = shown.splitlines()
    if count:
        assert header == ",".join(["kind", *(f"p({name})" for name in sorted(names))])
        assert [line.split(",")[0] for line in lines] == model.predict(ROWS).tolist()
        found = [[float(p) for p in line.split(",")[1:]] for line in lines]
        np.testing.assert_allclose(found, model.predict_proba(ROWS), atol=1e-5)
    else:
        assert header == "kind"
        np.testing.assert_allclose([float(line) for line in lines], model.predict(ROWS), rtol=1e-6)


def test_a_network_of_several_values_is_saved_alone(tmp_path):
    save_file(to_torch(network(2, 3, 2, output="identity")), tmp_path / "m")
    _, err = done(
        *("import", tmp_path / "m", "--from", "torch", "--activation", "tanh", "--output", "identity"),
        *("--out", tmp_path / "net.safetensors"),
    )
    assert err.startswith("it gives more than one class or value, so accelnn predict has no use for it; read it with")
    assert Network.load(tmp_path / "net.safetensors", "numpy").sizes == (2, 3, 2)
    assert "holds a network without a table" in refused("predict", tmp_path / "net.safetensors", "iris")


def test_options_of_an_import(tmp_path):
    net = Network([2, 3, 3, 3, 2], ["tanh", "relu", "gelu"], "softmax", backend="numpy")
    names = {"0": "first", "2": "second", "4": "third", "6": "last"}
    save_file(
        {names[key[0]] + key[1:]: array.astype("float16") for key, array in to_torch(net).items()}, tmp_path / "m"
    )
    done(
        *("import", tmp_path / "m", "--from", "torch", "--activation", "tanh,relu,gelu", "--output", "softmax"),
        *("--layers", "first,second,third,last", "--dtype", "float64", "--loss", "cross_entropy"),
        *("--classes", "no,yes", "--out", tmp_path / "out"),
    )
    found = TableModel.load(tmp_path / "out", "numpy")
    assert found.network.activations == ("tanh", "relu", "gelu")
    assert (found.network.dtype, found.classes) == ("float64", ("no", "yes"))
    np.testing.assert_array_equal(found.network.W[1], net.W[1].astype("float16").astype("float64"))


def test_what_cannot_be_used(tmp_path):
    net, out = tmp_path / "net", tmp_path / "out"
    Network([2, 3, 1], "gelu", backend="numpy").save(net)
    (tmp_path / "text").write_text("nothing")
    state = tmp_path / "state"
    save_file(to_torch(network(2, 2)), state)
    (tmp_path / "m.skops").write_bytes(sio.dumps(MLPClassifier()))
    for arguments, message in (
        (("export", net, "--to", "jax", "--out", out), "--to: 'jax' is not known; choose from onnx, sklearn, torch"),
        (("export", net, "--to", "onnx", "--out", net), f"--out: {net} is also read; give another name"),
        (("export", net, "--to", "onnx", "--out", tmp_path / "no" / "m"), "--out: there is no folder"),
        (("export", net, "--to", "sklearn", "--out", out), "activations: scikit-learn has no gelu"),
        (("export", tmp_path / "text", "--to", "torch", "--out", out), "is no accelnn model"),
        (("export", tmp_path / "nothing", "--to", "torch", "--out", out), "nothing: cannot be read"),
        (("import", net, "--from", "keras", "--out", out), "--from: 'keras' is not known; choose from sklearn, torch"),
        (("import", net, "--from", "torch", "--out", net), "is also read"),
        (
            ("import", net, "--from", "torch", "--out", out),
            "net: is a file of accelnn's own, which reads it with",
        ),
        (("import", state, "--from", "torch", "--out", out), "does not say which functions follow the layers"),
        (("import", tmp_path / "text", "--from", "torch", "--out", out), "text: is no safetensors file"),
        (("import", tmp_path / "text", "--from", "sklearn", "--out", out), "text: is no skops file of an estimator"),
        (("import", tmp_path / "m.skops", "--from", "sklearn", "--out", out), "has no coefs_; fit it first"),
        (
            ("import", tmp_path / "m.skops", "--from", "sklearn", "--dtype", "float32", "--out", out),
            "--from sklearn: the file says its dtype itself; leave them out",
        ),
    ):
        assert message in refused(*arguments), arguments
        assert not out.exists()
    assert run("export", net, "--to", "onnx")[0] == 2  # a usage error: there is no --out


def test_a_name_that_is_no_text(tmp_path):
    """A byte that is no UTF-8: the lines have it as Python does, in the file's metadata too."""
    table_model().save(tmp_path / "m.safetensors")
    name = os.fsdecode(b"w\xff.out")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    for to in ("torch", "sklearn", "onnx"):
        command = [sys.executable, "-m", "accelnn", "export", "m.safetensors", "--to", to, "--out", name]
        made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert made.returncode == 0, made.stderr
        assert '"w\\udcff.out"' in made.stdout
        compile(made.stdout, to, "exec")
    shown = subprocess.run([sys.executable, "-m", "accelnn", "inspect", name], cwd=tmp_path, capture_output=True)
    assert shown.returncode == 2
    assert shown.stderr.startswith(b"accelnn: w")
    (tmp_path / "m.safetensors").rename(tmp_path / name)
    shown = subprocess.run([sys.executable, "-m", "accelnn", "inspect", name], cwd=tmp_path, capture_output=True)
    assert shown.returncode == 0, shown.stderr
    assert rb"file      w\udcff.out, " in shown.stdout


def test_the_help_says_which_files():
    for command in ("inspect", "export"):
        assert "estimator" in done(command, "--help")[0]


def test_nothing_heavy_is_imported_by_the_package():
    code = "import accelnn.exchange, accelnn.cli, sys; print(*(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "accelnn.exchange" in loaded
    assert not {"onnx", "skops", "sklearn", "torch", "polars", "pandas", "numba", "cupy"} & set(loaded)


def test_as_a_process(tmp_path):
    """The lines go to standard output, so that they can be kept as a file."""
    table_model().save(tmp_path / "m.safetensors")
    command = [sys.executable, "-m", "accelnn", "export", "m.safetensors", "--to", "sklearn", "--out", "m.skops"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (made.returncode, made.stdout) == (0, 'import skops.io\n\nmodel = skops.io.load("m.skops")\n')
    program = made.stdout + "import numpy as np\nnp.save('P.npy', model.predict_proba(np.load('X.npy')))\n"
    np.save(tmp_path / "X.npy", ROWS)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # the rows have no names
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env=environment)
    np.testing.assert_allclose(np.load(tmp_path / "P.npy"), table_model().predict(ROWS), atol=1e-6)
