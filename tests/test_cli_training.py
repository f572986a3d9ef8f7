"""``accelnn train`` when it is cut off, logs, reads part by part, and stops early."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_cli import accelnn, figure, refused, train

from accelnn import Checkpoint, Network
from accelnn.tables import TableModel

IRIS = ("iris", "--backend", "numpy", "--seed", "2")


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "accelnn", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_cut_off_goes_on_with_resume(number, tmp_path):
    folder, once, again = tmp_path / "run", tmp_path / "once.safetensors", tmp_path / "again.safetensors"
    # Long enough that the signal comes before the end.
    options = (*IRIS, "--epochs", "2000", "--dropout", "0.2", "--schedule", "cosine", "--optimizer", "momentum")
    kept = ("--checkpoint", folder, "--checkpoint-every", "50" if number == signal.SIGKILL else "1h")
    train(*options, "--out", once)
    process = started(*options, *kept, "--resume")
    while not (latest := Checkpoint.latest(folder)) or (number == signal.SIGKILL and latest.name < "step-000000000100"):
        time.sleep(0.005)
        assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        assert (process.returncode, err) == (128 + number, "")
        assert out.splitlines()[-1] == f"stopped   {Checkpoint.latest(folder)}; the same command with --resume goes on"
    shown = train(*options, *kept, "--resume", "--out", again)
    assert f"resume    {folder}{os.sep}step-" in shown
    nets = [Network.load(path, "numpy") for path in (once, again)]
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert nets[0].history.loss == nets[1].history.loss
    assert "the training had ended before" in train(*options, *kept, "--resume")


def test_resume_says_where_there_is_nothing_yet(tmp_path):
    shown = train(*IRIS, "--epochs", "2", "--checkpoint", tmp_path / "run", "--resume")
    assert f"resume    nothing in {tmp_path / 'run'} yet; from the beginning" in shown
    table = TableModel.load(Checkpoint.latest(tmp_path / "run"), "numpy")
    assert len(table.schema.names) == table.network.sizes[0] == 4
    assert len(table.classes) == 3


def test_a_checkpoint_predicts_as_a_model_does(tmp_path):
    model = tmp_path / "m.safetensors"
    train(*IRIS, "--epochs", "3", "--checkpoint", tmp_path / "run", "--out", model)
    latest = Checkpoint.latest(tmp_path / "run")
    shown = [accelnn("predict", path, "iris", "--backend", "numpy")[1] for path in (model, latest)]
    assert shown[0] == shown[1] != ""


def test_other_options_are_refused_where_a_training_goes_on(tmp_path):
    kept = ("--checkpoint", tmp_path / "run", "--epochs", "4")
    train(*IRIS, *kept)
    line = refused("train", *IRIS, *kept, "--resume", "--learning-rate", "0.5")
    assert "learning_rate=0.01, not 0.5; give the same, or begin again" in line
    assert "hidden" not in line
    assert "is of another training" in refused("train", *IRIS, *kept)
    assert "sizes=" in refused("train", *IRIS, *kept, "--resume", "--hidden", "5")
    assert refused("train", *IRIS, "--resume").startswith("--resume: say with --checkpoint")
    assert "--checkpoint-every: 'soon' is no interval" in refused("train", *IRIS, *kept, "--checkpoint-every", "soon")


def test_early_stopping_keeps_the_best(tmp_path):
    model = tmp_path / "m.safetensors"
    shown = train("diabetes", "--backend", "numpy", "--epochs", "300", "--patience", "5", "--out", model)
    assert number(r"(\d+) for validation", shown) == 34
    best, of = number(r"best      epoch (\d+)", shown), number(r"best      epoch \d+ of (\d+)", shown)
    assert best == of - 5
    history = Network.load(model, "numpy").history
    assert len(history.loss) == of < 300
    assert int(np.argmin(history.validation_loss)) + 1 == best


def test_an_output_replaces_no_other_and_no_input(wide, tmp_path):
    X, y, log = tmp_path / "X.npy", tmp_path / "y.npy", tmp_path / "h.csv"
    for path in (X, y):
        path.write_bytes((wide / path.name).read_bytes())
    before = y.read_bytes()
    assert "y.npy is also read" in refused("train", X, "--target", y, "--out", y)
    assert y.read_bytes() == before
    assert "h.csv is given for --log too" in refused("train", *IRIS, "--log", log, "--out", log)
    assert "h.csv is given twice" in refused("train", *IRIS, "--log", log, "--log", tmp_path / "." / "h.csv")
    run = tmp_path / "run"
    assert "run is given for --checkpoint too" in refused("train", *IRIS, "--checkpoint", run, "--out", run)
    assert refused("train", *IRIS, "--out", "") == "--out: is empty; give a name"
    assert sorted(os.listdir(tmp_path)) == ["X.npy", "y.npy"]
    (tmp_path / "precious.csv").write_text("my only copy")
    assert "is no record" in refused("train", *IRIS, "--epochs", "1", "--log", tmp_path / "precious.csv")
    assert (tmp_path / "precious.csv").read_text() == "my only copy"


def test_a_checkpoint_is_no_output(tmp_path):
    train(*IRIS, "--epochs", "1", "--checkpoint", tmp_path)
    path = Checkpoint.latest(tmp_path)
    line = refused("train", *IRIS, "--epochs", "1", "--checkpoint", tmp_path, "--resume", "--out", path)
    assert "is a checkpoint" in line


def number(pattern, text):
    return int(figure(pattern, text))


def test_logs_of_every_kind(tmp_path):
    pytest.importorskip("tensorboardX")
    lines, table, folder = tmp_path / "h.jsonl", tmp_path / "h.csv", f"{tmp_path / 'tb'}{os.sep}"
    train(*IRIS, "--epochs", "3", "--log", lines, "--log", table, "--log", folder)
    assert len(table.read_text().splitlines()) == 4
    assert lines.read_text().count("\n") >= 3
    assert os.listdir(folder)
    assert "h.txt" in refused("train", *IRIS, "--log", tmp_path / "h.txt")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The same rows as Parquet, and as NPY with a file of targets."""
    import polars

    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 5)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    frame = polars.DataFrame({f"x{k}": X[:, k] for k in range(5)} | {"y": y})
    frame.write_parquet(folder / "t.parquet", row_group_size=500)
    towns = polars.Series("town", rng.choice(["Ulm", "Bonn", None], 6000).tolist())
    frame.with_columns(towns).write_parquet(folder / "towns.parquet", row_group_size=700)
    frame.write_csv(folder / "t.csv")
    return folder


def test_part_by_part_is_the_same_from_every_file(wide, tmp_path):
    options = ("--backend", "numpy", "--epochs", "2", "--memory", "60K", "--dtype", "float64", "--batch-size", "64")
    models = []
    for k, (file, target) in enumerate([("X.npy", wide / "y.npy"), ("t.parquet", "y")]):
        models.append(tmp_path / f"{k}.safetensors")
        shown = train(wide / file, "--target", target, *options, "--out", models[-1])
        assert "4,500 to train on, 1,500 held out" in shown
    nets = [Network.load(path, "numpy") for path in models]
    assert nets[0].sizes == nets[1].sizes
    # Parts of other lengths, since one of a Parquet file costs its row groups: the same examples in another order.
    assert nets[0].history.loss[-1] == pytest.approx(nets[1].history.loss[-1], rel=0.05)


def test_a_streamed_table_with_categories_and_gaps(wide, tmp_path):
    model = tmp_path / "m.safetensors"
    table = wide / "towns.parquet"
    options = ("--target", "y", "--backend", "numpy", "--epochs", "3", "--memory", "100K", "--out", model)
    assert "column 'town', row " in refused("train", table, *options)
    shown = train(table, *options, "--missing", "impute", "--checkpoint", tmp_path / "run", "--patience", "2")
    assert "columns   1 of categories (2 in all), 1 with missing values, which are filled in and marked" in shown
    assert TableModel.load(model, "numpy").schema.width == 5 + 3
    code, out, _ = accelnn("predict", model, table, "--backend", "numpy")
    assert code == 0
    assert len(out.splitlines()) == 6001


def test_what_cannot_be_read_part_by_part(wide):
    options = ("--target", "y", "--backend", "numpy")
    assert "text cannot be read part by part" in refused("train", wide / "t.csv", *options, "--memory", "1M")
    assert "--memory: 'much' is no size" in refused("train", wide / "t.parquet", *options, "--memory", "much")
    assert "memory: 10 bytes do not hold" in refused("train", wide / "t.parquet", *options, "--memory", "10")
    full = ("--memory", "1M", "--batch-size", "0")
    assert "batch_size: a Stream" in refused("train", wide / "t.parquet", *options, *full)


def test_columns_can_be_left_out_or_taken_as_categories(tmp_path):
    rows = "\n".join(f"{k},{k % 3},{'ab'[k % 2]},{k * 0.5}" for k in range(60))
    (tmp_path / "t.csv").write_text(f"id,code,kind,value\n{rows}\n")
    options = (tmp_path / "t.csv", "--target", "value", "--backend", "numpy", "--epochs", "2")
    shown = train(*options, "--ignore", "id", "--categorical", "code", "--task", "regression")
    assert "2 features" in shown
    assert "columns   2 of categories (5 in all)" in shown
    assert "network   5-64-1" in shown


def test_a_log_goes_on_with_a_checkpoint_of_its_first_epoch(tmp_path):
    """Killed after some epochs were logged, and before a second checkpoint was written."""
    lines, table = tmp_path / "h.jsonl", tmp_path / "h.csv"
    options = (*IRIS, "--epochs", "6", "--checkpoint", tmp_path / "run", "--log", lines, "--log", table)
    train(*options)
    for path in sorted((tmp_path / "run").iterdir())[1:]:
        path.unlink()
    whole = [path.read_text().splitlines() for path in (lines, table)]
    assert "holds the log of another training" in refused("train", *IRIS, "--epochs", "6", "--log", table)
    train(*options, "--resume")
    again = [path.read_text().splitlines() for path in (lines, table)]
    assert [len(text) for text in again] == [len(text) for text in whole]
    losses = [[line.split(",")[2] for line in text[1][1:]] for text in (whole, again)]
    assert losses[0] == losses[1]
