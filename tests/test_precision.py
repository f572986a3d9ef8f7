"""Long sums keep their digits, and a network keeps its parts together."""

import copy
import pickle

import numpy as np
import pytest
from conftest import host

from accelnn import DataError, Network

M = 1_000_000


def line(backend, sizes=(1, 2), **options):
    net = Network(sizes, output="identity", backend=backend, **options)
    net.theta = np.zeros(net.theta.shape)
    return net


def test_the_loss_and_the_bias_gradient_of_a_million_examples(backend):
    """A float32 running sum is off by 1 % here."""
    J, dtheta = line(backend).loss_and_gradient(np.ones((1, M), "f4"), np.full((2, M), -0.1, "f4"))
    assert pytest.approx(0.01, rel=1e-5) == J
    np.testing.assert_allclose(host(dtheta)[2:], 0.1, rtol=1e-5)


def test_the_cross_entropy_of_a_million_examples(backend):
    net = Network([1, 2], output="softmax", backend=backend)
    net.theta = np.zeros(4)
    J, _ = net.loss_and_gradient(np.ones((1, M), "f4"), np.zeros(M, int))
    assert pytest.approx(np.log(2), rel=1e-5) == J


def test_the_penalty_of_a_million_weights(backend):
    net = line(backend, (1000, 1000))
    net.theta = np.full(net.theta.shape, 0.1)
    net.b[1][...] = 0.0
    J, _ = net.loss_and_gradient(np.zeros((1000, 1)), np.zeros((1000, 1)), l2=2.0)
    assert pytest.approx(1e4, rel=1e-4) == J


def test_clipping_a_gradient_whose_square_overflows(any_backend):
    """|d|^2 is beyond float32; the step still has the length that clipping asks for."""
    net = line(any_backend, (2, 1), dtype="float32")
    net.fit(np.full((2, 4), 1e15), np.ones(4) * 1e10, epochs=1, learning_rate=0.1, clip_norm=1.0)
    assert np.linalg.norm(host(net.theta)) == pytest.approx(0.1, rel=1e-4)


def test_assigning_theta_writes_into_it(backend):
    net = line(backend)
    vector = net.theta
    net.theta = [1.0, 2.0, 3.0, 4.0]
    assert net.theta is vector
    np.testing.assert_array_equal(host(net.W[1]), [[1.0], [2.0]])
    net.theta = vector + vector  # an array of the backend's own
    assert net.theta is vector
    np.testing.assert_array_equal(host(net.W[1]), [[2.0], [4.0]])
    with pytest.raises(DataError, match=r"^theta: has shape \(3,\), expected \(4,\)"):
        net.theta = np.zeros(3)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_stands_on_its_own(duplicate, named_backend):
    net = line(named_backend)
    twin = duplicate(net)
    twin.W[1][0, 0] = 7.0
    assert twin.theta[0] == 7.0
    assert net.theta[0] == 0.0
    assert twin.backend is named_backend
    twin.fit(np.ones((1, 3)), np.ones((2, 3)), epochs=1)


def test_a_prediction_outlives_its_workspace(backend):
    net = Network([3, 4, 2], output="identity", backend=backend, seed=1)
    X = np.asfortranarray(np.ones((3, 5), dtype="float32"))
    g = backend.activations(["relu", "identity"], "float32")
    work = backend.workspace(net.layout, 5, "float32")
    A = backend.predict(X, net.theta, backend.layout(net.layout), g, work)
    del work
    rubbish = [backend.from_host(np.full(1000, 9.0, "float32")) for _ in range(50)]
    np.testing.assert_allclose(host(A), net.predict(X), rtol=1e-6)
    assert len(rubbish) == 50


def test_a_masked_array_is_refused(backend):
    masked = np.ma.masked_invalid([[1.0, np.nan, 2.0]])
    with pytest.raises(DataError, match=r"^X: is a masked array"):
        line(backend).predict(masked)


def test_a_callback_that_is_none_is_refused(backend):
    with pytest.raises(DataError, match=r"^callbacks: "):
        line(backend).fit(np.ones((1, 3)), np.ones((2, 3)), callbacks=[print])
