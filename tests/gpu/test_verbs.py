"""The kernels, as the cupy backend launches them, give what the reference bodies of the verbs give.

On a machine without a GPU they run in the emulator, through the device double; `pytest -m gpu` runs them on a GPU.
"""

import math

import numpy as np
import pytest
from conftest import DTYPES, assert_same, make_targets
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from accelnn import Network, Optimizer, verbs
from accelnn.activations import ACTIVATIONS, HIDDEN
from accelnn.backends.cupy.memory import WIDE
from accelnn.backends.cupy.sparse import on_device
from accelnn.backends.cupy.verbs import LossParts, Recorder, RowByClock
from accelnn.customloss import custom_loss
from accelnn.dropout import LEVELS, Dropout
from accelnn.elementary import exp, log1p, tanh
from accelnn.losses import LOSSES
from accelnn.losses import loss as find_loss
from accelnn.optimizers import RULES
from accelnn.parameters import Layout

pytestmark = pytest.mark.gpu

# One, tiles of 32 and their neighbours, several tiles, and what cuBLAS multiplies.
LENGTHS = st.sampled_from([1, 2, 3, 4, 7, 10, 31, 32, 33, 64, 70])
WIDTHS = st.one_of(LENGTHS, st.sampled_from([WIDE, WIDE + 3]))


class Bench:
    """Two layers of a network, n_prev -> n -> n_last, with everything of one batch on the device and on the host."""

    def __init__(self, backend, dtype, m, n_prev, n, n_last=3, g="tanh", seed=0, drops=(), gathers=True):
        self.backend, self.dtype, self.m = backend, dtype, m
        self.g = ACTIVATIONS[g]
        rng = np.random.default_rng(seed)
        self.layout = Layout((n_prev, n, n_last), [self.g.keeps_z, False], drops, gathers)
        self.theta = rng.uniform(-0.5, 0.5, self.layout.n_parameters).astype(dtype)
        self.X = rng.uniform(-1, 1, (m, n_prev)).astype(dtype).T
        self.device_theta = backend.from_host(self.theta)
        self.dtheta = backend.zeros(len(self.theta), dtype)
        self.work = backend.workspace(self.layout, m, dtype)
        self.W, self.b = self.layout.parameters(self.theta)
        self.recorder = Recorder(backend._kernels[dtype], backend._gemm, self.work, self.device_theta)
        self.rng = rng

    def on_device(self):
        """W, b, A, Z, D, dZ as the page gets them."""
        W, b = self.layout.parameters(self.device_theta)
        A, Z, D, dZ, _ = self.work.views(self.m)
        D[0] = self.backend.from_host(self.X)
        return W, b, A, Z, D, dZ

    def run(self):
        with self.backend.context():
            self.recorder.program.run()

    def host(self, array):
        return self.backend.to_host(array)

    def forward(self):
        """Z[1] and A[1] by the reference body, also put on the device."""
        Z1, A1 = verbs.linear_activation(self.W[1], self.b[1], self.X, self.g)
        _, _, A, Z, _, _ = self.on_device()
        with self.backend.context():
            Z[1][...] = self.backend.from_host(np.asfortranarray(Z1))
            A[1][...] = self.backend.from_host(np.asfortranarray(A1))
        return Z1, A1

    def given(self, place, values):
        """Put host values into a device array."""
        with self.backend.context():
            place[...] = self.backend.from_host(np.asfortranarray(values, dtype=self.dtype))
        return values.astype(self.dtype)

    def weights(self, weighted):
        """Weights of the examples, some of them 0, or none."""
        w = (
            self.rng.uniform(0, 2, (1, self.m)) * self.rng.integers(0, 3, (1, self.m))
            if weighted
            else np.empty((0, self.m))
        )
        return w.astype(self.dtype)


@pytest.fixture(scope="module")
def cupy(cupy_backend):
    return cupy_backend


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*HIDDEN, "exp", "softmax"])
def test_linear_activation(cupy, name, dtype):
    @settings(max_examples=12)
    @example(1, 1, 1)
    @example(33, WIDE, 5)
    @given(LENGTHS, WIDTHS, WIDTHS)
    def holds(m, n_prev, n):
        bench = Bench(cupy, dtype, m, n_prev, n, g=name)
        W, b, A, Z, D, _ = bench.on_device()
        bench.recorder.linear_activation(W[1], b[1], D[0], bench.g, out=(Z[1], A[1]))
        bench.run()
        expected_Z, expected_A = verbs.linear_activation(bench.W[1], bench.b[1], bench.X, bench.g)
        assert_same(bench.host(A[1]), expected_A, dtype, "A")
        if bench.g.keeps_z:
            assert_same(bench.host(Z[1]), expected_Z, dtype, "Z")
        names = {launch.name for launch in bench.recorder.program.launches}
        assert ("gemm" in names) == (max(n, n_prev) >= WIDE) == ("bias_activation" in names)

    holds()


def compare_loss(bench, loss, size, weighted):
    """J, dZ and the sums for the bias gradient, with the reference's; the kernel's input is random."""
    cupy, dtype, m, n = bench.backend, bench.dtype, bench.m, bench.layout.sizes[2]
    _, _, _, Z, _, dZ = bench.on_device()
    logits = bench.given(Z[2], bench.rng.uniform(-size, size, (n, m)))
    targets = make_targets(loss.targets, n, m, bench.rng).astype(dtype)
    w = bench.weights(weighted)
    Y, device_w = cupy.from_host(np.asfortranarray(targets)), cupy.from_host(w)
    J, _ = bench.recorder.loss_gradient(Z[2], Y, device_w, loss, out=dZ[2])
    place = cupy.zeros(1, "float64")
    bench.recorder.total(J, place)
    bench.run()
    expected_J, expected = verbs.loss_gradient(logits, targets, w, loss)
    assert_same(bench.host(dZ[2]), expected, dtype, "dZ")
    assert_same(bench.host(place)[0], float(expected_J), dtype, "J")
    if bench.work.wide[2]:
        sums = bench.host(bench.work.parts[2].array).reshape(-1, n).sum(axis=0, dtype="float64")
        assert_same(sums, expected.mean(axis=1, dtype="float64"), dtype, "sums for the bias gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "output"), list(LOSSES))
def test_loss_gradient(cupy, name, output, dtype):
    loss = LOSSES[name, output]
    widths = st.sampled_from([2, 3, 10, 33, WIDE] if loss.columnwise else [1, 2, 3, 10, 33, WIDE])

    @settings(max_examples=12)
    @example(1, 2, 4.0, False)
    @example(65, 10, 1.0, True)
    @given(LENGTHS, widths, st.sampled_from([1.0, 30.0]), st.booleans())
    def holds(m, n, size, weighted):
        compare_loss(Bench(cupy, dtype, m, 2, 4, n_last=n), loss, size, weighted)

    holds()


def log_cosh(z, y):
    r = abs(z - y)
    return r + log1p(exp(-2.0 * r))


def log_cosh_gradient(z, y):
    return tanh(z - y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "loss",
    [
        find_loss("huber", "identity", delta=0.2),
        find_loss("quantile", "sigmoid", level=0.9),
        custom_loss(log_cosh, log_cosh_gradient),
    ],
    ids=str,
)
def test_losses_with_numbers_and_formulas_of_ones_own(cupy, loss, dtype):
    compare_loss(Bench(cupy, dtype, 40, 2, 4, n_last=3), loss, 3.0, True)


def test_a_formula_is_compiled_once(cupy):
    """Losses that are equal are one kernel, and another number is another."""
    kernels, found = cupy._kernels["float32"], []
    for delta in (0.2, 0.3, 0.2):
        net = Network([2, 3, 1], output="identity", loss=find_loss("huber", "identity", delta=delta), backend=cupy)
        net.loss_and_gradient(np.ones((2, 5)), np.ones(5))
        found.append(len(kernels._compiled))
    assert found[1] == found[0] + 1
    assert found[2] == found[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "output"), list(LOSSES))
def test_losses_of_huge_logits_are_finite(cupy, name, output, dtype):
    """1e3 in float32 and 1e4 in float64, and no warning."""
    loss, size = LOSSES[name, output], {"float32": 1e3, "float64": 1e4}[dtype]
    bench = Bench(cupy, dtype, 4, 2, 4, n_last=2)
    _, _, _, Z, _, dZ = bench.on_device()
    logits = bench.given(Z[2], np.array([[size, -size, 0.0, size], [-size, -size, size, size]]))
    targets = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]], dtype)
    w = bench.weights(False)
    Y, device_w = cupy.from_host(np.asfortranarray(targets)), cupy.from_host(w)
    J, _ = bench.recorder.loss_gradient(Z[2], Y, device_w, loss, out=dZ[2])
    place = cupy.zeros(1, "float64")
    bench.recorder.total(J, place)
    bench.run()
    expected_J, expected = verbs.loss_gradient(logits, targets, w, loss)
    assert np.isfinite(bench.host(place)[0])
    assert_same(bench.host(place)[0], float(expected_J), dtype, "J")
    assert_same(bench.host(dZ[2]), expected, dtype, "dZ")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_backward(cupy, name, dtype):
    """From dZ[2]: the gradients of both layers, whichever of them is wide, and dZ[1] in between, masked or not."""

    @settings(max_examples=16)
    @example(1, 1, 1, 1, 0.0, False, 0.0)
    @example(65, 3, 5, 2, 0.5, False, 0.0)
    @example(65, 3, 5, 2, 0.0, False, 0.3)
    @example(33, WIDE, 5, 2, 0.0, True, 0.3)
    @example(33, 5, WIDE, 3, 0.0, False, 0.0)
    @example(33, 5, WIDE, 3, 0.0, False, 0.5)
    @given(LENGTHS, WIDTHS, WIDTHS, LENGTHS, st.sampled_from([0.0, 0.5]), st.booleans(), st.sampled_from([0.0, 0.3]))
    def holds(m, n_prev, n, n_last, l2, clips, rate):
        bench = Bench(cupy, dtype, m, n_prev, n, n_last, name, drops=[rate > 0, False])
        Z1, A1 = bench.forward()
        W, _, A, Z, D, dZ = bench.on_device()
        dW, db = bench.layout.parameters(bench.dtheta)
        logits = bench.given(Z[2], bench.rng.uniform(-1, 1, (n_last, m)))
        targets = bench.rng.uniform(-1, 1, (n_last, m)).astype(dtype)
        loss, record, w = LOSSES["squared_error", "identity"], bench.recorder, bench.weights(False)
        masks = Dropout.of([rate, 0.0], 3, 0)
        drop = cupy.dropout(masks)
        Y, device_w = cupy.from_host(np.asfortranarray(targets)), cupy.from_host(w)
        D[1] = record.dropout(A[1], drop, 1, 0, out=D[1])
        _, dZ[2] = record.loss_gradient(Z[2], Y, device_w, loss, out=dZ[2])
        record.linear_gradients(dZ[2], D[1], W[2], l2, out=(dW[2], db[2]))
        record.backpropagate(W[2], dZ[2], Z[1], A[1], bench.g, out=dZ[1])
        dZ[1] = record.dropout(dZ[1], drop, 1, 0, out=dZ[1])
        record.linear_gradients(dZ[1], D[0], W[1], l2, out=(dW[1], db[1]))
        record.clips = clips
        record.all_reduce(bench.dtheta, out=bench.dtheta)
        bench.run()
        expected_D1 = verbs.dropout(A1, masks, 1, 0)
        _, expected_dZ2 = verbs.loss_gradient(logits, targets, w, loss)
        expected_dZ1 = verbs.backpropagate(bench.W[2], expected_dZ2, Z1, A1, bench.g)
        expected_dZ1 = verbs.dropout(expected_dZ1, masks, 1, 0)
        assert_same(bench.host(dZ[1]), expected_dZ1, dtype, "dZ[1]")
        for l, dz, a in ((2, expected_dZ2, expected_D1), (1, expected_dZ1, bench.X)):
            expected_dW, expected_db = verbs.linear_gradients(dz, a, bench.W[l], l2)
            assert_same(bench.host(dW[l]), expected_dW, dtype, f"dW[{l}]")
            assert_same(bench.host(db[l]), expected_db, dtype, f"db[{l}]")
        d, theta = bench.host(bench.dtheta).astype("float64"), bench.theta.astype("float64")
        W1, W2 = bench.layout.parameters(theta)[0][1:]
        if not (clips or l2):
            return
        squares = bench.host(bench.work.squares).sum(axis=1)
        assert squares[0] == pytest.approx(d @ d, rel=1e-6)
        if l2:
            assert squares[1] == pytest.approx(np.sum(W1 * W1) + np.sum(W2 * W2), rel=1e-6)

    holds()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(RULES))
def test_update(cupy, name, dtype):
    """With and without clipping; the coefficients and J's place are those of the clock's step."""

    @settings(max_examples=8)
    @example(1, 1, 1, 0.01, 0.0)
    @given(
        st.integers(1, 70), st.integers(1, 70), st.integers(0, 3), st.sampled_from([math.inf, 0.01, 1e6]), st.just(0.3)
    )
    def holds(n_prev, n, step, limit, penalty):
        bench = Bench(cupy, dtype, 5, n_prev, n, 2)
        rule, size = RULES[name], len(bench.theta)
        d = bench.rng.normal(size=size).astype(dtype)
        state = bench.rng.uniform(0.1, 1.0, size=(len(rule.state), size)).astype(dtype)
        table = Optimizer(name).coefficients(np.arange(1, 5), np.full(4, 0.1))
        losses = RowByClock(cupy.zeros(4, "float64"))
        record, work = bench.recorder, bench.work
        record.losses = losses
        with cupy.context():
            bench.dtheta[...] = cupy.from_host(d)
            work.squares.fill(0)
            work.squares[0, :1].fill(float(np.sum(d.astype("float64") ** 2)))
            work.squares[1, :1].fill(7.0)
            work.losses.fill(2.0)
            work.clock.fill(step)
        device_state = cupy.from_host(state)
        losses[step] = LossParts(0.25, penalty)
        record.clip_gradient(bench.dtheta, limit)
        coefficients = RowByClock(cupy.coefficients(table, dtype))
        record.update(bench.device_theta, bench.dtheta, device_state, rule, coefficients)
        bench.run()
        clipped = verbs.clip_gradient(d, limit)
        expected, expected_state = verbs.update(bench.theta, clipped, state, rule, table[step].astype(dtype).tolist())
        assert_same(bench.host(bench.device_theta), expected, dtype, "theta")
        assert_same(bench.host(device_state), expected_state, dtype, "state")
        J_places = bench.host(losses.array)
        wanted = np.zeros(4)
        wanted[step] = 0.25 * 2.0 * work.groups + penalty * 7.0
        np.testing.assert_allclose(J_places, wanted, rtol=1e-12)
        assert bench.host(work.clock).tolist() == [step + 1, step]

    holds()


@pytest.mark.parametrize("dtype", DTYPES)
@given(m=st.integers(1, 70), n=st.sampled_from([1, 3, 4, 130]), batch_size=st.integers(1, 70), data=st.data())
@settings(max_examples=20)
def test_gather(cupy, dtype, m, n, batch_size, data):
    """Rows of X, of Y and of the weights, if there are any, in the epoch's order or in their own."""
    batch_size = min(batch_size, m)
    batches = -(-m // batch_size)
    epoch, number = data.draw(st.integers(0, 2)), data.draw(st.integers(0, batches - 1))
    shuffled, weighted = data.draw(st.booleans()), data.draw(st.booleans())
    if m == batch_size and not shuffled:
        return  # nothing to gather
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(m, n)).astype(dtype).T, rng.normal(size=(m, 2)).astype(dtype).T
    w = rng.normal(size=(1 if weighted else 0, m)).astype(dtype)
    order = np.stack([rng.permutation(m) for _ in range(3)])
    start, stop = number * batch_size, min(number * batch_size + batch_size, m)
    work = cupy.workspace(Layout((n, 2), [False]), batch_size, dtype)
    with cupy.context():
        work.set_clock(epoch * batches + number)
    theta = cupy.zeros(2 * n + 2, dtype)
    record = Recorder(cupy._kernels[dtype], cupy._gemm, work, theta, batch_size=batch_size)
    table = RowByClock(cupy.from_host(order) if shuffled else None)
    parts = record.batch(*map(cupy.from_host, (X, Y, w)), table, start, stop, work)
    with cupy.context():
        record.program.run()
    chosen = order[epoch, start:stop] if shuffled else np.arange(start, stop)
    for part, array in zip(parts, (X, Y, w), strict=True):
        np.testing.assert_array_equal(cupy.to_host(part), array[:, chosen])


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30)
@example(n=1, m=1, rate=0.5, step=0, first=0, in_place=False)
@example(n=64, m=65, rate=0.5, step=2, first=0, in_place=True)  # one element more than a block has
@given(
    n=LENGTHS,
    m=st.sampled_from([1, 2, 3, 5, 33, 130]),
    rate=st.sampled_from([1 / LEVELS, 0.25, 0.9, 0.99999]),
    step=st.integers(0, 3),
    first=st.sampled_from([0, 7, 2**40]),
    in_place=st.booleans(),
)
def test_dropout(cupy, dtype, n, m, rate, step, first, in_place):
    """The host's masks to the last bit, whatever the step that a group of epochs begins with."""
    bench = Bench(cupy, dtype, m, 2, n, drops=[True, False])
    _, _, A, _, D, _ = bench.on_device()
    values = bench.given(A[1], bench.rng.normal(size=(n, m)))
    drop = cupy.dropout(Dropout.of([rate, 0.0], 11, 99))
    masks = Dropout.of([rate, 0.0], 11, first)
    assert cupy.dropout(masks, drop) is drop
    out = A[1] if in_place else D[1]
    assert bench.recorder.dropout(A[1], drop, 1, step, out=out) is out
    with cupy.context():
        bench.work.set_clock(step)
    bench.run()
    expected = verbs.dropout(values, masks, 1, step)
    np.testing.assert_array_equal(bench.host(out), expected)
    if not in_place:
        np.testing.assert_array_equal(bench.host(A[1]), values)


def test_no_dropout_launches_nothing(cupy):
    bench = Bench(cupy, "float32", 5, 2, 3)
    _, _, A, _, _, _ = bench.on_device()
    for drop in (None, cupy.dropout(Dropout.of([0.0, 0.0], 0, 0))):
        assert bench.recorder.dropout(A[1], drop, 1, 0, out=A[1]) is A[1]
    assert bench.recorder.program.launches == []


# A sparse X: the results of the same X with its zeros.

DENSITIES = st.sampled_from([0.0, 0.05, 0.5, 1.0])


def sparse_bench(cupy, dtype, m, n_prev, n, density, **options):
    """A bench whose X is sparse, and X on the device."""
    bench = Bench(cupy, dtype, m, n_prev, n, gathers=False, **options)
    bench.X = np.where(bench.rng.uniform(size=bench.X.shape) < density, bench.X, 0).astype(dtype)
    return bench, on_device(sparse.csc_array(bench.X), cupy.from_host, gradients=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*HIDDEN, "exp", "softmax"])
def test_sparse_linear_activation(cupy, name, dtype):
    @settings(max_examples=12)
    @example(1, 1, 1, 0.0)
    @example(33, 70, 5, 1.0)  # rows of more entries than a chain has
    @example(33, WIDE, 130, 0.05)
    @given(LENGTHS, WIDTHS, WIDTHS, DENSITIES)
    def holds(m, n_prev, n, density):
        bench, X = sparse_bench(cupy, dtype, m, n_prev, n, density, g=name)
        W, b = bench.layout.parameters(bench.device_theta)
        A, Z, *_ = bench.work.views(m)
        bench.recorder.linear_activation(W[1], b[1], X, bench.g, out=(Z[1], A[1]))
        bench.run()
        expected_Z, expected_A = verbs.linear_activation(bench.W[1], bench.b[1], bench.X, bench.g)
        assert_same(bench.host(A[1]), expected_A, dtype, "A")
        if bench.g.keeps_z:
            assert_same(bench.host(Z[1]), expected_Z, dtype, "Z")
        assert "gemm" not in {launch.name for launch in bench.recorder.program.launches}

    holds()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=24)
@example(1, 1, 1, 0.0, 0.0)
@example(70, 5, 33, 1.0, 0.5)
@example(33, WIDE, 130, 0.05, 0.0)
@given(LENGTHS, WIDTHS, WIDTHS, DENSITIES, st.sampled_from([0.0, 0.5]))
def test_sparse_linear_gradients(cupy, dtype, m, n_prev, n, density, l2):
    """dW[1] and db[1] from dZ[2], with zeros where an input has no entries; the first layer is no wide one."""
    bench, X = sparse_bench(cupy, dtype, m, n_prev, n, density)
    Z1, A1 = bench.forward()
    W, _, A, Z, _, dZ = bench.on_device()
    dW, db = bench.layout.parameters(bench.dtheta)
    with cupy.context():
        bench.dtheta.fill(float("nan"))
    logits = bench.given(Z[2], bench.rng.uniform(-1, 1, (3, m)))
    targets = bench.rng.uniform(-1, 1, (3, m)).astype(dtype)
    loss, record, w = LOSSES["squared_error", "identity"], bench.recorder, bench.weights(True)
    Y, device_w = cupy.from_host(np.asfortranarray(targets)), cupy.from_host(w)
    record.loss_gradient(Z[2], Y, device_w, loss, out=dZ[2])
    record.linear_gradients(dZ[2], A[1], W[2], l2, out=(dW[2], db[2]))
    record.backpropagate(W[2], dZ[2], Z[1], A[1], bench.g, out=dZ[1])
    record.linear_gradients(dZ[1], X, W[1], l2, out=(dW[1], db[1]))
    record.all_reduce(bench.dtheta, out=bench.dtheta)
    bench.run()
    _, expected_dZ2 = verbs.loss_gradient(logits, targets, w, loss)
    expected_dZ1 = verbs.backpropagate(bench.W[2], expected_dZ2, Z1, A1, bench.g)
    for l, dz, a in ((2, expected_dZ2, A1), (1, expected_dZ1, bench.X)):
        expected_dW, expected_db = verbs.linear_gradients(dz, a, bench.W[l], l2)
        assert_same(bench.host(dW[l]), expected_dW, dtype, f"dW[{l}]")
        assert_same(bench.host(db[l]), expected_db, dtype, f"db[{l}]")
    if l2 == 0:
        empty = ~bench.X.any(axis=1)
        assert not bench.host(dW[1])[:, empty].any()


def test_a_long_sparse_row_keeps_its_digits(cupy):
    """Twenty thousand entries in float32: chains of products, not one sum."""
    m, n_prev = 1, 20_000
    bench, X = sparse_bench(cupy, "float32", m, n_prev, 1, 1.0, g="identity")
    W, b = bench.layout.parameters(bench.device_theta)
    A, Z, *_ = bench.work.views(m)
    with cupy.context():
        bench.device_theta[...] = abs(bench.device_theta)
    X = on_device(sparse.csc_array(abs(bench.X)), cupy.from_host, gradients=False)
    assert X.by_input is None
    bench.recorder.linear_activation(W[1], b[1], X, bench.g, out=(Z[1], A[1]))
    bench.run()
    exact = np.abs(bench.W[1].astype("float64")) @ np.abs(bench.X.astype("float64")) + np.abs(bench.b[1])
    np.testing.assert_allclose(bench.host(A[1]), exact, rtol=5e-7)
