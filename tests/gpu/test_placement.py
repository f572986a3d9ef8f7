"""Where data, networks and errors go: one GPU or another, the host where there is no room, other libraries' arrays."""

import gc
import pickle
import shutil
import weakref

import numpy as np
import pytest
from conftest import DTYPES, assert_same
from gpu import double
from gpu.machines import cp, data, network
from scipy import sparse

from accelnn import DataError, DeviceMemoryError, get_backend
from accelnn.backends.cupy import CupyBackend
from accelnn.backends.cupy.streaming import Stage

if shutil.which("g++") is None:
    pytest.skip("the emulator compiles kernels with g++, which is not installed", allow_module_level=True)


# Data that do not fit.


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [16, 25, 100])
def test_data_that_do_not_fit_arrive_batch_by_batch(machine, batch_size, shuffle, weighted):
    """Nothing but the place of the data differs: the same kernels on the same batches give the same bits."""
    sizes, m = (50, 8, 3), 100
    X, Y = data(sizes, m)
    w = np.random.default_rng(1).uniform(size=m) if weighted else None
    options = {"epochs": 4, "batch_size": batch_size, "shuffle": shuffle, "validation": (X[:, :10], Y[:, :10])}
    options |= {"sample_weight": w, "dropout": 0.2}
    results, copies = [], []
    for share in (1.0, 1e-9):
        backend = machine()
        if share != 1.0:
            backend.place = lambda *arrays: arrays
        net = network(backend, sizes)
        with double.counting() as counts:
            net.fit(X, Y, optimizer="adam", learning_rate=0.01, **options)
        results.append((backend.to_host(net.theta), net.predict(X)))
        assert (counts.kernels["gather"] > 0) == (share == 1.0 and batch_size < m)
        assert counts.default_stream == 0
        copies.append(counts.host_to_device)
    # X, Y and w of each step and epoch, instead of X, Y, w and the validation's once. A full batch stays.
    steps = 4 * -(-m // batch_size) if batch_size < m else 1
    assert copies[1] - copies[0] >= (2 + weighted) * (steps - 1) - 2
    assert copies[1] - copies[0] <= (2 + weighted) * steps + 2 * 4
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_streamed_data_are_neither_downloaded_nor_recorded_again(machine):
    """Of X and Y, either may have been on the device; a fit of many calls costs copies of its batches alone."""
    backend = machine()
    net = network(backend, (50, 8, 3))
    X, Y = (array.astype("float32") for array in data(net.sizes, 100))
    free = backend.place
    backend.place = lambda *arrays: tuple(backend.to_host(a) if backend.owns(a) else a for a in arrays)
    counts = {}
    for epochs in (5, 40):
        for place, array in {"host": Y, "device": backend.from_host(np.asfortranarray(Y))}.items():
            with double.counting() as counts[epochs, place]:
                net.fit(np.asfortranarray(X), array, epochs=epochs, batch_size=10)
    backend.place = free
    for epochs in (5, 40):
        host, device = (counts[epochs, place] for place in ("host", "device"))
        assert device.device_to_host - host.device_to_host <= 20  # none for each call of the 10 to 400 steps
    assert counts[40, "host"].kernels["update"] == 400


def test_a_step_that_fails_lets_no_copy_run_on(machine, monkeypatch):
    """The memory of a stage is let go only after the copy into it has ended."""
    backend = machine()
    backend.place = lambda *arrays: arrays
    net = network(backend, (50, 8, 3))
    X, Y = (np.asfortranarray(array, dtype="float32") for array in data(net.sizes, 100))
    waits = []
    synchronize = cp.cuda.Stream.synchronize
    monkeypatch.setattr(cp.cuda.Stream, "synchronize", lambda self: (waits.append(self), synchronize(self)))

    def fail(*_):
        waits.clear()
        raise KeyboardInterrupt

    monkeypatch.setattr(CupyBackend, "_step", fail)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=2, batch_size=10)
    assert any(stream != backend._stream for stream in waits)


def test_a_fit_lets_its_memory_go_at_once(cupy):
    """Not when Python next looks for circles: the data may be all that a device holds."""
    net = network(cupy, (4, 8, 2))
    X, Y = net.check(*data(net.sizes, 40))
    kept = weakref.ref(X)
    gc.disable()
    try:
        net.fit(X, Y, epochs=2, batch_size=16)
        del X, Y
        assert kept() is None
    finally:
        gc.enable()


def test_large_data_stay_on_the_host_and_say_so(machine, caplog):
    backend = machine(memory=2**20)
    X = np.zeros((1000, 300), dtype=np.float32).T  # 1.1 MiB
    net = network(backend, (300, 4, 1))
    with caplog.at_level("INFO", logger="accelnn"):
        net.fit(X, np.zeros(1000), epochs=1, batch_size=50)
    assert "of data stay on the host" in caplog.text
    assert backend.to_host(net.theta).shape == net.theta.shape


# A sparse X.


def sparse_data(sizes, m, density=0.1):
    """Examples of very different numbers of entries, the first and the last of them without any."""
    X, Y = data(sizes, m)
    rng = np.random.default_rng(1)
    X = np.where(rng.uniform(size=X.shape) < density * rng.uniform(0, 2, size=m), X, 0)
    X[:, [0, -1]] = 0
    return sparse.csc_array(X), Y


@pytest.mark.parametrize("batch_size", [16, 25, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sparse_x_gives_the_results_of_the_dense_one(cupy, dtype, batch_size):
    sizes, w = (50, 8, 3), np.random.default_rng(2).uniform(size=100)
    X, Y = sparse_data(sizes, 100)
    options = {"epochs": 3, "batch_size": batch_size, "sample_weight": w, "dropout": 0.2, "l2": 0.1}
    results = []
    for given in (X, X.toarray()):
        net = network(cupy, sizes, dtype)
        history = net.fit(given, Y, "adam", 0.01, validation=(given, Y, w), **options)
        J, d = net.loss_and_gradient(given, Y, l2=0.1, sample_weight=w)
        losses = history.loss, history.validation_loss
        results.append((*losses, net.predict(given), J, cupy.to_host(d), cupy.to_host(net.theta)))
    for what, actual, expected in zip(("loss", "validation", "A", "J", "dtheta", "theta"), *results, strict=True):
        assert_same(actual, expected, dtype, what)


def test_a_sparse_x_is_never_made_dense(machine, monkeypatch):
    """Not on the host, and not on a device that has no room for the zeros of one batch."""
    backend = machine(memory=2**21)
    net = network(backend, (3000, 4, 1))
    rng = np.random.default_rng(0)
    X = sparse.random_array((3000, 2000), density=0.002, format="csc", rng=rng, dtype="float32")
    assert 500 * 3000 * 4 > 2 * 2**21
    for kind in (sparse.csc_array, sparse.csr_array):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, None)
    Y = np.ones(2000)
    net.fit(X, Y, epochs=2, batch_size=500, validation=(X[:, :700], Y[:700]))
    assert net.predict(X).shape == (1, 2000)


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array", "int64 places", "integers", "no entries"])
def test_sparse_formats(cupy, kind):
    X, Y = sparse_data((50, 8, 3), 40)
    if kind == "int64 places":
        given = X.copy()
        given.indices, given.indptr = given.indices.astype("int64"), given.indptr.astype("int64")
    elif kind == "integers":
        X = given = (X * 3).astype("int32")
    elif kind == "no entries":
        X = given = sparse.csc_array(X.shape, dtype="float64")
    else:
        given = getattr(sparse, kind)(X)
    results = []
    for array in (given, X.toarray()):
        net = network(cupy, (50, 8, 3), "float64")
        net.fit(array, Y, epochs=2, batch_size=16)
        results.append((cupy.to_host(net.theta), net.predict(array)))
    for actual, expected in zip(*results, strict=True):
        assert_same(actual, expected, "float64", kind)


def test_a_sparse_x_and_targets_on_the_device(cupy):
    """Batches come from the host, so the targets go there."""
    X, Y = sparse_data((50, 8, 3), 40)
    Y = np.asfortranarray(Y, dtype="float32")
    results = []
    for targets in (Y, cp.asarray(Y)):
        net = network(cupy, (50, 8, 3))
        history = net.fit(X, targets, epochs=2, batch_size=16)
        results.append((cupy.to_host(net.theta), history.loss, net.loss_and_gradient(X, targets)[0]))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_same_sparse_training_gives_the_same_bits(cupy):
    X, Y = sparse_data((50, 33, 3), 100)

    def theta():
        net = network(cupy, (50, 33, 3))
        net.fit(X, Y, epochs=3, batch_size=64, clip_norm=0.1, l2=0.1)
        return cupy.to_host(net.theta)

    np.testing.assert_array_equal(theta(), theta())


def test_a_stage_holds_the_fullest_examples(cupy):
    """The largest batch is the one of the examples with the most entries, wherever they are."""
    counts = np.array([3, 0, 9, 1, 7, 2])
    X = sparse.csc_array(np.where(np.arange(10)[:, None] < counts, 1.0, 0.0))
    with cupy.context():
        stage = Stage(cp, [X], 3)
        for chosen in ([2, 4, 0], [4, 2], [1, 3, 5]):
            stage.fill(np.array(chosen), cp.cuda.get_current_stream())
            batch = stage.device[0]
            assert batch.shape == (10, 3)
            parts = (batch.by_example, len(chosen), X[:, chosen].T.tocsr()), (batch.by_input, 10, X[:, chosen].tocsr())
            for rows, lines, expected in parts:
                assert rows.values.shape == rows.places.shape == (19,)
                np.testing.assert_array_equal(cp.asnumpy(rows.starts[: lines + 1]), expected.indptr)
                np.testing.assert_array_equal(cp.asnumpy(rows.places[: expected.nnz]), expected.indices)
                np.testing.assert_array_equal(cp.asnumpy(rows.values[: expected.nnz]), expected.data)


# Out of memory.


def test_no_room_names_the_sizes_and_leaves_the_network_usable(machine):
    backend = machine(memory=2**20)
    net = network(backend, (4, 8, 1))
    X, Y = data(net.sizes, 40)
    before = backend.to_host(net.theta)
    big = np.zeros((20_000, 4), dtype=np.float32).T
    with pytest.raises(
        DeviceMemoryError, match=r"GPU 0 has no room: .*[\d,]+ bytes.*it has 0\.00 GiB.*batch_size"
    ) as caught:
        net.fit(big, np.zeros(20_000))
    assert isinstance(caught.value, MemoryError)
    np.testing.assert_array_equal(backend.to_host(net.theta), before)
    assert cp.get_default_memory_pool().free_bytes() == 0
    net.fit(X, Y, epochs=2)
    assert np.isfinite(net.predict(X)).all()


# Devices.


def test_device_picks_the_gpu(machine):
    backend = machine(1, devices=2)
    net = network(backend, (4, 8, 1))
    X, Y = data(net.sizes, 40)
    net.fit(X, Y, epochs=2, batch_size=16)
    assert net.theta.device.id == 1 == backend.device
    assert "GPU 1" in net.plan().device
    assert net.predict(X).shape == (1, 40)


def test_a_pickled_network_comes_back_to_its_gpu(machine, monkeypatch):
    backend = machine(1, devices=2)
    net = network(backend, (4, 8, 1))
    content = pickle.dumps(net)
    monkeypatch.setattr("accelnn.network.get_backend", lambda name, threads, device: backend)
    copy = pickle.loads(content)
    assert copy.theta.device.id == 1
    X, _ = data(net.sizes, 5)
    np.testing.assert_array_equal(copy.predict(X), net.predict(X))


def test_a_gpu_by_its_number(cupy_by_name):
    """By name there is one backend for each GPU; the default is the current one."""
    with double.configured(devices=2), cp.cuda.Device(1):
        assert get_backend("cupy").device == 1
        assert get_backend("cupy") is get_backend("cupy", device=1)
        assert get_backend("cupy", device=0).device == 0
        with pytest.raises(DataError, match="device: there is no GPU 2; this machine has 2, counted from 0"):
            get_backend("cupy", device=2)


def test_an_array_on_another_gpu_is_refused_with_the_line_that_moves_it(machine):
    backend = machine(1, devices=2)
    net = network(backend, (4, 8, 1))
    with cp.cuda.Device(0):
        X = cp.zeros((40, 4), dtype="float32").T
    line = r"with cupy.cuda.Device\(1\): X = cupy.asarray\(X\)"
    with pytest.raises(DataError, match=rf"X: lives on GPU 0, but the backend computes on GPU 1; move it: {line}"):
        net.predict(X)
    with pytest.raises(DataError, match="Y: lives on GPU 0"):
        net.fit(np.zeros((4, 40)), X)


def test_device_arrays_are_refused_by_backends_of_the_host(cupy):
    X = cp.zeros((40, 4), dtype="float32").T
    for name in ("numpy", "numba"):
        with pytest.raises(DataError, match=r"X: lives on a GPU.*cupy.asnumpy\(X\)"):
            network(get_backend(name), (4, 8, 1)).predict(X)


def test_a_network_is_pickled_through_the_host(cupy, monkeypatch):
    net = network(cupy, (4, 8, 2))
    X, _ = data(net.sizes, 10)
    content = pickle.dumps(net)
    monkeypatch.setattr(
        "accelnn.network.get_backend", lambda name, threads, device: (name, device) == ("cupy", 0) and cupy
    )
    copy = pickle.loads(content)
    np.testing.assert_array_equal(copy.predict(X), net.predict(X))
    copy.theta[...] = 0.0
    assert np.abs(net.predict(X)).max() > 0


# Arrays of other libraries.


class Foreign:
    """Another library's array on a device, with one of the two protocols."""

    def __init__(self, array, protocol):
        if protocol == "dlpack":
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__
        else:
            self.__cuda_array_interface__ = array.__cuda_array_interface__
        self.array = array


@pytest.mark.parametrize("protocol", ["cupy", "dlpack", "__cuda_array_interface__"])
def test_device_arrays_in_device_arrays_out(cupy, protocol):
    net = network(cupy, (4, 8, 2))
    X, Y = (array.astype("float32") for array in data(net.sizes, 40))
    expected = net.predict(X)
    device_X, device_Y = (cp.asarray(np.asfortranarray(array)) for array in (X, Y))
    if protocol != "cupy":
        device_X, device_Y = Foreign(device_X, protocol), Foreign(device_Y, protocol)
    with double.counting() as counts:
        A = net.predict(device_X)
    assert isinstance(A, cp.ndarray)
    assert counts.host_to_device == 0
    assert isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(cp.asnumpy(A), expected)
    net.fit(device_X, device_Y, epochs=2, batch_size=16)
    other = network(cupy, (4, 8, 2))
    other.fit(X, Y, epochs=2, batch_size=16)
    np.testing.assert_array_equal(cupy.to_host(net.theta), cupy.to_host(other.theta))


def test_rows_in_another_order_are_put_in_order(cupy):
    """A C-ordered (n_0, m) device array has no contiguous columns."""
    net = network(cupy, (4, 8, 2))
    X, _ = data(net.sizes, 40)
    X = np.ascontiguousarray(X, dtype="float32")
    np.testing.assert_array_equal(cp.asnumpy(net.predict(cp.asarray(X))), net.predict(X))


def test_the_results_of_a_fit_are_there_for_the_users_stream(cupy):
    """theta is used on the default stream right after, and changed there right before."""
    net = network(cupy, (4, 8, 2))
    X, Y = data(net.sizes, 40)
    net.fit(X, Y, epochs=1)
    net.theta[...] = net.theta + net.theta
    net.fit(X, Y, epochs=1)
    stream = cp.cuda.Stream(non_blocking=True)
    stream.wait_event(cp.cuda.get_current_stream().record())
    with stream:
        net.theta[...] = net.theta + net.theta
        net.fit(X, Y, epochs=1)
        assert isinstance(net.theta * 2.0, cp.ndarray)


def test_what_another_library_will_not_share(cupy):
    class Refusing:
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, **_):
            raise BufferError("it requires a gradient")

    with pytest.raises(DataError, match=r"X: cannot be shared with CuPy \(it requires a gradient\)"):
        network(cupy, (4, 8, 2)).predict(Refusing())


def test_numbers_that_do_not_fit_float32(cupy):
    net = network(cupy, (4, 8, 2))
    with pytest.raises(DataError, match="does not fit float32"):
        net.predict(cp.full((3, 4), 1e300, dtype="float64").T)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_numbers_on_the_device_are_named(cupy, where, value):
    net = network(cupy, (4, 8, 2))
    X, Y = (np.asfortranarray(array, dtype="float32") for array in data(net.sizes, 40))
    example = {"first": 0, "middle": 20, "last": 39}[where]
    X[2, example] = value
    with pytest.raises(DataError, match=rf"X: X\[2, {example}\] \(example {example}\) is {value}"):
        net.fit(cp.asarray(X), cp.asarray(Y))
