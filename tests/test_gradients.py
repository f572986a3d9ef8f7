"""The gradient is right: central differences, an example worked by hand, and a symbolic proof."""

import mpmath
import numpy as np
import pytest
import sympy
from conftest import difference, host, make_targets

from accelnn import Network, equations, verbs
from accelnn.activations import ACTIVATIONS, HIDDEN, Activation
from accelnn.binding import Binding
from accelnn.losses import LOSSES, Loss, binary_cross_entropy, binary_cross_entropy_gradient
from accelnn.parameters import Layout, Workspace

# Central differences.

SIZES, M = (3, 4, 3, 2), 5
STEP = 1e-5  # truncation STEP^2 and rounding 1e-16 / STEP are both near 1e-11
MARGIN = 1e-3  # distance to keep from a kink, far beyond what a step of STEP can cross


def away_from_kinks(net, X, Y):
    """Whether no number of a pass over X is near a point where an activation or the loss has a corner."""
    A = X
    for l in range(1, len(net.W)):
        Z = host(net.W[l]) @ A + host(net.b[l])
        last = l == len(net.W) - 1
        A = ACTIVATIONS[net.output if last else net.activations[l - 1]].function(Z)
        if not last and np.min(np.abs(Z)) < MARGIN:
            return False
    residual = np.abs(A - Y)
    corners = {"absolute_error": residual, "quantile": residual, "huber": np.abs(residual - 1.0)}
    return bool(np.min(corners.get(net.loss, residual + 1.0)) > MARGIN)


def example(hidden, loss, output, backend, sizes=SIZES, m=M):
    """A network and data, drawn until nothing is near a kink."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        net = Network(sizes, hidden, output, loss, dtype="float64", backend=backend)
        # Biases and enough spread, so that residuals lie on both sides of Huber's corner.
        net.theta = rng.normal(0.0, 0.8, size=net.theta.shape)
        X = rng.uniform(-1.0, 1.0, size=(m, sizes[0])).T
        Y = make_targets(LOSSES[loss, output].targets, sizes[-1], m, rng)
        if away_from_kinks(net, X, Y):
            return net, X, Y
    raise AssertionError("every draw is near a kink")


def central_differences(net, X, Y, l2=0.0):
    slopes = np.empty(net.theta.shape)
    for k, value in enumerate(host(net.theta)):
        net.theta[k] = value + STEP
        above, _ = net.loss_and_gradient(X, Y, l2=l2)
        net.theta[k] = value - STEP
        below, _ = net.loss_and_gradient(X, Y, l2=l2)
        net.theta[k] = value
        slopes[k] = (above - below) / (2.0 * STEP)
    return slopes


@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
@pytest.mark.parametrize("hidden", HIDDEN)
def test_central_differences(hidden, loss, output, any_backend):
    net, X, Y = example(hidden, loss, output, any_backend)
    _, dtheta = net.loss_and_gradient(X, Y)
    slopes = central_differences(net, X, Y)
    assert np.all(np.abs(slopes) < 1e3)
    assert np.max(np.abs(slopes)) > 1e-3
    assert difference(host(dtheta), slopes) <= 1e-6


@pytest.mark.parametrize("m", [1, M])
def test_central_differences_with_penalty(m, any_backend):
    """Weights are penalised by l2 / (2 m) |W|^2, biases are not."""
    net, X, Y = example("tanh", "binary_cross_entropy", "sigmoid", any_backend, m=m)
    l2 = 0.7
    plain, dplain = net.loss_and_gradient(X, Y)
    J, dtheta = net.loss_and_gradient(X, Y, l2=l2)
    W = [None, *map(host, net.W[1:])]
    assert pytest.approx(plain + l2 / (2 * m) * sum(np.sum(w * w) for w in W[1:]), rel=1e-13) == J
    dtheta, dplain = host(dtheta), host(dplain)
    for l, (dW, db) in enumerate(net.views(dtheta)[1:], start=1):
        np.testing.assert_allclose(dW, net.views(dplain)[l][0] + l2 / m * W[l], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(db, net.views(dplain)[l][1], rtol=1e-12)
    assert difference(dtheta, central_differences(net, X, Y, l2)) <= 1e-6


@pytest.mark.parametrize(
    ("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0), ("identity", 1.0), ("sigmoid", 0.25)]
)
def test_the_slope_at_zero(name, slope, any_backend):
    """Units whose Z is exactly 0, as after an input of zeros: the left slope at a kink."""
    net = Network([1, 1, 1], name, "identity", dtype="float64", backend=any_backend)
    net.theta = [3.0, 0.0, 2.0, 0.0]
    X, Y = np.zeros((1, 1)), np.array([[-1.0]])
    _, dtheta = net.loss_and_gradient(X, Y)
    assert float(dtheta[1]) == pytest.approx((2.0 * ACTIVATIONS[name].function(np.zeros(1))[0] + 1.0) * 2.0 * slope)


def test_the_slope_of_an_absolute_error_of_zero(any_backend):
    net = Network([1, 1], output="identity", loss="absolute_error", dtype="float64", backend=any_backend)
    net.theta = [1.0, 0.0]
    J, dtheta = net.loss_and_gradient(np.array([[0.5, 0.5, 0.5]]), np.array([[0.5, 0.25, 0.25]]))
    assert pytest.approx(0.5 / 3) == J
    np.testing.assert_allclose(host(dtheta), [1.0 / 3, 2.0 / 3], rtol=1e-14)


# An example worked by hand. With h = ln(3) / 2 = 0.5493061443340548 every value of g is a plain fraction:
# tanh(h) = (3 - 1) / (3 + 1) = 1/2, sigmoid(2 h) = 1 / (1 + 1/3) = 3/4, sigmoid(-2 h) = 1/4.
#
#   X    = [ h  0 ]      W[1] = [ 2  0 ]      b[1] = [ -h ]      W[2] = [ 2h  -4h ]      b[2] = [ h ]      Y = [ 1  1 ]
#          [ 0  h ]             [ 1  2 ]             [ -h ]
#
#   Z[1] = [ 2h - h   0 - h ]  = [ h  -h ]      A[1] = [ 1/2  -1/2 ]
#          [  h - h  2h - h ]    [ 0   h ]             [  0    1/2 ]
#   Z[2] = [ 2h/2 - 0 + h    -2h/2 - 4h/2 + h ] = [ 2h  -2h ]      A[2] = [ 3/4  1/4 ]
#   J    = 1/2 (-ln 3/4 - ln 1/4) = 1/2 ln 16/3 = 0.8369882167858358
#
#   dZ[2] = A[2] - Y = [ -1/4  -3/4 ]
#   dW[2] = 1/2 dZ[2] A[1]^T = 1/2 [ -1/8 + 3/8    0 - 3/8 ] = [ 1/8  -3/16 ]
#   db[2] = 1/2 (-1/4 - 3/4) = -1/2
#   dA[1] = W[2]^T dZ[2] = [ -h/2  -3h/2 ]      g' = 1 - A[1]^2 = [ 3/4  3/4 ]
#                          [   h      3h ]                        [  1   3/4 ]
#   dZ[1] = [ -3h/8  -9h/8 ]
#           [    h    9h/4 ]
#   dW[1] = 1/2 dZ[1] X^T = h/2 dZ[1] = [ -3h^2/16  -9h^2/16 ]      with h^2 = 0.3017372402031455
#                                       [   h^2/2    9h^2/8  ]
#   db[1] = 1/2 [ -12h/8 ] = [ -3h/4  ] = [ -0.4119796082505411 ]
#               [  13h/4 ]   [ 13h/8  ]   [  0.8926224845428390 ]


def by_hand(backend):
    net = Network([2, 2, 1], "tanh", "sigmoid", dtype="float64", backend=backend)
    net.W[1][...] = backend.from_host(np.array([[2.0, 0.0], [1.0, 2.0]]))
    net.b[1][...] = backend.from_host(np.array([[-0.5493061443340548], [-0.5493061443340548]]))
    net.W[2][...] = backend.from_host(np.array([[1.0986122886681096, -2.197224577336219]]))
    net.b[2][...] = backend.from_host(np.array([[0.5493061443340548]]))
    X = np.array([[0.5493061443340548, 0.0], [0.0, 0.5493061443340548]])
    return net, X, np.array([[1.0, 1.0]])


def test_example_by_hand(any_backend):
    net, X, Y = by_hand(any_backend)
    np.testing.assert_allclose(net.predict(X), [[0.75, 0.25]], rtol=1e-14)
    J, dtheta = net.loss_and_gradient(X, Y)
    assert pytest.approx(0.8369882167858358, rel=1e-14) == J
    (dW1, db1), (dW2, db2) = net.views(dtheta)[1:]
    dW1, db1, dW2, db2 = map(host, (dW1, db1, dW2, db2))
    np.testing.assert_allclose(dW2, [[0.125, -0.1875]], rtol=1e-14)
    np.testing.assert_allclose(db2, [[-0.5]], rtol=1e-14)
    # h^2 = 0.3017372402031455, times -3/16, -9/16, 1/2 and 9/8.
    np.testing.assert_allclose(
        dW1, [[-0.05657573253808978, -0.16972719761426934], [0.15086862010157275, 0.3394543952285387]], rtol=1e-14
    )
    np.testing.assert_allclose(db1, [[-0.4119796082505411], [0.8926224845428390]], rtol=1e-14)


def test_one_step_of_descent_by_hand(any_backend):
    """With alpha = 2: W[2] = [2h - 1/4, -4h + 3/8] and b[2] = h + 1."""
    net, X, Y = by_hand(any_backend)
    history = net.fit(X, Y, optimizer="sgd", learning_rate=2.0, epochs=1)
    assert history.loss == pytest.approx([0.8369882167858358], rel=1e-14)
    np.testing.assert_allclose(host(net.W[2]), [[0.8486122886681096, -1.822224577336219]], rtol=1e-14)
    np.testing.assert_allclose(host(net.b[2]), [[1.5493061443340548]], rtol=1e-14)
    np.testing.assert_allclose(host(net.b[1]), [[0.2746530721670274], [-2.3345511134197328]], rtol=1e-14)


# A proof with symbols: the lines of the page itself, run on matrices of SymPy expressions. A sigmoid is a function S
# with S' = S (1 - S), and tanh differentiates itself; that these hold for the exponential forms is proved below.


class S(sympy.Function):
    """The sigmoid, known by its derivative alone."""

    def fdiff(self, argindex=1):
        return self * (1 - self)


def elementwise(function):
    return np.vectorize(function, otypes=[object])


def exact(number):
    """Constants of a formula as fractions."""
    return sympy.Rational(repr(number))


def symbols(letter, rows, columns):
    names = [[sympy.Symbol(f"{letter}_{i}{j}", real=True) for j in range(columns)] for i in range(rows)]
    return np.array(names, dtype=object)


def derivative(J, matrix):
    return elementwise(lambda symbol: sympy.diff(J, symbol))(matrix)


def assert_equal_expressions(actual, expected):
    assert actual.shape == expected.shape
    for left, right in zip(actual.flat, expected.flat, strict=True):
        assert sympy.cancel(sympy.together(left - right)) == 0


TEXTBOOK_BCE = Loss(
    "binary_cross_entropy",
    "sigmoid",
    lambda z, y: (
        -y * elementwise(sympy.log)(elementwise(S)(z)) - (1 - y) * elementwise(sympy.log)(1 - elementwise(S)(z))
    ),
    Binding({"sigmoid": elementwise(S)}, constant=exact)(binary_cross_entropy_gradient),
)
TANH = Activation("tanh", elementwise(sympy.tanh), Binding({}, constant=exact)(ACTIVATIONS["tanh"].backward))
IDENTITY = ACTIVATIONS["identity"]


UNWEIGHTED = np.empty((0, 2), dtype=object)


class SymbolicDropout:
    """Masks that leave out one unit of each of two examples in layer 1, and scale the others by any factor."""

    thresholds = (0, 1, 0)
    factor = sympy.Symbol("f", positive=True)

    def mask(self, l, s, shape):
        assert (l, s, shape) == (1, 3, (2, 2))
        return np.array([[0, self.factor], [self.factor, 0]], dtype=object)


def symbolic_layers():
    """Two layers, 2-2-1, on two examples: Z[1] free, then A[1], Z[2] and J in terms of it."""
    Z1, W2, b2, Y = symbols("z", 2, 2), symbols("w", 1, 2), symbols("b", 1, 1), symbols("y", 1, 2)
    _, A1 = verbs.linear_activation(np.array([[1, 0], [0, 1]], dtype=object), np.zeros((2, 1), object), Z1, TANH)
    Z2, _ = verbs.linear_activation(W2, b2, A1, IDENTITY)
    J, dZ2 = verbs.loss_gradient(Z2, Y, UNWEIGHTED, TEXTBOOK_BCE)
    return Z1, A1, W2, b2, Z2, Y, J, dZ2


def test_proof_of_the_output_gradient():
    """m dJ/dZ[L] = A[L] - Y, for a sigmoid and binary cross-entropy."""
    Z, Y = symbols("z", 1, 2), symbols("y", 1, 2)
    J, dZ = verbs.loss_gradient(Z, Y, UNWEIGHTED, TEXTBOOK_BCE)
    assert_equal_expressions(dZ, elementwise(S)(Z) - Y)
    assert_equal_expressions(dZ, 2 * derivative(J, Z))


def test_proof_of_the_layer_gradients():
    """dJ/dW[l] = 1/m dZ[l] A[l-1]^T and dJ/db[l] = 1/m sum_i dZ[l](i)."""
    _, A1, W2, b2, _, _, J, dZ2 = symbolic_layers()
    dW2, db2 = verbs.linear_gradients(dZ2, A1, W2, 0)
    assert_equal_expressions(dW2, derivative(J, W2))
    assert_equal_expressions(db2, derivative(J, b2))


def test_proof_of_backpropagation():
    """m dJ/dZ[l-1] = W[l]^T dZ[l] * g'(Z[l-1])."""
    Z1, A1, W2, _, _, _, J, dZ2 = symbolic_layers()
    assert_equal_expressions(verbs.backpropagate(W2, dZ2, Z1, A1, TANH), 2 * derivative(J, Z1))


@pytest.mark.parametrize("drops", [False, True], ids=["", "dropout"])
@pytest.mark.parametrize("w", [UNWEIGHTED, symbols("v", 1, 2)], ids=["", "weights"])
def test_proof_of_the_page(w, drops):
    """dJ/dtheta as the page computes it, all nine components, penalty, weights and dropout included."""
    layout = Layout([2, 2, 1], [False, False], [drops, False])
    theta = np.array(sympy.symbols("t0:9", real=True), dtype=object)
    dtheta, l2 = np.empty(9, dtype=object), sympy.Symbol("lambda", positive=True)
    work = Workspace(layout, 2, lambda length: np.empty(length, dtype=object))
    drop, g = SymbolicDropout() if drops else None, [None, TANH, IDENTITY]
    X, Y = symbols("x", 2, 2), symbols("y", 1, 2)
    J = equations.loss_and_gradient(X, Y, w, theta, dtheta, layout, g, TEXTBOOK_BCE, l2, drop, 3, work)
    assert J.free_symbols >= {*theta, l2, *w.flat, *([drop.factor] if drops else [])}
    assert_equal_expressions(dtheta, derivative(J, theta))


def test_proof_of_the_sigmoid():
    """S' = S (1 - S) for S = 1 / (1 + exp(-z)), and the derivative of tanh."""
    z = sympy.Symbol("z", real=True)
    sigmoid = 1 / (1 + sympy.exp(-z))
    assert sympy.simplify(sympy.diff(sigmoid, z) - sigmoid * (1 - sigmoid)) == 0
    tanh = (sympy.exp(2 * z) - 1) / (sympy.exp(2 * z) + 1)
    assert sympy.simplify(sympy.diff(tanh, z) - (1 - tanh**2)) == 0


# The formulas with symbols that have a sign, so that maximum, abs and where choose a side.


def symbolic_maximum(x, y):
    larger = (sympy.sympify(x) - y).is_nonnegative
    assert larger is not None
    return x if larger else y


SYMBOLIC = Binding(
    {
        "exp": sympy.exp,
        "expm1": lambda x: sympy.exp(x) - 1,
        "log1p": lambda x: sympy.log(1 + x),
        "tanh": sympy.tanh,
        "maximum": symbolic_maximum,
        "minimum": lambda x, y: y if symbolic_maximum(x, y) is x else x,
        "where": lambda condition, x, y: x if bool(condition) else y,
    },
    constant=exact,
)
SIDES = {"left": sympy.Symbol("z", negative=True), "right": sympy.Symbol("z", positive=True)}


@pytest.mark.parametrize("z", SIDES.values(), ids=SIDES)
def test_proof_of_the_stable_loss(z):
    """max(z, 0) - z y + log1p(exp(-|z|)) is the textbook's binary cross-entropy."""
    y, a = sympy.Symbol("y", real=True), 1 / (1 + sympy.exp(-z))
    textbook = -y * sympy.log(a) - (1 - y) * sympy.log(1 - a)
    gap = sympy.diff(SYMBOLIC(binary_cross_entropy)(z, y) - textbook, z)
    assert sympy.simplify(gap) == 0
    # Equal slopes, and equal at one point of each side.
    at = {z: sympy.log(3) if z.is_positive else -sympy.log(3)}
    gap = (SYMBOLIC(binary_cross_entropy)(z, y) - textbook).subs(at)
    assert sympy.simplify(sympy.expand_log(gap, force=True)) == 0
    assert sympy.simplify(SYMBOLIC(binary_cross_entropy_gradient)(z, y) - (a - y)) == 0


@pytest.mark.parametrize("z", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("name", HIDDEN)
def test_proof_of_the_derivatives(name, z):
    """The table's backward formula is da times the derivative of its function, on each side of zero."""
    entry, da = ACTIVATIONS[name], sympy.Symbol("da", real=True)
    a = sympy.sympify(SYMBOLIC(entry.function)(z))
    # A formula in terms of the output decides by the sign of a, so let a symbol of that sign stand for it.
    positive = bool(z.is_positive) or name in ("sigmoid", "softplus")
    points = [a.subs(z, sympy.Rational(k, 10) * (1 if z.is_positive else -1)).evalf() for k in (1, 10, 50)]
    assert all(value > 0 if positive else value <= 0 for value in points)
    known = sympy.Symbol("a", positive=True) if positive else sympy.Symbol("a", nonpositive=True)
    computed = SYMBOLIC(entry.backward)(da, z, known).subs(known, a)
    assert sympy.simplify((computed - da * sympy.diff(a, z)).rewrite(sympy.exp)) == 0


@pytest.mark.parametrize("name", HIDDEN)
def test_derivatives_in_numbers(name):
    """The same in float64, against mpmath's derivative of a function written down here."""
    functions = {
        "identity": lambda z: z,
        "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
        "tanh": mpmath.tanh,
        "relu": lambda z: max(z, 0),
        "leaky_relu": lambda z: max(z, z / 100),
        "elu": lambda z: z if z > 0 else mpmath.expm1(z),
        "gelu": lambda z: z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3))),
        "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    }
    z = np.linspace(-6.0, 6.0, 48)
    entry = ACTIVATIONS[name]
    with mpmath.workdps(40):
        expected = [float(mpmath.diff(functions[name], mpmath.mpf(float(x)))) for x in z]
    actual = entry.backward(np.ones_like(z), z, entry.function(z))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)
