"""Training on data that is never all in memory: the same numbers as in memory, window by window."""

import itertools
import threading
import time

import numpy as np
import pytest
from conftest import data, host, make
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from accelnn import Checkpoint, DataError, Network, Stream
from accelnn.streaming import StreamFeed

OPTIONS = {"batch_size": 8, "optimizer": "adam", "learning_rate": 0.01}
WEIGHTS = np.linspace(0.5, 2.0, 50)
ROW = 8 * 5  # bytes of an example of `data`, in double precision


def in_memory(net, X, Y, feed, epochs, weights=None, **options):
    """The same training with all examples in memory, in the order of a stream."""
    losses = []
    for epoch in range(epochs):
        order = feed.order(epoch)
        w = None if weights is None else weights[order]
        history = net.fit(
            X[:, order], Y[..., order], shuffle=False, resume=epoch > 0, sample_weight=w, epochs=1, **OPTIONS | options
        )
        losses += history.loss
    return losses


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_a_stream_gives_the_bits_of_memory(backend, weights):
    X, Y = data()
    stream = Stream(X, Y, weights, memory=2 * 20 * (ROW + 8), piece=3)
    net, twin = make(backend), make(backend)
    feed = StreamFeed(stream, net, 8, True)
    assert (feed.window, feed.piece) == (16 if weights is not None else 24, 3)
    history = net.fit(stream, epochs=3, dropout=0.25, l2=0.1, **OPTIONS)
    losses = in_memory(twin, X, Y, feed, 3, weights, dropout=0.25, l2=0.1)
    np.testing.assert_array_equal(host(net.theta), host(twin.theta))
    assert history.loss == losses
    assert net.epochs_trained == 3
    assert net.steps_trained == net.optimizer_state.step == 21


@given(
    m=st.integers(1, 90),
    window=st.integers(1, 40),
    size=st.integers(1, 40),
    piece=st.integers(1, 50),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_every_epoch_sees_every_example_once(m, window, size, piece, shuffle, epoch):
    net = make("numpy")
    X, Y = data(m)
    size = min(size, m, window)
    feed = StreamFeed(Stream(X, Y, memory=2 * window * ROW, piece=piece), net, size, shuffle)
    assert feed.window % size == 0
    assert feed.window <= max(window, m + size)
    order = feed.order(epoch)
    assert sorted(order) == list(range(m))
    assert shuffle or list(order) == list(range(m))
    seen = []
    for part in feed.parts(epoch, 1, 0):
        columns = part.arrays[0].copy()
        seen.append(columns[:, part.order[0]] if part.order.shape[1] else columns)
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), X[:, order])


def test_epochs_and_seeds_have_orders_of_their_own():
    X, Y = data()
    orders = [
        StreamFeed(Stream(X, Y, piece=3), make("numpy", seed=s), 8, True).order(e) for s in (0, 1) for e in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


def batches_of(X, Y, sizes, w=None):
    edges = np.cumsum([0, *sizes])
    for start, stop in itertools.pairwise(edges):
        part = X[:, start:stop], Y[:, start:stop]
        yield part if w is None else (*part, w[start:stop])


@pytest.mark.parametrize("w", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("examples", [None, 50])
def test_an_iterator_gives_the_bits_of_memory(backend, w, examples):
    X, Y = data()
    stream = Stream.from_batches(lambda: batches_of(X, Y, [7, 1, 30, 12], w), examples, memory=2 * 24 * (ROW + 8))
    net, twin = make(backend), make(backend)
    net.fit(stream, epochs=2, **OPTIONS)
    feed = StreamFeed(stream, twin, 8, True)
    in_memory(twin, X, Y, feed, 2, w)
    np.testing.assert_array_equal(host(net.theta), host(twin.theta))


def test_class_numbers_and_a_reader():
    X, _ = data()
    labels = np.arange(50) % 3
    read = lambda start, stop: (X[:, start:stop].astype(np.float32), labels[start:stop])  # noqa: E731
    net, twin = (Network([3, 4, 3], output="softmax", backend="numpy") for _ in range(2))
    net.fit(Stream.from_reader(read, 50, memory=2000), shuffle=False, epochs=2, batch_size=10)
    twin.fit(X, labels, shuffle=False, epochs=2, batch_size=10)
    np.testing.assert_array_equal(net.theta, twin.theta)


def test_a_memory_map_is_read_in_another_thread_and_never_as_a_whole(tmp_path):
    X, Y = data(400)
    np.save(tmp_path / "X.npy", X.T)
    rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    most, threads = [], set()

    def read(start, stop):
        most.append(stop - start)
        threads.add(threading.current_thread().name)
        return rows[start:stop].T, Y[:, start:stop]

    net = make("numpy")
    net.fit(Stream.from_reader(read, 400, memory=2 * 50 * ROW, piece=20), batch_size=10, epochs=2)
    assert max(most) <= 20
    assert all(name.startswith("accelnn-reader") for name in threads)
    assert threading.active_count() == len([t for t in threading.enumerate() if "accelnn-reader" not in t.name])
    twin = make("numpy")
    twin.fit(Stream(rows.T, Y, memory=2 * 50 * ROW, piece=20), batch_size=10, epochs=2)
    np.testing.assert_array_equal(net.theta, twin.theta)


@pytest.mark.parametrize("kind", ["arrays", "batches"])
def test_a_streamed_training_goes_on_within_an_epoch(backend, kind, tmp_path):
    from test_checkpoints import Killed, Stop

    X, Y = data()

    def stream():
        if kind == "arrays":
            return Stream(X, Y, memory=2 * 16 * ROW, piece=3)
        return Stream.from_batches(lambda: batches_of(X, Y, [20, 30]), memory=2 * 16 * ROW)

    whole, net = make(backend), make(backend)
    whole.fit(stream(), epochs=4, **OPTIONS)
    with pytest.raises(Killed):
        net.fit(stream(), epochs=4, callbacks=[Checkpoint(tmp_path, every=1, keep=50), Stop(12, Killed)], **OPTIONS)
    assert len(net.optimizer_state.losses) == 12 - 7
    path = tmp_path / f"step-{11:012d}.safetensors"
    again = make(backend)
    again.fit(stream(), epochs=4, resume=path, **OPTIONS)
    np.testing.assert_array_equal(host(again.theta), host(whole.theta))


# What cannot be used.


def fault(X, Y=None, **options):
    net = make("numpy")
    before = host(net.theta)
    with pytest.raises(DataError) as problem:
        net.fit(X, Y, **{"batch_size": 8, "epochs": 2} | options)
    np.testing.assert_array_equal(net.theta, before)
    assert net.epochs_trained == 0
    return str(problem.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 23, 49])
@pytest.mark.parametrize("which", ["X", "Y"])
def test_a_number_that_is_none_is_found_where_it_is_read(which, place, value):
    X, Y = data()
    {"X": X, "Y": Y}[which][1, place] = value
    text = fault(Stream(X, Y, memory=2 * 16 * ROW, piece=10), shuffle=False)
    start = place // 10 * 10
    start = max(start, place // 16 * 16)  # a window cuts a piece
    assert text.startswith(f"{which}: {which}[1, {place - start}]")
    assert text.endswith(f"(counted from example {start} of the stream on)")


def test_what_a_stream_cannot_be():
    X, Y = data()
    stream = Stream(X, Y)
    assert fault(stream, Y) == "Y: a Stream brings its targets and weights with it; leave Y and sample_weight out"
    assert fault(stream, batch_size=None).startswith("batch_size: a Stream is trained on batch by batch")
    assert fault(X).startswith("Y: is missing")
    assert fault(Stream(X, Y, memory=100)).startswith("memory: 100 bytes do not hold two windows of one batch of 8")
    assert fault(Stream(X, Y, np.zeros(50))).startswith("sample_weight: every weight is zero")
    assert fault(Stream(X, Y, np.arange(50.0))).startswith("sample_weight: a weight is 0")
    assert "expected (3, m)" in fault(Stream(X[:2], Y))
    for arguments, text in (
        ((X.T, Y), "Y: has shape (2, 50), but X has 3 examples as columns"),
        ((X[0], Y), "X: give an array of two dimensions"),
        (([[1.0]], Y), "X: give an array of two dimensions"),
    ):
        with pytest.raises(DataError) as problem:
            Stream(*arguments)
        assert str(problem.value).startswith(text)
    for options in ({"memory": 0}, {"piece": 0}):
        with pytest.raises(DataError, match="is not a whole number of at least 1"):
            Stream(X, Y, **options)


def test_batches_that_are_not_what_was_said():
    X, Y = data()
    with pytest.raises(DataError, match="batches: can be iterated once only"):
        Stream.from_batches(batches_of(X, Y, [50]))
    several = Stream.from_batches
    weighted = several(lambda: batches_of(X, Y, [50], np.ones(50)), 60)
    assert "examples: 60 were said to come, but there are 50" in fault(weighted)
    assert "gave more than 40 examples" in fault(several(lambda: batches_of(X, Y, [50]), 40))
    assert "ended after 50 examples in this epoch; there should be 60" in fault(
        several(lambda: batches_of(X, Y, [50]), 60)
    )
    assert "batches: there is none" in fault(several(list))
    assert "batches: number 0 is no pair" in fault(several(lambda: [X]))
    assert "batches: number 1 has X of shape (3, 50)" in fault(several(lambda: [(X, Y), (X, Y[:, :9])]))
    assert "some have weights" in fault(several(lambda: [(X, Y), (X, Y, np.ones(50))]))


def test_weights_that_come_and_go_are_found():
    X, Y = data()
    for first, then in ((np.ones(50), None), (None, np.ones(50))):
        passes = []

        def start(first=first, then=then, passes=passes):
            passes.append(1)
            return batches_of(X, Y, [50], first if len(passes) == 1 else then)

        assert "some have weights and others have none" in fault(Stream.from_batches(start))


def test_one_thread_at_a_time_reads_also_for_checkpoints(tmp_path):
    X, Y = data()
    inside, most = [], []

    def read(start, stop):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return X[:, start:stop], Y[:, start:stop]

    stream = Stream.from_reader(read, 50, memory=2 * 16 * ROW, piece=2)
    make("numpy").fit(stream, epochs=3, callbacks=[Checkpoint(tmp_path, every=1)], **OPTIONS)
    assert max(most) == 1


def test_odd_arguments():
    X, Y = data()
    with pytest.raises(DataError, match="is sparse, which a Stream cannot be"):
        Stream(sparse.csc_array(X), Y)
    for y in (np.float64(1.0), 3.0):
        with pytest.raises(DataError, match=r"Y: has shape \(\)"):
            Stream(X, y)
    empty = (X[:, :0], Y[:, :0])
    net, twin = make("numpy"), make("numpy")
    net.fit(Stream.from_batches(lambda: [empty, (X, Y), empty]), batch_size=8, epochs=2)
    twin.fit(Stream.from_batches(lambda: [(X, Y)]), batch_size=8, epochs=2)
    np.testing.assert_array_equal(net.theta, twin.theta)
    calls = []
    Stream.from_batches(lambda: calls.append(1) or [(X, Y)])
    assert not calls


def test_a_reader_that_fails_or_gives_something_else():
    X, Y = data()

    def broken(start, stop):
        raise OSError("the disk is gone")

    net = make("numpy")
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(Stream.from_reader(broken, 50), batch_size=8)
    assert "where 50 were to come" in fault(Stream.from_reader(lambda a, b: (X[:, :9], Y[:, :9]), 50))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("accelnn-reader")]
