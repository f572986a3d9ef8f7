"""The same network gives the same numbers on every backend; the reference bodies on NumPy say what they are."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from conftest import DTYPES, FACTORIES, assert_same, make_targets, recording
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelnn import Network, get_backend, verbs
from accelnn.activations import ACTIVATIONS, HIDDEN
from accelnn.dropout import Dropout
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES, Optimizer

pytestmark = pytest.mark.gpu  # on a GPU, cupy is among the backends that are compared

STEPS = 10
ADAPTIVE = ("rmsprop", "adam", "adamw")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its data and ten steps of training."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    output: str
    loss: str
    dtype: str
    optimizer: str = "sgd"
    learning_rate: float = 1e-3
    epsilon: float | None = None  # of an adaptive rule; None is its default
    l2: float = 0.0
    clip_norm: float | None = None
    batches: int = 5  # an epoch's; divides STEPS
    batch_size: int = 4
    last: int = 3  # size of each epoch's last batch
    shuffle: bool = True
    seed: int = 0

    @property
    def m(self):
        return (self.batches - 1) * self.batch_size + self.last

    def data(self):
        rng = np.random.default_rng(self.seed)
        X = rng.uniform(-1.0, 1.0, size=(self.m, self.sizes[0])).T
        return X, make_targets(LOSSES[self.loss, self.output].targets, self.sizes[-1], self.m, rng)


@st.composite
def cases(draw, loss, output, dtype):
    """A network of depth 1 to 5 and widths 1 to 70, and how to train it."""
    depth = draw(st.integers(1, 5), label="depth")
    widths = [draw(st.integers(1, 70)) for _ in range(depth)]
    optimizer = draw(st.sampled_from(list(RULES)))
    batch_size = draw(st.integers(1, 9))
    return Case(
        sizes=(*widths, draw(st.integers(2 if output == "softmax" else 1, 70))),
        activations=tuple(draw(st.sampled_from(HIDDEN)) for _ in range(depth - 1)),
        output=output,
        loss=loss,
        dtype=dtype,
        optimizer=optimizer,
        # Small enough for every curvature drawn here: an unstable descent would magnify the last bit.
        learning_rate=draw(st.sampled_from([1e-4, 1e-3] if optimizer in ADAPTIVE else [1e-4, 1e-3, 5e-3])),
        # An adaptive rule divides by |d| + epsilon. With the default of 1e-8, a component of the gradient that is
        # float32's rounding noise (1e-8 to 1e-7; one of 10,000 is) moves its weight by a whole learning rate, up or
        # down by chance. `test_every_optimiser` has the defaults.
        epsilon=1e-4 if dtype == "float32" and optimizer in ADAPTIVE else None,
        l2=draw(st.sampled_from([0.0, 0.01, 0.5])),
        clip_norm=draw(st.sampled_from([None, 0.1, 2.0])),
        batches=draw(st.sampled_from([1, 2, 5, 10])),
        batch_size=batch_size,
        last=draw(st.integers(1, batch_size)),
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


@cache
def backends():
    return {name: make() for name, make in FACTORIES.items()}


def run(backend, case):
    """Everything that must agree: what exactly, and what to the tolerance."""
    spy, orders = recording(backend)
    X, Y = case.data()
    net = Network(
        case.sizes,
        case.activations,
        case.output,
        case.loss,
        seed=case.seed,
        dtype=case.dtype,
        backend=spy,
    )
    start = np.array(backend.to_host(net.theta))
    A = net.predict(X)
    J, dtheta = net.loss_and_gradient(X, Y, l2=case.l2)
    steps = []
    history = net.fit(
        X,
        Y,
        optimizer=Optimizer(case.optimizer, **({} if case.epsilon is None else {"epsilon": case.epsilon})),
        learning_rate=lambda step: steps.extend(step) or np.full(len(step), case.learning_rate),
        epochs=STEPS // case.batches,
        batch_size=None if case.batches == 1 else case.batch_size,
        shuffle=case.shuffle,
        validation=(X, Y),
        l2=case.l2,
        clip_norm=case.clip_norm,
    )
    assert steps == list(range(STEPS))
    exact = {"initial weights": start, "batch orders": np.array(orders)}
    close = {
        "A[L]": A,
        "J": J,
        "dtheta": backend.to_host(dtheta),
        "theta after 10 steps": backend.to_host(net.theta),
        "losses": history.loss,
        "validation losses": history.validation_loss,
    }
    assert A.dtype == case.dtype
    assert close["theta after 10 steps"].dtype == case.dtype
    return exact, close


def compare(case, condition=bool):
    """Run a case everywhere; `condition` receives whether its gradient has digits to compare."""
    exact, close = run(backends()["reference"], case)
    for array in close.values():
        assert np.all(np.isfinite(array))
    assert not np.array_equal(exact["initial weights"], close["theta after 10 steps"])
    # Where outputs meet their targets the gradient is all cancellation, and no digit of it can be compared.
    condition(np.max(np.abs(close["dtheta"])) > 1e-2)
    for name, backend in backends().items():
        if name == "reference":
            continue
        others_exact, others_close = run(backend, case)
        for what, array in others_exact.items():
            np.testing.assert_array_equal(array, exact[what], err_msg=f"{what} on {name}")
        for what, array in others_close.items():
            assert_same(array, close[what], case.dtype, f"{what} on {name}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_drawn_networks(loss, output, dtype):
    @settings(max_examples=8)
    @given(cases(loss, output, dtype))
    def holds(case):
        compare(case, assume)

    holds()


# The draws above leave to chance which names they meet; these meet each one.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HIDDEN)
def test_every_activation(name, dtype):
    compare(Case((7, 33, 5, 3), (name, name), "sigmoid", "binary_cross_entropy", dtype, learning_rate=0.01))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(RULES))
def test_every_optimiser(name, dtype):
    compare(Case((6, 17, 4), ("tanh",), "softmax", "cross_entropy", dtype, optimizer=name, l2=0.1, clip_norm=0.5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_one_example(loss, output, dtype):
    case = Case((3, 4, 2), ("gelu",), output, loss, dtype, batches=1, batch_size=1, last=1)
    assert case.m == 1
    compare(case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 1), (70, 1, 70), (1, 70, 1), (70, 70, 70, 70, 70, 70)])
def test_narrow_and_deep(sizes, dtype):
    names = ("relu", "tanh", "elu", "softplus")[: len(sizes) - 2]
    compare(Case(sizes, names, "identity", "squared_error", dtype, batch_size=1, last=1))
    compare(Case(sizes, names, "identity", "huber", dtype))


# The verbs by themselves, with and without `out`. Numba's are compiled into the page and have no life outside it.

N, N_PREV, M = 5, 3, 7


def f_ordered(rng, *shape):
    return rng.uniform(-1.0, 1.0, size=shape[::-1]).T


def verb_calls():
    """Name, arguments, and shapes of what `out` holds."""
    rng = np.random.default_rng(3)
    W, b, A_prev = f_ordered(rng, N, N_PREV), f_ordered(rng, N, 1), f_ordered(rng, N_PREV, M)
    Z, dZ, Y = f_ordered(rng, N, M), f_ordered(rng, N, M), f_ordered(rng, N, M)
    shape, theta = (N, M), rng.uniform(size=20)
    for name in (*HIDDEN, "softmax", "exp"):
        yield "linear_activation", (W, b, A_prev, ACTIVATIONS[name]), (shape, shape)
    for (name, output), loss in LOSSES.items():
        targets = np.asfortranarray(make_targets(loss.targets, N, M, rng))
        for w in (np.empty((0, M)), rng.uniform(0.0, 2.0, size=(1, M))):
            yield f"loss_gradient {name} {output}", (Z, targets, w, loss), shape
    for rate in (0.0, 0.4):
        yield "dropout", (Z, Dropout.of([rate, 0.0], 0, 0), 1, 2), shape if rate else None
    for l2 in (0.0, 0.3):
        yield "linear_gradients", (dZ, A_prev, W, l2), ((N, N_PREV), (N, 1))
        yield "penalty", ([None, W, b], l2, A_prev), None
    for name in HIDDEN:
        Z_prev = f_ordered(rng, N_PREV, M)
        entry = ACTIVATIONS[name]
        yield "backpropagate", (W, dZ, Z_prev, entry.function(Z_prev), entry), (N_PREV, M)
    for limit in (np.inf, 0.1, 1e6):
        yield "clip_gradient", (theta, limit), theta.shape
    for rule in RULES.values():
        state = rng.uniform(size=(len(rule.state), 20))
        numbers = Optimizer(rule.name).coefficients([3], [0.1])[0].tolist()
        yield f"update {rule.name}", (theta, rng.uniform(size=20), state, rule, numbers), (theta.shape, state.shape)
    del Y


def flattened(result):
    """The arrays of a verb's result, tuples within tuples too."""
    if isinstance(result, tuple | list):
        return [array for part in result for array in flattened(part)]
    return [np.array(result)]


@pytest.mark.parametrize("name", list(dict.fromkeys(call[0] for call in verb_calls())))
def test_numpy_verbs_with_and_without_out(name):
    """`out` receives the result and is what comes back; without it the inputs are left alone."""
    for label, arguments, shapes in verb_calls():
        if label != name:
            continue
        verb = label.partition(" ")[0]
        specification, body = getattr(verbs, verb), get_backend("numpy").verbs[verb]
        inputs = [np.array(a, copy=True) if isinstance(a, np.ndarray) else a for a in arguments]
        expected = flattened(specification(*arguments))
        results = [body(*arguments)]
        if shapes is not None:
            pair = isinstance(shapes[0], tuple)
            out = tuple(np.full(s[::-1], np.nan).T for s in shapes) if pair else np.full(shapes[::-1], np.nan).T
            results.append(body(*arguments, out=out))
            for place in flattened(out) if verb != "clip_gradient" else ():
                assert np.all(np.isfinite(place)), f"{label}: out was not filled"
        for result in results:
            for actual, wanted in zip(flattened(result), expected, strict=True):
                assert_same(actual.reshape(wanted.shape), wanted, "float64", label)
        for given_, kept in zip(arguments, inputs, strict=True):
            if isinstance(kept, np.ndarray):
                np.testing.assert_array_equal(given_, kept, err_msg=f"{label} changed an input")
