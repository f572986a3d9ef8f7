"""A sparse X gives what the same numbers give in a dense one, and is never made dense."""

import tracemalloc

import numpy as np
import pytest
from conftest import DTYPES, FACTORIES, assert_same, host, make, make_targets, take_few_at_once
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from accelnn import DataError, Network
from accelnn.backends.numba import NumbaBackend
from accelnn.losses import LOSSES

# For the numba backend: each member keeps a gradient; the members share one.
NARROW, WIDE = (40, 33, 7, 3), (170, 400, 300, 3)


def examples(loss, output, sizes, m, seed=0, density=0.2):
    """A dense X with many zeros, and with features and examples that have nothing else; and targets."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.0, 1.0, size=(sizes[0], m)) * (rng.uniform(size=(sizes[0], m)) < density)
    X[rng.uniform(size=sizes[0]) < 0.2, :] = 0.0
    X[:, rng.uniform(size=m) < 0.2] = 0.0
    return X, make_targets(LOSSES[loss, output].targets, sizes[-1], m, rng)


def results(net, X, Y, **options):
    """Everything that X goes into."""
    given_ = {"epochs": 3, "batch_size": 7, "learning_rate": 0.05, "validation": (X, Y)} | options
    history = net.fit(X, Y, **given_)
    J, dtheta = net.loss_and_gradient(X, Y, l2=0.1)
    return host(net.theta), history.loss, history.validation_loss, host(net.predict(X)), J, host(dtheta)


NAMES = "theta", "losses", "validation", "A[L]", "J", "dtheta"


def assert_all_same(found, expected, dtype="float64"):
    for what, *pair in zip(NAMES, found, expected, strict=True):
        assert_same(*pair, dtype, what)


def assert_as_dense(backend, X, Y, *, sizes, dense=None, dtype="float64", hidden="tanh", output="sigmoid", **options):
    """The reference's results with the dense array, of the same dtype."""
    loss, seed = options.pop("loss", None), options.pop("seed", 0)
    found, expected = (
        results(make(which, sizes, hidden, output=output, loss=loss, dtype=dtype, seed=seed), array, Y, **options)
        for which, array in ((backend, X), (FACTORIES["reference"](), X.toarray() if dense is None else dense))
    )
    assert_all_same(found, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), list(LOSSES))
def test_every_loss(loss, output, dtype, backend):
    sizes = (12, 8, 2)
    X, Y = examples(loss, output, sizes, 23)
    assert_as_dense(backend, sparse.csc_array(X), Y, sizes=sizes, dtype=dtype, loss=loss, output=output)


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"shuffle": False, "l2": 0.2}, {"clip_norm": 0.1}])
@pytest.mark.parametrize("sizes", [(30, 1), (30, 2), (30, 17, 1), (30, 9, 8, 7, 2)])
def test_every_depth(sizes, options, backend):
    X, Y = examples("binary_cross_entropy", "sigmoid", sizes, 23)
    assert_as_dense(backend, sparse.csc_array(X), Y, sizes=sizes, **options)


def test_with_weights_and_dropout(backend):
    sizes = (30, 9, 8, 2)
    X, Y = examples("binary_cross_entropy", "sigmoid", sizes, 23)
    w = np.arange(23.0)
    options = {"sample_weight": w, "dropout": [0.3, 0.1], "optimizer": "adam", "l2": 0.1}
    assert_as_dense(backend, sparse.csc_array(X), Y, sizes=sizes, hidden="gelu", **options)


# Whatever a caller holds.

FORMATS = {
    "csc_array": sparse.csc_array,
    "csr_array": sparse.csr_array,
    "coo_array": sparse.coo_array,
    "csc_matrix": sparse.csc_matrix,
    "csr_matrix": sparse.csr_matrix,
    "coo_matrix": sparse.coo_matrix,
    "lil_array": sparse.lil_array,
    "dok_array": sparse.dok_array,
    "rows of a csr_array, transposed": lambda X: sparse.csr_array(X.T).T,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name, backend):
    sizes = (12, 5, 2)
    X, Y = examples("binary_cross_entropy", "sigmoid", sizes, 9)
    assert_as_dense(backend, FORMATS[name](X), Y, sizes=sizes, dense=X)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.bool_, np.float64])
def test_counts_and_flags(kind, backend):
    """A bag of words holds integers; the network computes in its own dtype."""
    X, Y = examples("binary_cross_entropy", "sigmoid", (12, 5, 2), 9)
    X = (X != 0.0).astype(kind)
    assert_as_dense(backend, sparse.csc_array(X), Y, sizes=(12, 5, 2), dense=X, dtype="float32")


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_indices_of_either_length(index, backend):
    X, Y = examples("binary_cross_entropy", "sigmoid", (12, 5, 2), 9)
    S = sparse.csc_array(X)
    S.indices, S.indptr = S.indices.astype(index), S.indptr.astype(index)
    assert_as_dense(backend, S, Y, sizes=(12, 5, 2))
    assert S.indices.dtype == S.indptr.dtype == index


@st.composite
def scattered(draw):
    """Entries in any order, some places twice, some zeros stored; and the dense array that they mean."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    entry = st.tuples(st.integers(0, n - 1), st.integers(0, m - 1), st.sampled_from([-1.5, -0.25, 0.0, 0.5, 2.0]))
    entries = draw(st.lists(entry, max_size=40))
    dense = np.zeros((n, m))
    for i, j, value in entries:
        dense[i, j] += value
    columns = [[entry for entry in entries if entry[1] == j] for j in range(m)]
    starts = np.cumsum([0, *map(len, columns)])
    flat = [entry for column in columns for entry in column]
    values, rows = np.array([e[2] for e in flat]), np.array([e[0] for e in flat], dtype=np.int32)
    return sparse.csc_array((values, rows, starts), shape=(n, m)), dense


def test_drawn_entries(backend):
    @settings(max_examples=60)
    @given(scattered(), st.integers(1, 20), st.integers(1, 12), st.booleans())
    def holds(pair, units, batch_size, shuffle):
        S, dense = pair
        kept = S.data.copy(), S.indices.copy(), S.indptr.copy()
        n, m = dense.shape
        Y = np.random.default_rng(units).uniform(size=(2, m))
        assert_as_dense(backend, S, Y, sizes=(n, units, 2), dense=dense, batch_size=batch_size, shuffle=shuffle)
        for array, before in zip((S.data, S.indices, S.indptr), kept, strict=True):
            np.testing.assert_array_equal(array, before)

    holds()


def test_nothing_but_zeros(backend):
    X, Y = sparse.csc_array((12, 9)), np.full((2, 9), 0.25)
    assert_as_dense(backend, X, Y, sizes=(12, 5, 2))


def test_one_example(backend):
    X = sparse.csc_array(np.array([[0.0], [2.0], [0.0]]))
    assert_as_dense(backend, X, np.ones((1, 1)), sizes=(3, 4, 1))


def test_dense_and_sparse_in_turn(backend):
    """One network, whose predictions keep their memory for each other."""
    X, Y = examples("binary_cross_entropy", "sigmoid", (12, 5, 2), 9)
    S, net = sparse.csc_array(X), make(backend, (12, 5, 2))
    expected = host(net.predict(X))
    for array in (S, X, S[:, :4], X[:, :4], S, X):
        assert_same(host(net.predict(array)), expected[:, : array.shape[1]], "float64", "A[L]")
    net.fit(S, Y, epochs=2, validation=(X, Y))
    net.fit(X, Y, epochs=2, validation=(S, Y))
    twin = make(FACTORIES["reference"](), (12, 5, 2))
    for _ in range(2):
        twin.fit(X, Y, epochs=2)
    assert_same(host(net.theta), host(twin.theta), "float64", "theta")


def test_many_blocks_of_a_pass(backend, monkeypatch):
    """A prediction and a validation of more examples than one pass takes."""
    monkeypatch.setattr(backend, "pass_elements", 1)
    net, twin = (make(which, (100, 3)) for which in (backend, FACTORIES["reference"]()))
    assert net.block(net.layout_for(True)) == 256
    X, Y = sparse.random_array((100, 600), density=0.02, rng=np.random.default_rng(0)), np.full((3, 600), 0.5)
    assert_same(host(net.predict(X)), host(twin.predict(X.toarray())), "float64", "A[L]")
    losses = [n.fit(a, Y, epochs=1, validation=(a, Y)).validation_loss for n, a in ((net, X), (twin, X.toarray()))]
    assert_same(*losses, "float64", "validation")


# What cannot be used.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_named_by_its_place(bad, backend):
    X = np.eye(12, 9)
    X[3, 7] = bad
    X = sparse.csc_array(X)
    net, Y = make(backend, (12, 5, 2)), np.full((2, 9), 0.5)
    before = host(net.theta)
    place = rf"X\[3, 7\] \(example 7\) is {bad}"
    for use in (lambda: net.fit(X, Y), lambda: net.loss_and_gradient(X, Y), lambda: net.predict(X)):
        with pytest.raises(DataError, match=f"^X: {place}"):
            use()
    with pytest.raises(DataError, match=f"^validation X: validation {place}"):
        net.fit(np.eye(12, 9), Y, validation=(X, Y))
    np.testing.assert_array_equal(host(net.theta), before)


def test_a_value_beyond_float32_is_named(backend):
    X = sparse.csc_array(np.eye(3) * 1e200)
    with pytest.raises(DataError, match=r"^X: X\[0, 0\] \(example 0\) is 1e\+200"):
        Network([3, 1], backend=backend).predict(X)


def test_another_shape_is_named(backend):
    net = make(backend, (12, 5, 2))
    with pytest.raises(DataError, match=r"^X: has shape \(9, 12\), expected \(12, m\)"):
        net.predict(sparse.csc_array((9, 12)))
    with pytest.raises(DataError, match=r"^X: has no examples"):
        net.predict(sparse.csc_array((12, 0)))


def test_complex_numbers_are_refused(backend):
    with pytest.raises(DataError, match=r"^X: holds complex128 values; give numbers"):
        make(backend, (2, 1)).predict(sparse.csc_array(np.eye(2) * 1j))


# Memory.


def test_a_wide_matrix_is_never_dense(backend):
    """10,000 x 100,000 with 10 numbers a row: 4 GB if it were."""
    m, n, units = 10_000, 100_000, 8
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, n // 10, size=(m, 10)) + np.arange(10) * (n // 10), axis=1)
    values = rng.uniform(size=(m, 10)).astype("f4")
    X = sparse.csr_array((values.ravel(), indices.ravel(), np.arange(0, 10 * m + 1, 10)), shape=(m, n)).T
    Y = rng.integers(2, size=m)
    net = Network([n, units, 1], "tanh", backend=backend)
    before = host(net.theta)
    net.fit(X[:, :20], Y[:20], epochs=1)  # compiles
    tracemalloc.start()
    try:
        history = net.fit(X, Y, epochs=1, batch_size=2500, validation=(X, Y), optimizer="momentum")
        net.predict(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The network's vectors take 20 MB; a dense X of the 256 examples of one prediction would take 100.
    assert peak < 90e6
    assert np.isfinite(history.loss).all()
    assert np.mean(host(net.theta) != before) > 0.5


# Teams of the numba backend.


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("options", [{"batch_size": 40, "l2": 0.1}, {"batch_size": None}, {"shuffle": False}])
@pytest.mark.parametrize("sizes", [NARROW, WIDE, (70_000, 1), (40_000, 2, 2)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads, sizes, options):
    X, Y = examples("squared_error", "identity", sizes, 103, density=0.2 if sizes[0] < 1000 else 1e-4)
    given_ = {"output": "identity", "epochs": 2, "learning_rate": 1e-3}
    assert_as_dense(NumbaBackend(threads), sparse.csc_array(X), Y, sizes=sizes, **given_ | options)


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("sizes", [NARROW, WIDE])
def test_more_threads_than_examples(sizes):
    X, Y = examples("squared_error", "identity", sizes, 7)
    options = {"output": "identity", "batch_size": 3, "learning_rate": 1e-3}
    assert_as_dense(NumbaBackend(4), sparse.csc_array(X), Y, sizes=sizes, **options)


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("options", [{"l2": 0.1}, {"l2": 0.0, "shuffle": False}])
@pytest.mark.parametrize("block", [1, 8])
def test_a_share_in_several_passes(block, options, monkeypatch):
    take_few_at_once(monkeypatch, block)
    X, Y = examples("squared_error", "identity", NARROW, 103)
    given_ = {"output": "identity", "batch_size": 40, "learning_rate": 1e-3}
    assert_as_dense(NumbaBackend(2), sparse.csc_array(X), Y, sizes=NARROW, **given_ | options)


@pytest.mark.usefixtures("teams")
def test_a_run_repeats_to_the_bit():
    for sizes in (NARROW, WIDE):
        X, Y = examples("squared_error", "identity", sizes, 103)
        nets = [make(NumbaBackend(3), sizes, output="identity") for _ in range(2)]
        first, again = (results(net, sparse.csc_array(X), Y, learning_rate=1e-3) for net in nets)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
