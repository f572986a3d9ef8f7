"""Checkpoints: a training that goes on from one ends with the bits of one that was never interrupted."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import data, host, make

from accelnn import Callback, Checkpoint, DataError, EarlyStopping, ModelFileError, Network, OutputError, Stream
from accelnn.checkpoints import interval
from accelnn.optimizers import RULES
from accelnn.schedules import Schedule
from accelnn.storage import files

SMALL = {"batch_size": 8, "learning_rate": 0.01, "epochs": 5}


class Stop(Callback):
    """Leaves a run after a step, as a callback may, or as an error would."""

    every_steps = 1

    def __init__(self, step, problem=None):
        self.step, self.problem = step, problem

    def on_progress(self, progress):
        if progress.step == self.step and self.problem:
            raise self.problem
        return progress.step == self.step


class Killed(BaseException):
    """Nothing that training knows of."""


def interrupted(backend, folder, step, every=3, others=(), **options):
    """A training that is cut off after a step, and what another process would make of its checkpoints."""
    X, Y = data()
    net = make(backend)
    with pytest.raises(Killed):
        net.fit(X, Y, callbacks=[Checkpoint(folder, every=every), *others, Stop(step, Killed)], **SMALL | options)


@pytest.mark.parametrize("optimizer", list(RULES))
def test_going_on_gives_the_bits_of_an_uninterrupted_run(backend, optimizer, tmp_path):
    X, Y = data()
    options = {"optimizer": optimizer, "dropout": 0.3, "validation": (X[:, :9], Y[:, :9]), "schedule": "plateau"}
    once, again = make(backend), make(backend)
    expected = once.fit(X, Y, **SMALL | options)
    interrupted(backend, tmp_path, 20, **options)
    history = again.fit(X, Y, callbacks=[Checkpoint(tmp_path)], resume=tmp_path, **SMALL | options)
    np.testing.assert_array_equal(host(again.theta), host(once.theta))
    np.testing.assert_array_equal(host(again.optimizer_state.vectors), host(once.optimizer_state.vectors))
    for name in ("loss", "validation_loss", "learning_rate", "examples"):
        assert getattr(history, name) == getattr(expected, name)
    assert (again.epochs_trained, again.steps_trained) == (5, 35) == (once.epochs_trained, once.steps_trained)


@pytest.mark.parametrize("step", range(1, 35, 3))
def test_from_every_place_within_an_epoch(step, tmp_path):
    X, Y = data()
    options = {"optimizer": "adam", "dropout": 0.3, "schedule": "cosine", "l2": 0.1, "clip_norm": 0.5}
    once, again = make("numpy"), make("numpy")
    expected = once.fit(X, Y, **SMALL | options)
    interrupted("numpy", tmp_path, step, every=1, **options)
    seen = []

    class Watch(Callback):
        def on_fit_begin(self, progress):
            seen.append((progress.epoch, progress.step, progress.epochs))

    history = again.fit(X, Y, resume=tmp_path, callbacks=[Watch()], **SMALL | options)
    np.testing.assert_array_equal(again.theta, once.theta)
    assert history.loss == expected.loss
    # The callback that ended the run had been told before the checkpoint of the same step was written.
    assert seen == [((step - 1) // 7, step - 1, 5)]


def test_without_a_checkpoint_in_the_folder_it_begins(tmp_path):
    X, Y = data()
    once, again = make("numpy"), make("numpy")
    once.fit(X, Y, **SMALL)
    folder = tmp_path / "new" / "folder"
    again.fit(X, Y, callbacks=[Checkpoint(folder)], resume=folder, **SMALL)
    np.testing.assert_array_equal(again.theta, once.theta)
    assert Checkpoint.latest(folder).name == "step-000000000035.safetensors"
    with pytest.raises(DataError, match="resume: there is no file or folder"):
        make("numpy").fit(X, Y, resume=tmp_path / "typo", callbacks=[Checkpoint(folder)], **SMALL)


def test_a_training_that_has_ended_has_nothing_left_to_do(tmp_path):
    X, Y = data()
    net, again = make("numpy"), make("numpy")
    expected = net.fit(X, Y, callbacks=[Checkpoint(tmp_path)], **SMALL)
    assert again.fit(X, Y, resume=tmp_path, **SMALL) == expected
    np.testing.assert_array_equal(again.theta, net.theta)
    longer = again.fit(X, Y, resume=tmp_path, **SMALL | {"epochs": 7})
    whole = make("numpy")
    assert whole.fit(X, Y, **SMALL | {"epochs": 7}).loss == longer.loss
    np.testing.assert_array_equal(again.theta, whole.theta)
    with pytest.raises(DataError, match="epochs: 3 are fewer than the 5"):
        make("numpy").fit(X, Y, resume=tmp_path, **SMALL | {"epochs": 3})


@pytest.mark.parametrize("step", [9, 20, 33])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_goes_on_too(step, first, tmp_path):
    X, Y = data()
    options = {"optimizer": "adam", "validation": (X[:, :9], 1.0 - Y[:, :9]), "learning_rate": 0.1, "epochs": 40}

    def stopping():
        return EarlyStopping(4)

    once, again = make("numpy"), make("numpy")
    watch = stopping()
    expected = once.fit(X, Y, callbacks=[watch], **SMALL | options)
    assert len(expected.loss) < 40
    assert watch.best_epoch == len(expected.loss) - 4
    assert watch.best_loss == min(expected.validation_loss)
    interrupted("numpy", tmp_path, step, every=2, others=[stopping()], **options)
    callbacks = [Checkpoint(tmp_path, every=2), stopping()]
    history = again.fit(X, Y, callbacks=callbacks if first else callbacks[::-1], resume=tmp_path, **SMALL | options)
    np.testing.assert_array_equal(again.theta, once.theta)
    assert history.validation_loss == expected.validation_loss
    # It has ended, and stays so.
    third = make("numpy")
    assert third.fit(X, Y, callbacks=callbacks, resume=tmp_path, **SMALL | options).loss == expected.loss
    np.testing.assert_array_equal(third.theta, once.theta)
    with pytest.raises(DataError, match=r"was written with .*EarlyStopping among the callbacks; give the same"):
        make("numpy").fit(X, Y, resume=tmp_path, **SMALL | options)


def test_the_last_k_files_are_kept(tmp_path):
    X, Y = data()
    make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path, every=4, keep=2)], **SMALL)
    assert sorted(os.listdir(tmp_path)) == ["step-000000000032.safetensors", "step-000000000035.safetensors"]


def test_by_time(tmp_path, monkeypatch):
    X, Y = data()
    now = [0.0]
    monkeypatch.setattr("accelnn.checkpoints.time.monotonic", lambda: now[0])

    class Clock(Stop):
        def on_progress(self, progress):
            now[0] = float(progress.step)

    make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path, every="10s", keep=9), Clock(0)], **SMALL)
    assert [int(name[5:17]) for name in sorted(os.listdir(tmp_path))] == [0, 10, 20, 30, 35]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("30s", (30.0, None)), ("5m", (300.0, None)), ("1.5h", (5400.0, None)), ("20", (np.inf, 20)), (7, (np.inf, 7))],
)
def test_intervals(value, expected):
    assert interval("every", value) == expected


@pytest.mark.parametrize("value", ["", "s", "0s", "-5s", "5d", "1.5", 0, -1, 2.5, None, "5 minutes", True])
def test_intervals_that_are_none(value):
    with pytest.raises(DataError, match=r"every: .* is "):
        Checkpoint("folder", every=value)


def test_each_checkpoint_has_an_interval_of_its_own(tmp_path):
    X, Y = data()
    folders = {tmp_path / "a": 5, tmp_path / "b": 3}
    make("numpy").fit(X, Y, callbacks=[Checkpoint(path, every=n, keep=99) for path, n in folders.items()], **SMALL)
    for path, n in folders.items():
        assert [int(name[5:17]) for name in sorted(os.listdir(path))] == sorted({*range(0, 35, n), 35})


def test_a_training_that_was_stopped_stays_so_with_more_epochs(tmp_path):
    X, Y = data()
    options = {"optimizer": "adam", "validation": (X[:, :9], 1.0 - Y[:, :9]), "learning_rate": 0.1}
    net, again = make("numpy"), make("numpy")
    net.fit(X, Y, callbacks=[EarlyStopping(2), Checkpoint(tmp_path)], **SMALL | options | {"epochs": 40})
    more = again.fit(X, Y, callbacks=[EarlyStopping(2)], resume=tmp_path, **SMALL | options | {"epochs": 80})
    assert more.loss == net.history.loss
    np.testing.assert_array_equal(again.theta, net.theta)


def test_a_schedule_whose_horizon_moves_warns(tmp_path):
    X, Y = data()
    make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path)], schedule="cosine", **SMALL)
    with pytest.warns(UserWarning, match=r"epochs: .* followed Cosine.* for 5 epochs and goes on for 8"):
        make("numpy").fit(X, Y, resume=tmp_path, schedule="cosine", **SMALL | {"epochs": 8})


class Own(Schedule):
    """With the text that Python gives an object: where it lies in memory."""

    def __init__(self, share):
        self.share = share

    def factors(self, t, epochs, state=()):
        return self.share ** np.floor(t)


def test_a_schedule_of_ones_own_goes_on(tmp_path):
    X, Y = data()
    once, again = make("numpy"), make("numpy")
    once.fit(X, Y, schedule=Own(0.5), **SMALL)
    interrupted("numpy", tmp_path, 9, schedule=Own(0.5))
    again.fit(X, Y, schedule=Own(0.5), resume=tmp_path, **SMALL)
    np.testing.assert_array_equal(again.theta, once.theta)
    with pytest.raises(DataError, match=r"schedule='Own\(share=0.5\)', not 'Own\(share=0.25\)'"):
        make("numpy").fit(X, Y, schedule=Own(0.25), resume=tmp_path, **SMALL)


def test_a_second_moment_that_is_infinite_can_be_read_again(tmp_path):
    """In float32 a gradient of 1e22 has a square that is not finite, and a step that is."""
    X, Y = data()
    options = {"optimizer": "adam", "learning_rate": 1e-3}
    kind = {"activations": "identity", "output": "identity", "dtype": "float32"}
    nets = [make("numpy", **kind) for _ in range(2)]
    nets[0].fit(X * 1e4, Y * 1e18, callbacks=[Checkpoint(tmp_path, every=3)], **SMALL | options)
    assert np.isinf(nets[0].optimizer_state.vectors).any()
    nets[1].fit(X * 1e4, Y * 1e18, resume=tmp_path, **SMALL | options | {"epochs": 7})
    assert np.isfinite(nets[1].theta).all()


# What is not the same.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimizer": "sgd"}, "optimizer="),
        ({"batch_size": 9}, "batch_size=8, not 9"),
        ({"learning_rate": 0.02}, "learning_rate=0.01, not 0.02"),
        ({"l2": 0.5}, "l2=0.0, not 0.5"),
        ({"dropout": 0.5}, "dropout="),
        ({"schedule": "cosine"}, "schedule=None, not 'Cosine"),
        ({"shuffle": False}, "order='shuffled', not 'as given'"),
        ({"clip_norm": 1.0}, "clip_norm=None, not 1.0"),
        ({"sample_weight": np.full(50, 2.0)}, "sample_weight=False, not True"),
    ],
)
def test_other_settings_are_refused(options, text, tmp_path):
    X, Y = data()
    interrupted("numpy", tmp_path, 9, optimizer="adam")
    net = make("numpy")
    before = host(net.theta)
    with pytest.raises(DataError) as problem:
        net.fit(X, Y, resume=tmp_path, **SMALL | {"optimizer": "adam"} | options)
    assert text in str(problem.value)
    np.testing.assert_array_equal(net.theta, before)
    assert (net.epochs_trained, net.optimizer_state) == (0, None)


def test_other_data_and_another_network_are_refused(tmp_path):
    X, Y = data()
    interrupted("numpy", tmp_path, 9)
    with pytest.raises(DataError, match="was written in training on other data"):
        make("numpy").fit(X + 1.0, Y, resume=tmp_path, **SMALL)
    for options, text in (
        ({"sizes": (3, 7, 2)}, "sizes="),
        ({"activations": "relu"}, "activations="),
        ({"seed": 5}, "seed=0, not 5"),
        ({"dtype": "float32"}, "dtype=float64, not float32"),
        ({"loss": "squared_error"}, "loss=binary_cross_entropy"),
    ):
        with pytest.raises(DataError) as problem:
            make("numpy", **options).fit(X, Y, resume=tmp_path, **SMALL)
        assert text in str(problem.value)


def test_another_backend_says_that_it_is_another(tmp_path):
    X, Y = data()
    once, again = make("numpy"), make("numba")
    once.fit(X, Y, **SMALL)
    interrupted("numpy", tmp_path, 9)
    with pytest.warns(UserWarning, match=r"numpy on \d+ thread\(s\) and goes on with numba .* not to the last bit"):
        again.fit(X, Y, resume=tmp_path, **SMALL)
    np.testing.assert_allclose(again.theta, once.theta, rtol=1e-10)


def test_a_validation_set_belongs_to_the_training(tmp_path):
    X, Y = data()
    held = {"validation": (X[:, :9], Y[:, :9])}
    interrupted("numpy", tmp_path, 9, **held)
    for other in ({}, {"validation": (X[:, 9:18], Y[:, 9:18])}):
        with pytest.raises(DataError, match="was written with validation="):
            make("numpy").fit(X, Y, resume=tmp_path, **SMALL | other)


def test_an_error_after_the_file_was_read_leaves_everything_as_it_was(tmp_path):
    X, Y = data()
    interrupted("numpy", tmp_path / "a", 20)
    first = sorted((tmp_path / "a").iterdir())[0]
    net, stopping = make("numpy"), EarlyStopping(3)
    net.fit(X, Y, epochs=2, optimizer="adam", callbacks=[stopping])
    before = host(net.theta), net.epochs_trained, net.steps_trained, net.optimizer_state, replace(net.history)

    class Broken(Callback):
        def on_fit_begin(self, progress):
            raise DataError("no")

    for callbacks in ([Checkpoint(tmp_path / "a")], [Broken()], [stopping]):
        with pytest.raises(DataError):
            net.fit(X, Y, resume=first, callbacks=callbacks, **SMALL)
        np.testing.assert_array_equal(net.theta, before[0])
        assert (net.epochs_trained, net.steps_trained, net.optimizer_state, net.history) == before[1:]


def test_a_callback_keeps_nothing_for_another_training(tmp_path):
    X, Y = data()
    stopping = EarlyStopping(3)
    options = {"validation": (X[:, :9], Y[:, :9])}
    make("numpy").fit(X, Y, callbacks=[stopping, Checkpoint(tmp_path)], **SMALL | options)
    make("numpy").fit(X, Y, callbacks=[stopping], resume=tmp_path, **SMALL | options)
    other, twin = make("numpy", seed=4), make("numpy", seed=4)
    other.fit(X, Y, callbacks=[stopping], **SMALL | options)
    twin.fit(X, Y, callbacks=[EarlyStopping(3)], **SMALL | options)
    np.testing.assert_array_equal(other.theta, twin.theta)


def test_files_of_another_training_are_kept_whatever_their_steps(tmp_path):
    X, Y = data()
    make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path)], **SMALL)
    before = sorted(os.listdir(tmp_path))
    net = make("numpy")
    net.fit(X, Y, **SMALL | {"epochs": 8})
    with pytest.raises(DataError, match="is of another training"):
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path)], resume=True, **SMALL)
    assert sorted(os.listdir(tmp_path)) == before


def test_one_checkpoint_follows_a_network_from_call_to_call(tmp_path):
    X, Y = data()
    net, keeper = make("numpy"), Checkpoint(tmp_path)
    for _ in range(3):
        net.fit(X, Y, callbacks=[keeper], resume=net.epochs_trained > 0, **SMALL)
    assert Checkpoint.latest(tmp_path).name == "step-000000000105.safetensors"
    pickle.loads(pickle.dumps(keeper))


def test_what_fits_no_file_is_said_before_training(tmp_path):
    X, Y = data()

    class Odd(Callback):
        def to_checkpoint(self):
            return {"what": object()}

    with pytest.raises(DataError, match="Checkpoint: what a callback or the description holds fits no file"):
        make("numpy").fit(X, Y, callbacks=[Odd(), Checkpoint(tmp_path)], **SMALL)


def test_a_new_training_never_replaces_the_files_of_another(tmp_path):
    X, Y = data()
    interrupted("numpy", tmp_path, 9)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(DataError, match=r"is of another training, .*; go on from it with resume"):
        make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path)], **SMALL)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_damaged_file_is_set_aside_and_the_one_before_it_taken(tmp_path):
    X, Y = data()
    once, again = make("numpy"), make("numpy")
    once.fit(X, Y, **SMALL)
    interrupted("numpy", tmp_path, 20)
    latest = Checkpoint.latest(tmp_path)
    content = latest.read_bytes()
    latest.write_bytes(content[:-3])
    with pytest.warns(UserWarning, match=r"is damaged .*; it is now step-000000000018\.damaged, and the one before"):
        again.fit(X, Y, callbacks=[Checkpoint(tmp_path)], resume=tmp_path, **SMALL)
    np.testing.assert_array_equal(again.theta, once.theta)
    assert latest.with_suffix(".damaged").read_bytes() == content[:-3]


def test_only_damaged_files_are_no_new_beginning(tmp_path):
    X, Y = data()
    (tmp_path / "step-000000000007.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.warns(UserWarning, match="is no accelnn model"), pytest.raises(ModelFileError, match="is damaged"):
        make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path)], resume=tmp_path, **SMALL)


def test_a_model_is_no_checkpoint_but_a_checkpoint_is_a_model(tmp_path):
    X, Y = data()
    net = make("numpy")
    net.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="is no checkpoint but a model"):
        net.fit(X, Y, resume=tmp_path / "m.safetensors", **SMALL)
    net.fit(X, Y, callbacks=[Checkpoint(tmp_path)], **SMALL)
    np.testing.assert_array_equal(Network.load(Checkpoint.latest(tmp_path), "numpy").theta, net.theta)


# The disk.


def test_a_folder_that_cannot_be_made_ends_the_run_before_it_begins(tmp_path):
    X, Y = data()
    (tmp_path / "file").touch()
    net = make("numpy")
    before = host(net.theta)
    with pytest.raises(OutputError, match="file"):
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path / "file")], **SMALL)
    np.testing.assert_array_equal(net.theta, before)


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch):
    X, Y = data()
    once, net = make("numpy"), make("numpy")
    once.fit(X, Y, **SMALL)
    real, full = os.fsync, []

    def fsync(handle):
        if full:
            raise OSError(28, "No space left on device")
        return real(handle)

    class Fill(Stop):
        def on_progress(self, progress):
            full[:] = [1] if 10 < progress.step < 20 else []

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.warns(UserWarning, match="no checkpoint was written, and training goes on: .*No space left"):
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path, every=3, keep=50), Fill(0)], **SMALL)
    np.testing.assert_array_equal(net.theta, once.theta)
    steps = [int(name[5:17]) for name in sorted(os.listdir(tmp_path))]
    assert steps == [0, 3, 6, 9, 21, 24, 27, 30, 33, 35]


def test_what_a_killed_write_left_is_removed(tmp_path):
    X, Y = data()
    left, young = (tmp_path / f".step-000000000003.safetensors.{name}.tmp" for name in ("abc", "def"))
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    make("numpy").fit(X, Y, callbacks=[Checkpoint(tmp_path, keep=1)], **SMALL)
    assert sorted(os.listdir(tmp_path)) == [young.name, "step-000000000035.safetensors"]  # somebody may be writing it


def test_lbfgs_has_nothing_to_go_on_from(tmp_path):
    from accelnn import MLPRegressor

    with pytest.raises(DataError, match="Checkpoint: lbfgs has no steps"):
        MLPRegressor(solver="lbfgs", callbacks=[Checkpoint(tmp_path)]).fit(np.ones((9, 2)), np.arange(9.0))


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_with_a_checkpoint(backend, number, tmp_path):
    X, Y = data()

    class Send(Stop):
        def on_progress(self, progress):
            if progress.step == self.step:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    once, net, again = make(backend), make(backend), make(backend)
    once.fit(X, Y, **SMALL)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as problem:
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path, every="1h"), Send(17)], **SMALL)
    if number == signal.SIGTERM:
        assert problem.value.code == 143
    assert signal.getsignal(number) is before
    assert int(Checkpoint.latest(tmp_path).name[5:17]) == 17
    again.fit(X, Y, callbacks=[Checkpoint(tmp_path, every="1h")], resume=tmp_path, **SMALL)
    np.testing.assert_array_equal(host(again.theta), host(once.theta))
    assert signal.getsignal(number) is before


def test_signals_are_left_alone_after_an_error_and_in_other_threads(tmp_path):
    X, Y = data()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupted("numpy", tmp_path / "a", 9)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    net, found = make("numpy"), []

    def work():
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path / "b", every=4)], **SMALL)
        found.append(len(os.listdir(tmp_path / "b")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hook", ["on_fit_begin", "on_progress", "on_fit_end"])
def test_a_signal_at_any_time_is_let_through_once(hook, number, tmp_path):
    X, Y = data()
    before = signal.getsignal(number)
    send = type("Send", (Callback,), {hook: lambda self, progress: os.kill(os.getpid(), number), "comes_last": True})
    callbacks = [Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b"), send()]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        make("numpy").fit(X, Y, callbacks=callbacks, **SMALL)
    assert signal.getsignal(number) is before


def test_a_signal_while_data_is_read_does_not_wait_for_a_window(tmp_path):
    X, Y = data()
    calls = []

    def read(start, stop):
        calls.append(start)
        if len(calls) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
        return X[:, start:stop], Y[:, start:stop]

    stream = Stream.from_reader(read, 50, piece=1)
    with pytest.raises(SystemExit):
        make("numpy").fit(stream, callbacks=[Checkpoint(tmp_path)], batch_size=8)
    assert len(calls) < 50
    assert Checkpoint.latest(tmp_path)


# A process that dies.

KILLS = 200


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_a_checkpoint_to_go_on_from(tmp_path):
    """200 kills, spread over one training on each backend, each of which then ends as if there had been none."""
    rng = np.random.default_rng(1)
    killed, valid, steps = 0, 0, set()
    children = "import os, sys, time, signal\n" + FORKS
    for backend, share in (("numpy", KILLS // 2), ("numba", KILLS // 2)):
        folder = tmp_path / backend
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", children, backend, str(folder), str(share), str(rng.integers(2**31))],
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        lines = result.stdout.split()
        killed += int(lines[0])
        valid += int(lines[1])
        steps |= set(lines[2:])
    print(f"\n{valid} of {killed} kills left a valid checkpoint, at {len(steps)} different steps")
    assert (valid, killed) == (KILLS, KILLS)


# One process imports and compiles; each training is a child of it, forked, that is killed. Ten times on each backend a
# child is let to its end, which has to be the one of a training that nobody killed.
FORKS = """
import numpy as np
from accelnn import Checkpoint, Network
from accelnn.storage import container
backend, folder, kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(seed)
draw = np.random.default_rng(0)
X, Y = draw.normal(size=(6, 230)), draw.uniform(size=(2, 230))

def training(where, epochs=60, resume=True):
    net = Network([6, 12, 2], "tanh", dtype="float64", backend=backend)
    options = dict(optimizer="adam", learning_rate=1e-3, batch_size=16, dropout=0.2, schedule="plateau")
    callbacks = [Checkpoint(where, every=4)] if where else []
    net.fit(X, Y, validation=(X[:, :40], Y[:, :40]), callbacks=callbacks, epochs=epochs,
            resume=where if where else False, **options)
    return net

expected = training(None).theta
training(None, epochs=1)

def child(where):
    number = os.fork()
    if number == 0:
        code = 1
        try:
            np.save(where + "/theta", training(where).theta)
            code = 0
        finally:
            os._exit(code)
    return number

ends, done, valid, steps, run = 10, 0, 0, [], 0
while done < kills:
    where = os.path.join(folder, str(run))
    os.makedirs(where, exist_ok=True)
    # So many kills of one training, and then its end.
    for _ in range(kills // ends):
        had = Checkpoint.latest(where)
        number = child(where)
        while Checkpoint.latest(where) in (None, had):
            time.sleep(0.0005)
            assert os.waitpid(number, os.WNOHANG) == (0, 0), "it ended by itself"
        time.sleep(rng.uniform(0.0, 0.004))
        os.kill(number, signal.SIGKILL)
        _, status = os.waitpid(number, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            os.unlink(where + "/theta.npy")
            break
        done += 1
        about, _ = container.read(Checkpoint.latest(where))
        valid += about["kind"] == "checkpoint"
        steps.append(about["steps_trained"])
        if done == kills:
            break
    number = child(where)
    assert os.waitpid(number, 0) == (number, 0)
    np.testing.assert_array_equal(np.load(where + "/theta.npy"), expected)
    run += 1
assert run >= ends, run
print(done, valid, *steps)
"""


def test_warnings_of_a_resumed_run_are_none(tmp_path):
    X, Y = data()
    interrupted("numpy", tmp_path, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("numpy").fit(X, Y, resume=tmp_path, callbacks=[Checkpoint(tmp_path)], **SMALL)
