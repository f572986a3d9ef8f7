"""Time of the verbs that hold a step's products, beside those products alone. Run with ``pytest bench``.

The verbs of the numba backend run inside compiled code only; their share is in the steps of ``test_steps.py``.
"""

import numpy as np
import pytest

from accelnn import get_backend

# (n_l, n_{l-1}), m
LAYERS = {
    "100 x 64, m 200": (100, 64, 200),
    "256 x 784, m 128": (256, 784, 128),
    "1024 x 1024, m 256": (1024, 1024, 256),
}
VERBS = ("linear_activation", "linear_gradients", "backpropagate")


@pytest.fixture(params=LAYERS)
def layer(request):
    """``W, b, A_prev, Z, A, dZ, dW, db, dZ_prev``, as the layout places them."""
    n, n_prev, m = LAYERS[request.param]
    rng = np.random.default_rng(0)

    def columns(rows, count):
        return rng.normal(size=(count, rows)).astype("float32").T

    Z = columns(n, m)  # a rectifier keeps A in Z's memory
    return (
        columns(n, n_prev),
        columns(n, 1),
        columns(n_prev, m),
        Z,
        Z,
        columns(n, m),
        columns(n, n_prev),
        columns(n, 1),
        columns(n_prev, m),
    )


@pytest.mark.parametrize("verb", VERBS)
def test_verb(benchmark, verb, layer):
    W, b, A_prev, Z, A, dZ, dW, db, dZ_prev = layer
    backend = get_backend("numpy")
    g = backend.activations(["relu"], "float32")[1]
    body = backend.verbs[verb]
    arguments = {
        "linear_activation": (W, b, A_prev, g, (Z, A)),
        "linear_gradients": (dZ, A_prev, W, 0.0, (dW, db)),
        "backpropagate": (W, dZ, A_prev, A_prev, g, dZ_prev),
    }
    benchmark(body, *arguments[verb])


@pytest.mark.parametrize("verb", VERBS)
def test_product_alone(benchmark, verb, layer):
    W, _, A_prev, Z, _, dZ, dW, _, dZ_prev = layer
    arguments = {
        "linear_activation": (A_prev.T, W.T, Z.T),
        "linear_gradients": (A_prev, dZ.T, dW.T),
        "backpropagate": (dZ.T, W, dZ_prev.T),
    }
    benchmark(np.matmul, *arguments[verb])
