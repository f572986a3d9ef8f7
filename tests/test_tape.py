"""A recorded formula gives what NumPy gives, wherever its results go; and a step of training allocates nothing."""

import dataclasses
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from conftest import make_targets
from hypothesis import given
from hypothesis import strategies as st

from accelnn import Network, Optimizer, get_backend
from accelnn.activations import ACTIVATIONS
from accelnn.backends.numpy.tape import BLOCK, Tape
from accelnn.elementary import tanh
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES

ELEMENTARY = {
    name: getattr(np, name) for name in ("exp", "expm1", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh", "where")
}
LENGTHS = (1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 37)

# Drawn formulas. Each line of a formula uses arrays, numbers and earlier lines; values stay moderate.

LINES = (
    "{0} + {1}",
    "{0} - {1}",
    "0.5 * {0} * {1}",
    "{0} / (1.5 + abs({1}))",
    "2.0 - {0}",
    "1.0 / (2.0 + {0} * {0})",
    "-{0}",
    "abs({0})",
    "0.3 + {0}",
    "exp(-abs({0}))",
    "expm1(minimum({0}, 0.5))",
    "log1p(abs({0}))",
    "tanh({0})",
    "sqrt(abs({0}) + 0.1)",
    "sign({0})",
    "maximum({0}, {1})",
    "minimum({0}, 0.25)",
    "maximum({0}, 0.0)",
    "where({0} > 0.0, {1}, {2})",
    "where({0} <= {1}, {2}, 0.5)",
    "where({0} < {2}, 1.0, {1})",
    "where({0} == {1}, {2}, 0.5)",
    "where({0} != 0.0, {1}, {2})",
    "where({0} >= {1}, where({1} > {2}, {0}, {1}), {2})",
)


@dataclasses.dataclass(frozen=True)
class Formula:
    """Python source of a function of arrays and numbers."""

    arrays: int
    numbers: int
    lines: tuple[str, ...]
    results: tuple[str, ...]

    def function(self, names):
        arguments = [f"x{k}" for k in range(self.arrays)] + [f"c{k}" for k in range(self.numbers)]
        body = [*(f"t{k} = {line}" for k, line in enumerate(self.lines)), f"return {', '.join(self.results)}"]
        scope = {**names, "__name__": __name__}
        exec(f"def formula({', '.join(arguments)}):\n    " + "\n    ".join(body), scope)
        return scope["formula"]

    def expected(self, arrays, numbers):
        values = self.function(ELEMENTARY)(*arrays, *numbers)
        return values if isinstance(values, tuple) else (values,)

    def tape(self):
        return Tape(self.function({}), arrays=self.arrays, numbers=self.numbers)


@st.composite
def formulas(draw):
    arrays, numbers, count = draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.integers(1, 12))
    vectors, lines = [f"x{k}" for k in range(arrays)], []
    for k in range(count):
        # The first operand is an array, so that every line is one.
        operands = [draw(st.sampled_from(vectors))]
        anything = st.sampled_from([*vectors, *(f"c{j}" for j in range(numbers))])
        template = draw(st.sampled_from(LINES))
        # Comparisons and `where` want arrays; elsewhere a number may stand.
        operands += [draw(st.sampled_from(vectors) if "where" in template else anything) for _ in range(2)]
        lines.append(template.format(*operands))
        vectors.append(f"t{k}")
    results = draw(st.lists(st.sampled_from([f"t{k}" for k in range(count)]), min_size=1, max_size=3))
    return Formula(arrays, numbers, tuple(lines), tuple(results))


def data(count, length, dtype, seed):
    rng = np.random.default_rng(seed)
    # A few exact ties and zeros, at which comparisons decide.
    return [np.round(rng.uniform(-2.0, 2.0, size=length), rng.integers(1, 6)).astype(dtype) for _ in range(count)]


def assert_near(actual, expected, dtype):
    """NumPy may take another loop for the end of an array, so not to the bit."""
    np.testing.assert_allclose(
        actual, expected, rtol=0.0, atol=64 * np.finfo(dtype).eps * (1 + np.max(np.abs(expected)))
    )


drawn = (formulas(), st.sampled_from(LENGTHS), st.sampled_from(["float32", "float64"]), st.integers(0, 99))


@given(*drawn)
def test_drawn_formulas(formula, length, dtype, seed):
    """Results in arrays of their own; the inputs are left as they were."""
    arrays, numbers = data(formula.arrays, length, dtype, seed), [0.7, -1.3][: formula.numbers]
    before = [array.copy() for array in arrays]
    expected = formula.expected(arrays, numbers)
    out = [np.full(length, np.nan, dtype) for _ in expected]
    assert formula.tape()(arrays, numbers, out) == 0.0
    for actual, wanted in zip(out, expected, strict=True):
        assert wanted.dtype == dtype
        assert_near(actual, wanted, dtype)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@given(*drawn, st.data())
def test_drawn_formulas_in_place(formula, length, dtype, seed, draw):
    """Each result over an input, or summed."""
    arrays, numbers = data(formula.arrays, length, dtype, seed), [0.7, -1.3][: formula.numbers]
    expected = formula.expected(arrays, numbers)
    free = draw.draw(st.permutations(range(len(arrays))))
    places = [free[k] if k < len(free) and draw.draw(st.booleans()) else None for k in range(len(expected))]
    out = [None if place is None else arrays[place] for place in places]
    total = formula.tape()(arrays, numbers, out)
    for place, wanted in zip(places, expected, strict=True):
        if place is not None:
            assert_near(arrays[place], wanted, dtype)
    sums = [w.astype(np.float64) for place, w in zip(places, expected, strict=True) if place is None]
    scale = sum(float(np.sum(np.abs(s))) for s in sums) + length
    assert abs(total - sum(float(s.sum()) for s in sums)) <= 64 * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("line", LINES)
def test_each_operation_over_each_of_its_operands(line, place):
    formula = Formula(3, 0, (line.format("x0", "x1", "x2"),), ("t0",))
    arrays = data(3, BLOCK + 5, "float64", place)
    (expected,) = formula.expected(arrays, [])
    formula.tape()(arrays, [], [arrays[place]])
    assert_near(arrays[place], expected, "float64")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_matrices_in_both_orders(length, order):
    """Memory order is kept: a (3, n) matrix is a vector like any other."""
    rng = np.random.default_rng(0)
    x, y = (np.asarray(rng.normal(size=(3, length)), order=order) for _ in range(2))
    out = np.empty_like(x)
    Tape(lambda a, b: a - b * b, arrays=2)((x, y), (), (out,))
    np.testing.assert_allclose(out, x - y * y, rtol=1e-15)


def test_a_result_that_is_an_input():
    """`identity` returns its argument."""
    x, out = np.arange(5.0), np.zeros(5)
    Tape(lambda z: z, arrays=1)((x,), (), (out,))
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize(
    "formula",
    [lambda a, b: (b, a), lambda a, b: (a + b, a), lambda a, b: (b, 2.0 * a)],
    ids=["swap", "sum and kept", "kept and scaled"],
)
def test_a_result_that_is_an_input_while_another_result_overwrites_it(formula):
    x, y = np.arange(3.0), np.arange(3.0) + 10.0
    expected = [np.array(v) for v in formula(x, y)]
    Tape(formula, arrays=2)((x, y), (), (x, y))
    np.testing.assert_array_equal([x, y], expected)


def test_one_result_twice():
    def formula(x):
        t = x * x
        return t, t

    x, out = np.arange(4.0), [np.zeros(4), np.zeros(4)]
    Tape(formula, arrays=1)((x,), (), out)
    np.testing.assert_array_equal(out, [x * x, x * x])


def test_nothing_to_do():
    assert Tape(lambda x: x * x, arrays=1)((np.empty(0),), (), (None,)) == 0.0


def test_a_common_subexpression_is_computed_once():
    calls = []

    def formula(x):
        calls.append(x)
        return (1.0 + x) * (1.0 + x) + (1.0 + x)

    tape = Tape(formula, arrays=1)
    assert len(calls) == 1
    assert [operation for operation, _, _ in tape._program] == [np.add, np.multiply, np.add]


def test_registers_are_used_again():
    """A long chain needs two, so that they stay in the cache."""

    def formula(x):
        t = x
        for _ in range(20):
            t = tanh(t) * x
        return t

    tape = Tape(formula, arrays=1)
    assert len(tape._program) == 40
    assert len(tape._boolean) <= 2


def test_two_formulas_share_what_they_have_in_common():
    tape = Tape(lambda x: x * x + 1.0, lambda x: x * x - 1.0, arrays=1)
    x, out = np.arange(4.0), np.empty(4)
    assert tape((x,), (), (None, out)) == float(np.sum(x * x + 1.0))
    np.testing.assert_array_equal(out, x * x - 1.0)
    assert len(tape._program) == 3


def test_a_formula_may_not_branch():
    with pytest.raises(TypeError, match="where"):
        Tape(lambda x: x if x > 0.0 else -x, arrays=1)


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if not entry.columnwise])
def test_nan_goes_through_activations(name):
    entry = ACTIVATIONS[name]
    z, out = np.array([1.0, np.nan, -1.0]), np.empty(3)
    Tape(entry.function, arrays=1)((z,), (), (out,))
    assert np.isnan(out).tolist() == [False, True, False]


def test_threads_do_not_share_registers():
    """Eight threads, one tape, data of their own."""

    def formula(x, c):
        t = tanh(tanh(x))
        return t * c + t * t

    tape = Tape(formula, arrays=1, numbers=1)
    wrong = []

    def work(k):
        x = np.linspace(-1.0, 1.0, 3 * BLOCK) * (k + 1)
        t = np.tanh(np.tanh(x))
        expected, out = t * k + t * t, np.empty_like(x)
        for _ in range(60):
            out.fill(np.nan)
            tape((x,), (float(k),), (out,))
            if not np.allclose(out, expected, rtol=1e-14, atol=1e-15):
                wrong.append(k)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


# Memory.


def peak(work):
    """Bytes by which memory known to Python and NumPy grew at its largest while `work` ran."""
    tracemalloc.start()
    try:
        work()  # once more, so that what Python keeps for itself is there
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


M, WIDTH = 4 * BLOCK, 16  # even one number an example, 128 KiB, stands out
# NumPy's own buffer for a broadcast operand (8192 elements, whatever the arrays' size), views, slices and lists.
SMALL = 48 * 1024


def steps(net, X, Y, optimizer, batch_size, shuffle, **options):
    """A callable that runs two more epochs on memory that exists, as a fit does after its first step."""
    backend, n = net.backend, net.layout.n_parameters
    X, Y, w = net.examples(X, Y).arrays
    optimizer = Optimizer(optimizer)
    batches = -(-M // batch_size)
    order = np.stack([np.random.default_rng(e).permutation(M) for e in range(2)]) if shuffle else np.empty((2, 0), int)
    table = optimizer.coefficients(np.arange(1, 2 * batches + 1), np.full(2 * batches, 1e-3))
    arguments = (
        *(X, Y, w, net.theta, backend.zeros(n, net.dtype), backend.zeros((len(optimizer.rule.state), n), net.dtype)),
        backend.layout(net.layout),
        backend.activations([*net.activations, "identity"], net.dtype),
        backend.loss(net.loss_entry, net.dtype),
        backend.rule(optimizer.rule.name, net.dtype),
        options.get("l2", 0.0),
        options.get("clip_norm", np.inf),
        None,
        backend.workspace(net.layout, batch_size, net.dtype),
        *(order, batch_size, backend.coefficients(table, net.dtype), np.zeros(2 * batches), 0, 2 * batches),
    )
    return lambda: backend.train(*arguments)


def assert_no_array_is_allocated(activations, output, loss, optimizer="sgd", batch_size=M, shuffle=False, **options):
    rng = np.random.default_rng(0)
    net = Network([WIDTH, WIDTH, WIDTH, 4], activations, output, loss, dtype="float32", backend="numpy")
    X, Y = rng.uniform(-1, 1, size=(WIDTH, M)), make_targets(LOSSES[loss, output].targets, 4, M, rng)
    run = steps(net, X, Y, optimizer, batch_size, shuffle, **options)
    run()
    before = net.theta.copy()
    grown = peak(run)
    assert not np.array_equal(before, net.theta)
    assert grown < SMALL, f"{grown} bytes; one number an example is {4 * M} bytes, a hidden layer {4 * M * WIDTH}"


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.backward])
def test_no_allocation_by_activation(name):
    assert_no_array_is_allocated(name, "sigmoid", "binary_cross_entropy")


@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_no_allocation_by_loss(loss, output):
    assert_no_array_is_allocated("tanh", output, loss)


@pytest.mark.parametrize("rule", list(RULES))
def test_no_allocation_by_optimiser(rule):
    """With an uneven last batch, the examples gathered, a penalty and clipping."""
    assert_no_array_is_allocated(
        "relu", "identity", "squared_error", rule, batch_size=M // 2 - 7, shuffle=True, l2=0.1, clip_norm=0.01
    )


def test_the_measure_sees_an_array():
    """The bound above means something: one array of one number an example is seen."""
    assert peak(lambda: np.empty(M, np.float32)) >= 4 * M


def test_two_fits_in_two_threads_are_the_same_as_one():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(5, 300)), rng.uniform(size=(2, 300))

    def fit(seed):
        net = Network([5, 40, 2], "gelu", seed=seed, dtype="float64", backend=get_backend("numpy"))
        net.fit(X, Y, optimizer="adam", learning_rate=1e-3, epochs=20, batch_size=64)
        return net.theta

    expected, found = [fit(seed) for seed in range(4)], {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: fit(k)})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        np.testing.assert_array_equal(found[k], expected[k])
