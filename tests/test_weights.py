"""Weights of examples: a weight of k is the example k times, 0 is the example left out."""

import numpy as np
import pytest
from conftest import DTYPES, FACTORIES, assert_same, difference, host, make, make_targets, take_few_at_once
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from accelnn import DataError, Network
from accelnn.backends.numba import NumbaBackend
from accelnn.losses import LOSSES

# For the numba backend: each member keeps a gradient; the members share one.
NARROW, WIDE = (20, 33, 7, 3), (70, 400, 300, 3)


def examples(loss="binary_cross_entropy", output="sigmoid", sizes=(3, 8, 2), m=23, seed=0):
    """Data and weights, a few of which are 0."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.0, 1.0, size=(m, sizes[0])).T
    Y = make_targets(LOSSES[loss, output].targets, sizes[-1], m, rng)
    return X, Y, np.where(rng.uniform(size=m) < 0.2, 0.0, rng.uniform(0.1, 3.0, size=m))


def results(net, X, Y, w, **options):
    """What weights reach: the run, its losses, those of a validation set, J and its gradient."""
    history = net.fit(X, Y, sample_weight=w, validation=(X, Y, w), **{"learning_rate": 0.01, "epochs": 3} | options)
    J, dtheta = net.loss_and_gradient(X, Y, l2=options.get("l2", 0.0), sample_weight=w)
    return host(net.theta), history.loss, history.validation_loss, J, host(dtheta)


def assert_all_same(found, expected, dtype="float64"):
    for what, *pair in zip(("theta", "losses", "validation", "J", "dtheta"), found, expected, strict=True):
        assert_same(*pair, dtype, what)


@pytest.mark.parametrize("sizes", [(3, 8, 2), (3, 2)])
def test_a_weight_is_a_number_of_copies(backend, sizes):
    """With a penalty, to 1e-6; weights of 0 are rows that are not there."""

    @settings(max_examples=15)
    @given(st.sampled_from(list(LOSSES)), arrays(np.int64, 7, elements=st.integers(0, 4)), st.integers(0, 2**16))
    def holds(names, counts, seed):
        assume(counts.any())
        loss, output = names
        X, Y, _ = examples(loss, output, sizes, 7, seed)
        weighted, copied = (make(backend, sizes, output=output, loss=loss, seed=seed) for _ in range(2))
        X_copies, Y_copies = np.repeat(X, counts, axis=1), np.repeat(Y, counts, axis=1)
        found = results(weighted, X, Y, counts, l2=0.3)
        expected = results(copied, X_copies, Y_copies, None, l2=0.3)
        for one, other in zip(found, expected, strict=True):
            assert difference(one, other) <= 1e-6

    holds()


def test_j_by_hand(any_backend):
    """(2 * 1/2 * 1^2 + 0 * ... + 1 * 1/2 * 3^2) / 3 + 0.6 / (2 * 3) * 2^2, and its slopes."""
    net = Network([1, 1], output="identity", dtype="float64", backend=any_backend)
    net.theta = [2.0, 0.0]
    X, Y = np.array([[1.0, 5.0, 1.0]]), np.array([[1.0, 7.0, -1.0]])
    J, dtheta = net.loss_and_gradient(X, Y, l2=0.6, sample_weight=[2.0, 0.0, 1.0])
    assert pytest.approx(5.5 / 3 + 0.4, rel=1e-14) == J
    np.testing.assert_allclose(host(dtheta), [5.0 / 3 + 0.4, 5.0 / 3], rtol=1e-14)


def away_from_corners(loss, output, backend):
    """A network and examples none of which is near a corner of its loss."""
    for seed in range(100):
        X, Y, w = examples(loss, output, m=6, seed=seed)
        net = make(backend, output=output, loss=loss)
        net.theta = np.random.default_rng(seed).normal(0.0, 0.7, size=net.theta.shape)
        residual = np.abs(host(net.predict(X)) - Y)
        corners = {"absolute_error": residual, "quantile": residual, "huber": np.abs(residual - 1.0)}
        if np.min(corners.get(loss, 1.0)) > 1e-3:
            return net, X, Y, w
    raise AssertionError("every draw is near a corner")


@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_central_differences(loss, output, any_backend):
    net, X, Y, w = away_from_corners(loss, output, any_backend)
    _, dtheta = net.loss_and_gradient(X, Y, l2=0.4, sample_weight=w)
    step, slopes = 1e-5, np.empty(net.theta.shape)
    for k, value in enumerate(host(net.theta)):
        ends = []
        for at in (value + step, value - step):
            net.theta[k] = at
            ends.append(net.loss_and_gradient(X, Y, l2=0.4, sample_weight=w)[0])
        net.theta[k] = value
        slopes[k] = (ends[0] - ends[1]) / (2.0 * step)
    assert np.max(np.abs(slopes)) > 1e-3
    assert difference(host(dtheta), slopes) <= 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_mini_batches_as_the_reference(loss, output, dtype, backend):
    """Gathered in a shuffled order, with a smaller last batch, under a penalty and clipping."""
    given_ = examples(loss, output)
    options = {"batch_size": 5, "l2": 0.1, "clip_norm": 0.5}
    found, expected = (
        results(make(which, output=output, loss=loss, dtype=dtype), *given_, **options)
        for which in (backend, FACTORIES["reference"]())
    )
    assert_all_same(found, expected, dtype)


@pytest.mark.parametrize("batch_size", [None, 5])
def test_batches_in_the_order_of_the_data(batch_size, backend):
    options = {"batch_size": batch_size, "shuffle": False}
    found, expected = (results(make(w), *examples(), **options) for w in (backend, FACTORIES["reference"]()))
    assert_all_same(found, expected)


@pytest.mark.parametrize(("sizes", "output"), [((3, 3), "sigmoid"), ((3, 1), "sigmoid"), ((3, 3), "softmax")])
def test_a_large_batch(sizes, output, backend):
    """More numbers than a loss takes in one piece, whose ends fall into the middle of an example."""
    loss = "cross_entropy" if output == "softmax" else "binary_cross_entropy"
    given_ = examples(loss, output, sizes, 1501)
    found, expected = (results(make(w, sizes, output=output), *given_) for w in (backend, FACTORIES["reference"]()))
    assert_all_same(found, expected)


def test_equal_weights_are_none(any_backend):
    """Whatever they are: only ratios count, but in the penalty."""
    X, Y, w = examples()
    runs = [results(make(any_backend), X, Y, weights, batch_size=6) for weights in (None, np.full(23, 3.5))]
    assert_all_same(*runs)
    assert_all_same(*(results(make(any_backend), X, Y, weights, batch_size=6) for weights in (w, 7.0 * w)))
    J = [make(any_backend).loss_and_gradient(X, Y, l2, sample_weight=np.full(23, 2.0))[0] for l2 in (0.0, 1.0)]
    plain = [make(any_backend).loss_and_gradient(X, Y, l2)[0] for l2 in (0.0, 1.0)]
    assert J[1] - J[0] == pytest.approx((plain[1] - plain[0]) / 2.0, rel=1e-12)


def test_the_validation_set_has_its_own_weights(any_backend):
    X, Y, w = examples("squared_error", "identity")
    net = make(any_backend, output="identity")
    history = net.fit(X, Y, epochs=1, validation=(X, Y, w))
    losses = np.sum((host(net.predict(X)) - Y) ** 2, axis=0) / 2.0
    assert history.validation_loss == pytest.approx([float(np.sum(w * losses) / np.sum(w))], rel=1e-12)


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("batch_size", [None, 40])
@pytest.mark.parametrize("output", ["softmax", "identity"])
@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads, sizes, output, batch_size):
    loss = "cross_entropy" if output == "softmax" else "squared_error"
    given_ = examples(loss, output, sizes, 103)
    found, expected = (
        results(make(which, sizes, output=output), *given_, batch_size=batch_size, learning_rate=1e-3, l2=0.1)
        for which in (NumbaBackend(threads), FACTORIES["reference"]())
    )
    assert_all_same(found, expected)


@pytest.mark.usefixtures("teams")
def test_a_share_in_several_passes(monkeypatch):
    take_few_at_once(monkeypatch, 8)
    given_ = examples("squared_error", "identity", NARROW, 103)
    found, expected = (
        results(make(which, NARROW, output="identity"), *given_, batch_size=40)
        for which in (NumbaBackend(2), FACTORIES["reference"]())
    )
    assert_all_same(found, expected)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0, -0.5, 1.0], r"sample_weight\[1\] is -0.5"),
        ([1.0, 1.0, np.nan], r"sample_weight\[2\] is nan"),
        ([np.inf, 1.0, 1.0], r"sample_weight\[0\] is inf"),
        ([0.0, 0.0, 0.0], "every weight is zero"),
        ([1.0, 1.0, 1.0, 1.0], r"has shape \(4,\), expected \(3,\)"),
        ([[1.0, 1.0, 1.0]], r"has shape \(1, 3\), expected \(3,\)"),
    ],
)
def test_bad_weights_are_named(bad, message, any_backend):
    net = make(any_backend, (1, 1))
    before = host(net.theta)
    for use in (net.fit, net.loss_and_gradient):
        with pytest.raises(DataError, match=f"^sample_weight: .*{message}"):
            use(np.ones((1, 3)), np.ones((1, 3)), sample_weight=np.array(bad))
    np.testing.assert_array_equal(host(net.theta), before)
