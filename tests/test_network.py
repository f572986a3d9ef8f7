"""A network as a person uses it: its parameters, what it takes and gives, and which implementation runs."""

import itertools
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import DTYPES, data, host, make

from accelnn import DataError, Network, get_backend, verbs
from accelnn.backends import why_auto

# Parameters and their views.


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_share_memory_with_theta_and_count_from_one(dtype, backend):
    net = make(backend, (3, 5, 4, 2), dtype=dtype)
    assert net.W[0] is None
    assert net.b[0] is None
    assert len(net.W) == len(net.b) == 4
    for l, (n_prev, n) in enumerate(itertools.pairwise((3, 5, 4, 2)), start=1):
        assert net.W[l].shape == (n, n_prev)
        assert net.b[l].shape == (n, 1)
        assert net.W[l].dtype == net.b[l].dtype == net.theta.dtype == dtype
        assert net.W[l].flags.f_contiguous
        # Contiguous views: their bounds say all.
        assert backend.xp.may_share_memory(net.W[l], net.theta)
        assert backend.xp.may_share_memory(net.b[l], net.theta)
    # Each parameter has one place, in the order W[1], b[1], W[2], ...
    net.theta = np.arange(net.theta.size)
    order = [host(block).ravel(order="F") for l in (1, 2, 3) for block in (net.W[l], net.b[l])]
    np.testing.assert_array_equal(np.concatenate(order), host(net.theta))


def test_writing_a_view_changes_the_prediction(backend):
    net = make(backend)
    X, _ = data()
    net.W[2][...] = 0.0
    net.b[2][...] = np.log(3.0)
    np.testing.assert_allclose(net.predict(X), 0.75, rtol=1e-12)


def test_views_of_a_gradient(backend):
    net = make(backend)
    X, Y = data()
    _, dtheta = net.loss_and_gradient(X, Y)
    views = net.views(dtheta)
    assert views[0] is None
    assert [(dW.shape, db.shape) for dW, db in views[1:]] == [((8, 3), (8, 1)), ((2, 8), (2, 1))]
    assert all(backend.xp.may_share_memory(part, dtheta) for pair in views[1:] for part in pair)
    with pytest.raises(DataError, match=r"vector.*\(3,\).*\(50,\)"):
        net.views(np.zeros(3))


def test_views_still_show_theta_after_training(backend):
    net = make(backend)
    before = host(net.W[1])
    net.fit(*data(), epochs=2)
    assert not np.array_equal(host(net.W[1]), before)
    np.testing.assert_array_equal(host(net.theta)[:24].reshape(3, 8).T, host(net.W[1]))


def test_one_name_serves_all_hidden_layers(backend):
    assert make(backend, (3, 4, 5, 2), "relu").activations == ("relu", "relu")
    assert make(backend, (3, 4, 5, 2), ["relu", "gelu"]).activations == ("relu", "gelu")
    assert make(backend, (3, 2), "relu").activations == ()


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        ("sigmoid", "binary_cross_entropy"),
        ("softmax", "cross_entropy"),
        ("identity", "squared_error"),
        ("exp", "poisson"),
    ],
)
def test_the_loss_follows_from_the_output(output, loss):
    assert make("numpy", output=output).loss == loss


def test_initial_weights():
    """He for rectifiers, Glorot for the rest, zero biases, each from its paper's variance."""
    for name, variance in (("relu", 2 / 300), ("tanh", 2 / 700), ("sigmoid", 2 / 700), ("gelu", 2 / 300)):
        net = make("numpy", (300, 400, 2), name)
        assert np.var(net.W[1]) == pytest.approx(variance, rel=0.03)
        assert abs(np.mean(net.W[1])) < 4 * np.sqrt(variance / net.W[1].size)
        np.testing.assert_array_equal(net.b[1], 0.0)
    assert np.var(make("numpy", (300, 400, 2), "tanh", init="he").W[1]) == pytest.approx(2 / 300, rel=0.03)
    assert np.var(make("numpy", (300, 400, 2), "relu", init="glorot").W[1]) == pytest.approx(2 / 700, rel=0.03)


def test_the_seed_decides_the_weights_and_nothing_else_does(backend):
    first = make("numpy", seed=1).theta
    np.testing.assert_array_equal(host(make(backend, seed=1).theta), first)
    np.testing.assert_array_equal(first.astype(np.float32), make("numpy", seed=1, dtype="float32").theta)
    assert not np.array_equal(first, make("numpy", seed=2).theta)


def test_inputs_may_be_lists_integers_or_of_another_order_and_precision(backend):
    net = make(backend, output="identity")
    X, Y = np.arange(6).reshape(3, 2), np.arange(4).reshape(2, 2)
    expected = net.predict(X.astype(np.float64))
    assert expected.shape == (2, 2)
    rows = np.ascontiguousarray(X.T).astype(np.float64)
    for same in (X, X.tolist(), X.astype(np.float32), np.asfortranarray(X), rows.T, np.repeat(X, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(net.predict(same), expected)
    frozen = rows.T
    frozen.flags.writeable = False
    J, dtheta = net.loss_and_gradient(X, Y)
    J_frozen, dtheta_frozen = net.loss_and_gradient(frozen, Y.astype(np.uint8))
    assert J_frozen == J
    np.testing.assert_array_equal(host(dtheta_frozen), host(dtheta))
    net.fit(frozen, Y, epochs=3, batch_size=1)


def test_inputs_are_left_alone(backend):
    X, Y = (np.asfortranarray(a) for a in data())
    kept = X.copy(), Y.copy()
    net = make(backend, (3, 8, 8, 2), "gelu")
    net.predict(X)
    net.loss_and_gradient(X, Y)
    net.fit(X, Y, epochs=3, batch_size=7, validation=(X, Y), l2=0.1, clip_norm=0.1)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Y, kept[1])


def test_class_numbers_are_one_hot_columns(backend):
    net = make(backend, output="softmax", sizes=(3, 8, 4))
    X, _ = data(6)
    classes = np.array([0, 3, 1, 1, 2, 0])
    J, dtheta = net.loss_and_gradient(X, np.eye(4)[classes].T)
    for labels in (classes, classes.tolist(), classes.astype(np.uint8)):
        found, gradient = net.loss_and_gradient(X, labels)
        assert found == J
        np.testing.assert_array_equal(host(gradient), host(dtheta))


def test_a_vector_of_targets_is_one_output(backend):
    X, Y = data(outputs=1)
    net = make(backend, (3, 8, 1))
    assert net.loss_and_gradient(X, Y[0])[0] == net.loss_and_gradient(X, Y)[0]
    bools = Y[0] > 0.5
    assert net.loss_and_gradient(X, bools)[0] == net.loss_and_gradient(X, bools.astype(float))[0]


def test_blocks_of_a_long_prediction(backend, monkeypatch):
    """A pass without training is cut into blocks; nobody sees the seams."""
    X, Y = data(m=1000)
    net = make(backend, activations="gelu")
    whole, J = net.predict(X), net.loss_and_gradient(X, Y)[0]
    monkeypatch.setattr(backend, "pass_elements", 1)
    assert net.block(net.layout) < 300
    np.testing.assert_allclose(net.predict(X), whole, rtol=1e-14)
    history = make(backend, activations="gelu").fit(X, Y, learning_rate=1e-300, epochs=1, validation=(X, Y))
    assert history.validation_loss == pytest.approx([J], rel=1e-13)


def test_predictions_stay_when_others_are_made(backend):
    """What predict returns is no view of memory that the next call uses."""
    net = make(backend)
    first = net.predict(data()[0])
    kept = first.copy()
    net.predict(data(seed=1)[0])
    np.testing.assert_array_equal(first, kept)


def test_gradients_stay_when_others_are_made(backend):
    net = make(backend)
    _, first = net.loss_and_gradient(*data())
    kept = host(first)
    net.loss_and_gradient(*data(seed=1))
    np.testing.assert_array_equal(host(first), kept)


# Which implementation runs.

EVERY_VERB = ", ".join(verbs.__all__)
PLANS = {
    "reference": ("interpreted, one verb after another", "none", EVERY_VERB),
    "numpy": (
        "interpreted, one verb after another",
        "backpropagate, batch, clip_gradient, dropout, linear_activation, linear_gradients, loss_gradient, penalty, "
        "update",
        "activations, all_reduce, parameters",
    ),
    "numba": ("compiled by Numba, many steps in one call", EVERY_VERB, "none"),
    "cupy": (
        "recorded as a list of launches, run again for every step",
        "all_reduce, backpropagate, batch, clip_gradient, dropout, linear_activation, linear_gradients, loss_gradient, "
        "penalty, update",
        "activations, parameters",
    ),
}


def test_plan_says_which_rung_runs(any_backend):
    net = make(any_backend)
    plan = net.plan()
    assert tuple(plan.parts.values()) == PLANS[any_backend.name]
    assert plan.dtype == "float64"
    assert re.fullmatch(r"GPU \d+: .+, \d+ GiB" if any_backend.name == "cupy" else "CPU", plan.device)
    assert plan.backend == f"{any_backend.name}, as asked for"
    lines = str(plan).splitlines()
    assert [line.split()[0] for line in lines] == ["backend", "device", "dtype", "page", "own", "reference"]


def test_plan_says_why_auto_took_what_it_took():
    net = Network([2, 1])
    assert net.plan().backend == f"{net.backend.name}, chosen by auto because {why_auto()}"


def reference_bodies_called(backend):
    """Names of the reference bodies that run while a small network trains and predicts."""
    called, codes = set(), {getattr(verbs, name).__code__: name for name in verbs.__all__}

    def trace(frame, event, _):
        if event == "call" and frame.f_code in codes:
            called.add(codes[frame.f_code])

    net = make(backend, activations="relu")
    X, Y = data()
    sys.setprofile(trace)
    try:
        net.fit(X, Y, epochs=2, batch_size=8, l2=0.1, clip_norm=0.1, validation=(X, Y))
        net.predict(X)
    finally:
        sys.setprofile(None)
    return called


ALL_VERBS = {
    *("activations", "all_reduce", "backpropagate", "batch", "clip_gradient", "linear_activation", "linear_gradients"),
    *("dropout", "loss_gradient", "parameters", "penalty", "update"),
}


REFERENCE_BODIES = {
    "reference": ALL_VERBS,
    "numpy": {"activations", "all_reduce", "parameters"},
    "numba": set(),
    "cupy": {"activations", "parameters"},
}


def test_what_the_plan_says_is_what_runs(any_backend):
    """Reference bodies: all of them, none but the views, none."""
    assert reference_bodies_called(any_backend) == REFERENCE_BODIES[any_backend.name]


@pytest.mark.slow
def test_one_compilation_serves_every_network():
    """After one network, others of other depths, widths and batches compile no page again."""
    code = """if True:
        import numpy as np
        from numba.core import event
        from accelnn import Network
        X, Y = np.random.default_rng(0).uniform(size=(3, 40)), np.random.default_rng(1).uniform(size=(2, 40))
        def run(sizes, m, batch_size):
            net = Network(sizes, "tanh", backend="numba")
            net.fit(X[:, :m], Y[:, :m], epochs=2, batch_size=batch_size, validation=(X, Y))
            net.predict(X)
            net.loss_and_gradient(X, Y)
        run([3, 4, 2], 40, 7)
        with event.install_recorder("numba:compile") as recorder:
            run([3, 2], 40, None)
            run([3, 1, 9, 70, 2], 39, 1)
            run([3, 1, 1, 2], 1, 5)
        print(len(recorder.buffer))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "0"


def test_repr():
    assert repr(make("numpy", activations="relu")) == (
        "Network([3, 8, 2], activations='relu', output='sigmoid', loss='binary_cross_entropy', "
        "dtype='float64', backend='numpy')"
    )
    assert "activations=['relu', 'tanh']" in repr(make("numpy", (3, 8, 8, 2), ["relu", "tanh"]))
    assert repr(get_backend("numpy")) == "<accelnn backend 'numpy' on CPU>"
