"""The folder of compiled kernels: what is wrong with it costs time at most, and nobody else's code comes out of it."""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import event

from accelnn.doctor import machine
from accelnn.kernels import jit

resource = pytest.importorskip("resource")  # permissions and limits are POSIX's

NOBODY = 65534


def triangle(n):
    total = 0.0
    for i in range(n):
        total += i
    return total


def entry(name):
    return jit.compiled_and_kept(triangle, name, "stamp")(5)


def kernel(name):
    address = jit.kernel(triangle, numba.float64(numba.int64), name, "stamp")
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(address)(5)


@pytest.fixture(params=[entry, kernel])
def compiles(request):
    """A function that asks for a kernel as a new process would, sees that it is right, and says whether it compiled."""

    def ask(name="triangle"):
        jit._complain.cache_clear()
        with event.install_recorder("numba:run_pass") as recorder:
            assert request.param(name) == 10.0
        return bool(recorder.buffer)

    return ask


@pytest.fixture
def home(monkeypatch):
    """What XDG_CACHE_HOME names, and every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(numba.config, "CACHE_DIR", "")
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        yield Path(folder)
        if not os.path.isdir(folder):
            os.unlink(folder)
            os.mkdir(folder)


def kept(home):
    return sorted(path for path in home.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def unprivileged():
    """Root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def largest_file(size):
    """As on a disk where no more finds room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_kernel_is_compiled_once(compiles, home):
    """In a folder for its owner alone."""
    assert [compiles(), compiles(), compiles("other"), compiles()] == [True, False, True, False]
    first, second = kept(home)
    assert first.parent == second.parent
    assert first.parent.parent == home / "accelnn" / "kernels" == jit.cache_folder()
    assert first.parent.stat().st_mode & 0o777 == 0o700


# Files that are damaged.

DAMAGES = {
    "random bytes": lambda content: np.random.default_rng(0).bytes(len(content)),
    "random bytes after a start": lambda content: content[:500] + np.random.default_rng(0).bytes(len(content) - 500),
    "no byte": lambda content: b"",
    "one byte": lambda content: content[:1],
    "less than a seal": lambda content: content[:20],
    "half": lambda content: content[: len(content) // 2],
    "the last byte missing": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "one bit of machine code": lambda content: flipped(content, content.index(b"\x7fELF") + 600),
    "zeros of a file system that went down": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>",
}


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_as_good_as_none(compiles, home, damage, caplog):
    """It is never unpickled, and a good one takes its place."""
    compiles()
    (path,) = kept(home)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert compiles()
    (record,) = caplog.records
    assert f"{path.name} is damaged) and is compiled again; see {path.parent}" in record.getMessage()
    assert kept(home) == [path]
    assert not compiles()
    assert len(caplog.records) == 1


def test_another_kernels_file_is_no_good(compiles, home):
    """Though it is whole."""
    compiles("first"), compiles("second")
    first, second = kept(home)
    shutil.copy(first, second)
    assert not compiles("first")
    assert compiles("second")
    assert not compiles("second")


OBSTACLES = {
    "a folder": lambda path: path.mkdir(),
    "a folder that holds something": lambda path: (path.mkdir(), (path / "x").touch()),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_something_else_in_the_place_of_a_file(compiles, home, obstacle):
    compiles()
    (path,) = kept(home)
    path.unlink()
    obstacle(path)
    assert compiles()
    assert compiles() == path.is_dir()
    assert not list(home.rglob("*.tmp.*"))


def test_a_file_that_may_not_be_read(compiles, home):
    with unprivileged_owner(home):
        compiles()
        (path,) = kept(home)
        path.chmod(0)
        assert compiles()
        assert not compiles()


@contextlib.contextmanager
def unprivileged_owner(folder):
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, -1)
    with unprivileged():
        yield


@given(value=st.binary(max_size=40), data=st.data())
def test_every_damage_is_seen(value, data):
    """One byte changed, or the file cut off or made longer, anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        files = jit._SealedFiles(folder, "f", "stamp")
        assert files.load("key") is None
        files.save("key", value)
        assert files.load("key") == value
        assert files.load("other key") is None
        assert jit._SealedFiles(folder, "f", "other stamp").load("key") is None
        (path,) = Path(folder).iterdir()
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
        more = data.draw(st.binary(min_size=1, max_size=50))
        for damaged in (content[:place], content[:place] + bytes([byte]) + content[place + 1 :], content + more):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="is damaged"):
                files.load("key")


def test_another_version_of_numba_has_files_of_its_own(compiles, home, monkeypatch):
    compiles()
    with monkeypatch.context() as patch:
        patch.setattr(numba, "__version__", "0.1.2")
        assert compiles()
        assert not compiles()
    assert not compiles()
    assert len(kept(home)) == 2


def test_an_index_of_numbas_own_is_not_looked_at(compiles, home):
    """Of earlier versions of accelnn, or put there."""
    compiles()
    (path,) = kept(home)
    base = path.name.split(".py")[0] + f".py{sys.version_info[0]}{sys.version_info[1]}"
    for name in (f"{base}.nbi", f"{base}.1.nbc"):
        (path.parent / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert not compiles()


# Folders that cannot be used.


def a_file(home, leaf):
    shutil.rmtree(home)
    home.touch()


def of_another_user(home, leaf):
    leaf.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(leaf, 12345, -1)
    else:
        pytest.skip("only root can give a folder away")


def for_everybody(home, leaf):
    leaf.mkdir(parents=True)
    leaf.chmod(0o777)


def for_a_group(home, leaf):
    leaf.mkdir(parents=True)
    leaf.chmod(0o770)


def too_long(home, leaf):
    os.environ["XDG_CACHE_HOME"] = f"{home}/{'x' * 300}"  # which a fixture puts back


UNUSABLE = {
    a_file: "Not a directory|File exists",
    of_another_user: "belongs to another user; set NUMBA_CACHE_DIR to a folder of your own",
    for_everybody: "others may write there; use chmod go-w /",
    for_a_group: "others may write there; use chmod go-w /",
    too_long: "File name too long",
}


@pytest.mark.parametrize("spoil", UNUSABLE, ids=lambda spoil: spoil.__name__)
def test_a_folder_that_cannot_be_used(compiles, home, spoil, caplog):
    """Nothing is kept there, nothing taken from there, and one line says why."""
    leaf = jit.cache_folder() / f"stamp-{jit.get_host_cpu_name()}"
    spoil(home, leaf)
    announced = []
    jit.listeners.append(lambda: announced.append(True))
    assert compiles("one")
    assert compiles("two")
    assert announced == [True]
    messages = {record.getMessage() for record in caplog.records}
    (message,) = messages
    assert re.search(rf"^compiled kernels cannot be kept in /.*stamp-.* \(({UNUSABLE[spoil]}).*\)$", message)
    assert home.is_file() or kept(home) == []


def test_planted_code_is_not_run(compiles, home):
    """A good file in a folder that has become another's."""
    compiles()
    (path,) = kept(home)
    path.parent.chmod(0o777)
    assert compiles()
    path.parent.chmod(0o700)
    assert not compiles()


@pytest.mark.parametrize("warm", [True, False])
def test_a_folder_that_is_read_only(compiles, home, warm, caplog):
    """What is there is read."""
    compiles("early" if warm else "warm-up")
    if not warm:
        shutil.rmtree(home / "accelnn")
    before = kept(home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        with unprivileged():
            assert compiles("early") is not warm
            assert compiles("late")
    finally:
        for path in folders:
            path.chmod(0o755)
    assert kept(home) == before
    messages = {record.getMessage() for record in caplog.records}
    assert all("compiled kernels cannot be kept in" in message for message in messages)
    assert len(messages) == 1


@pytest.mark.parametrize("size", [0, 100])
def test_a_disk_that_is_full(compiles, home, size, caplog):
    with largest_file(size):
        assert compiles()
        assert compiles()
    assert kept(home) == []
    assert {"compiled kernels cannot be kept in"} == {r.getMessage().partition(" /")[0] for r in caplog.records}
    assert "File too large" in caplog.text
    assert compiles()
    assert not compiles()


def test_a_folder_that_goes_away(compiles, home, monkeypatch):
    """Between its opening and the end of a compilation."""
    save = jit._TolerantCache.save_overload

    def late(cache, *arguments):
        shutil.rmtree(home)
        save(cache, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(jit._TolerantCache, "save_overload", late)
        assert compiles()
    assert not compiles()


def test_a_process_without_a_home(compiles, monkeypatch, caplog):
    """Of a user whom the system does not know, as in a container."""

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    assert compiles()
    assert "the user's cache folder (there is no home folder; set NUMBA_CACHE_DIR)" in caplog.text
    assert machine.kernel_cache() == {
        "folder": "none",
        "writable": False,
        "problem": "there is no home folder; set NUMBA_CACHE_DIR",
    }


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert jit.cache_folder() == tmp_path / ".cache" / "accelnn" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    assert jit.cache_folder() == tmp_path / "a" / "accelnn" / "kernels"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "b"))
    assert jit.cache_folder() == tmp_path / "b" / "accelnn"


def test_doctor_says_what_is_wrong_with_the_folder(home):
    assert machine.kernel_cache() == {"folder": str(jit.cache_folder()), "writable": True, "problem": None}
    jit.cache_folder().chmod(0o777)
    found = machine.kernel_cache()
    assert found["writable"] is False
    assert found["problem"] == f"others may write there; use chmod go-w {jit.cache_folder()}"


# Several processes.

RACE = """
import sys, time
import numpy as np
from pathlib import Path
from numba.core import event
from accelnn.kernels import jit

def add(a, b):
    return a + b

arguments = [np.dtype(name).type(3) for name in ("int32", "int64", "float32", "float64", "complex64", "complex128")]
ready, go = Path(sys.argv[1]) / sys.argv[2], Path(sys.argv[1]) / "go"
ready.touch()
while not go.exists():
    time.sleep(0.001)
with event.install_recorder("numba:run_pass") as recorder:
    function = jit.compiled_and_kept(add, "add", "stamp")
    order = np.random.default_rng(int(sys.argv[2])).permutation(len(arguments))
    for i in order:
        result = function(arguments[i], arguments[i])
        assert result == 6 and type(result) in (int, float, complex), result
        assert isinstance(result, complex) == (i > 3) and isinstance(result, int) == (i < 2)
print(len(recorder.buffer))
"""


def started(code, environment, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(processes):
    outputs = [process.communicate() for process in processes]
    for process, (_, wrong) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, wrong
        assert wrong == ""
    return [said for said, _ in outputs]


def cold(folder):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    environment.pop("NUMBA_CACHE_DIR", None)
    return environment


def test_eight_processes_with_one_kernel_of_six_signatures(tmp_path):
    """Each in an order of its own, all at once: none gets another signature's code, then or later."""
    environment, ready = cold(tmp_path / "cache"), tmp_path / "ready"
    ready.mkdir()
    processes = [started(RACE, environment, ready, number) for number in range(8)]
    while len(list(ready.iterdir())) < 8:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (ready / "go").touch()
    assert any(int(said) > 0 for said in finished(processes))
    assert len(kept(tmp_path / "cache")) == 6
    assert finished([started(RACE, environment, ready, 9)]) == ["0\n"]


PREDICT = """
import numpy as np
from accelnn import Network
net = Network([2, 3, 1], "tanh", backend="numba")
print(net.predict(np.random.default_rng(0).normal(size=(2, 20))).tobytes().hex())
"""


@pytest.mark.slow
def test_eight_processes_that_start_cold(tmp_path):
    """The whole of a prediction; and again on what they left, after every file was damaged in another way."""
    environment = cold(tmp_path)
    first, *others = finished([started(PREDICT, environment) for _ in range(8)])
    assert others == [first] * 7
    files = kept(tmp_path)
    assert not [path for path in files if ".tmp." in path.name]
    good = [path.read_bytes() for path in files]
    damages = [*DAMAGES.values()]
    for number, path in enumerate(files):
        path.write_bytes(damages[number % len(damages)](good[number]))
    process = started(PREDICT, environment)
    said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    assert said == first
    assert complaints.count("is damaged) and is compiled again") == len(files)
    assert finished([started(PREDICT, environment)]) == [first]
