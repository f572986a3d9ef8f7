"""Logs of training: what they hold, that they go on where training does, and that a log costs no training."""

import copy
import csv
import json
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
from conftest import FACTORIES, data, make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import accelnn
from accelnn import (
    Callback,
    CsvLog,
    DataError,
    DivergenceError,
    JsonLog,
    OutputError,
    Progress,
    TensorBoardLog,
    log_to,
    logs,
)
from accelnn.estimators import MLPRegressor
from accelnn.logs import FIELDS

NAMES = {"json": "history.jsonl", "csv": "history.csv", "tensorboard": "runs/"}
LINES = ["json", "csv"]
LIMITED = hasattr(os, "fork")  # where a process can be given a smaller disk


@pytest.fixture(params=NAMES)
def kind(request):
    return request.param


def crc32c(data):
    """Bit by bit, as in RFC 3720, appendix B.4."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def masked(data):
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """The events of a TFRecord file, each checksum compared."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while data:
        (size,), (check,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        assert check == masked(data[:8])
        body, (check,) = data[12 : 12 + size], struct.unpack("<I", data[12 + size : 16 + size])
        assert check == masked(body)
        yield Event.FromString(body)
        data = data[16 + size :]


def board(folder):
    """What TensorBoard shows of a folder: scalars by epoch, and the texts."""
    from tensorboardX.proto.event_pb2 import SessionLog

    records, texts = {}, []
    for path in sorted(folder.glob("*tfevents*")):
        first, *rest = events(path)
        assert first.file_version == "brain.Event:2"
        for event in rest:
            if event.session_log.status == SessionLog.START:
                records = {step: record for step, record in records.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "run/text_summary":
                    texts.append(value.tensor.string_val[0].decode())
                else:
                    records.setdefault(event.step, {})[value.tag] = value.simple_value
    return records, texts


def strict(line):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def read(path, kind):
    """A log's records of epochs, as numbers; None is what there is not."""
    if kind == "tensorboard":
        absent = dict.fromkeys(TensorBoardLog.SCALARS)
        return [{"epoch": epoch, **absent, **record} for epoch, record in sorted(board(path)[0].items())]
    text = path.read_text()
    assert text.endswith("\n")
    if kind == "json":
        return [record for line in text.splitlines() if "run" not in (record := strict(line))]
    header, *rows = csv.reader(text.splitlines())
    assert tuple(header) == FIELDS
    return [
        {
            name: None if cell == "" else int(cell) if name in ("epoch", "step", "examples") else float(cell)
            for name, cell in zip(FIELDS, row, strict=True)
        }
        for row in rows
    ]


def stored(value, kind):
    return float(np.float32(value)) if kind == "tensorboard" and value is not None else value


def column(path, kind, name):
    return [record[name] for record in read(path, kind)]


class Snapshots(Callback):
    """A copy of the network after each epoch."""

    def __init__(self):
        self.networks = []

    def on_fit_begin(self, progress):
        self.networks.append(copy.deepcopy(progress.network))

    def on_epoch_end(self, progress):
        self.networks.append(copy.deepcopy(progress.network))


class AfterEpoch(Callback):
    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, progress):
        if progress.epoch == self.epoch:
            self.action()


# What they hold.


def test_a_record_an_epoch(named_backend, kind, tmp_path):
    """The numbers of History, to the last bit where the format keeps them."""
    path = tmp_path / NAMES[kind]
    net, (X, Y) = make(named_backend), data()
    history = net.fit(
        X,
        Y,
        epochs=4,
        batch_size=20,
        schedule="cosine",
        validation=data(m=9, seed=1),
        callbacks=[log_to(f"{path}/" if kind == "tensorboard" else path)],
    )
    records = read(path, kind)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    for name in ("loss", "validation_loss", "learning_rate"):
        assert [record[name] for record in records] == [stored(value, kind) for value in getattr(history, name)]
    assert all(record["examples_per_second"] > 0 for record in records)
    if kind != "tensorboard":
        assert [record["step"] for record in records] == [3, 6, 9, 12]
        assert [record["examples"] for record in records] == [50, 100, 150, 200]
        seconds = [record["seconds"] for record in records]
        assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3] <= history.seconds + 1e-6


def test_what_there_is_not(kind, tmp_path):
    log = log_to(f"{tmp_path}/{NAMES[kind]}")
    make("numpy").fit(*data(), epochs=2, callbacks=[log])
    assert column(log.path, kind, "validation_loss") == [None, None]


def test_lbfgs_has_no_learning_rate(kind, tmp_path):
    log = log_to(f"{tmp_path}/{NAMES[kind]}")
    X, Y = data()
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=3, tol=0.0, callbacks=[log], backend="numpy")
    with pytest.warns(match="lbfgs failed to converge"):
        model.fit(X.T, Y[0])
    assert column(log.path, kind, "epoch") == [1, 2, 3]
    assert column(log.path, kind, "learning_rate") == [None] * 3


def told(log, net, **numbers):
    """A log that was told of one epoch with such numbers."""
    common = {"network": net, "epochs": 1, "steps": 1, "learning_rate": 0.1, "validation_loss": None, "loss": 0.5}
    log.on_fit_begin(Progress(epoch=0, step=0, examples=0, seconds=0.0, **common))
    log.on_epoch_end(Progress(**{"epoch": 1, "step": 1, "examples": 5, "seconds": 0.5, **common, **numbers}))
    log.on_fit_end(None)
    return log.path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_validation_loss_that_is_not_finite(kind, value, tmp_path):
    """JSON stays JSON."""
    path = told(log_to(f"{tmp_path}/{NAMES[kind]}"), make("numpy"), validation_loss=value)
    (found,) = column(path, kind, "validation_loss")
    assert isinstance(found, str) == (kind == "json")
    np.testing.assert_equal(float(found), value)


def test_a_loss_beyond_single_precision(kind, tmp_path):
    path = told(log_to(f"{tmp_path}/{NAMES[kind]}"), make("numpy"), loss=1e300)
    assert column(path, kind, "loss") == [math.inf if kind == "tensorboard" else 1e300]


def test_an_epoch_that_takes_no_time(kind, tmp_path):
    path = told(log_to(f"{tmp_path}/{NAMES[kind]}"), make("numpy"), seconds=0.0)
    assert column(path, kind, "examples_per_second") == [None]


@pytest.mark.parametrize("kind", ["json", "tensorboard"])
def test_what_is_trained(kind, named_backend, tmp_path):
    log = log_to(f"{tmp_path}/{NAMES[kind]}")
    net = make(named_backend, dtype="float32", seed=7)
    net.fit(*data(), epochs=2, batch_size=20, callbacks=[log])
    if kind == "json":
        run = strict(log.path.read_text().splitlines()[0])["run"]
    else:
        (text,) = board(log.path)[1]
        run = strict(text.removeprefix("```\n").removesuffix("\n```"))
    assert run["accelnn"] == accelnn.__version__
    assert run["numpy"] == np.__version__
    expected = {"backend": named_backend.name, "dtype": "float32", "sizes": [3, 8, 2], "activations": ["tanh"]}
    expected |= {"output": "sigmoid", "loss": "binary_cross_entropy", "parameters": 50, "seed": 7}
    expected |= {"epochs_trained": 0, "epochs": 2, "steps": 6}
    assert expected.items() <= run.items()


def test_tables_of_other_libraries(tmp_path):
    both = [log_to(tmp_path / NAMES[kind]) for kind in LINES]
    history = make("numpy").fit(*data(), epochs=3, validation=data(seed=1), callbacks=both)
    lines, table = (log.path for log in both)
    for frame in (pandas.read_csv(table), polars.read_csv(table)):
        assert list(frame.columns) == list(FIELDS)
        np.testing.assert_allclose(frame["loss"].to_numpy(), history.loss, rtol=1e-15)
    frame = pandas.read_json(lines, lines=True, precise_float=True).dropna(subset="epoch")
    np.testing.assert_allclose(frame["validation_loss"], history.validation_loss, rtol=1e-15)
    assert polars.read_ndjson(lines, infer_schema_length=None)["epoch"].drop_nulls().to_list() == [1, 2, 3]


def test_a_line_is_there_when_its_epoch_ends(kind, tmp_path):
    """Another program sees it."""
    log, seen = log_to(f"{tmp_path}/{NAMES[kind]}"), []

    class Look(Callback):
        def on_epoch_end(self, progress):
            seen.append(column(log.path, kind, "epoch"))

    make("numpy").fit(*data(), epochs=3, callbacks=[log, Look()])
    assert seen == [[1], [1, 2], [1, 2, 3]]


# Where training goes on.


def test_a_log_goes_on_where_training_does(kind, tmp_path):
    """Every number of it, over two calls, is that of the network's life."""
    log, whole = log_to(f"{tmp_path}/{NAMES[kind]}"), log_to(f"{tmp_path}/whole.csv")
    net, other = make("numpy"), make("numpy")
    other.fit(*data(), epochs=5, batch_size=20, callbacks=[whole])
    net.fit(*data(), epochs=2, batch_size=20, callbacks=[log])
    net.fit(*data(), epochs=3, batch_size=20, callbacks=[log], resume=True)
    found, expected = read(log.path, kind), read(whole.path, "csv")
    for name in ("epoch", "loss", *(() if kind == "tensorboard" else ("step", "examples"))):
        assert [record[name] for record in found] == [stored(record[name], kind) for record in expected]
    if kind != "tensorboard":
        seconds = [record["seconds"] for record in found]
        assert seconds == sorted(seconds)
    if kind == "json":
        runs = [strict(line).get("run") for line in log.path.read_text().splitlines()]
        assert [run and run["epochs_trained"] for run in runs] == [0, None, None, 2, None, None, None]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trainings=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 4), st.floats(0.01, 0.9)), max_size=4))
def test_later_epochs_are_superseded(kind, trainings):
    """However often somebody goes back to an earlier network: the log is that of the network which there is."""
    with tempfile.TemporaryDirectory() as folder:
        log, snapshots = log_to(f"{folder}/{NAMES[kind]}"), Snapshots()
        losses = make("numpy").fit(*data(), epochs=3, callbacks=[log, snapshots]).loss
        lineage = snapshots.networks
        for back, epochs, rate in trainings:
            start = 1 + back % (len(lineage) - 1)  # a network that has been trained
            net, snapshots = copy.deepcopy(lineage[start]), Snapshots()
            more = net.fit(*data(), epochs=epochs, learning_rate=rate, callbacks=[log, snapshots]).loss
            losses, lineage = [*losses[:start], *more], [*lineage[: start + 1], *snapshots.networks[1:]]
        assert column(log.path, kind, "epoch") == list(range(1, len(losses) + 1))
        assert column(log.path, kind, "loss") == [stored(loss, kind) for loss in losses]
        if kind == "json":
            runs = [
                strict(line)["run"]["epochs_trained"] for line in log.path.read_text().splitlines() if "run" in line
            ]
            assert runs == sorted(set(runs))


@pytest.mark.parametrize("kind", LINES)
def test_a_log_that_was_cut_anywhere(kind, tmp_path):
    """After a crash, training goes on from epoch 3: what is whole up to there stays."""
    log, snapshots = log_to(tmp_path / NAMES[kind]), Snapshots()
    make("numpy").fit(*data(), epochs=4, callbacks=[log, snapshots])
    content = log.path.read_bytes()
    complete = [loss for loss in column(log.path, kind, "loss") if loss is not None]
    for cut in range(0, len(content), 7):
        log.path.write_bytes(content[:cut])
        lines = content[:cut].count(b"\n")
        net = copy.deepcopy(snapshots.networks[3])
        net.fit(*data(), epochs=1, callbacks=[log], resume=True)
        found = column(log.path, kind, "loss")
        whole = min(max(lines - 1, 0), 3)
        assert found == [*complete[:whole], complete[3]]


def test_the_log_of_another_training_stays(kind, tmp_path):
    path = f"{tmp_path}/{NAMES[kind]}"
    make("numpy").fit(*data(), epochs=2, callbacks=[log_to(path)])
    before = contents(tmp_path)
    net = make("numpy", seed=1)
    theta = net.theta.copy()
    with pytest.raises(
        OutputError, match=r"of another training; give another name or delete it \(in Python, replace=True "
    ):
        net.fit(*data(), epochs=2, callbacks=[log_to(path)])
    assert contents(tmp_path) == before
    np.testing.assert_array_equal(net.theta, theta)
    assert net.epochs_trained == 0
    log = log_to(path, replace=True)
    history = net.fit(*data(), epochs=3, callbacks=[log])
    assert column(log.path, kind, "loss") == [stored(loss, kind) for loss in history.loss]
    net.fit(*data(), epochs=1, callbacks=[log])
    assert column(log.path, kind, "epoch") == [1, 2, 3, 4]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", LINES)
def test_the_log_of_another_network_stays(kind, tmp_path):
    """Which both have been trained for as long."""
    log = log_to(tmp_path / NAMES[kind])
    make("numpy").fit(*data(), epochs=2, callbacks=[log])
    before = contents(tmp_path)
    other = make("numpy", seed=1)
    other.fit(*data(), epochs=2)
    with pytest.raises(OutputError, match=r"is the log of another training, with a loss of .* in epoch 1, not "):
        other.fit(*data(), epochs=2, callbacks=[log], resume=True)
    assert contents(tmp_path) == before


def test_the_log_of_a_network_of_other_sizes_stays(tmp_path):
    log = JsonLog(tmp_path / "history.jsonl")
    make("numpy").fit(*data(), epochs=2, callbacks=[log])
    before, other = contents(tmp_path), make("numpy", sizes=(3, 5, 2))
    other.fit(*data(), epochs=1)
    with pytest.raises(OutputError, match=r"is the log of a network of sizes \[3, 8, 2\], not \[3, 5, 2\]"):
        other.fit(*data(), epochs=2, callbacks=[log])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b'{"a": 1}\n',
        b"\xff\xfe\x00\n",
        b"[1]\n",
        b"7\n",
        b"\n",
        b'{"run": 3}\n',
        b"[" * 10**5 + b"\n",
        b'"\n',
    ],
)
@pytest.mark.parametrize("kind", LINES)
def test_a_file_that_is_no_log_stays(kind, content, epochs, replace, tmp_path):
    """For instance the data, by a slip."""
    path = tmp_path / NAMES[kind]
    net = make("numpy")
    if epochs:
        net.fit(*data(), epochs=epochs)
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"history.*: line 1 is no record of such a log, so the file is left"):
        net.fit(*data(), epochs=1, callbacks=[log_to(path, replace)])
    assert path.read_bytes() == content
    assert net.epochs_trained == epochs


@pytest.mark.parametrize("kind", LINES)
def test_a_line_within_that_is_no_record(kind, tmp_path):
    log, net = log_to(tmp_path / NAMES[kind]), make("numpy")
    net.fit(*data(), epochs=2, callbacks=[log])
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", lines[2]]))
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="line 2 is no record of such a log"):
        net.fit(*data(), epochs=1, callbacks=[log])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("content", [b"", "cut", None])
def test_a_file_without_an_epoch_is_begun(kind, content, tmp_path):
    """None: of a training that ended before its first epoch did."""
    log = log_to(tmp_path / NAMES[kind])
    if content is None:
        log.on_fit_begin(Progress(make("numpy"), 0, 5, 0, 5, 0, math.nan, None, math.nan, 0.0))
    else:
        beginning = {"json": b'{"run": {"accelnn": "0.', "csv": b"epoch,step,lo"}[kind]
        log.path.write_bytes(beginning if content == "cut" else content)
    make("numpy").fit(*data(), epochs=2, callbacks=[log_to(log.path)])
    assert column(log.path, kind, "epoch") == [1, 2]
    assert len(log.path.read_text().splitlines()) == 3


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    "content", [b"my only copy", b"1,2", b'{"a": 1}', b'{"epoch": 1}', b'{"run": 3}', b"epoch,mine"]
)
@pytest.mark.parametrize("kind", LINES)
def test_a_foreign_file_without_a_line_break_stays(kind, content, replace, tmp_path):
    path = tmp_path / NAMES[kind]
    path.write_bytes(content)
    with pytest.raises(OutputError, match="line 1 is no record of such a log, so the file is left"):
        make("numpy").fit(*data(), epochs=1, callbacks=[log_to(path, replace)])
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", LINES)
def test_a_rest_that_no_log_has_stays(kind, tmp_path):
    log, net = log_to(tmp_path / NAMES[kind]), make("numpy")
    net.fit(*data(), epochs=2, callbacks=[log])
    log.path.write_bytes(log.path.read_bytes() + b"my note")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="is no record of such a log"):
        net.fit(*data(), epochs=1, callbacks=[log])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("epochs", [2, 4])
@pytest.mark.parametrize("kind", LINES)
def test_a_network_that_remembers_no_loss_leaves_another_log(kind, epochs, tmp_path):
    """An imported one says how long it was trained, and nothing else."""
    log, net = log_to(tmp_path / NAMES[kind]), make("numpy", seed=1)
    make("numpy").fit(*data(), epochs=4, callbacks=[log])
    before, net.epochs_trained = contents(tmp_path), epochs
    with pytest.raises(OutputError, match="remembers no loss of the log's epochs 1 to 4; give another name"):
        net.fit(*data(), epochs=1, callbacks=[log])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", LINES)
def test_a_log_behind_a_link(kind, tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / NAMES[kind]
    link.symlink_to(tmp_path / "far" / "away")
    net = make("numpy")
    for _ in range(2):
        net.fit(*data(), epochs=2, callbacks=[log_to(link)])
    assert link.is_symlink()
    assert column(tmp_path / "far" / "away", kind, "epoch") == [1, 2, 3, 4]


def test_a_diverged_training_leaves_its_log(kind, tmp_path):
    log, net = log_to(f"{tmp_path}/{NAMES[kind]}"), make("numpy", output="identity")
    net.fit(*data(), epochs=2, callbacks=[log])
    with pytest.raises(DivergenceError):
        net.fit(*data(), epochs=2000, learning_rate=1e6, callbacks=[log])
    assert len(read(log.path, kind)) > 2
    history = net.fit(*data(), epochs=1, callbacks=[log])
    assert column(log.path, kind, "epoch") == [1, 2, 3]
    assert column(log.path, kind, "loss")[-1:] == [stored(loss, kind) for loss in history.loss]


def test_estimators(kind, tmp_path):
    """A log goes on with `partial_fit`; it can be copied and pickled, as estimators are."""
    log = log_to(f"{tmp_path}/{NAMES[kind]}")
    X, Y = data()
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, callbacks=[log], backend="numpy", random_state=0)
    for _ in range(3):
        model.partial_fit(X.T, Y[0])
    assert column(log.path, kind, "epoch") == [1, 2, 3]
    assert column(log.path, kind, "loss") == [stored(loss, kind) for loss in model.loss_curve_]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.partial_fit(X.T, Y[0])
    assert column(log.path, kind, "epoch") == [1, 2, 3, 4]


# What cannot be written.


UNUSABLE = {
    "no folder": (lambda path: path.parent.rmdir(), "No such file or directory"),
    "a folder": (lambda path: path.mkdir(), "is no ordinary file; give another name"),
    "a pipe": (lambda path: os.mkfifo(path), "is no ordinary file; give another name"),
    "a file for a folder": (lambda path: (path.parent.rmdir(), path.parent.touch()), "Not a directory"),
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("kind", LINES)
def test_a_log_that_cannot_be_begun(kind, what, tmp_path):
    """Before the first step: the network is as it was."""
    path = tmp_path / "folder" / NAMES[kind]
    path.parent.mkdir()
    prepare, words = UNUSABLE[what]
    prepare(path)
    net = make("numpy")
    theta = net.theta.copy()
    with pytest.raises(OutputError, match=f"history.*: .*{words}"):
        net.fit(*data(), epochs=1, callbacks=[{"json": JsonLog, "csv": CsvLog}[kind](path)])
    np.testing.assert_array_equal(net.theta, theta)
    assert (net.epochs_trained, net.steps_trained, net.optimizer_state) == (0, 0, None)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(OutputError, match=r"file.*: cannot be written"):
            make("numpy").fit(*data(), epochs=1, callbacks=[TensorBoardLog(path)])


def test_a_folder_that_vanishes(kind, tmp_path):
    """Training goes on, with one warning; where the folder comes back, nothing is missing."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    log = log_to(f"{folder}/{NAMES[kind]}")
    callbacks = [AfterEpoch(2, lambda: folder.rename(away)), log, AfterEpoch(4, lambda: away.rename(folder))]
    net, other = make("numpy"), make("numpy")
    with pytest.warns(RuntimeWarning) as caught:
        history = net.fit(*data(), epochs=6, callbacks=callbacks)
    other.fit(*data(), epochs=6)
    np.testing.assert_array_equal(net.theta, other.theta)
    (warning,) = caught
    assert str(folder) in str(warning.message)
    assert "cannot be written (No such file or directory); training goes on" in str(warning.message)
    assert column(log.path, kind, "epoch") == [1, 2, 3, 4, 5, 6]
    assert column(log.path, kind, "loss") == [stored(loss, kind) for loss in history.loss]


def test_a_file_that_cannot_be_written_is_tried_now_and_then(kind, tmp_path, monkeypatch):
    """Not after each of many short epochs; and once more at the end."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    log, tried = log_to(f"{folder}/{NAMES[kind]}"), []

    def counted(path, mode):
        tried.append(path)
        return open(path, mode)

    monkeypatch.setattr(logs, "open", counted, raising=False)
    monkeypatch.setattr(logs, "PAUSE", 1e9)
    callbacks = [AfterEpoch(3, lambda: folder.rename(away)), log, AfterEpoch(5, lambda: away.rename(folder))]
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        make("numpy").fit(*data(), epochs=30, callbacks=callbacks)
    assert len(tried) == 4
    assert column(log.path, kind, "epoch") == list(range(1, 31))


def test_a_file_that_is_deleted(kind, tmp_path):
    """It stays so; nothing else happens."""
    log = log_to(f"{tmp_path}/{NAMES[kind]}")

    def delete():
        for path in contents(tmp_path):
            path.unlink()

    with pytest.warns(RuntimeWarning, match="cannot be written"):
        make("numpy").fit(*data(), epochs=4, callbacks=[AfterEpoch(2, delete), log])
    assert contents(tmp_path) == {}


def test_a_warning_that_is_an_error_keeps_what_was_trained(tmp_path):
    log, net = CsvLog(tmp_path / "history.csv"), make("numpy")
    other = make("numpy")
    other.fit(*data(), epochs=2)
    with pytest.raises(RuntimeWarning, match="cannot be written"):
        net.fit(*data(), epochs=4, callbacks=[AfterEpoch(2, log.path.unlink), log])
    assert net.epochs_trained == 2
    np.testing.assert_array_equal(net.theta, other.theta)


def in_a_process(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *map(str, arguments)], text=True, **options)


FULL = """
import resource, sys, warnings
import numpy as np
from accelnn import Callback, Network, log_to, logs
logs.PAUSE = 0.0
path, replenished = sys.argv[1], sys.argv[2] == "True"

class Disk(Callback):
    def on_epoch_end(self, progress):
        if progress.epoch == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
        if progress.epoch == 35 and replenished:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

X, Y = np.ones((2, 5)), np.ones(5)
nets = [Network([2, 3, 1], backend="numpy") for _ in range(2)]
nets[0].fit(X, Y, epochs=40)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nets[1].fit(X, Y, epochs=40, callbacks=[Disk(), log_to(path)])
assert (nets[0].theta == nets[1].theta).all() and nets[1].epochs_trained == 40
print(*(warning.message for warning in caught), sep="\\n")
"""


@pytest.mark.skipif(not LIMITED, reason="no limits on a file's size here")
@pytest.mark.parametrize("replenished", [True, False])
def test_a_disk_that_is_full(kind, replenished, tmp_path):
    """The part of a line that found room goes away when the whole does, and training never knows of it."""
    log = log_to(f"{tmp_path}/{NAMES[kind]}")
    process = in_a_process(FULL, f"{tmp_path}/{NAMES[kind]}", replenished, stdout=-1, stderr=-1)
    said, wrong = process.communicate()
    assert process.returncode == 0, wrong
    (line,) = said.splitlines()
    assert "cannot be written (File too large); training goes on without this log" in line
    if replenished:
        assert column(log.path, kind, "epoch") == list(range(1, 41))
    else:
        (path,) = contents(tmp_path)
        assert path.stat().st_size <= 1500
        if kind != "tensorboard":
            path.write_bytes(path.read_bytes().rpartition(b"\n")[0] + b"\n")
            epochs = column(path, kind, "epoch")
            assert 5 <= len(epochs) < 40
            assert epochs == list(range(1, len(epochs) + 1))


KILLED = """
import sys
import numpy as np
from accelnn import Network, log_to
logs = [log_to(path) for path in sys.argv[1:]]
Network([2, 3, 1], backend="numpy").fit(np.ones((2, 5)), np.ones(5), epochs=10**6, callbacks=logs)
"""


@pytest.mark.skipif(not LIMITED, reason="no SIGKILL here")
def test_a_process_that_is_killed(tmp_path):
    """At most the last line is cut, in each of several kills."""
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        paths = [folder / NAMES[kind] for kind in LINES]
        process = in_a_process(KILLED, *paths, f"{folder}/runs/")
        while not (paths[1].exists() and paths[1].read_bytes().count(b"\n") > 50 + 20 * attempt):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for kind, path in zip(LINES, paths, strict=True):
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            path.write_bytes(whole + b"\n")
            epochs = column(path, kind, "epoch")
            assert epochs == list(range(1, len(epochs) + 1))
            assert len(epochs) >= 50
        net = make("numpy", sizes=(2, 3, 1))
        net.epochs_trained = 40
        net.history.loss = column(paths[1], "csv", "loss")[:40]
        net.fit(np.ones((2, 5)), np.ones(5), epochs=2, callbacks=[log_to(path) for path in (*paths, f"{folder}/runs/")])
        for kind, path in zip(NAMES, (*paths, folder / "runs"), strict=True):
            assert column(path, kind, "epoch") == list(range(1, 43))


INTERRUPTED = """
import os, sys
import numpy as np
from accelnn import Callback, Checkpoint, Network, log_to

class Dies(Callback):
    def on_epoch_end(self, progress):
        if progress.epoch == int(sys.argv[2]):
            os._exit(0)

folder = sys.argv[1]
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(2, 40)), rng.uniform(size=40)
logs = [log_to(f"{folder}/{name}") for name in ("history.jsonl", "history.csv", "runs/")]
checkpoint = Checkpoint(f"{folder}/checkpoints", every=10)
net = Network([2, 3, 1], backend="numpy", dtype="float64")
net.fit(X, Y, "adam", epochs=20, batch_size=16, callbacks=[*logs, Dies(), checkpoint], resume=checkpoint.folder)
"""


def test_a_training_that_goes_on_from_checkpoints(tmp_path):
    """After two deaths, each some steps after the latest file, the logs are those of a training without any."""
    folders = {"interrupted": [8, 15, 0], "whole": [0]}
    for name, deaths in folders.items():
        (tmp_path / name).mkdir()
        for death in deaths:
            process = in_a_process(INTERRUPTED, tmp_path / name, death, stderr=-1)
            assert process.communicate() == (None, "")
            assert process.returncode == 0
    for kind, name in NAMES.items():
        found, expected = (read(tmp_path / folder / name, kind) for folder in folders)
        assert [record["epoch"] for record in found] == list(range(1, 21))
        for record in (*found, *expected):
            del record["examples_per_second"]
            record.pop("seconds", None)
        assert found == expected


# Which kind.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jsonl", JsonLog),
        ("A.JSONL", JsonLog),
        ("b.ndjson", JsonLog),
        (Path("c.csv"), CsvLog),
        ("d/", TensorBoardLog),
        ("e.csv/", TensorBoardLog),
        (Path(__file__).parent, TensorBoardLog),
    ],
)
def test_the_ending_says_which_kind(path, expected):
    log = log_to(path)
    assert type(log) is expected
    assert log.path == Path(path)
    assert log.replace is False
    assert log_to(path, replace=True).replace is True


@pytest.mark.parametrize("path", ["history", "history.txt", "history.json", ".csv/x", ""])
def test_other_endings(path):
    with pytest.raises(DataError, match=r"^log: .* names no format; end it in \.jsonl or \.csv, or in / for a folder"):
        log_to(path)


def test_without_tensorboardx(monkeypatch):
    """The error comes before any training, and says what to install."""
    for name in {"tensorboardX", *(name for name in sys.modules if name.startswith("tensorboardX."))}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r'^log: runs/ needs tensorboardX.*pip install "accelnn\[tensorboard\]"$'):
        log_to("runs/")


def test_importing_the_logs_loads_no_tensorboardx():
    code = "import accelnn, sys; accelnn.CsvLog; accelnn.log_to('a.csv'); print('tensorboardX' in sys.modules)"
    with in_a_process(code, stdout=-1) as process:
        assert process.communicate() == ("False\n", None)


def test_every_backend_is_logged(tmp_path):
    """The reference bodies have no name that a file could be misled by."""
    for name in ("reference", "strict"):
        log = JsonLog(tmp_path / f"{name}.jsonl")
        make(FACTORIES[name]()).fit(*data(), epochs=2, callbacks=[log])
        assert column(log.path, "json", "epoch") == [1, 2]
