"""Writing fails, at every call into the operating system: the old file stays, and nothing else is left."""

import dataclasses
import errno
import io
import os
import resource
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from accelnn import Callback, Network, OutputError, exchange
from accelnn.checkpoints import Checkpoint
from accelnn.cli import predicting
from accelnn.logs import FIELDS, CsvLog
from accelnn.readers import load_table
from accelnn.storage import files, write_atomically
from accelnn.tables import TableModel

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 40)), RNG.integers(2, size=40)


# What writes a file: a function of the path, which a test calls with an old file there.


def network():
    net = Network([3, 50, 1], seed=1, backend="numpy")
    return net.fit(X, Y, epochs=1, optimizer="adam") and net


def save_network(path):
    network().save(path)


def table_model():
    """And the rows that it knows."""
    iris = load_table("iris")
    return TableModel.untrained(iris, None, (5,), "tanh", backend="numpy"), iris.X


def save_table_model(path):
    table_model()[0].save(path)


def save_estimator(path):
    from accelnn import MLPRegressor

    model = MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", tol=1e3, random_state=0, backend="numpy")
    model.fit(X.T, X[0]).save(path)


def progress():
    """Of a training that has ended."""

    class Keep(Callback):
        def on_fit_end(self, progress):
            self.progress = progress

    keep = Keep()
    Network([3, 50, 1], seed=1, backend="numpy").fit(X, Y, epochs=1, callbacks=[keep])
    return keep.progress


def save_checkpoint(path):
    """Under the name that it gets."""
    Checkpoint(path.parent)._write(progress())


def save_log(path):
    """Its beginning, which takes the place of another log; later it grows."""
    anew = Network([3, 50, 1], seed=1, backend="numpy")
    CsvLog(path, replace=True).on_fit_begin(dataclasses.replace(progress(), network=anew))


def save_predictions(path):
    model, rows = table_model()
    with write_atomically(path) as file:
        predicting._as_text(file, lambda text: model.write_predictions(rows, text))


def save_torch(path):
    exchange.save_torch(network(), path)


def save_onnx(path):
    pytest.importorskip("onnx")
    exchange.save_onnx(network(), path)


def save_skops(path):
    pytest.importorskip("skops")
    exchange.save_skops(network(), path)


SAVERS = {
    "network": (save_network, "model.safetensors"),
    "model of a table": (save_table_model, "model.safetensors"),
    "estimator": (save_estimator, "model.safetensors"),
    "checkpoint": (save_checkpoint, "step-000000000001.safetensors"),
    "log": (save_log, "log.csv"),
    "predictions": (save_predictions, "predictions.csv"),
    "torch": (save_torch, "state.safetensors"),
    "onnx": (save_onnx, "model.onnx"),
    "skops": (save_skops, "model.skops"),
}


OLD_LOG = "\n".join([",".join(FIELDS), *(f"{k},{k},0.5,,0.1,0.01,40,4000.0" for k in range(1, 30)), ""]).encode()

# Faults.

NUMBERS = {name: getattr(errno, name) for name in ("ENOSPC", "EACCES", "EIO", "EROFS")}
ERRORS = {name: OSError(number, os.strerror(number)) for name, number in NUMBERS.items()}
ERRORS["Ctrl-C"] = KeyboardInterrupt()


class Faulty:
    """Every call that writes to a folder, or to a file in it, by name; the one of a number fails.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    folder : path
    at : int, optional
        Number of the call that fails.
    error : Exception
    lasting : Exception, optional
        With which all later ones fail, too.
    most : int, optional
        Bytes that one call writes.
    """

    def __init__(self, monkeypatch, folder, at=None, error=None, lasting=None, most=None):
        self.folder, self.at, self.error, self.lasting, self.most = Path(folder), at, error, lasting, most
        self.calls, self.handles = [], set()
        for name in ("open", "fdopen", "fsync", "chmod", "replace", "close"):
            monkeypatch.setattr(os, name, self.replacement(name, getattr(os, name)))

    def call(self, name):
        self.calls.append(name)
        now = len(self.calls) - 1
        if self.at is not None and now == self.at:
            raise self.error
        if self.at is not None and now > self.at and self.lasting is not None:
            raise self.lasting

    def concerns(self, what):
        if isinstance(what, int):
            return what in self.handles
        return Path(os.path.realpath(what)).is_relative_to(self.folder)

    def replacement(self, name, original):
        def replaced(what, *more, **options):
            if not self.concerns(what):
                return original(what, *more, **options)
            if name == "fdopen":
                return Buffered(Raw(what, *more, self))
            if name == "close":
                self.handles.discard(what)
                original(what)  # an error of close is reported after the descriptor is gone
                return self.call(name)
            self.call(name)
            answer = original(what, *more, **options)
            if name == "open":
                self.handles.add(answer)
            return answer

        return replaced


class Raw(io.FileIO):
    def __init__(self, handle, mode, faulty):
        super().__init__(handle, mode)
        self.faulty = faulty

    def write(self, content):
        self.faulty.call("write")
        return super().write(memoryview(content).cast("B")[: self.faulty.most])

    def close(self):
        if not self.closed:
            self.faulty.handles.discard(self.fileno())
            super().close()
            self.faulty.call("close")


class Buffered(io.BufferedWriter):
    closing = False

    def flush(self):
        if not self.closing:  # which has been flushed
            self.raw.faulty.call("flush")
        super().flush()

    def close(self):
        self.closing = True
        super().close()


def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.fixture(params=SAVERS)
def saver(request, tmp_path):
    """A function that writes a file, the path, and what is in the old file that is there."""
    save, name = SAVERS[request.param]
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    old = OLD_LOG if name == "log.csv" else b"the old file" * 100  # a log takes the place of a log alone
    path.write_bytes(old)
    path.chmod(0o640)
    return lambda: save(path), path, old


def calls_of(saver):
    """The calls of a save that succeeds."""
    save, path, old = saver
    with pytest.MonkeyPatch.context() as patch:
        faulty = Faulty(patch, path.parent)
        save()
    assert path.read_bytes() != old
    return faulty.calls


def test_the_calls_are_seen(saver):
    calls = calls_of(saver)
    assert [name for name in calls if name != "flush"] == [
        *("open", "chmod", *["write"] * calls.count("write"), "fsync", "close", "replace", "open", "fsync", "close")
    ]
    assert calls.count("write") >= 1 <= calls.count("flush")


@pytest.mark.parametrize("lasting", [None, "ENOSPC"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_any_call_leaves_the_old_file_and_nothing_else(error, lasting, saver):
    """Once the new file has its name only the folder's flush can fail, and the message says what that means."""
    save, path, old = saver
    calls = calls_of(saver)
    for at, name in enumerate(calls):
        path.write_bytes(old)
        before = descriptors()
        with pytest.MonkeyPatch.context() as patch:
            Faulty(patch, path.parent, at, ERRORS[error], ERRORS[lasting] if lasting else None)
            with pytest.raises(KeyboardInterrupt if error == "Ctrl-C" else OutputError) as refusal:
                save()
        where = f"{error} at call {at}, {name}"
        assert os.listdir(path.parent) == [path.name], where
        assert descriptors() == before, where
        in_place = at > calls.index("replace")
        assert (path.read_bytes() != old) is in_place, where
        if error != "Ctrl-C":
            message = str(refusal.value)
            assert message.startswith(f"{path}: "), where
            assert ERRORS[error].strerror in message, where
            assert ("is in place" in message) is in_place, where
            assert ("cannot be written" in message) is not in_place, where


def test_a_fault_where_no_file_was_leaves_none(saver):
    save, path, _ = saver
    calls = calls_of(saver)
    for at in range(calls.index("replace")):
        path.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            Faulty(patch, path.parent, at, ERRORS["EIO"])
            with pytest.raises(OutputError):
                save()
        assert os.listdir(path.parent) == []


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_short_writes_lose_nothing(most, tmp_path, monkeypatch):
    """The operating system may write less than it was given."""
    content = RNG.bytes(5000)
    Faulty(monkeypatch, tmp_path, most=most)
    with write_atomically(tmp_path / "file") as file:
        for start in range(0, 5000, 1250):
            file.write(content[start : start + 1250])
    assert (tmp_path / "file").read_bytes() == content


def test_an_error_of_who_writes_comes_through(tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    def write():
        with write_atomically(tmp_path / "file") as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


# Real faults.


def test_a_file_larger_than_the_system_allows(saver):
    """RLIMIT_FSIZE: a real fault in the middle of the file, as of a quota."""
    save, path, old = saver
    calls_of(saver)  # whatever is imported on the way
    path.write_bytes(old)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def in_a_process(code, **options):
    """Run code in another process, with what these tests import."""
    command = [sys.executable, "-W", "error", "-c", f"import {__name__} as tests\n{textwrap.dedent(code)}"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=100, **options)


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_to():
    """Whoever runs these tests, that process is nobody."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, "folder")
        folder.mkdir()
        (folder / "model").write_bytes(b"old")
        os.chmod(base, 0o711)
        folder.chmod(0o555)
        code = f"""
            import os
            tests.save_network(os.devnull)  # whatever that imports, nobody might not be allowed to
            if os.geteuid() == 0:
                os.seteuid(65534)
            try:
                tests.save_network({str(folder / "model")!r})
            except tests.OutputError as problem:
                print(problem)
        """
        result = in_a_process(code)
        assert result.stdout == f"{folder / 'model'}: cannot be written (Permission denied)\n", result.stderr
        assert os.listdir(folder) == ["model"]
        assert (folder / "model").read_bytes() == b"old"
        folder.chmod(0o755)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_the_old_file(tmp_path):
    """What it has begun stays under a name that says so, and stands in nobody's way."""
    path = tmp_path / "model"
    path.write_bytes(b"old")
    code = f"""
        import os, signal
        with tests.write_atomically({str(path)!r}) as file:
            file.write(b"new")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert in_a_process(code).returncode == -9
    assert path.read_bytes() == b"old"
    (left,) = set(os.listdir(tmp_path)) - {"model"}
    assert left.startswith(".model.")
    assert left.endswith(files.TEMPORARY)
    save_network(path)
    assert Network.load(path, "numpy").epochs_trained == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none/model", "No such file or directory"),
        ("", "it is a folder"),
        ("file/model", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("a\0b", "null byte"),
    ],
)
def test_a_path_that_cannot_be_written(name, reason, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match=rf"cannot be written \({reason}|{reason}\)"):
        save_network(os.path.join(tmp_path, name) if name else tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_a_device_that_is_full():
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        save_network("/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


# Where the file goes.


def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    """A pipe, for instance that of /dev/stdout."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    save_network(pipe)
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "copy").write_bytes(received[0])
    assert Network.load(tmp_path / "copy", "numpy").epochs_trained == 1
    save_network(os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_replaced(there, tmp_path):
    """Also one that points at nothing yet, and one of another folder, where the new file is written beside the old."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    link, target = tmp_path / "here" / "model", tmp_path / "there" / "real"
    link.symlink_to(Path("..") / "there" / "real")
    if there:
        target.write_bytes(b"old")
    save_network(link)
    assert os.listdir(link.parent) == ["model"]
    assert os.listdir(target.parent) == ["real"]
    assert link.is_symlink()
    assert not target.is_symlink()
    assert Network.load(target, "numpy").epochs_trained == Network.load(link, "numpy").epochs_trained == 1


def test_the_mode_is_that_of_the_old_file_or_of_any_new_one(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o604)
    umask = os.umask(0o027)
    try:
        save_network(old)
        save_network(new)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path):
    for name in ("x" * 255, "é" * 127):
        save_network(tmp_path / name)
    assert len(os.listdir(tmp_path)) == 2


def test_a_folder_whose_file_system_cannot_be_flushed(tmp_path, monkeypatch):
    """Some answer that this is no operation of theirs."""
    (tmp_path / "m").touch()
    calls = calls_of((lambda: save_network(tmp_path / "m"), tmp_path / "m", b""))
    at = len(calls) - 1 - calls[::-1].index("fsync")
    Faulty(monkeypatch, tmp_path, at, OSError(errno.EINVAL, "Invalid argument"))
    save_network(tmp_path / "m")


# Several at once.


def test_of_writers_at_once_one_stays_whole(tmp_path):
    """And a reader finds one of them at any time."""
    path, done = tmp_path / "model", threading.Event()
    nets = [Network([30, 50, 1], seed=seed, backend="numpy") for seed in range(4)]
    nets[0].save(path)
    problems = []

    def write(net):
        try:
            for _ in range(25):
                net.save(path)
        except Exception as problem:
            problems.append(problem)

    def read():
        while not done.is_set():
            found = Network.load(path, "numpy")
            if not any(np.array_equal(found.theta, net.theta) for net in nets):
                problems.append(found)

    writers = [threading.Thread(target=write, args=[net]) for net in nets]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert problems == []
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.slow
def test_of_processes_that_write_at_once_one_stays_whole(tmp_path):
    path = tmp_path / "model"
    code = """if True:
        import sys
        from accelnn import Network
        net = Network([30, 50, 1], seed=int(sys.argv[1]), backend="numpy")
        for _ in range(100):
            net.save(sys.argv[2])
    """
    running = [subprocess.Popen([sys.executable, "-c", code, str(seed), str(path)]) for seed in range(2)]
    nets = [Network([30, 50, 1], seed=seed, backend="numpy") for seed in range(2)]
    looked = 0
    while any(process.poll() is None for process in running):
        if path.exists():
            found = Network.load(path, "numpy")
            assert any(np.array_equal(found.theta, net.theta) for net in nets)
            looked += 1
    assert looked > 0
    assert [process.returncode for process in running] == [0, 0]
    assert os.listdir(tmp_path) == ["model"]
