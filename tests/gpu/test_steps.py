"""What a step of training asks of a GPU: launches, and nothing else; one CUDA graph, if wanted."""

import itertools
import shutil

import numpy as np
import pytest
from conftest import DTYPES, assert_same
from gpu import double
from gpu.machines import data, network
from scipy import sparse

from accelnn import Callback, DivergenceError, Network, Optimizer, get_backend
from accelnn.backends.cupy import memory

if shutil.which("g++") is None:
    pytest.skip("the emulator compiles kernels with g++, which is not installed", allow_module_level=True)


NARROW = [(7, 3), (20, 30, 1), (5, 33, 33, 2), (4, 8, 8, 8, 8, 3)]
WIDE = [(600, 520), (600, 600, 520), (513, 600, 520, 512, 3), (600, 520, 40, 3), (9, 600, 8, 3)]


def count_steps(net, m, batch_size, X=None, epochs=20, optimizer="adam", **options):
    """How many steps the last call of a fit makes, and what they do."""
    backend = net.backend
    dense, Y = data(net.sizes, m)
    X, Y = net.check(dense if X is None else X, Y)
    counted = {}
    train = backend.train

    def counting(*arguments):
        s, end = arguments[-2:]
        with double.counting() as counts:
            train(*arguments)
        counted[s, end] = counts

    backend.train = counting
    try:
        net.fit(X, Y, optimizer, learning_rate=1e-3, epochs=epochs, batch_size=batch_size, **options)
    finally:
        backend.train = train
    (s, end), counts = list(counted.items())[-1]
    return end - s, counts


def assert_nothing_but_launches(counts):
    assert counts.host_to_device == counts.device_to_host == counts.device_to_device == 0
    assert counts.allocations == counts.synchronisations == counts.default_stream == 0


def launches_of(counts):
    """All but the clock's: a call that does not go on where the last one ended sets it, once."""
    return counts.launches - counts.kernels.get("fill", 0)


@pytest.mark.parametrize("sizes", NARROW + WIDE)
@pytest.mark.parametrize("options", [{}, {"l2": 0.1, "clip_norm": 0.5}, {"shuffle": False}])
@pytest.mark.parametrize("batch_size", [20, 50])
def test_a_step_is_launches_and_nothing_else(cupy, sizes, options, batch_size):
    """No copy, no allocation, no synchronisation; at most 4 L + 2 launches (all narrow) or 5 L + 3."""
    net = network(cupy, sizes)
    L = len(sizes) - 1
    steps, counts = count_steps(net, 50, batch_size, **options)
    assert_nothing_but_launches(counts)
    narrow = not any(memory.is_wide(n, k) for n, k in zip(sizes[1:], sizes, strict=False))
    gathers = batch_size < 50
    assert launches_of(counts) % steps == 0
    each = launches_of(counts) // steps
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


@pytest.mark.parametrize("sizes", [(20, 30, 1), (5, 33, 33, 2), (600, 600, 520), (9, 600, 8, 3)])
@pytest.mark.parametrize("batch_size", [20, 50])
def test_dropout_costs_two_launches_a_layer_and_weights_none(cupy, sizes, batch_size):
    """Beside those, a step is what it is without, for as many groups of epochs as a run has."""
    weights, hidden = np.random.default_rng(1).uniform(size=50), len(sizes) - 2
    steps, counts = count_steps(network(cupy, sizes), 50, batch_size)
    plain = launches_of(counts) // steps
    for rates, layers in ((0.5, hidden), ([0.5] + [0.0] * (hidden - 1), 1), (0.0, 0)):
        net = network(cupy, sizes)
        steps, counts = count_steps(net, 50, batch_size, dropout=rates, sample_weight=weights, epochs=40)
        assert_nothing_but_launches(counts)
        assert counts.kernels["dropout"] == steps * 2 * layers
        assert launches_of(counts) == steps * (plain + 2 * layers)


def test_the_mask_comes_before_the_sums_for_the_bias_gradient(cupy):
    """activation_gradient.cu sums dZ of a wide layer, in which the units that are left out have no part."""
    forward = ["gemm", "bias_activation", "dropout", "gemm", "bias_activation"]
    backward = ["loss_gradient", "gemm", "gemm", "dropout", "activation_gradient", "gemm"]
    assert recorded(cupy, (600, 520, 3), dropout=0.5) == [[*forward, *backward, "all_reduce", "update"]]


def recorded(backend, sizes, X=None, **options):
    """The launches of each program that a fit leaves in its workspace."""
    net, programs = network(backend, sizes), {}
    inputs, Y = data(sizes, 20)
    train = backend.train

    def watched(*arguments):
        train(*arguments)
        programs.update(next(value for value in arguments if hasattr(value, "programs")).programs)

    backend.train = watched
    try:
        net.fit(inputs if X is None else X, Y, **{"epochs": 1, **options})
    finally:
        backend.train = train
    return [[launch.name for launch in program.launches] for program, *_ in programs.values()]


class Watcher(Callback):
    def on_epoch_end(self, progress):
        """Somebody who wants to know of each epoch."""


def test_steps_with_dropout_are_recorded_once(cupy):
    """Each epoch is a group of its own, whose first step has another number: programs read it on the device."""
    programs = recorded(cupy, (4, 8, 2), dropout=0.5, epochs=12, batch_size=16, callbacks=[Watcher()])
    assert len(programs) == 2  # of 16 examples and of 4


# A sparse X.


@pytest.mark.parametrize("sizes", [(40, 3), (40, 30, 3), (600, 30, 8, 3), (600, 600, 520), (40, 600, 520, 3)])
@pytest.mark.parametrize("batch_size", [20, 50])
def test_a_sparse_step(cupy, sizes, batch_size):
    """One launch for each product with X; its batches arrive in six copies, and no step allocates."""
    X, _ = data(sizes, 50)
    X = sparse.csc_array(np.where(X > 0.5, X, 0))
    net = network(cupy, sizes)
    steps, counts = count_steps(net, 50, batch_size, X=X, optimizer="momentum")
    L = len(sizes) - 1
    assert counts.allocations == counts.default_stream == 0
    assert counts.device_to_host == (batch_size == 20)  # the order of the examples, once a call
    assert counts.kernels["sparse_linear_activation"] == counts.kernels["sparse_linear_gradients"] == steps
    assert counts.kernels["gather"] == 0
    wide = [memory.is_wide(n, k) for n, k in itertools.pairwise(sizes[1:])]
    if not any(wide):
        assert launches_of(counts) == steps * (3 * L + 2 + (L > 1))
        assert counts.kernels["gemm"] == steps * (L > 1)  # beside the sums for db[1]
    else:
        assert launches_of(counts) <= steps * 5 * L
    # Starts, places and values by example and by input; Y. A full batch stays where it is.
    assert counts.host_to_device == (7 * steps if batch_size == 20 else 0)


def test_a_sparse_x_is_multiplied_by_kernels_of_our_own(cupy):
    """However wide the first layer."""
    X = sparse.csc_array(np.eye(600, 20))
    forward = ["sparse_linear_activation", "linear_activation", "loss_gradient"]
    backward = ["linear_gradients", "gemm", "activation_gradient", "sparse_linear_gradients"]
    assert recorded(cupy, (600, 30, 3), X) == [[*forward, *backward, "all_reduce", "update"]]


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


@pytest.mark.parametrize("kind", ["plain", "weights and dropout", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(600, 520, 3), (600, 40, 3), (9, 600, 8, 3)])
def test_wide_networks_train_as_on_numpy(cupy, sizes, dtype, kind):
    """Parity where cuBLAS takes part, which the drawn networks are too narrow for."""
    X, Y = data(sizes, 70)
    options = {}
    if kind == "sparse":
        X = sparse.csc_array(np.where(X > 0.5, X, 0))
    elif kind == "weights and dropout":
        options = {"sample_weight": np.random.default_rng(1).uniform(size=70), "dropout": 0.3}
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
            **options,
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
            net.fit(X, Y, epochs=5, batch_size=16, optimizer=Optimizer("adam"), learning_rate=0.01, dropout=0.3)
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


def test_a_diverging_run_gives_theta_back(cupy):
    net = network(cupy, (4, 8, 2), activations="identity")
    X, Y = data(net.sizes, 40)
    before = cupy.to_host(net.theta)
    with pytest.raises(DivergenceError, match="epoch"):
        net.fit(X, Y, learning_rate=1e12, epochs=10)
    np.testing.assert_array_equal(cupy.to_host(net.theta), before)
