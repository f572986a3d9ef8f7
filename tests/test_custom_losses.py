"""Losses of one's own: what is computed is what was written, on every backend, wherever it was written."""

import copy
import pickle
import threading

import numpy as np
import pytest
from conftest import FACTORIES, assert_same, data, host, make

from accelnn import DataError, Loss, custom_loss
from accelnn.activations import ACTIVATIONS
from accelnn.backends.numba import backend as numba_backend
from accelnn.elementary import maximum, tanh, where
from accelnn.losses import loss

SCALE = 1.0
MAGIC = 3.0  # the kernels have another number of this name


def sign(x):  # and another function of this one
    return tanh(x)


def masked(z, y):
    return where(y == 0.0, 0.0 * z, 0.5 * (z - y) ** 2)


def masked_gradient(z, y):
    return where(y != 0.0, z - y, 0.0 * z)


def hinge(z, y):
    return maximum(0.0, 1.0 - y * z)


def hinge_gradient(z, y):
    return where(y * z < 1.0, -y, 0.0 * z)


def own_names(z, y):
    return MAGIC * (z - y) * sign(z - y)


def own_names_gradient(z, y):
    t = tanh(z - y)
    return MAGIC * (t + (z - y) * (1.0 - t * t))


def scaled(z, y):
    return SCALE * (z - y) * (z - y)


def scaled_gradient(z, y):
    return 2.0 * SCALE * (z - y)


def J_of(backend, entry):
    X, Y = data()
    Y[:, ::3] = 0.0
    net = make(backend, output="identity", loss=entry)
    return float(net.loss_and_gradient(X, Y)[0]), host(net.predict(X)), Y


@pytest.mark.parametrize(
    "pair",
    [(masked, masked_gradient), (hinge, hinge_gradient), (own_names, own_names_gradient)],
    ids=lambda pair: pair[0].__name__,
)
def test_what_is_written_is_computed(pair, backend):
    """Equality, a number first, powers, and names that mean something else inside accelnn."""
    J, Z, Y = J_of(backend, custom_loss(*pair))
    assert_same(J, np.sum(pair[0](Z, Y)) / Y.shape[1], "float64", "J")


def test_a_number_that_has_changed_makes_another_loss(backend, monkeypatch):
    first = custom_loss(scaled, scaled_gradient)
    before = J_of(backend, first)[0]
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    again = custom_loss(scaled, scaled_gradient)
    assert J_of(backend, again)[0] == pytest.approx(5.0 * before, rel=1e-12)
    assert J_of(backend, first)[0] == pytest.approx(before, rel=1e-12)  # which keeps its own
    assert again != first


def test_the_same_formulas_are_the_same_loss():
    entry = custom_loss(masked, masked_gradient)
    for twin in (custom_loss(masked, masked_gradient), copy.deepcopy(entry), pickle.loads(pickle.dumps(entry))):
        assert twin == entry
        assert hash(twin) == hash(entry)
        assert numba_backend._lose_kernel(twin, "float64") == numba_backend._lose_kernel(entry, "float64")


def test_a_loss_under_a_name_of_ours_is_not_taken_for_ours(monkeypatch, tmp_path):
    """Its kernel stays off the disk, where the name alone would find it."""
    known = loss("huber", "identity")
    stranger = Loss("huber", "identity", masked, masked_gradient, parameters=known.parameters)
    assert stranger.custom
    assert not known.custom
    assert J_of(FACTORIES["numba"](), stranger)[0] == pytest.approx(J_of(FACTORIES["numpy"](), stranger)[0], rel=1e-12)
    assert J_of(FACTORIES["numba"](), known)[0] == pytest.approx(J_of(FACTORIES["numpy"](), known)[0], rel=1e-12)
    assert pickle.loads(pickle.dumps(stranger)) == stranger
    with pytest.raises(DataError, match="function of your own"):
        make("numpy", output="identity", loss=stranger).save(tmp_path / "model")


def branching(z, y):
    return z if z > y else y


@pytest.mark.parametrize(
    ("value", "gradient", "text"),
    [
        (branching, masked_gradient, "value: cannot be used as a formula .* where"),
        (lambda z, y: np.exp(z), masked_gradient, "value: cannot be used .* accelnn.elementary, imported by name"),
        (lambda z, y: z**0.5, masked_gradient, "value: cannot be used .*a power of 0.5"),
        (masked, lambda z, y: z - y, "gradient: at z=.* central differences of value give"),
        (masked, "slope", "gradient: 'slope' is no Python function"),
        (lambda z, y: 1.0, masked_gradient, "value: must return one number"),
    ],
)
def test_what_is_no_loss(value, gradient, text):
    with pytest.raises(DataError, match=text):
        custom_loss(value, gradient)


def test_a_large_offset_is_no_wrong_gradient():
    assert custom_loss(lambda z, y: 1e6 + 0.5 * (z - y) ** 2, lambda z, y: z - y).custom


def test_a_loss_that_is_given_has_its_parameters():
    with pytest.raises(DataError, match="loss: 'huber' has its parameters already; leave out delta"):
        loss(loss("huber", "identity"), "identity", delta=3.0)


def test_formulas_are_bound_by_many_threads_at_once():
    """A copy is not seen before its names have their meanings."""
    faults = []

    def build(k):
        try:
            for j in range(20):
                make("numpy", output="sigmoid", loss=loss("huber", "sigmoid", delta=1.0 + k + j / 100)).predict(
                    data()[0]
                )
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=build, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert ACTIVATIONS
