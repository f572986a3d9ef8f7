"""The command line as a person meets it: what it prints, what it leaves behind, and how it refuses."""

import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from accelnn.cli import app

ACCURACY = {"planar": 88.0, "digits": 97.0, "breast_cancer": 95.0, "iris": 89.0, "wine": 95.0}


def accelnn(*arguments):
    """Run in this process: (exit code, standard output, standard error)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def train(*arguments):
    code, out, err = accelnn("train", *arguments)
    assert (code, err) == (0, "")
    return out


def refused(*arguments):
    """The one line on standard error, without its prefix."""
    code, _, err = accelnn(*arguments)
    assert code == 2
    assert err.startswith("accelnn: ")
    assert err.count("\n") == 1
    return err[len("accelnn: ") :].strip()


def figure(pattern, out):
    return float(re.search(pattern, out)[1])


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The wine and diabetes tables as files, the columns in reverse order in the Parquet ones."""
    import polars
    from sklearn.datasets import load_diabetes, load_wine

    folder = tmp_path_factory.mktemp("tables")
    for name, source in {"wine": load_wine(), "diabetes": load_diabetes()}.items():
        columns = dict(zip(source.feature_names, source.data.T, strict=True))
        target = [source.target_names[k] for k in source.target] if name == "wine" else source.target
        frame = polars.DataFrame({**columns, "outcome": target})
        frame.write_csv(folder / f"{name}.csv")
        frame.write_csv(folder / f"{name}.tsv", separator="\t")
        frame.select(reversed(frame.columns)).write_parquet(folder / f"{name}.parquet")
        np.savez(folder / f"{name}.npz", X=source.data, y=source.target)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ACCURACY, "diabetes"])
def test_every_data_set_reaches_its_score_and_the_same_loss_on_numpy_and_numba(name, dtype):
    losses = {}
    for backend in ("numpy", "numba"):
        out = train(name, "--backend", backend, "--dtype", dtype)
        assert f"backend   {backend}, as asked for" in out
        if name == "diabetes":
            assert figure(r"test R2 ([-\d.]+)", out) >= 0.4
        else:
            part = "training" if name == "planar" else "test"
            assert figure(part + r" accuracy ([\d.]+) %", out) >= ACCURACY[name]
        losses[backend] = figure(r"loss      (\S+)\n", out)
    # Twelve digits are printed, so the float64 tolerance of 1e-10 is visible.
    assert losses["numba"] == pytest.approx(losses["numpy"], rel=1e-10 if dtype == "float64" else 1e-4)


def test_a_straight_line_stays_near_a_coin_on_planar():
    out = train("planar", "--hidden", "", "--backend", "numpy")
    assert "network   2-1," in out
    assert 40 < figure(r"accuracy ([\d.]+) %", out) < 60


def test_options_reach_the_training():
    out = train(
        *("iris", "--backend", "numpy", "--hidden", "7,5", "--activation", "tanh", "--optimizer", "nesterov"),
        *("--learning-rate", "0.05", "--epochs", "3", "--batch-size", "0", "--l2", "0.1", "--dtype", "float64"),
        *("--test-fraction", "0.2", "--seed", "3", "--dropout", "0.25", "--schedule", "step"),
    )
    assert "network   4-7-5-3, tanh, softmax, cross_entropy; 93 parameters, float64" in out
    assert "nesterov, learning rate 0.05, 3 epochs of full batches, schedule step, dropout 0.25" in out
    assert "120 to train on, 30 held out" in out


def test_without_a_terminal_progress_is_about_ten_plain_lines():
    out = train("planar", "--backend", "numpy")
    lines = re.findall(r"^epoch \d+/10000  loss \S+  [\d.]+ s$", out, re.M)
    assert 1 <= len(lines) <= 11
    assert "\r" not in out
    assert "\x1b" not in out


def test_auto_says_what_it_took_and_why():
    first = train("iris", "--epochs", "1").splitlines()[0]
    assert re.fullmatch(r"backend   (numba|cupy), chosen by auto because .+; .+", first)


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_a_model_predicts_its_table_from_any_kind_of_file(name, tables, tmp_path):
    import polars

    model = tmp_path / "model.safetensors"
    options = ("--backend", "numpy", "--epochs", "20")
    train(tables / f"{name}.csv", "--target", "outcome", "--out", model, *options)
    written = {}
    for kind in ("csv", "tsv", "parquet", "npz"):
        out = tmp_path / f"{kind}.csv"
        code, shown, note = accelnn("predict", model, tables / f"{name}.{kind}", "--out", out, "--backend", "numpy")
        assert (code, shown) == (0, "")
        assert "predictions written to" in note
        written[kind] = out.read_text()
    assert len(set(written.values())) == 1
    _, shown, _ = accelnn("predict", model, name, "--backend", "numpy")
    assert shown.splitlines() == written["csv"].splitlines()
    predictions = polars.read_csv(tmp_path / "csv.csv")
    truth = polars.read_csv(tables / f"{name}.csv")["outcome"]
    if name == "wine":
        assert predictions.columns == ["outcome", "p(class_0)", "p(class_1)", "p(class_2)"]
        assert (predictions["outcome"] == truth).mean() > 0.9
        assert np.allclose(predictions.to_numpy()[:, 1:].astype(float).sum(axis=1), 1, atol=1e-5)
    else:
        assert np.corrcoef(predictions["outcome"], truth)[0, 1] > 0.6


def test_the_backends_write_the_same_predictions(tables, tmp_path):
    model = tmp_path / "model.safetensors"
    train("wine", "--out", model, "--backend", "numpy", "--dtype", "float64")
    rows = []
    for backend in ("numpy", "numba"):
        _, shown, _ = accelnn("predict", model, "wine", "--backend", backend)
        rows.append(shown)
    assert rows[0] == rows[1]


BAD_TABLES = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"a,b\n", "has a header but no rows"),
    "ragged.csv": (b"a,b\n1,x\n2,y,3\n", "line 3: has 3 fields, and the header has 2"),
    "twice.csv": (b"a,a,b\n1,2,x\n", "line 1: column 'a' occurs twice"),
    "missing.csv": (
        b"a,b\n1,x\n,y\n" + b"1,x\n2,y\n" * 4,
        "missing.csv: column 'a', line 3: the value is missing",
    ),
    "infinite.csv": (b"a,b\n1,x\ninf,y\n", "column 'a', line 3: the value is infinite"),
    "words.csv": (b"a,b\n1,x\nq,y\n", "column 'a', line 3: 'q' is no number"),
    "one_class.csv": (b"a,b\n1,x\n2,x\n", "holds one class only (x)"),
    "no_target.csv": (b"a,c\n1,x\n", "has no column 'b' (--target); it has 'a', 'c'"),
    "only_target.csv": (b"b\n1\n", "has no column beside the target"),
    "target_gap.csv": (b"a,b\n1,x\n2,\n", "column 'b', line 3: the target is missing"),
    "index.csv": (b",a,b\n0,1,x\n1,2,y\n", "column 1 has no name"),
    "lonely.csv": (b"a,b\n1,x\n2,x\n3,y\n", "class 'y' of target 'b' has a single row"),
    "constant.csv": (b"a,b\n1,0.5\n2,0.5\n", "is 0.5 in every row"),
    "huge.csv": (b"a,b\n1e300,1.5\n-1e300,2.5\n3,3.7\n1,4.1\n", "column 'a': its values are too large"),
    "table.xls": (b"x", "'.xls' does not say what it holds; give one of .csv, .tsv, .txt, .parquet"),
    "broken.parquet": (b"PAR1 and nothing more", "cannot be read as Parquet"),
    "binary.csv": (bytes(range(256)), "line 1: holds a NUL byte"),
    "broken.npz": (b"PK\x03\x04 and nothing more", "cannot be read as NPZ"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_used(name, tmp_path):
    content, message = BAD_TABLES[name]
    path = tmp_path / name
    path.write_bytes(content)
    line = refused("train", path, "--target", "b")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nothing"), "nothing: no such file, and no built-in data set of this name (there are breast_cancer"),
        (
            ("train", "iris", "--backend", "torch"),
            "backend: 'torch' is not known; choose from auto, cupy, numba, numpy",
        ),
        (("train", "iris", "--hidden", "5;5"), "--hidden: '5;5' is no list of widths"),
        (("train", "iris", "--hidden", "5,-1"), "sizes[2]: -1 is not a whole number of at least 1"),
        (("train", "iris", "--activation", "swish"), "activations: 'swish' is not known; choose from elu"),
        (("train", "iris", "--optimizer", "lion"), "optimizer: 'lion' is not known; choose from adam"),
        (("train", "iris", "--loss", "huber"), "loss: 'huber' does not go with output='softmax'"),
        (("train", "iris", "--dtype", "float16"), "dtype: 'float16' is not known; choose from float32, float64"),
        (("train", "iris", "--epochs", "0"), "epochs: 0 is not a whole number of at least 1"),
        (("train", "iris", "--learning-rate", "-1"), "learning_rate: -1.0 is out of range"),
        (("train", "iris", "--batch-size", "-2"), "batch_size: -2 is not a whole number"),
        (("train", "iris", "--test-fraction", "1.5"), "--test-fraction: 1.5 is out of range"),
        (("train", "iris", "--dropout", "1"), "--dropout: 1.0 is out of range"),
        (("train", "iris", "--schedule", "weekly"), "--schedule: 'weekly' is not known; choose from cosine, "),
        (("train", "iris", "--test-fraction", "0.999"), "--test-fraction: 0.999 of 150 rows cannot be held out"),
        (("train", "iris", "--target", "x"), "--target: iris is a built-in data set"),
        (("train", "iris", "--task", "regression"), "--task: iris is a built-in data set"),
        (("train", "iris", "--seed", "-1"), "--seed: -1 is not a whole number of at least 0"),
        (("train", "iris", "--out", "."), "--out: . cannot be written"),
        (("train", "iris", "--task", "clustering"), "task: 'clustering' is not known"),
        (("train", "iris", "--out", "/no/such/folder/m"), "--out: there is no folder /no/such/folder"),
        (
            ("train", "digits", "--optimizer", "sgd", "--learning-rate", "1e9"),
            "training diverged in epoch 1 with learning",
        ),
        (("predict", "no.safetensors", "iris"), "no.safetensors: cannot be read"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    extra = () if "--backend" in arguments else ("--backend", "numpy")
    assert refused(*arguments, *extra).startswith(message)


def test_an_output_never_replaces_an_input(tables, tmp_path):
    table, model = tmp_path / "t.csv", tmp_path / "m.safetensors"
    table.write_bytes((tables / "wine.csv").read_bytes())
    assert "is also read" in refused("train", table, "--target", "outcome", "--out", table)
    assert table.read_bytes() == (tables / "wine.csv").read_bytes()
    train("wine", "--out", model, "--backend", "numpy", "--epochs", "1")
    before = model.read_bytes()
    assert "is also read" in refused("predict", model, "wine", "--out", model, "--backend", "numpy")
    assert model.read_bytes() == before


def test_counts_with_a_poisson_loss(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    np.savez(tmp_path / "counts.npz", X=X, y=rng.poisson(np.exp(1.0 + X[:, 0]))[:, None])
    out = train(tmp_path / "counts.npz", "--task", "regression", "--loss", "poisson", "--backend", "numpy")
    assert "relu, exp, poisson;" in out
    assert figure(r"test R2 ([-\d.]+)", out) > 0.5


def test_usage_errors_exit_with_2():
    assert accelnn("train", "iris", "--epochs", "many")[0] == 2
    assert accelnn("train")[0] == 2
    assert accelnn("paint")[0] == 2


def test_a_model_meets_another_table(tables, tmp_path):
    model = tmp_path / "model.safetensors"
    train("wine", "--out", model, "--backend", "numpy", "--epochs", "1")
    line = refused("predict", model, tables / "diabetes.csv")
    assert "has no column 'alcohol', which the model was trained on" in line
    assert "X has 10 columns, but the model was trained on 13" in refused("predict", model, tables / "diabetes.npz")


def test_reading_tables_without_polars_names_the_extra(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    line = refused("train", tables / "wine.csv", "--target", "outcome")
    assert line.endswith('run: pip install "accelnn[tables]"')


def test_an_npy_file_under_another_name_is_refused(tmp_path):
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros((3, 2)))
    assert "holds one unnamed array; save X and y with numpy.savez" in refused("train", tmp_path / "array.npz")


def test_an_npz_that_would_need_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", X=np.array([[object()]]), y=np.zeros(1))
    assert "array 'X': holds Python objects" in refused("train", tmp_path / "objects.npz")


def test_as_a_process():
    """``python -m accelnn``, its streams and exit codes."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "accelnn", *arguments], capture_output=True, text=True, timeout=300
        )

    good = run("train", "planar", "--backend", "numpy", "--epochs", "20")
    assert (good.returncode, good.stderr) == (0, "")
    assert "training accuracy" in good.stdout
    bad = run("train", "planar", "--backend", "cuda")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("accelnn: backend: 'cuda' is not known")
    assert "Traceback" not in bad.stderr
    usage = run("train", "planar", "--epochs", "many")
    assert usage.returncode == 2
    assert usage.stderr.startswith("accelnn: ")
    assert usage.stderr.count("\n") == 1
    assert run("--version").stdout.startswith("accelnn ")
    for command in ("train", "predict"):
        assert "For example, accelnn" in run(command, "--help").stdout
