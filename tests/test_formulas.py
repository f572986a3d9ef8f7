"""Activations, losses and update rules against independent evaluations: mpmath, and loops written from the papers."""

import itertools
import warnings

import mpmath
import numpy as np
import pytest
from conftest import DTYPES, host

from accelnn import Network, Optimizer
from accelnn.activations import HIDDEN
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES

mpmath.mp.dps = 60

EXTREME = {"float32": 1e3, "float64": 1e4}


def numbers(dtype, largest=None):
    """Numbers of both signs from 1e-8 to the largest logit, and zero."""
    size = np.geomspace(1e-8, largest or EXTREME[dtype], 61)
    return np.concatenate([-size[::-1], [0.0], size]).astype(dtype)


def single(hidden, dtype, backend):
    """A network that is one hidden activation: A = 1 g(1 x + 0) + 0."""
    net = Network([1, 1, 1], hidden, "identity", dtype=dtype, backend=backend)
    net.theta = [1.0, 0.0, 1.0, 0.0]
    return net


def layer(output, loss, dtype, backend, units=1):
    """A network without a hidden layer: Z = x."""
    net = Network([units, units], output=output, loss=loss, dtype=dtype, backend=backend)
    net.W[1][...] = backend.from_host(np.eye(units))
    return net


def sigmoid(z):
    return 1 / (1 + mpmath.exp(-z))


def gelu(z):
    return z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3)))


# Each formula as a textbook has it, in 60 digits, and the scale to which rounding errors are relative.
ACTIVATION_FORMULAS = {
    "identity": (lambda z: z, abs),
    "sigmoid": (sigmoid, sigmoid),
    "tanh": (mpmath.tanh, mpmath.tanh),
    "relu": (lambda z: max(z, 0), abs),
    "leaky_relu": (lambda z: z if z > 0 else z / 100, abs),
    "elu": (lambda z: z if z > 0 else mpmath.expm1(z), abs),
    "gelu": (gelu, abs),  # 1 + tanh(u) cancels on the left
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), lambda z: mpmath.log1p(mpmath.exp(z))),
}
OUTPUT_FORMULAS = {
    "identity": ACTIVATION_FORMULAS["identity"],
    "sigmoid": ACTIVATION_FORMULAS["sigmoid"],
    # exp(z) multiplies the error of z by |z|; beyond 60 it saturates.
    "exp": (lambda z: mpmath.exp(min(z, 60)), lambda z: mpmath.exp(min(z, 60))),
}


def assert_exact(actual, points, formula, scale, dtype, units_in_last_place):
    """Within a few units in the last place, or within the smallest normal number."""
    info = np.finfo(dtype)
    for x, found in zip(points, actual, strict=True):
        z = mpmath.mpf(float(x))
        allowed = units_in_last_place * float(info.eps) * abs(scale(z)) + float(info.tiny)
        assert abs(mpmath.mpf(float(found)) - formula(z)) <= allowed, f"g({float(x)!r}) is {found!r}"


def test_formulas_are_complete():
    assert set(ACTIVATION_FORMULAS) == set(HIDDEN)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_activations(name, dtype, any_backend):
    points = numbers(dtype)
    actual = single(name, dtype, any_backend).predict(points[None, :])[0]
    assert_exact(actual, points, *ACTIVATION_FORMULAS[name], dtype, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(OUTPUT_FORMULAS))
def test_outputs(name, dtype, any_backend):
    points = numbers(dtype)
    actual = layer(name, None, dtype, any_backend).predict(points[None, :])[0]
    assert_exact(actual, points, *OUTPUT_FORMULAS[name], dtype, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, None])
def test_softmax(spread, dtype, any_backend):
    Z = np.random.default_rng(0).uniform(-1.0, 1.0, size=(4, 9)).astype(dtype)
    Z = (Z * (spread or EXTREME[dtype])).astype(dtype)
    A = layer("softmax", None, dtype, any_backend, units=4).predict(Z)
    info = np.finfo(dtype)
    for i in range(Z.shape[1]):
        e = [mpmath.exp(mpmath.mpf(float(z))) for z in Z[:, i]]
        # z_j - max_j rounds once, and exp() turns that into a relative error.
        allowed = info.eps * (8 + np.ptp(Z[:, i]))
        np.testing.assert_allclose(A[:, i], [float(x / sum(e)) for x in e], rtol=allowed, atol=info.tiny)
    np.testing.assert_allclose(A.sum(axis=0), 1.0, rtol=8 * info.eps)


# Losses. Each is (value, gradient) from the prediction's definition, none from the stable forms.


def residual_loss(value, slope, output, derivative):
    def loss(z, y):
        return value(output(z) - y)

    def gradient(z, y):
        return slope(output(z) - y) * derivative(z)

    return loss, gradient


RESIDUALS = {
    "squared_error": (lambda r: r * r / 2, lambda r: r),
    "absolute_error": (abs, mpmath.sign),
    "huber": (
        lambda r: r * r / 2 if abs(r) <= 1 else abs(r) - mpmath.mpf(1) / 2,
        lambda r: max(-1, min(1, r)),
    ),
    "quantile": (lambda r: abs(r) / 2, lambda r: mpmath.sign(r) / 2),
}
POISSON = (
    lambda z, y: mpmath.exp(min(z, 60)) - y * z,
    lambda z, y: mpmath.exp(min(z, 60)) - y,
)
LOSS_FORMULAS = {
    ("binary_cross_entropy", "sigmoid"): (
        lambda z, y: -y * mpmath.log(sigmoid(z)) - (1 - y) * mpmath.log(sigmoid(-z)),
        lambda z, y: sigmoid(z) - y,
    ),
    ("poisson", "exp"): POISSON,
    ("poisson", "identity"): POISSON,
}
for name, (value, slope) in RESIDUALS.items():
    LOSS_FORMULAS[name, "identity"] = residual_loss(value, slope, lambda z: z, lambda z: 1)
    LOSS_FORMULAS[name, "sigmoid"] = residual_loss(value, slope, sigmoid, lambda z: sigmoid(z) * sigmoid(-z))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("key", list(LOSS_FORMULAS), ids="-".join)
def test_losses(key, dtype, any_backend):
    """Value and gradient for one example, over logits of every size."""
    value, gradient = LOSS_FORMULAS[key]
    net, eps = layer(key[1], key[0], dtype, any_backend), float(np.finfo(dtype).eps)
    targets = {"probability": (0.0, 0.25, 1.0), "count": (0.0, 3.0)}.get(LOSSES[key].targets, (-1.5, 0.0, 0.75))
    for x, target in itertools.product(numbers(dtype)[::3], targets):
        z, y = mpmath.mpf(float(x)), mpmath.mpf(target)
        J, dtheta = net.loss_and_gradient(np.array([[x]]), np.array([[target]]))
        expected, slope = value(z, y), gradient(z, y)
        scale = 1 + abs(z) * (1 + abs(y)) + abs(expected)
        assert abs(mpmath.mpf(J) - expected) <= 16 * eps * scale, (x, target, J, expected)
        assert abs(mpmath.mpf(float(dtheta[1])) - slope) <= 16 * eps * (1 + abs(y) + abs(slope)), (x, target)


def test_loss_formulas_are_complete():
    assert {*LOSS_FORMULAS, ("cross_entropy", "softmax")} == set(LOSSES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, None])
def test_cross_entropy(spread, dtype, any_backend):
    eps, rng = float(np.finfo(dtype).eps), np.random.default_rng(1)
    net = layer("softmax", None, dtype, any_backend, units=4)
    one_hot, mixed = np.eye(4)[2], np.array([0.5, 0.25, 0.125, 0.125])
    for target in (one_hot, mixed):
        x = (rng.uniform(-1.0, 1.0, size=4) * (spread or EXTREME[dtype])).astype(dtype)
        e = [mpmath.exp(mpmath.mpf(float(z))) for z in x]
        expected = -sum(float(y) * mpmath.log(part / sum(e)) for y, part in zip(target, e, strict=True))
        J, dtheta = net.loss_and_gradient(x[:, None], target[:, None])
        assert abs(mpmath.mpf(J) - expected) <= 16 * eps * (1 + np.ptp(x))
        _, db = net.views(host(dtheta))[1]
        softmax = np.array([float(part / sum(e)) for part in e])
        np.testing.assert_allclose(db[:, 0], softmax - target, atol=8 * eps * (1 + (spread or 1.0)))


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize(("z", "y"), [(40.0, 1.0), (-40.0, 0.0), (8.0, 1.0), (-8.0, 0.0)])
def test_a_confident_right_answer_keeps_its_small_loss(z, y, dtype, rtol, any_backend):
    """No cancellation: the loss is exp(-|z|), not 0."""
    J, _ = layer("sigmoid", None, dtype, any_backend).loss_and_gradient(np.array([[z]]), np.array([[y]]))
    assert pytest.approx(float(mpmath.log1p(mpmath.exp(-40 if abs(z) == 40 else -8))), rel=rtol) == J


# Extreme logits.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_extreme_logits_give_a_finite_loss_and_gradient(loss, output, dtype, any_backend):
    z = EXTREME[dtype]
    logits = np.array([[z, -z, 0.0], [-z, -z, z], [z, z, -z]])
    net = layer(output, loss, dtype, any_backend, units=3)
    Y = np.eye(3)[[0, 0, 2]].T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J, dtheta = net.loss_and_gradient(logits, Y)
        A = net.predict(logits)
        assert np.isfinite(J)
        assert np.all(np.isfinite(host(dtheta)))
        assert np.all(np.isfinite(A))
    if (loss, output) == ("binary_cross_entropy", "sigmoid"):
        # Two logits of z for a target of 0, one of -z for a target of 1; one of 0.
        wrong = sum(max(a, 0.0) - a * b + np.log1p(np.exp(-abs(a))) for a, b in zip(logits.flat, Y.flat, strict=True))
        assert pytest.approx(wrong / 3, rel=1e-6) == J
    if output == "softmax":
        # Example 0: max - z = 0, and ln 2 for the tie; example 1: 2 z; example 2: 2 z.
        assert pytest.approx((np.log(2.0) + 4.0 * z) / 3, rel=1e-6) == J


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_extreme_hidden_values_give_a_finite_gradient(name, dtype, any_backend):
    z = EXTREME[dtype]
    net = single(name, dtype, any_backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J, dtheta = net.loss_and_gradient(np.array([[z, -z, 0.0]]), np.zeros((1, 3)))
        assert np.isfinite(J)
        assert np.all(np.isfinite(host(dtheta)))


# Update rules, written from the papers as loops.


class Rules:
    """Each rule as its paper has it; the state is kept in the object."""

    def __init__(self, n, **settings):
        self.t, self.v, self.m, self.s = 0, np.zeros(n), np.zeros(n), np.zeros(n)
        self.settings = settings

    def step(self, name, theta, d, alpha):
        self.t += 1
        return getattr(self, name)(theta, d, alpha, **self.settings)

    def sgd(self, theta, d, alpha):
        return theta - alpha * d

    def momentum(self, theta, d, alpha, momentum=0.9):
        self.v = momentum * self.v - alpha * d
        return theta + self.v

    def nesterov(self, theta, d, alpha, momentum=0.9):
        # Sutskever's theta is the point theta + mu v at which the gradient is taken.
        before = theta - momentum * self.v
        self.v = momentum * self.v - alpha * d
        return before + self.v + momentum * self.v

    def rmsprop(self, theta, d, alpha, rho=0.9, epsilon=1e-8):
        self.s = rho * self.s + (1 - rho) * d**2
        return theta - alpha * d / (np.sqrt(self.s) + epsilon)

    def adam(self, theta, d, alpha, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.m = beta1 * self.m + (1 - beta1) * d
        self.s = beta2 * self.s + (1 - beta2) * d**2
        m_hat, s_hat = self.m / (1 - beta1**self.t), self.s / (1 - beta2**self.t)
        return theta - alpha * m_hat / (np.sqrt(s_hat) + epsilon)

    def adamw(self, theta, d, alpha, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01):
        decayed = theta - alpha * weight_decay * theta
        return decayed + self.adam(theta, d, alpha, beta1, beta2, epsilon) - theta


SETTINGS = {
    "sgd": [{}],
    "momentum": [{}, {"momentum": 0.5}],
    "nesterov": [{}, {"momentum": 0.5}],
    "rmsprop": [{}, {"rho": 0.7, "epsilon": 1e-3}],
    "adam": [{}, {"beta1": 0.5, "beta2": 0.8, "epsilon": 1e-3}],
    "adamw": [{}, {"beta1": 0.0, "beta2": 0.9, "weight_decay": 0.3}],
}
RATES = np.array([0.05, 0.02, 0.1, 0.03, 0.07, 0.01, 0.04])


@pytest.mark.parametrize(("name", "settings"), [(name, s) for name, many in SETTINGS.items() for s in many])
@pytest.mark.parametrize(("l2", "clip_norm"), [(0.0, None), (0.4, 0.3)])
def test_update_rules(name, settings, l2, clip_norm, any_backend):
    """Seven steps of fit, with a learning rate that changes, against the loop over loss_and_gradient."""
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(3, 11)), rng.normal(size=(2, 11))
    nets = [Network([3, 4, 2], "tanh", "identity", seed=8, dtype="float64", backend=any_backend) for _ in range(2)]
    net, twin = nets
    net.fit(
        X,
        Y,
        optimizer=Optimizer(name, **settings),
        learning_rate=lambda step: RATES[step],
        epochs=len(RATES),
        l2=l2,
        clip_norm=clip_norm,
    )
    rules, clipped = Rules(len(twin.theta), **settings), 0
    for alpha in RATES:
        d = host(twin.loss_and_gradient(X, Y, l2=l2)[1])
        norm = np.linalg.norm(d)
        if clip_norm is not None and norm > clip_norm:
            d, clipped = d * clip_norm / norm, clipped + 1
        twin.theta = rules.step(name, host(twin.theta), d, alpha)
    assert (clipped > 0) == (clip_norm is not None)
    np.testing.assert_allclose(host(net.theta), host(twin.theta), rtol=1e-11, atol=1e-12)


def test_settings_are_complete():
    assert set(SETTINGS) == set(RULES)
    for name, rule in RULES.items():
        assert {key for settings in SETTINGS[name] for key in settings} <= set(rule.hyperparameters)


def test_coefficients():
    """One row a step, in the order in which the rule reads them."""
    t, alpha = [1, 2, 50], [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(Optimizer("sgd").coefficients(t, alpha), [[0.1], [0.2], [0.3]])
    np.testing.assert_array_equal(
        Optimizer("momentum", momentum=0.8).coefficients(t, alpha), [[0.1, 0.8], [0.2, 0.8], [0.3, 0.8]]
    )
    np.testing.assert_array_equal(
        Optimizer("nesterov").coefficients(t, alpha), Optimizer("momentum").coefficients(t, alpha)
    )
    np.testing.assert_allclose(
        Optimizer("rmsprop", rho=0.75, epsilon=1e-5).coefficients(t, alpha),
        [[a, 0.75, 0.25, 1e-5] for a in alpha],
    )
    adam = [
        [a / (1 - 0.9**k), 0.9, 0.1, 0.999, 0.001, 1 / np.sqrt(1 - 0.999**k), 1e-8]
        for k, a in zip(t, alpha, strict=True)
    ]
    np.testing.assert_allclose(Optimizer("adam").coefficients(t, alpha), adam, rtol=1e-12)
    np.testing.assert_allclose(
        Optimizer("adamw", weight_decay=0.5).coefficients(t, alpha),
        [[*row, 1 - 0.5 * a] for row, a in zip(adam, alpha, strict=True)],
        rtol=1e-12,
    )
    for name in RULES:
        table = Optimizer(name).coefficients(t, alpha)
        assert table.dtype == np.float64
        assert table.shape[0] == 3
