"""NaN and infinity anywhere in what a network is given: an error names the argument and the place, and nothing changes.

`test_estimator_inputs.py` has the same for estimators, whose examples are rows.
"""

import math
import re

import numpy as np
import pytest
from conftest import FACTORIES, host, make
from scipy import sparse

from accelnn import DataError, Network
from accelnn.checks import SMALL
from accelnn.estimators import MLPClassifier, MLPRegressor

VALUES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
PLACES = {"first": 0, "middle": 0.5, "last": 1.0}
ARGUMENTS = ("X", "Y", "sample_weight", "validation X", "validation Y", "validation sample_weight")
FEW, MANY = 20, 5000  # examples: checked in one look, and in several
INPUTS, OUTPUTS = 3, 2
assert INPUTS * FEW < SMALL < INPUTS * MANY


def good(m, dtype="float64"):
    """What `fit` takes, by the names that its errors use."""
    rng = np.random.default_rng(m)
    arrays = {}
    for prefix in ("", "validation "):
        arrays[f"{prefix}X"] = rng.normal(size=(INPUTS, m)).astype(dtype)
        arrays[f"{prefix}Y"] = rng.normal(size=(OUTPUTS, m)).astype(dtype)
        arrays[f"{prefix}sample_weight"] = rng.uniform(0.5, 2.0, size=m).astype(dtype)
    return arrays


def fit(net, arrays, **options):
    validation = tuple(arrays[f"validation {name}"] for name in ("X", "Y", "sample_weight"))
    options = {"epochs": 2, "batch_size": 7, "optimizer": "adam", **options}
    return net.fit(arrays["X"], arrays["Y"], sample_weight=arrays["sample_weight"], validation=validation, **options)


def network(backend, **options):
    return make(backend, (INPUTS, 4, OUTPUTS), output="identity", **options)


def spoiled(array, place, value):
    """A copy with this value in the place's example, and where exactly."""
    m = array.shape[-1]
    example = min(int(PLACES[place] * m), m - 1)
    index = (example,) if array.ndim == 1 else (array.shape[0] - 1, example)
    array = array.copy()
    array[index] = value
    return array, index


def pattern(argument, index, value):
    where = ", ".join(map(str, index))
    words = re.escape(f"{argument}: {argument}[{where}]")
    example = "" if len(index) == 1 else rf" \(example {index[-1]}\)"
    return rf"^{words}{example} is {value}(;|, which)"


def state(net):
    """Everything that training changes, but for how long it took."""
    optimizer, history = net.optimizer_state, net.history
    parts = [host(net.theta).tobytes(), net.epochs_trained, net.steps_trained]
    parts += [list(history.loss), list(history.validation_loss), list(history.learning_rate), history.examples]
    if optimizer is not None:
        vectors = host(optimizer.vectors).tobytes()
        parts += [vectors, optimizer.rule, optimizer.step, optimizer.epoch, optimizer.memory, optimizer.schedule]
    return parts


def refused(net, call, text):
    before, kept = state(net), net.optimizer_state
    with pytest.raises(DataError, match=text):
        call()
    assert state(net) == before
    assert net.optimizer_state is kept


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_in_training(named_backend, argument, place, value):
    """Of a fresh network and of a trained one, few examples and many; then training goes on as if nothing had been."""
    for m in (FEW, MANY):
        arrays = good(m)
        bad, index = spoiled(arrays[argument], place, VALUES[value])
        given, text = {**arrays, argument: bad}, pattern(argument, index, value)
        net = network(named_backend)
        refused(net, lambda net=net, given=given: fit(net, given), text)
        if m == FEW:
            untouched = network(named_backend)
            for each in (net, untouched):
                fit(each, arrays)
            for resume in (False, True):
                refused(net, lambda options=(net, given, resume): fit(*options[:2], resume=options[2]), text)
            for each in (net, untouched):
                fit(each, arrays, resume=True)
            assert state(net) == state(untouched)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("argument", ["X", "Y", "sample_weight"])
def test_in_predictions_and_gradients(named_backend, argument, place, value):
    for m in (FEW, MANY):
        arrays = good(m)
        arrays[argument], index = spoiled(arrays[argument], place, VALUES[value])
        text, net = pattern(argument, index, value), network(named_backend)
        X, Y, w = (arrays[name] for name in ("X", "Y", "sample_weight"))
        refused(net, lambda net=net, X=X, Y=Y, w=w: net.loss_and_gradient(X, Y, sample_weight=w), text)
        if argument == "X":
            refused(net, lambda net=net, X=X: net.predict(X), text)
            refused(net, lambda net=net, X=X: net.layer_output(X, 1), text)


@pytest.mark.gpu
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_in_arrays_of_the_gpu(cupy_by_name, argument, value):
    cupy_backend = FACTORIES["cupy"]()
    for m, place in ((FEW, "middle"), (MANY, "last")):
        arrays = good(m)
        arrays[argument], index = spoiled(arrays[argument], place, VALUES[value])
        given = {name: cupy_backend.from_host(array) for name, array in arrays.items()}
        net = network(cupy_backend)
        refused(net, lambda net=net, given=given: fit(net, given), pattern(argument, index, value))


LAYOUTS = {
    "rows of examples": lambda array: np.asfortranarray(array),
    "every other example": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: array[..., ::-1].copy()[..., ::-1],
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "half precision": lambda array: array.astype(np.float16),
    "single precision": lambda array: array.astype(np.float32),
    "extended precision": lambda array: array.astype(np.longdouble),
    "lists": lambda array: array.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_in_every_layout(named_backend, argument, layout):
    for m, place, value in ((FEW, "middle", "-inf"), (MANY, "last", "nan")):
        arrays = {name: array.astype(np.float16).astype(np.float64) for name, array in good(m).items()}
        bad, index = spoiled(arrays[argument], place, VALUES[value])
        net = network(named_backend)
        given = {**arrays, argument: layout(bad)}
        refused(net, lambda net=net, given=given: fit(net, given), pattern(argument, index, value))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("argument", ["X", "validation X"])
def test_in_sparse_arrays(named_backend, argument, place, value):
    arrays = good(FEW)
    for name in ("X", "validation X"):
        arrays[name][np.abs(arrays[name]) < 0.5] = 0.0
    arrays[argument], index = spoiled(arrays[argument], place, VALUES[value])
    text = pattern(argument, index, value)
    for convert in (sparse.csc_array, sparse.csr_array, sparse.coo_array):
        given = {name: convert(array) if "X" in name else array for name, array in arrays.items()}
        net = network(named_backend)
        refused(net, lambda net=net, given=given: fit(net, given), text)
        if argument == "X":
            refused(net, lambda net=net, given=given: net.predict(given["X"]), text)


def test_in_the_sum_of_two_entries_of_a_sparse_array(named_backend):
    """Each of which is finite."""
    large = np.finfo(np.float64).max
    X = sparse.coo_array(([1.0, large, large], ([0, 2, 2], [0, 4, 4])), shape=(INPUTS, FEW))
    net = network(named_backend)
    refused(net, lambda: net.predict(X), r"^X: X\[2, 4\] \(example 4\) is inf, which is no finite float64 number")


BEYOND = {"float32": (1e39, "float64"), "float64": (np.longdouble("1e400"), "longdouble")}


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="no larger numbers here")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("argument", [name for name in ARGUMENTS if "weight" not in name])
@pytest.mark.parametrize("dtype", BEYOND)
def test_finite_numbers_that_become_infinite(named_backend, dtype, argument, place):
    """In the network's precision."""
    value, wide = BEYOND[dtype]
    for m in (FEW, MANY):
        arrays = good(m)
        bad, index = spoiled(arrays[argument].astype(wide), place, -value)
        net = network(named_backend, dtype=dtype)
        where = re.escape(f"{argument}: {argument}[{index[0]}, {index[1]}] (example {index[1]}) is -inf; ")
        text = rf"^{where}the value given does not fit {dtype}: scale it"
        refused(net, lambda net=net, given={**arrays, argument: bad}: fit(net, given), text)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [FEW, MANY])
def test_large_numbers_are_taken(named_backend, dtype, m):
    """Of every dtype whose numbers all fit, though their sums and squares do not."""
    for given in (np.float16, np.float32, np.int8, np.int64, np.uint64, np.bool_):
        kind = np.dtype(given)
        limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind) if kind.kind in "iu" else None
        X = np.full((INPUTS, m), True if limits is None else limits.max, kind)
        net = network(named_backend, dtype=dtype)
        net.W[1][...] = 0.0
        answer = net.predict(X)
        assert np.isfinite(answer).all()
        np.testing.assert_array_equal(answer, np.broadcast_to(answer[:, :1], answer.shape))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "exp", "identity"])
def test_in_targets_of_every_loss(named_backend, output, value):
    """As shares, as a vector of one output, and as class numbers."""
    m = 9
    X = good(m)["X"]
    Y = np.full((OUTPUTS, m), 0.5)
    net = make(named_backend, (INPUTS, 4, OUTPUTS), output=output)
    bad, index = spoiled(Y, "middle", VALUES[value])
    refused(net, lambda: net.fit(X, bad), pattern("Y", index, value))
    if output == "softmax":
        classes = np.zeros(m)
        classes[4] = VALUES[value]
        refused(net, lambda: net.fit(X, classes), "^Y: class numbers must be integers, not float64")
    else:
        single = make(named_backend, (INPUTS, 4, 1), output=output)
        vector = np.full(m, 0.5)
        vector[4] = VALUES[value]
        refused(single, lambda: single.fit(X, vector), pattern("Y", (0, 4), value))


def test_the_first_of_several_is_named(named_backend):
    arrays = good(MANY)
    for index, value in (((2, 4000), math.nan), ((0, 4000), -math.inf), ((1, 3999), math.inf)):
        arrays["X"][index] = value
    net = network(named_backend)
    refused(net, lambda: fit(net, arrays), pattern("X", (1, 3999), "inf"))


def test_infinities_that_cancel_out(named_backend):
    arrays = good(MANY)
    arrays["X"][0, 4], arrays["X"][2, 4] = math.inf, -math.inf
    net = network(named_backend)
    refused(net, lambda: fit(net, arrays), pattern("X", (0, 4), "inf"))


def test_of_an_example_of_weight_zero(named_backend):
    """It is left out of training, but not out of the checks."""
    arrays = good(FEW)
    arrays["sample_weight"][3] = 0.0
    arrays["X"][1, 3] = math.nan
    net = network(named_backend)
    refused(net, lambda: fit(net, arrays), pattern("X", (1, 3), "nan"))


# Estimators, beyond what `test_estimator_inputs.py` tries.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("argument", ["X", "y", "sample_weight", "eval_set X", "eval_set y", "eval_set sample_weight"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_rows_of_an_estimator(named_backend, argument, place, value, dtype):
    """A classifier's classes are no numbers to check."""
    arrays = {name.replace("validation", "eval_set").replace("Y", "y"): a for name, a in good(MANY, dtype).items()}
    arrays = {name: array[0] if "y" in name else array.T if "X" in name else array for name, array in arrays.items()}
    row = min(int(PLACES[place] * MANY), MANY - 1)
    bad = arrays[argument].copy()
    bad[row if bad.ndim == 1 else (row, 1)] = VALUES[value]
    text = rf"^{argument}: (row {row}\b|{argument}\[{row}\] is) ?.*(?i:{value.lstrip('-')})"
    given = {**arrays, argument: bad}
    of_classes = {name: array > 0 if name.endswith("y") else array for name, array in given.items()}
    tried = {MLPRegressor: given} if argument.endswith("y") else {MLPRegressor: given, MLPClassifier: of_classes}
    for kind, chosen in tried.items():
        model = kind(hidden_layer_sizes=(3,), backend=named_backend.name)
        eval_set = tuple(chosen[f"eval_set {name}"] for name in ("X", "y", "sample_weight"))
        before = dict(vars(model))
        with pytest.raises(DataError, match=text):
            model.fit(chosen["X"], chosen["y"], chosen["sample_weight"], eval_set=eval_set)
        assert vars(model) == before


def test_a_network_of_another_making_is_unchanged_too():
    """A float64 network that was given float32 numbers with a NaN keeps its own."""
    net = Network([INPUTS, 4, OUTPUTS], dtype="float64", backend="numpy")
    arrays = good(FEW, "float32")
    arrays["X"][0, 0] = math.nan
    refused(net, lambda: net.fit(arrays["X"], np.full((OUTPUTS, FEW), 0.5)), pattern("X", (0, 0), "nan"))
