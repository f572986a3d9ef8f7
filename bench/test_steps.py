"""Time of a training step on each backend, plain gradient descent in float32. Run with ``pytest bench``."""

import numpy as np
import pytest

from accelnn import Network

NETWORKS = {
    "2-4-1, 400": ([2, 4, 1], "tanh", "sigmoid", 400),
    "20-64-64-1, 32": ([20, 64, 64, 1], "relu", "sigmoid", 32),
    "64-100-10, 200": ([64, 100, 10], "relu", "softmax", 200),
    "784-256-128-10, 128": ([784, 256, 128, 10], "relu", "softmax", 128),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("network", NETWORKS)
def test_hundred_steps(benchmark, network, backend):
    sizes, activation, output, batch = NETWORKS[network]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(sizes[0], batch)).astype("float32")
    Y = rng.integers(sizes[-1] if output == "softmax" else 2, size=batch)
    net = Network(sizes, activation, output, backend=backend)
    benchmark.extra_info["plan"] = str(net.plan())
    benchmark.pedantic(net.fit, (X, Y), {"epochs": 100, "learning_rate": 0.01}, rounds=7, warmup_rounds=2)
