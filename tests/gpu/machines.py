"""Small networks on a device of the double, and data for them."""

import numpy as np
from gpu import double

from accelnn import Network

cp = double.MODULES["cupy"]


def data(sizes, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, sizes[0])).T, rng.normal(size=(m, sizes[-1])).T


def network(backend, sizes, dtype="float32", activations="tanh"):
    return Network(sizes, activations, "identity", dtype=dtype, backend=backend)
