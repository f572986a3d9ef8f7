"""Threads of the numba backend: the same results for any number of them, no allocation in a step, nothing left over."""

import functools
import multiprocessing
import os
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import DTYPES, TOLERANCE, difference
from numba.core.runtime import _nrt_python, rtsys

from accelnn import DataError, Network, get_backend, training
from accelnn.activations import HIDDEN
from accelnn.backends.numba import NumbaBackend, teamwork
from accelnn.backends.numba import backend as numba_backend
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES
from accelnn.threads import VARIABLES, thread_count

# Few parameters: each member keeps a gradient. Many: the members share one.
NARROW, WIDE = (20, 33, 7, 3), (70, 400, 300, 3)


pytestmark = pytest.mark.usefixtures("teams")


def trained(threads, sizes=NARROW, m=103, batch_size=40, dtype="float64", output="softmax", hidden="tanh", **options):
    rng = np.random.default_rng(1)
    X, Y = rng.uniform(-1, 1, size=(sizes[0], m)), rng.integers(sizes[-1], size=m)
    if output != "softmax":
        Y = rng.uniform(0, 1, size=(sizes[-1], m))
    net = Network(sizes, hidden, output, options.pop("loss", None), dtype=dtype, backend="numba", threads=threads)
    given = {"epochs": 3, "learning_rate": 1e-3, "l2": 0.1, "clip_norm": 0.5} | options
    history = net.fit(X, Y, batch_size=batch_size, **given)
    J, dtheta = net.loss_and_gradient(X, Y, l2=0.1)
    return net, (net.theta, history.loss, net.predict(X), J, dtheta)


def assert_equal_to_one_thread(threads, dtype="float64", **options):
    _, alone = trained(1, dtype=dtype, **options)
    _, together = trained(threads, dtype=dtype, **options)
    for one, many in zip(alone, together, strict=True):
        assert difference(many, one) <= TOLERANCE[dtype]


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_gives_the_same(threads, sizes):
    assert_equal_to_one_thread(threads, sizes=sizes)
    assert_equal_to_one_thread(threads, sizes=sizes, shuffle=False, batch_size=None, l2=0.0, clip_norm=None)


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
def test_more_threads_than_examples(sizes):
    """Batches of 3 and a last one of 1 for a team of four: some members have no example."""
    assert_equal_to_one_thread(4, sizes=sizes, m=7, batch_size=3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(RULES))
def test_every_optimiser(name, dtype):
    assert_equal_to_one_thread(2, dtype, optimizer=name)


@pytest.mark.parametrize("name", HIDDEN)
def test_every_activation(name):
    assert_equal_to_one_thread(2, hidden=name)
    assert_equal_to_one_thread(2, hidden=name, sizes=WIDE)


@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_every_loss(loss, output):
    assert_equal_to_one_thread(2, output=output, loss=loss)


@pytest.mark.parametrize("block", [1, 8, 30])
def test_a_share_in_several_passes(block, monkeypatch):
    """The passes over a share add up: to the gradient, the penalty and J."""
    _, whole = trained(2)
    create = teamwork.Team.__init__

    def in_small_blocks(self, *arguments):
        create(self, *arguments)
        for member in (*self.members, self.alone):
            member[1][teamwork.team.BLOCK] = min(block, member[1][teamwork.team.BLOCK])

    monkeypatch.setattr(teamwork.Team, "__init__", in_small_blocks)
    monkeypatch.setattr(training._Memory, "_spare", [])
    _, parts = trained(2)
    for one, many in zip(whole, parts, strict=True):
        assert difference(many, one) <= TOLERANCE["float64"]


def test_the_team_has_the_members_that_were_asked_for():
    layout = Network([4, 3], backend="numba").layout
    for threads in (1, 2, 3):
        assert NumbaBackend(threads).workspace(layout, 100, "float32").size == threads
    assert NumbaBackend(8).workspace(layout, 5, "float32").size == 5


def test_little_work_is_left_to_one_thread(monkeypatch):
    monkeypatch.undo()
    layout = Network([4, 3], backend="numba").layout
    assert NumbaBackend(2).workspace(layout, 10, "float32").size == 1
    layout = Network([300, 300], backend="numba").layout
    assert [NumbaBackend(2).workspace(layout, m, "float32").size for m in (12, 24)] == [1, 2]


def test_short_calls_are_left_to_one_thread(monkeypatch):
    """A run that is looked at after each epoch of a few small steps would start its threads again and again."""
    monkeypatch.undo()
    layout = Network([64, 100, 10], backend="numba").layout
    assert [NumbaBackend(2).workspace(layout, 200, "float32", steps).size for steps in (7, 700, None)] == [1, 2, 2]


def test_one_run_repeats_to_the_bit():
    for sizes in (NARROW, WIDE):
        np.testing.assert_array_equal(trained(3, sizes=sizes)[0].theta, trained(3, sizes=sizes)[0].theta)


def test_two_models_in_two_threads_train_as_alone():
    alone = {sizes: trained(2, sizes=sizes, epochs=20)[0].theta for sizes in (NARROW, WIDE)}
    found = {}

    def train(sizes):
        found[sizes] = trained(2, sizes=sizes, epochs=20)[0].theta

    threads = [threading.Thread(target=train, args=(sizes,)) for sizes in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sizes, theta in alone.items():
        np.testing.assert_array_equal(found[sizes], theta)


def test_two_predictions_at_once_do_not_share_memory():
    net, _ = trained(2)
    inputs = [np.full((20, 50), value, dtype="float64") for value in (-1.0, 1.0)]
    expected = [net.predict(X) for X in inputs]
    wrong = []

    def repeat(X, A):
        wrong.extend(k for k in range(200) if not np.array_equal(net.predict(X), A))

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
def test_steps_allocate_nothing(sizes):
    """By Numba's own count and by Python's: 200 steps more take no memory more."""
    backend = NumbaBackend(2)
    net = Network(sizes, "gelu", "softmax", backend=backend)
    rng = np.random.default_rng(0)
    X = np.asfortranarray(rng.normal(size=(sizes[0], 64)).astype("float32"))
    Y = np.asfortranarray(np.eye(3, dtype="float32")[rng.integers(3, size=64)].T)
    n, steps = net.theta.size, 400
    arguments = (
        X, Y, np.empty((0, 64), "float32"), net.theta, np.zeros(n, "float32"), np.zeros((2, n), "float32"),
        backend.layout(net.layout),
        backend.activations(["gelu", "gelu", "identity"], "float32"),
        backend.loss(net.loss_entry, "float32"),
        backend.rule("adam", "float32"), 0.1, 0.5, None, backend.workspace(net.layout, 32, "float32"),
        np.stack([rng.permutation(64) for _ in range(steps // 2)]), 32,
        backend.coefficients(np.full((steps, 7), 0.5), "float32"), np.zeros(steps),
    )  # fmt: skip

    _nrt_python.memsys_enable_stats()

    def taken(first, last):
        before = rtsys.get_allocation_stats()
        tracemalloc.start()
        backend.train(*arguments, first, last)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        after = rtsys.get_allocation_stats()
        return after.alloc - before.alloc, after.mi_alloc - before.mi_alloc, peak

    taken(0, 4)
    few, many = taken(4, 8), taken(8, steps)
    assert many[:2] == few[:2]
    assert many[2] < few[2] + 4096


def test_threads_must_be_a_whole_number():
    for bad in (0, -1, 1.5, True, "two"):
        with pytest.raises(DataError, match=r"^threads: "):
            Network([2, 1], backend="numba", threads=bad)


def test_a_copy_keeps_its_threads():
    import pickle

    net = pickle.loads(pickle.dumps(Network([2, 1], backend="numba", threads=3)))
    assert net.backend is get_backend("numba", threads=3)
    assert net.backend.threads == 3


@pytest.fixture
def many_processors(monkeypatch):
    monkeypatch.setattr("accelnn.threads._processors", lambda: 16)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("many_processors")
def test_the_environment_says_how_many(monkeypatch):
    assert thread_count() == 16
    for name, value in zip(reversed(VARIABLES), ("2", "3", "4,2", "5", "6"), strict=True):
        monkeypatch.setenv(name, value)
        assert thread_count() == int(value[0])
    monkeypatch.setenv(VARIABLES[0], "99")
    assert thread_count() == 16
    assert thread_count(20) == 20


@pytest.mark.usefixtures("many_processors")
@pytest.mark.parametrize("bad", ["0", "-2", "many", "1.5"])
def test_a_bad_number_in_the_environment_is_named(bad, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", bad)
    with pytest.raises(DataError, match=r"^OMP_NUM_THREADS: "):
        thread_count()


@pytest.mark.usefixtures("many_processors")
def test_a_task_of_joblibs_threads_has_one():
    from joblib import Parallel, delayed

    assert Parallel(n_jobs=2, backend="threading")(delayed(thread_count)() for _ in range(2)) == [1, 1]
    assert thread_count() == 16


def _train_and_send(connection):
    connection.send(trained(2)[0].theta)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks only exist on Unix")
# From Python 3.12 on, a fork warns where any thread runs; that a fork is safe is what is tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # from JAX, where an earlier test loaded it
def test_a_forked_child_trains():
    expected = trained(2)[0].theta
    receiver, sender = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_train_and_send, args=(sender,))
    child.start()
    try:
        assert receiver.poll(60), "the child hangs"
        np.testing.assert_array_equal(receiver.recv(), expected)
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupt_before_everybody_is_there_dissolves_the_team(at, monkeypatch):
    """The threads that wait for a member that never comes go home, and theta is untouched."""
    start, begun = threading.Thread.start, []

    def interrupted(thread):
        begun.append(thread)
        if len(begun) == at:
            raise KeyboardInterrupt
        start(thread)

    trained(3)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    net = Network(NARROW, backend="numba", threads=3, output="softmax")
    before = net.theta.copy()
    with pytest.raises(KeyboardInterrupt):
        net.fit(np.ones((20, 30)), np.zeros(30, int), epochs=1)
    monkeypatch.undo()
    np.testing.assert_array_equal(net.theta, before)
    assert all(not thread.is_alive() for thread in begun)


@pytest.mark.slow
def test_ctrl_c_ends_a_long_run_soon():
    net = Network([50, 60, 3], backend="numba", threads=2, output="softmax")
    X, Y = np.ones((50, 500)), np.zeros(500, int)
    net.fit(X, Y, epochs=2)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=10**6)
    assert net.epochs_trained < 10**6
    assert np.all(np.isfinite(net.theta))


def test_a_later_run_takes_the_memory_of_the_one_before():
    """Runs of the same kind find their memory; what the first left in it changes nothing."""
    first = trained(2)
    (kept,) = training._Memory._spare
    again = trained(2)
    assert training._Memory._spare == [kept]
    for one, other in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_much_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(training, "SPARE_BYTES", 1000)
    trained(2)
    assert not training._Memory._spare


def test_two_threads_that_need_an_activation_first_both_keep_its_kernels(monkeypatch):
    """The cache calls the function in both, and forgets what the first one made; compiled code holds its address."""

    def slow(*arguments, **formulas):
        time.sleep(0.05)
        return 12345

    monkeypatch.setattr(numba_backend, "_kernel", slow)
    monkeypatch.setattr(numba_backend, "_activation", functools.cache(numba_backend._activation.__wrapped__))
    found = []
    backend = get_backend("numba")
    threads = [threading.Thread(target=lambda: found.append(backend.activations(["tanh"], "float64"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alive = {pair.ctypes.data for pair in numba_backend._pairs}
    assert {int(g[1]) for g in found} <= alive
