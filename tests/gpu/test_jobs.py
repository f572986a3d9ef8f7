"""A person's whole jobs on a GPU, the same as on the CPU with another flag: train, predict, compare."""

import re

import pytest
from conftest import HAS_GPU
from typer.testing import CliRunner

from accelnn import get_backend
from accelnn.benchmark import parity
from accelnn.benchmark.cases import CASES, problem, variant
from accelnn.benchmark.contestants.network import create
from accelnn.cli import app

pytestmark = pytest.mark.gpu


def train(*arguments):
    """What `accelnn train` prints: final loss, accuracy in percent, everything."""
    result = CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    loss = float(re.search(r"^loss +(\S+)$", result.stdout, re.M)[1])
    return loss, float(re.search(r"accuracy ([\d.]+) %", result.stdout)[1]), result.stdout


@pytest.mark.slow
def test_digits(cupy_by_name):
    """60 epochs, 2,580 steps: at least 97 % of the held-out examples, and NumPy's final loss."""
    loss, accuracy, text = train("digits", "--backend", "cupy")
    assert "backend   cupy, as asked for; GPU 0: " in text
    assert accuracy >= 97.0
    assert loss == pytest.approx(train("digits", "--backend", "numpy")[0], rel=1e-4)


def test_digits_in_double_precision(cupy_by_name):
    """A few epochs, to ten digits."""
    arguments = "digits", "--dtype", "float64", "--epochs", "4"
    assert train(*arguments, "--backend", "cupy")[0] == pytest.approx(
        train(*arguments, "--backend", "numpy")[0], rel=1e-10
    )


def test_auto_takes_the_gpu(cupy_by_name):
    assert get_backend().name == "cupy"
    loss, _, text = train("iris", "--epochs", "2")
    assert "backend   cupy, chosen by auto because a GPU is usable" in text
    assert loss > 0


def test_predictions_from_a_file(cupy_by_name, tmp_path):
    """A model trained on the GPU predicts the same there and on the CPU."""
    import polars
    from sklearn.datasets import load_wine

    source = load_wine()
    table = tmp_path / "wine.csv"
    columns = dict(zip(source.feature_names, source.data.T, strict=True))
    polars.DataFrame({**columns, "kind": source.target}).write_csv(table)
    model = str(tmp_path / "model.safetensors")
    train(
        str(table), "--target", "kind", "--task", "classification", "--backend", "cupy", "--epochs", "3", "--out", model
    )
    predicted = [
        CliRunner().invoke(app, ["predict", model, str(table), "--backend", name], catch_exceptions=False)
        for name in ("cupy", "numpy")
    ]
    assert predicted[0].exit_code == predicted[1].exit_code == 0
    labels = [[line.split(",")[0] for line in result.stdout.splitlines()] for result in predicted]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 179


def test_the_benchmark_reaches_the_same_loss(cupy_by_name):
    """`accelnn bench` compares only who agrees."""
    case = variant(CASES["64-100-10-adam"], examples=400)
    data = problem(case)
    losses = []
    for name in ("cupy", "numpy"):
        contestant = create(data, 1, name)
        contestant.reset()
        contestant.train(3)
        losses.append(parity.loss(data, *contestant.parameters()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.skipif(HAS_GPU, reason="a GPU is here")
def test_the_double_is_gone_afterwards():
    assert get_backend().name != "cupy"
