"""Time of a prediction: one row, as a service sees it, and 500 rows. Run with ``pytest bench``."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from accelnn import Network
from accelnn.benchmark.cases import CASES, problem
from accelnn.benchmark.contestants import ENTRIES

CASE = CASES["64-100-10"]
ROWS = (1, 500)


@pytest.fixture(params=ROWS, ids=lambda rows: f"{rows} rows")
def rows(request):
    """Examples as rows, the way in which data lie on disk."""
    return np.random.default_rng(1).normal(size=(request.param, CASE.sizes[0])).astype("float32")


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_accelnn(benchmark, backend, rows):
    net = Network(CASE.sizes, CASE.activation, CASE.output, backend=backend)
    result = benchmark(net.predict, rows.T)
    assert result.shape == (CASE.sizes[-1], len(rows))


def peer(name):
    """A contestant that has trained for an epoch."""
    data = problem(replace(CASE, examples=200))
    contestant = importlib.import_module(ENTRIES[name].module).create(data, 1)
    contestant.reset()
    contestant.train(1)
    return contestant


def test_torch(benchmark, rows):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(*peer("torch").model, torch.nn.Softmax(dim=1)).eval()

    def predict(X):
        with torch.inference_mode():
            return model(torch.from_numpy(X)).numpy()

    assert benchmark(predict, rows).shape == (len(rows), CASE.sizes[-1])


def test_sklearn(benchmark, rows):
    model = peer("sklearn").model
    assert benchmark(model.predict_proba, rows).shape == (len(rows), CASE.sizes[-1])


def test_jax(benchmark, rows):
    jax = pytest.importorskip("jax")
    theta = peer("jax jit").theta

    @jax.jit
    def forward(theta, X):
        for W, b in theta[:-1]:
            X = jax.nn.relu(X @ W + b)
        W, b = theta[-1]
        return jax.nn.softmax(X @ W + b)

    assert benchmark(lambda X: np.asarray(forward(theta, X)), rows).shape == (len(rows), CASE.sizes[-1])
