"""How the cupy backend uses a GPU, seen through the device double: a step's cost, where data lie, what is refused."""

import contextlib
import itertools
import pickle
import shutil

import numpy as np
import pytest
from conftest import DTYPES, assert_same
from gpu import double

from accelnn import DataError, DeviceMemoryError, Network, Optimizer, get_backend
from accelnn.backends.cupy import backend as cupy_module
from accelnn.backends.cupy import memory

if shutil.which("g++") is None:
    pytest.skip("the emulator compiles kernels with g++, which is not installed", allow_module_level=True)

cp = double.MODULES["cupy"]


@pytest.fixture
def machine():
    """Plug in devices, and get a backend on one of them."""
    with contextlib.ExitStack() as plugged:

        def plug_in(device=None, **options):
            plugged.enter_context(double.configured(**options))
            with double.installed():
                return cupy_module.CupyBackend(device)

        yield plug_in


@pytest.fixture
def cupy(machine):
    return machine()


def data(sizes, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, sizes[0])).T, rng.normal(size=(m, sizes[-1])).T


def network(backend, sizes, dtype="float32", activations="tanh"):
    return Network(sizes, activations, "identity", dtype=dtype, backend=backend)


NARROW = [(7, 3), (20, 30, 1), (5, 33, 33, 2), (4, 8, 8, 8, 8, 3)]
WIDE = [(600, 520), (600, 600, 520), (513, 600, 520, 512, 3), (600, 520, 40, 3), (9, 600, 8, 3)]


def count_steps(net, m, batch_size, **options):
    """How many steps the last call of a fit makes, and what they do."""
    backend = net.backend
    X, Y = net.check(*data(net.sizes, m))
    counted = {}
    train = backend.train

    def counting(*arguments):
        s, end = arguments[-2:]
        with double.counting() as counts:
            train(*arguments)
        counted[s, end] = counts

    backend.train = counting
    try:
        net.fit(X, Y, batch_size=batch_size, epochs=20, optimizer="adam", learning_rate=1e-3, **options)
    finally:
        backend.train = train
    (s, end), counts = list(counted.items())[-1]
    return end - s, counts


@pytest.mark.parametrize("sizes", NARROW + WIDE)
@pytest.mark.parametrize("options", [{}, {"l2": 0.1, "clip_norm": 0.5}, {"shuffle": False}])
@pytest.mark.parametrize("batch_size", [20, 50])
def test_a_step_is_launches_and_nothing_else(cupy, sizes, options, batch_size):
    """No copy, no allocation, no synchronisation; at most 4 L + 2 launches (all narrow) or 5 L + 3."""
    net = network(cupy, sizes)
    L = len(sizes) - 1
    steps, counts = count_steps(net, 50, batch_size, **options)
    assert counts.host_to_device == counts.device_to_host == counts.device_to_device == 0
    assert counts.allocations == counts.synchronisations == counts.default_stream == 0
    narrow = not any(memory.is_wide(n, k) for n, k in zip(sizes[1:], sizes, strict=False))
    gathers = batch_size < 50
    # A call that does not go on where the last one ended sets the clock, once.
    launches = counts.launches - counts.kernels.get("fill", 0)
    assert launches % steps == 0
    each = launches // steps
    assert each <= (4 * L + 2 if narrow else 5 * L + 3)
    assert counts.kernels["gather"] == (steps if gathers else 0)
    if narrow:
        assert each == 3 * L + 2 + gathers
        assert counts.kernels["gemm"] == 0
        expected = {"linear_activation": L, "loss_gradient": 1, "linear_gradients": L, "backpropagate": L - 1}
    else:
        wide = [memory.is_wide(n, k) for n, k in zip(sizes[1:], sizes, strict=False)]
        epilogues = sum(a or b for a, b in itertools.pairwise(wide))
        expected = {"bias_activation": sum(wide), "activation_gradient": epilogues, "loss_gradient": 1}
        assert counts.kernels["gemm"] == steps * (2 * sum(wide) + epilogues)
    for name, number in (expected | {"all_reduce": 1, "update": 1}).items():
        assert counts.kernels[name] == steps * number, name


def test_a_fit_leaves_the_default_stream_alone(cupy):
    """From data on the host to a prediction there, with everything that a fit offers."""
    with double.counting() as counts:
        net = network(cupy, (5, 8, 2))
        X, Y = data(net.sizes, 30)
        net.fit(X, Y, epochs=3, batch_size=8, validation=(X, Y), l2=0.1, clip_norm=1.0)
        net.predict(X)
        net.loss_and_gradient(X, Y)
        net.theta = np.zeros(net.theta.shape)
    assert counts.default_stream == 0
    assert counts.launches > 0


def test_losses_are_read_many_steps_at_a_time(cupy):
    net = network(cupy, (5, 8, 2))
    X, Y = net.check(*data(net.sizes, 64))
    net.fit(X, Y, epochs=2, batch_size=4)
    with double.counting() as counts:
        net.fit(X, Y, epochs=40, batch_size=4)
    assert counts.kernels["update"] == 640
    assert counts.device_to_host < 100


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(600, 520, 3), (600, 40, 3), (9, 600, 8, 3)])
def test_wide_networks_train_as_on_numpy(cupy, sizes, dtype):
    """Parity where cuBLAS takes part, which the drawn networks are too narrow for."""
    X, Y = data(sizes, 70)
    results = []
    for backend in (cupy, get_backend("numpy")):
        net = Network(sizes, "gelu", "identity", "huber", dtype=dtype, backend=backend)
        J, d = net.loss_and_gradient(X, Y, l2=0.1)
        history = net.fit(
            X,
            Y,
            optimizer="momentum",
            learning_rate=1e-3,
            epochs=2,
            batch_size=32,
            l2=0.1,
            clip_norm=0.5,
            validation=(X, Y),
        )
        results.append((net.predict(X), J, backend.to_host(d), backend.to_host(net.theta), history.loss))
    for what, actual, expected in zip(("A", "J", "dtheta", "theta", "loss"), *results, strict=True):
        assert_same(actual, expected, dtype, what)


def test_the_same_training_gives_the_same_bits(cupy):
    """The emulator runs blocks and threads in another order each time; sums do not depend on it."""
    X, Y = data((20, 3), 100)

    def theta():
        net = network(cupy, (20, 33, 3))
        net.fit(X, Y, epochs=3, batch_size=64, clip_norm=0.1, l2=0.1)
        return cupy.to_host(net.theta)

    np.testing.assert_array_equal(theta(), theta())


# Data that do not fit.


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [16, 25, 100])
def test_data_that_do_not_fit_arrive_batch_by_batch(machine, batch_size, shuffle):
    """Nothing but the place of the data differs: the same kernels on the same batches give the same bits."""
    sizes, m = (50, 8, 3), 100
    X, Y = data(sizes, m)
    options = {"epochs": 4, "batch_size": batch_size, "shuffle": shuffle, "validation": (X[:, :10], Y[:, :10])}
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
    # X and Y of each step and epoch, instead of X, Y and the validation's once.
    assert copies[1] - copies[0] >= 2 * 4 * -(-m // batch_size) - 4
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

    monkeypatch.setattr(cupy_module.CupyBackend, "_step", fail)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=2, batch_size=10)
    assert any(stream != backend._stream for stream in waits)


def test_a_fit_lets_its_memory_go_at_once(cupy):
    """Not when Python next looks for circles: the data may be all that a device holds."""
    import gc
    import weakref

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


def test_long_sums_are_cut_into_slices(cupy):
    """However many tiles a layer's gradient has, no slice adds more than some thousand examples in float32."""
    from accelnn.parameters import Layout

    work = memory.DeviceWorkspace(
        Layout((500, 500, 3), [False] * 2), 10 * memory.LONGEST_SLICE, "float32", lambda *_: np.empty(0), lambda a: a
    )
    assert work.parts[1].count == 10


# A step as one CUDA graph.


def test_a_narrow_step_as_a_graph(machine, monkeypatch):
    X, Y = data((6, 2), 50)

    def run():
        backend = machine()
        net = network(backend, (6, 9, 2))
        with double.counting() as counts:
            net.fit(X, Y, epochs=5, batch_size=16, optimizer=Optimizer("adam"), learning_rate=0.01)
        return backend, counts, backend.to_host(net.theta), net.plan().parts["page (rung 3)"]

    _, without, expected, plan = run()
    assert without.graph_launches == 0
    assert "graph" not in plan
    monkeypatch.setenv("ACCELNN_CUDA_GRAPHS", "1")
    _, counts, theta, plan = run()
    np.testing.assert_array_equal(theta, expected)
    assert counts.kernels["update"] == without.kernels["update"] == 20
    assert counts.graph_launches >= 16
    assert "not yet run on hardware" in plan


def test_a_wide_step_is_not_captured(machine, monkeypatch):
    monkeypatch.setenv("ACCELNN_CUDA_GRAPHS", "1")
    backend = machine()
    net = network(backend, (600, 4, 2))
    X, Y = data(net.sizes, 20)
    with double.counting() as counts:
        net.fit(X, Y, epochs=3, batch_size=10)
    assert counts.graph_launches == 0


# The rest of a network's life.


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


def test_a_diverging_run_gives_theta_back(cupy):
    from accelnn import DivergenceError

    net = network(cupy, (4, 8, 2), activations="identity")
    X, Y = data(net.sizes, 40)
    before = cupy.to_host(net.theta)
    with pytest.raises(DivergenceError, match="epoch"):
        net.fit(X, Y, learning_rate=1e12, epochs=10)
    np.testing.assert_array_equal(cupy.to_host(net.theta), before)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_numbers_on_the_device_are_named(cupy, where, value):
    net = network(cupy, (4, 8, 2))
    X, Y = (np.asfortranarray(array, dtype="float32") for array in data(net.sizes, 40))
    example = {"first": 0, "middle": 20, "last": 39}[where]
    X[2, example] = value
    with pytest.raises(DataError, match=rf"X: X\[2, {example}\] \(example {example}\) is {value}"):
        net.fit(cp.asarray(X), cp.asarray(Y))
