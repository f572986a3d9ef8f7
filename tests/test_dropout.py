"""Dropout: masks that are a function of the layer and the step alone, and the same on every backend."""

import numpy as np
import pytest
from conftest import DTYPES, FACTORIES, assert_same, data, difference, host, make, take_few_at_once
from hypothesis import given
from hypothesis import strategies as st

from accelnn import DataError
from accelnn.activations import HIDDEN
from accelnn.backends.numba import NumbaBackend
from accelnn.dropout import LEVELS, Dropout
from accelnn.kernels import dropout as kernel
from accelnn.parameters import Layout

# For the numba backend: each member keeps a gradient; the members share one.
NARROW, WIDE = (20, 33, 7, 3), (70, 400, 300, 3)


# The masks.


@given(st.floats(0.0, 0.99), st.integers(0, 2**32))
def test_the_mean_stays_as_it_is(rate, seed):
    """Factors are 0 or 1 / (1 - rate), in the proportion that makes their mean 1."""
    drop = Dropout.of([rate], seed, 0)
    mask = drop.mask(1, 0, (64, 1024))
    assert kernel.LEVELS == LEVELS
    kept = 1.0 - drop.thresholds[1] / LEVELS
    assert abs(kept - (1.0 - rate)) <= 0.5 / LEVELS
    assert set(np.unique(mask)) <= {0.0, drop.scale(1)}
    assert drop.scale(1) == pytest.approx(1.0 / kept, rel=1e-15)
    # Six standard deviations of a proportion of 2^16 draws.
    assert abs(np.mean(mask > 0.0) - kept) <= 6.0 * np.sqrt(kept * (1.0 - kept) / 2**16)


def test_layers_steps_and_seeds_have_masks_of_their_own():
    """Two of them agree in about half of the units."""
    shape = (32, 64)
    calls = {"base": (0, 1, 0), "other layer": (0, 2, 0), "other step": (0, 1, 1), "other seed": (1, 1, 0)}
    masks = {what: Dropout.of([0.5, 0.5], seed, 0).mask(l, s, shape) > 0.0 for what, (seed, l, s) in calls.items()}
    again = Dropout.of([0.5, 0.5], 0, 0).mask(1, 0, shape) > 0.0
    np.testing.assert_array_equal(masks["base"], again)
    names = list(masks)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            assert 0.4 < np.mean(masks[one] == masks[other]) < 0.6, f"{one}, {other}"


def test_the_first_step_counts_on():
    drop = Dropout.of([0.5], 3, 0)
    later = Dropout.of([0.5], 3, 40)
    np.testing.assert_array_equal(drop.mask(1, 42, (5, 9)), later.mask(1, 2, (5, 9)))


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 30))
def test_an_example_keeps_its_mask_in_a_larger_batch(units, m, more):
    drop = Dropout.of([0.3], 0, 0)
    small, large = drop.mask(1, 7, (units, m)), drop.mask(1, 7, (units, m + more))
    np.testing.assert_array_equal(large[:, :m], small)


def test_a_higher_rate_drops_more_of_the_same_stream():
    low, high = (Dropout.of([rate], 0, 0).mask(1, 0, (16, 16)) > 0.0 for rate in (0.2, 0.6))
    assert np.all(low[high])
    assert np.any(low & ~high)


# One gradient with the masks held fixed, as `train` asks for it.


def gradient(net, X, Y, rates, s, seed=5, first=100, l2=0.0):
    """``J`` and dtheta of step s, with the masks of a seed."""
    backend = net.backend
    layout = Layout(net.sizes, net._keeps_z, [rate > 0 for rate in (*rates, 0.0)])
    X, Y, w = net.examples(X, Y).arrays
    dtheta = backend.empty(layout.n_parameters, net.dtype)
    with backend.context():
        J = backend.loss_and_gradient(
            *(X, Y, w, net.theta, dtheta, backend.layout(layout)),
            backend.activations([*net.activations, "identity"], net.dtype),
            backend.loss(net.loss_entry, net.dtype),
            l2,
            backend.dropout(Dropout.of([*rates, 0.0], seed, first)),
            s,
            backend.workspace(layout, X.shape[1], net.dtype),
        )
    return float(J), host(dtheta)


def assert_masks(backend, m, units, rate):
    """Each element of both masks of a layer, read from a gradient.

    With W[1] = 0, b[1] = 1 and W[2] = I over linear units, D[1] = M. Targets of -1 make dZ[2] = M + 1, and an X of unit
    vectors makes dW[1] = 1/m dZ[1] = 1/m (M + 1) * M: 0 where the backward pass drops a unit, and otherwise a number
    that says whether the forward pass did.
    """
    net = make(backend, (m, units, units), "identity", output="identity")
    net.theta = np.zeros(net.theta.shape)
    net.b[1][...] = 1.0
    net.W[2][...] = backend.from_host(np.eye(units))
    J, dtheta = gradient(net, np.eye(m), np.full((units, m), -1.0), [rate], 3)
    M = Dropout.of([rate, 0.0], 5, 100).mask(1, 3, (units, m))
    dW = host(net.views(dtheta)[1][0])
    np.testing.assert_array_equal(dW != 0.0, M != 0.0)
    np.testing.assert_allclose(dW * m, (M + 1.0) * M, rtol=1e-14)
    assert pytest.approx(np.mean(np.sum((M + 1.0) ** 2, axis=0)) / 2.0, rel=1e-13) == J


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("m", "units"), [(1, 1), (3, 5), (7, 16), (5, 33), (64, 10)])
def test_the_masks_are_those_that_are_said(m, units, rate, any_backend):
    assert_masks(any_backend, m, units, rate)


@pytest.mark.parametrize("hidden", ["tanh", "gelu"])
def test_central_differences_with_the_masks_held_fixed(hidden, any_backend):
    rng = np.random.default_rng(2)
    net = make(any_backend, (3, 9, 6, 2), hidden)
    net.theta = rng.normal(0.0, 0.7, size=net.theta.shape)
    X, Y = data(m=5)
    given_ = X, Y, [0.4, 0.2], 2
    _, dtheta = gradient(net, *given_, l2=0.3)
    step, slopes = 1e-5, np.empty(net.theta.shape)
    for k, value in enumerate(host(net.theta)):
        ends = []
        for at in (value + step, value - step):
            net.theta[k] = at
            ends.append(gradient(net, *given_, l2=0.3)[0])
        net.theta[k] = value
        slopes[k] = (ends[0] - ends[1]) / (2.0 * step)
    assert difference(dtheta, slopes) <= 1e-6


# Training.


def trained(backend, dropout, sizes=(3, 8, 6, 2), m=50, hidden="tanh", output="sigmoid", dtype="float64", **options):
    net = make(backend, sizes, hidden, output=output, dtype=dtype, seed=3)
    X, Y = data(m, sizes[0], sizes[-1])
    given_ = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05} | options
    history = net.fit(X, Y, dropout=dropout, validation=(X, Y), **given_)
    return net, (host(net.theta), history.loss, history.validation_loss)


def assert_trains_as_the_reference(backend, dropout, dtype="float64", **options):
    (_, found), (_, expected) = (
        trained(which, dropout, dtype=dtype, **options) for which in (backend, FACTORIES["reference"]())
    )
    for what, *pair in zip(("theta", "losses", "validation"), found, expected, strict=True):
        assert_same(*pair, dtype, what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_backend_trains_alike(hidden, dtype, backend):
    assert_trains_as_the_reference(backend, 0.3, dtype, hidden=hidden)


@pytest.mark.parametrize("dropout", [[0.5, 0.0], [0.0, 0.5], [0.25, 0.75], [0.2, 1e-6]])
def test_each_layer_has_its_rate(dropout, backend):
    """Down to one that rounds to no unit at all, beside one that does not."""
    assert_trains_as_the_reference(backend, dropout, batch_size=None, l2=0.1)
    assert_trains_as_the_reference(backend, dropout, shuffle=False, clip_norm=0.1, optimizer="adam")


def test_weighted_examples(backend):
    assert_trains_as_the_reference(backend, 0.3, sample_weight=np.arange(50.0))


def test_one_rate_is_that_of_every_hidden_layer(any_backend):
    (_, one), (_, each) = (trained(any_backend, dropout) for dropout in (0.4, [0.4, 0.4]))
    for a, b in zip(one, each, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dropout", [0, 0.0, [0.0, 0.0]])
def test_no_dropout_changes_nothing(dropout, any_backend):
    """To the last bit; and some dropout does change it."""
    net, _ = trained(any_backend, dropout)
    plain = make(any_backend, (3, 8, 6, 2), seed=3)
    plain.fit(*data(50, 3, 2), epochs=3, batch_size=16, learning_rate=0.05)
    np.testing.assert_array_equal(host(net.theta), host(plain.theta))
    assert np.any(host(trained(any_backend, 0.1)[0].theta) != host(plain.theta))


def test_a_network_without_hidden_layers_drops_nothing(any_backend):
    (_, some), (_, none) = (trained(any_backend, dropout, sizes=(3, 2)) for dropout in (0.5, 0.0))
    for a, b in zip(some, none, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_prediction_uses_every_unit(any_backend):
    net, _ = trained(any_backend, 0.5)
    X, Y = data()
    J, _ = net.loss_and_gradient(X, Y)
    A = host(net.predict(X))
    np.testing.assert_array_equal(host(net.predict(X)), A)
    assert pytest.approx(float(np.mean(np.sum(-Y * np.log(A) - (1 - Y) * np.log(1 - A), axis=0))), rel=1e-12) == J


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_five_and_five_epochs_are_ten(optimizer, any_backend):
    """To the last bit, shuffled: masks go by the number of a step in the network's life."""
    X, Y = data()
    options = {"dropout": [0.3, 0.5], "batch_size": 7, "learning_rate": 0.01, "optimizer": optimizer}
    once, twice = (make(any_backend, (3, 8, 6, 2)) for _ in range(2))
    once.fit(X, Y, epochs=10, **options)
    twice.fit(X, Y, epochs=5, **options)
    twice.fit(X, Y, epochs=5, resume=True, **options)
    np.testing.assert_array_equal(host(twice.theta), host(once.theta))
    assert twice.steps_trained == once.steps_trained == 80


def test_epochs_that_are_looked_at_are_the_same(any_backend):
    """Alone or several in one call into the backend."""
    X, Y = data()
    watched, alone = (make(any_backend, (3, 8, 6, 2)) for _ in range(2))
    for net, validation in ((watched, (X, Y)), (alone, None)):
        net.fit(X, Y, epochs=6, dropout=0.5, batch_size=20, learning_rate=0.1, validation=validation)
    np.testing.assert_array_equal(host(watched.theta), host(alone.theta))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (1.0, "1.0 is out of range"),
        (-0.1, "-0.1 is out of range"),
        (float("nan"), "nan is out of range"),
        ([0.5], r"has 1 rate\(s\) for 2 hidden layer\(s\)"),
        ([0.5, 1.5], "1.5 is out of range"),
        ("half", "'half' is no rate"),
        (None, "None is no rate"),
    ],
)
def test_bad_rates_are_named(bad, message, backend):
    net = make(backend, (3, 8, 6, 2))
    before = host(net.theta)
    with pytest.raises(DataError, match=f"^dropout: {message}"):
        net.fit(*data(), dropout=bad)
    np.testing.assert_array_equal(host(net.theta), before)


# Teams of the numba backend.


@pytest.fixture
def small_passes(monkeypatch):
    """Shares in passes of a few examples, which begin at any element of a block of the stream."""
    take_few_at_once(monkeypatch, 3)


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_masks_of_a_team(threads):
    for m, units in ((3, 5), (7, 16), (64, 33)):
        assert_masks(NumbaBackend(threads), m, units, 0.4)


@pytest.mark.usefixtures("teams", "small_passes")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_masks_of_a_share_in_several_passes(threads):
    for units in (5, 16, 33):
        assert_masks(NumbaBackend(threads), 17, units, 0.4)
    assert_trains_as_the_reference(NumbaBackend(threads), 0.3)


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_trains_alike(threads, sizes, dtype):
    options = {"sizes": sizes, "m": 103, "batch_size": 40, "learning_rate": 1e-3}
    assert_trains_as_the_reference(NumbaBackend(threads), [0.5, 0.2], dtype, **options)


@pytest.mark.usefixtures("teams")
def test_a_run_repeats_to_the_bit():
    for sizes in (NARROW, WIDE):
        first, again = (trained(NumbaBackend(3), 0.3, sizes)[0].theta for _ in range(2))
        np.testing.assert_array_equal(first, again)
