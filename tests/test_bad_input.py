"""What cannot be used is refused at the door: the error says which argument and where, and the network is as it was.

Numbers that are not finite are the matter of `test_not_finite.py`.
"""

import copy
import re

import numpy as np
import pytest
from conftest import DTYPES, HAS_GPU, host

from accelnn import AccelnnError, DataError, Network, Optimizer, UnknownNameError, get_backend
from accelnn.activations import HIDDEN, OUTPUTS
from accelnn.backends import BACKENDS
from accelnn.initializers import INITIALIZERS
from accelnn.losses import LOSS_NAMES
from accelnn.optimizers import RULES

INPUTS, OUT, M = 3, 2, 6
nan, inf = float("nan"), float("inf")


def make(backend, output="sigmoid", sizes=(INPUTS, 4, OUT), **options):
    return Network(list(sizes), "tanh", output, backend=backend, **options)


def good(output="sigmoid", m=M):
    rng = np.random.default_rng(0)
    X, Y = rng.uniform(0.1, 0.9, size=(INPUTS, m)), rng.uniform(0.1, 0.9, size=(OUT, m))
    return X, Y / Y.sum(axis=0) if output == "softmax" else Y


def spoiled(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def refused(call, *patterns, net=None, error=DataError):
    """`call` raises a ValueError of ours whose message matches; the network is as it was."""
    before = None if net is None else (host(net.theta), net.epochs_trained)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the type is looked at below)
        call()
    assert type(caught.value) is error
    assert isinstance(caught.value, AccelnnError)
    message = str(caught.value)
    assert "\n" not in message
    for pattern in patterns:
        assert re.search(pattern, message), f"{pattern!r} is not in {message!r}"
    if net is not None:
        np.testing.assert_array_equal(host(net.theta), before[0])
        assert net.epochs_trained == before[1]


# X: pairs of what is wrong and what the message says.

BAD_X = {
    "a feature missing": (lambda X: X[:2], r"^X: has shape \(2, 6\), expected \(3, m\)$"),
    "examples as rows": (lambda X: X.T, r"^X: has shape \(6, 3\), expected \(3, m\); .*pass X\.T"),
    "a vector": (lambda X: X[:, 0], r"^X: has 1 dimension\(s\), expected 2"),
    "three dimensions": (lambda X: X[None], r"^X: has 3 dimension\(s\), expected 2"),
    "a number": (lambda X: 0.5, r"^X: has 0 dimension\(s\)"),
    "None": (lambda X: None, r"^X: "),
    "no example": (lambda X: X[:, :0], r"^X: has no examples"),
    "ragged": (lambda X: [[1.0, 2.0], [1.0], [2.0]], r"^X: cannot be read as an array"),
    "words": (lambda X: X.astype(str), r"^X: holds <U\d+ values; give numbers"),
    "objects": (lambda X: X.astype(object), r"^X: holds object values"),
    "complex": (lambda X: X + 0j, r"^X: holds complex128 values"),
    "plus and minus": (lambda X: spoiled(spoiled(X, (0, 4), inf), (2, 4), -inf), r"^X: X\[0, 4\] \(example 4\) is inf"),
}


@pytest.mark.parametrize(("spoil", "pattern"), BAD_X.values(), ids=BAD_X)
@pytest.mark.parametrize("method", ["predict", "loss_and_gradient", "fit"])
def test_bad_X(method, spoil, pattern, backend):
    net, (X, Y) = make(backend), good()
    arguments = (spoil(X),) if method == "predict" else (spoil(X), Y)
    refused(lambda: getattr(net, method)(*arguments), pattern, net=net)


BAD_Y = {
    "an output missing": ("sigmoid", lambda Y: Y[:1], r"^Y: has shape \(1, 6\), expected \(2, m\)"),
    "examples as rows": ("sigmoid", lambda Y: Y.T, r"^Y: has shape \(6, 2\).*pass Y\.T"),
    "an example missing": ("sigmoid", lambda Y: Y[:, :5], r"^Y: has 5 examples, but X has 6"),
    "a vector for two outputs": ("sigmoid", lambda Y: Y[0], r"^Y: has 1 dimension"),
    "no example": ("sigmoid", lambda Y: Y[:, :0], r"^Y: has no examples"),
    "None": ("sigmoid", lambda Y: None, r"^Y: "),
    "words": ("sigmoid", lambda Y: Y.astype(str), r"^Y: holds <U\d+ values"),
    "a probability above 1": ("sigmoid", lambda Y: spoiled(Y, (1, 3), 1.5), r"^Y: Y\[1, 3\] is 1\.5.*between 0 and 1"),
    "a probability below 0": (
        "sigmoid",
        lambda Y: spoiled(Y, (0, 1), -0.5),
        r"^Y: Y\[0, 1\] is -0\.5.*between 0 and 1",
    ),
    "a share above 1": ("softmax", lambda Y: spoiled(Y, (0, 5), 2.0), r"^Y: Y\[0, 5\] is 2\.0.*between 0 and 1"),
    "shares without a whole": ("softmax", lambda Y: spoiled(Y, (slice(None), 2), 0.25), r"^Y: column 2 sums to 0\.5"),
    "a count below 0": ("exp", lambda Y: spoiled(Y, (1, 0), -1.0), r"^Y: Y\[1, 0\] is -1\.0.*0 or more"),
    "a class too high": (
        "softmax",
        lambda Y: np.array([0, 1, 0, 2, 1, 5]),
        r"^Y: Y\[3\] is 2, but the classes are 0 to 1",
    ),
    "a class too low": (
        "softmax",
        lambda Y: np.array([0, 1, 0, 1, -1, 5]),
        r"^Y: Y\[4\] is -1, but the classes are 0 to",
    ),
    "classes as fractions": ("softmax", lambda Y: np.zeros(6), r"^Y: class numbers must be integers, not float64"),
    "classes as words": ("softmax", lambda Y: np.array(list("ababab")), r"^Y: class numbers must be integers"),
    "a class missing": ("softmax", lambda Y: np.array([0, 1, 0, 1, 0]), r"^Y: has 5 examples, but X has 6"),
    "no class": ("softmax", lambda Y: np.array([], dtype=int), r"^Y: has no examples"),
}


@pytest.mark.parametrize(("output", "spoil", "pattern"), BAD_Y.values(), ids=BAD_Y)
@pytest.mark.parametrize("method", ["loss_and_gradient", "fit"])
def test_bad_Y(method, output, spoil, pattern, backend):
    net, (X, Y) = make(backend, output), good(output)
    refused(lambda: getattr(net, method)(X, spoil(Y)), pattern, net=net)


@pytest.mark.parametrize("method", ["predict", "loss_and_gradient", "fit"])
def test_a_number_that_float32_cannot_hold(method, backend):
    """1e39 is finite in float64 and infinite in the network's float32."""
    net, (X, Y) = make(backend, "identity", dtype="float32"), good("identity")
    X = spoiled(X, (1, 2), 1e39)
    arguments = (X,) if method == "predict" else (X, Y)
    refused(lambda: getattr(net, method)(*arguments), r"^X: X\[1, 2\] \(example 2\)", net=net)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_numbers_are_no_fault(dtype, backend):
    """Their sum overflows, each of them is finite."""
    net = make(backend, "identity", dtype=dtype)
    X, _ = good()
    large = float(np.finfo(dtype).max) / 2
    X = spoiled(X, (slice(None), slice(None)), large).astype(dtype)
    net.W[1][...] = 0.0
    np.testing.assert_array_equal(net.predict(X), 0.0)


@pytest.mark.parametrize("name", ["numpy", "numba"])  # cupy takes such an array as it is
def test_an_array_on_a_gpu(name):
    class OnDevice:
        __cuda_array_interface__ = None  # that there is one says where the array lives

    net = make(get_backend(name))
    refused(lambda: net.predict(OnDevice()), r"^X: lives on a GPU", r"cupy\.asnumpy\(X\)", net=net)


# Arrays that are on the GPU already.

ON_HOST_ALONE = {"None", "ragged", "words", "objects", "classes as words"}
IN_X = {f"X, {name}": ("X", "sigmoid", *case) for name, case in BAD_X.items() if name not in ON_HOST_ALONE}
IN_Y = {f"Y, {name}": ("Y", *case) for name, case in BAD_Y.items() if name not in ON_HOST_ALONE}
BAD_OF_CUPY = {
    **IN_X,
    **IN_Y,
    "X, beyond float32": ("X", "identity", lambda X: spoiled(X, (1, 2), 1e39), r"^X: X\[1, 2\] \(example 2\)"),
    "Y, beyond float32": ("Y", "identity", lambda Y: spoiled(Y, (1, 2), 1e39), r"^Y: Y\[1, 2\] \(example 2\)"),
}


@pytest.mark.parametrize(("argument", "output", "spoil", "pattern"), BAD_OF_CUPY.values(), ids=BAD_OF_CUPY)
@pytest.mark.gpu
def test_bad_arrays_of_cupy(argument, output, spoil, pattern, cupy_backend):
    """The same errors, wherever the array lives."""
    net, (X, Y) = make(cupy_backend, output), good(output)
    X, Y = np.asarray(spoil(X) if argument == "X" else X), np.asarray(spoil(Y) if argument == "Y" else Y)
    if X.dtype.kind == "c" and not HAS_GPU:
        pytest.skip("the device double has no complex numbers")
    X, Y = cupy_backend.from_host(X), cupy_backend.from_host(Y)
    refused(lambda: net.loss_and_gradient(X, Y), pattern, net=net)
    if argument == "X":
        refused(lambda: net.predict(X), pattern, net=net)


# The network's own arguments.

BAD_SIZES = {
    "negative": ([3, -4, 2], r"^sizes\[1\]: -4 is not a whole number of at least 1$"),
    "zero": ([0, 2], r"^sizes\[0\]: 0 is not"),
    "a fraction": ([3, 2.5], r"^sizes\[1\]: 2\.5 is not"),
    "a word": (["a", 2], r"^sizes\[0\]: 'a' is not"),
    "a truth": ([3, True], r"^sizes\[1\]: True is not"),
    "None within": ([3, None], r"^sizes\[1\]: None is not"),
    "one layer": ([3], r"^sizes: .* names 1 layer"),
    "nothing": ([], r"^sizes: .* names 0 layer"),
    "a number": (5, r"^sizes: 5 is no sequence"),
    "None": (None, r"^sizes: None is no sequence"),
}


@pytest.mark.parametrize(("sizes", "pattern"), BAD_SIZES.values(), ids=BAD_SIZES)
def test_bad_sizes(sizes, pattern, backend):
    refused(lambda: Network(sizes, backend=backend), pattern)


def everything(names):
    return "choose from .*" + ".*".join(sorted(names))


UNKNOWN = {
    "activations": ("swish", HIDDEN),
    "output": ("relu", OUTPUTS),
    "loss": ("hinge", LOSS_NAMES),
    "init": ("ones", INITIALIZERS),
    "dtype": ("float16", DTYPES),
    "backend": ("torch", ("auto", *BACKENDS)),
}


@pytest.mark.parametrize("argument", list(UNKNOWN))
def test_unknown_names_list_the_known_ones(argument, backend):
    name, known = UNKNOWN[argument]
    options = {"backend": backend, argument: name}
    patterns = (f"^{argument}: {name!r} is not known", everything(known))
    refused(lambda: Network([3, 4, 2], **options), *patterns, error=UnknownNameError)


def test_softmax_is_no_hidden_activation(backend):
    for name in ("softmax", "exp"):
        refused(lambda name=name: Network([3, 4, 2], name, backend=backend), "^activations: ", error=UnknownNameError)


@pytest.mark.parametrize("argument", list(UNKNOWN))
@pytest.mark.parametrize("value", [7, ["relu", 3], {}], ids=["number", "list", "dict"])
def test_names_that_are_no_words(argument, value, backend):
    options = {"backend": backend, argument: value}
    with pytest.raises(DataError, match=f"^{argument}"):
        Network([3, 4, 2], **options)


@pytest.mark.parametrize("argument", ["activations", "output", "init", "dtype", "backend"])
def test_none_is_no_name(argument, backend):
    options = {"backend": backend, argument: None}
    with pytest.raises(DataError, match=f"^{argument}"):
        Network([3, 4, 2], **options)


def test_empty_names(backend):
    for argument in UNKNOWN:
        options = {"backend": backend, argument: ""}
        with pytest.raises(DataError, match=f"^{argument}"):
            Network([3, 4, 2], **options)


def test_activations_must_count_the_hidden_layers(backend):
    pattern = r"^activations: names 3 activation\(s\) for 2 hidden layer\(s\)"
    refused(lambda: Network([3, 4, 4, 2], ["relu"] * 3, backend=backend), pattern)
    refused(lambda: Network([3, 2], ["relu"], backend=backend), "^activations: names 1 .* 0 hidden")


def test_a_loss_that_does_not_fit_the_output(backend):
    pattern = r"^loss: 'cross_entropy' does not go with output='sigmoid'; use output='softmax'$"
    refused(lambda: Network([3, 2], output="sigmoid", loss="cross_entropy", backend=backend), pattern)
    pattern = r"^loss: 'huber' .*use output='identity' or 'sigmoid'$"
    refused(lambda: Network([3, 2], output="softmax", loss="huber", backend=backend), pattern)


def test_softmax_over_one_unit(backend):
    refused(lambda: Network([3, 1], output="softmax", backend=backend), "^output: softmax over one unit")


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None, True])
def test_bad_seeds(seed, backend):
    refused(lambda: Network([3, 2], seed=seed, backend=backend), f"^seed: {seed!r} is not a whole number of at least 0")


# The arguments of fit.

BAD_FIT = {
    "no epoch": ({"epochs": 0}, r"^epochs: 0 is not a whole number of at least 1$"),
    "negative epochs": ({"epochs": -3}, r"^epochs: -3 is not"),
    "half an epoch": ({"epochs": 1.5}, r"^epochs: 1\.5 is not"),
    "endless epochs": ({"epochs": None}, r"^epochs: None is not"),
    "no batch": ({"batch_size": 0}, r"^batch_size: 0 is not"),
    "negative batch": ({"batch_size": -1}, r"^batch_size: -1 is not"),
    "half a batch": ({"batch_size": 2.5}, r"^batch_size: 2\.5 is not"),
    "no rate": ({"learning_rate": 0.0}, r"^learning_rate: 0\.0 is out of range; give a positive number$"),
    "negative rate": ({"learning_rate": -0.1}, r"^learning_rate: -0\.1 is out of range"),
    "nan rate": ({"learning_rate": nan}, r"^learning_rate: nan is out of range"),
    "infinite rate": ({"learning_rate": inf}, r"^learning_rate: inf is out of range"),
    "a word for a rate": ({"learning_rate": "fast"}, r"^learning_rate: 'fast' is not a number$"),
    "None for a rate": ({"learning_rate": None}, r"^learning_rate: None is not a number$"),
    "negative l2": ({"l2": -1.0}, r"^l2: -1\.0 is out of range; give a non-negative number$"),
    "nan l2": ({"l2": nan}, r"^l2: nan"),
    "None for l2": ({"l2": None}, r"^l2: None"),
    "negative clip": ({"clip_norm": -1.0}, r"^clip_norm: -1\.0 is out of range"),
    "zero clip": ({"clip_norm": 0}, r"^clip_norm: 0 is out of range"),
    "nan clip": ({"clip_norm": nan}, r"^clip_norm: nan"),
    "validation without Y": ({"validation": (np.ones((INPUTS, 2)),)}, r"^validation: give a pair"),
    "validation as a number": ({"validation": 0.2}, r"^validation: give a pair"),
    "validation of another shape": (
        {"validation": (np.ones((INPUTS + 1, 2)), np.ones((OUT, 2)))},
        r"^validation X: has shape \(4, 2\), expected \(3, m\)",
    ),
    "validation of unequal length": (
        {"validation": (np.ones((INPUTS, 2)), np.ones((OUT, 3)))},
        r"^validation Y: has 3 examples, but .*X has 2",
    ),
    "a schedule of one number": (
        {"learning_rate": lambda step: 0.1},
        r"^learning_rate: the function must give an array",
    ),
    "a schedule of nothing": ({"learning_rate": lambda step: None}, r"^learning_rate: the function"),
    "a schedule of words": ({"learning_rate": lambda step: ["fast"] * len(step)}, r"^learning_rate: the function"),
    "a schedule below zero": ({"learning_rate": lambda step: -0.1 - step}, r"^learning_rate: the function"),
    "a schedule of nan": ({"learning_rate": lambda step: step * nan}, r"^learning_rate: the function"),
}


@pytest.mark.parametrize(("options", "pattern"), BAD_FIT.values(), ids=BAD_FIT)
def test_bad_fit(options, pattern, backend):
    net = make(backend)
    refused(lambda: net.fit(*good(), **{"epochs": 2, **options}), pattern, net=net)


def test_a_schedule_that_goes_wrong_late(backend):
    """The error comes in epoch 12; the network is as it was before epoch 1."""
    net = make(backend)
    calls = []

    def schedule(step):
        calls.append(step)
        return np.where(step < 11, 0.1, nan)

    refused(lambda: net.fit(*good(), learning_rate=schedule, epochs=50, validation=good()), "learning_rate", net=net)
    assert len(calls) > 1


@pytest.mark.parametrize("l2", [-0.1, nan, "x", None])
def test_bad_l2_for_a_gradient(l2, backend):
    net = make(backend)
    refused(lambda: net.loss_and_gradient(*good(), l2=l2), "^l2: ", net=net)


def test_unknown_optimisers(backend):
    net = make(backend)
    patterns = (r"^optimizer: 'lion' is not known", everything(RULES))
    refused(lambda: net.fit(*good(), optimizer="lion"), *patterns, net=net, error=UnknownNameError)
    for value in (None, 3, ["adam"], {}):
        with pytest.raises(DataError, match=r"^optimizer: "):
            net.fit(*good(), optimizer=value)


def test_unknown_hyperparameters():
    for call, pattern in (
        (
            lambda: Optimizer("adam", momentum=0.9),
            r"^optimizer adam: 'momentum' is not known; choose from beta1, beta2, eps",
        ),
        (lambda: Optimizer("sgd", momentum=0.9), r"^optimizer sgd: 'momentum' is not known"),
    ):
        refused(call, pattern, error=UnknownNameError)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("momentum", {"momentum": 1.0}),
        ("momentum", {"momentum": -0.1}),
        ("rmsprop", {"rho": 1.5}),
        ("adam", {"beta1": nan}),
        ("adam", {"beta2": 1.0}),
        ("adam", {"epsilon": -1e-8}),
        ("adam", {"epsilon": inf}),
        ("adamw", {"weight_decay": -0.1}),
        ("adamw", {"weight_decay": "x"}),
        ("adam", {"beta1": None}),
    ],
)
def test_bad_hyperparameters(name, settings):
    (key, value), *_ = settings.items()
    refused(lambda: Optimizer(name, **settings), f"^optimizer {name}: {key}={value!r}")


def test_errors_are_ordinary_errors():
    """A script that knows nothing of accelnn catches ValueError; the error can be copied to another process."""
    error = UnknownNameError("loss", "hinge", ("a", "b"))
    assert isinstance(error, ValueError)
    assert str(copy.copy(error)) == str(error)


def test_unknown_backend():
    for name in ("jax", "NumPy", ""):
        refused(
            lambda name=name: get_backend(name), "^backend: ", everything(("auto", *BACKENDS)), error=UnknownNameError
        )
