"""Every kernel as the backend launches it: the same bits whatever ran first, and clean under sanitizers."""

import shutil

import numpy as np
import pytest
from conftest import DTYPES, make_cupy_backend, make_targets
from gpu import emulator
from gpu.variants import variants
from scipy import sparse

from accelnn import Network
from accelnn.backends.cupy.verbs import NULL
from accelnn.kernels.cuda import KERNELS
from accelnn.losses import LOSSES

if shutil.which("g++") is None:
    pytest.skip("the emulator compiles kernels with g++, which is not installed", allow_module_level=True)

# Ragged everywhere: no width is a multiple of 32 or of a pack, the last batch is smaller; aligned ones beside them.
NETWORKS = {
    "narrow": ((7, 33, 35, 3), "gelu", "softmax"),
    "aligned": ((8, 36, 4), "tanh", "softmax"),
    "wide": ((5, 513, 3), "gelu", "sigmoid"),
    "wide and aligned": ((4, 512, 4), "elu", "sigmoid"),
    "one": ((1, 1), "relu", "identity"),
    "weights and dropout": ((7, 33, 35, 3), "tanh", "softmax"),
    "wide, weights and dropout": ((5, 513, 3), "gelu", "sigmoid"),
    "sparse": ((45, 35, 3), "gelu", "sigmoid"),  # some rows have more entries than a chain
    "sparse and aligned": ((600, 36, 4), "tanh", "identity"),
    "sparse, one layer": ((40, 3), "relu", "softmax"),
}
M, BATCH = 37, 21


def launches(name, dtype):
    """Each launch of a network's life on the device double: name, text, grid, block and a copy of its arguments.

    They are taken as they happen, so that each sees the data that it would see.
    """
    backend, found = make_cupy_backend(), []
    kernels = backend._kernels[dtype]

    class Watched:
        def __init__(self, kernel):
            self.kernel = kernel

        def __call__(self, grid, block, arguments):
            copies = {}
            host = [_host(argument, copies) for argument in arguments]
            found.append((self.kernel.name, self.kernel._module.code, grid, block, host))
            self.kernel(grid, block, arguments)

    backend._kernels[dtype] = lambda *key: Watched(kernels(*key))
    sizes, activation, output = NETWORKS[name]
    net = Network(sizes, activation, output, dtype=dtype, backend=backend)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(M, sizes[0])).T
    Y = make_targets(LOSSES[net.loss, output].targets, sizes[-1], M, rng)
    options = {"optimizer": "adam", "l2": 0.1, "clip_norm": 0.1, "validation": (X, Y)}
    if "sparse" in name:
        # Examples and inputs with all, some and no entries.
        X = sparse.csc_array(np.where(rng.uniform(size=X.shape) < rng.uniform(-0.2, 1.2, size=M), X, 0.0))
    if "dropout" in name:
        options |= {"sample_weight": rng.uniform(size=M), "dropout": 0.3}
    net.predict(X)
    net.loss_and_gradient(X, Y)
    net.steps_trained = 3  # as after another fit
    net.fit(X, Y, epochs=1, batch_size=BATCH, **options)
    return found


def _host(argument, copies):
    """A copy of a device array for the emulator; the same copy for the same memory."""
    if argument is NULL:
        return None
    if not hasattr(argument, "data"):
        return argument
    if isinstance(argument, np.generic):
        return argument
    key = argument.data.ptr, argument.size
    if key not in copies:
        copies[key] = np.array(argument._values).ravel(order="A")
    return copies[key]


def run(text, name, grid, block, arguments, seed):
    """What the arrays hold after a launch."""
    copies = {id(a): a.copy() for a in arguments if isinstance(a, np.ndarray)}
    fresh = [copies[id(a)] if isinstance(a, np.ndarray) else a for a in arguments]
    emulator.Program(text).kernels[name].launch(grid, block, fresh, seed=seed)
    return fresh


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_order_of_blocks_and_threads_changes_nothing(name, dtype):
    seen = set()
    for kernel, text, grid, block, arguments in launches(name, dtype):
        seen.add(kernel)
        first = run(text, kernel, grid, block, arguments, seed=1)
        for seed in (2, 3, 4):
            for actual, expected in zip(run(text, kernel, grid, block, arguments, seed), first, strict=True):
                np.testing.assert_array_equal(actual, expected, err_msg=kernel)
    assert {"loss_gradient", "all_reduce", "update", "total_loss"} <= seen
    assert ("gather" in seen) != ("sparse" in name)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_no_launch_leaves_its_arrays(name, dtype):
    """By AddressSanitizer; each shape and alignment once."""
    once = {}
    for kernel, text, grid, block, arguments in launches(name, dtype):
        shapes = tuple(a.shape if isinstance(a, np.ndarray) else a for a in arguments)
        once.setdefault((kernel, text, grid, block, shapes), arguments)
    for (kernel, text, grid, block, _), arguments in once.items():
        assert emulator.sanitize(text, kernel, grid, block, arguments, "address") == "", f"{kernel} in {name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["narrow", "wide", "weights and dropout", "sparse"])
def test_no_launch_has_a_race(name):
    """By ThreadSanitizer, within blocks and between them; barriers are the same in both precisions."""
    once = {(launch[0], launch[1]): launch for launch in launches(name, "float32")}
    for kernel, text, grid, block, arguments in once.values():
        assert emulator.sanitize(text, kernel, grid, block, arguments, "thread") == "", f"{kernel} in {name}"


def test_these_networks_launch_every_kernel():
    seen = {launch[0] for name in NETWORKS for launch in launches(name, "float32")}
    assert seen == set(KERNELS)


# Nothing to do.


@pytest.mark.parametrize(
    "variant", [v for v in variants() if v.formula in ("", "tanh", "huber of identity", "adam")], ids=str
)
def test_a_kernel_that_is_told_of_nothing_writes_nothing(variant):
    """With zero examples, units or elements every array stays as it was, but for sums of nothing, which are zero."""
    kernel = emulator.Program(variant.text).kernels[variant.kernel]
    arguments = []
    for parameter in kernel.parameters:
        if parameter.endswith("*"):
            ctype = parameter.removeprefix("const ").rstrip("* ")
            arguments.append(np.zeros(64, {"float": "f4", "double": "f8", "int": "i4", "long long": "i8"}[ctype]))
        else:
            arguments.append(
                {"int": np.int32, "long long": np.int64, "double": np.float64}.get(parameter, np.uint64)(0)
            )
    before = [np.copy(a) for a in arguments]
    block = (32, 8, 1) if variant.kernel in ("bias_activation", "activation_gradient", "gather") else (256, 1, 1)
    if variant.kernel in ("linear_activation", "linear_gradients", "backpropagate"):
        block = (128, 1, 1)
    if variant.kernel == "gather":
        arguments[-2] = before[-2] = np.int64(1)  # batches of an epoch: never zero
    kernel.launch((1, 1, 1), block, arguments)
    for parameter, actual, expected in zip(kernel.parameters, arguments, before, strict=True):
        if variant.kernel == "update" and parameter == "long long*":
            continue  # the clock goes on
        np.testing.assert_array_equal(actual, expected, err_msg=parameter)
