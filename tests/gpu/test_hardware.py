"""What only a GPU can show. These, and everything marked `gpu` elsewhere, is what `pytest -m gpu` runs on one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import DTYPES, HAS_GPU, assert_same
from scipy import sparse

from accelnn import DeviceMemoryError, Network, get_backend
from accelnn.backends import why_unavailable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU, reason=f"no GPU: {why_unavailable('cupy')}"),
]

SHAPES = [(20, 64, 64, 1), (64, 100, 10), (784, 256, 128, 10), (784, 1024, 1024, 10)]


def train(backend, sizes, dtype="float32", epochs=3, m=1000, density=None, **options):
    """Final theta and losses of a short training; with a density, on a sparse X."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(m, sizes[0])).T, rng.normal(size=(m, sizes[-1])).T
    if density is not None:
        X = sparse.csc_array(np.where(rng.uniform(size=X.shape) < density, X, 0))
    net = Network(sizes, "relu", "identity", dtype=dtype, backend=backend)
    options = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128} | options
    history = net.fit(X, Y, epochs=epochs, **options)
    return net.backend.to_host(net.theta), history.loss


OPTIONS = {
    "plain": {},
    "weights and dropout": {"sample_weight": np.random.default_rng(1).uniform(size=1000), "dropout": 0.2},
    "sparse": {"density": 0.1},
    "sparse, full batch": {"density": 0.1, "batch_size": None, "dropout": 0.2},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SHAPES)
def test_training_agrees_with_numpy(sizes, dtype, options):
    theta, losses = train("cupy", sizes, dtype, **OPTIONS[options])
    expected, expected_losses = train("numpy", sizes, dtype, **OPTIONS[options])
    assert_same(losses, expected_losses, dtype, "losses")
    if dtype == "float64":
        assert_same(theta, expected, dtype, "theta")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sizes", SHAPES)
def test_two_runs_give_the_same_bits(sizes, options):
    first, second = (train("cupy", sizes, **OPTIONS[options]) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize("sizes", SHAPES[:2])
def test_a_step_as_a_cuda_graph_gives_the_same_bits(sizes, monkeypatch):
    from accelnn.backends.cupy import CupyBackend

    expected, _ = train("cupy", sizes, dropout=0.2)
    monkeypatch.setenv("ACCELNN_CUDA_GRAPHS", "1")
    theta, _ = train(CupyBackend(), sizes, dropout=0.2)
    np.testing.assert_array_equal(theta, expected)


@pytest.mark.parametrize("batch_size", [100, 128])
def test_data_that_stay_on_the_host_give_the_same_bits(batch_size):
    from accelnn.backends.cupy import CupyBackend

    expected, _ = train("cupy", (64, 100, 10), batch_size=batch_size)
    backend = CupyBackend()
    backend.place = lambda *arrays: arrays
    theta, _ = train(backend, (64, 100, 10), batch_size=batch_size)
    np.testing.assert_array_equal(theta, expected)


def test_out_of_memory_leaves_the_network_usable():
    net = Network([4, 8, 1], output="identity", backend="cupy")
    with pytest.raises(DeviceMemoryError, match="has no room"):
        get_backend("cupy").empty(2**50, "float32")
    X = np.zeros((4, 10))
    assert np.isfinite(net.predict(X)).all()


def test_two_million_examples_in_one_batch():
    """More tiles of examples than a grid has places along y and z."""
    options = {"m": 2_200_000, "batch_size": None, "epochs": 2, "learning_rate": 1e-2}
    theta, losses = train("cupy", (2, 3, 1), **options)
    _, expected = train("numpy", (2, 3, 1), **options)
    assert_same(losses, expected, "float32", "losses")
    assert np.isfinite(theta).all()


def test_the_benchmark_runs(tmp_path):
    """`accelnn bench --backends cupy`: cupy reaches the same loss, or it is no contestant."""
    options = [
        "--case",
        "64-100-10",
        "--backends",
        "cupy,numba",
        "--peers",
        "none",
        "--rounds",
        "3",
        "--seconds",
        "0.1",
    ]
    command = [sys.executable, "-m", "accelnn", "bench", *options, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    text = json.dumps(json.loads((tmp_path / "bench.json").read_text()))
    assert "cupy" in text
    print(result.stdout)
