"""Time of a step and of an epoch on each backend, in float32. Run with ``pytest bench``.

Beside other libraries, in processes of their own, with equal losses first: ``accelnn bench``.
"""

import pytest

from accelnn import Network
from accelnn.benchmark.cases import CASES, problem
from accelnn.benchmark.contestants.network import Accelnn

SMALL = [name for name in CASES if not name.startswith(("784-1024", "2048"))]
LARGE = [name for name in CASES if name.startswith("784-1024")]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("case", SMALL)
def test_hundred_steps_of_one_batch(benchmark, case, backend):
    """The same examples in every step, so that they stay in the cache."""
    case, data = CASES[case], problem(CASES[case])
    net = Network(case.sizes, case.activation, case.output, case.loss, backend=backend)
    benchmark.extra_info["plan"] = str(net.plan())
    batch = data.batches()[0]
    arguments = {"epochs": 100, "optimizer": case.optimizer, "learning_rate": case.learning_rate}
    benchmark.pedantic(net.fit, (data.X[:, batch], data.Y[:, batch]), arguments, rounds=7, warmup_rounds=2)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("case", [*SMALL, *LARGE])
def test_epoch(benchmark, case, backend):
    """Every batch once."""
    contestant = Accelnn(problem(CASES[case]), backend)
    benchmark.extra_info |= {"steps": CASES[case].steps, "plan": str(contestant.net.plan())}
    benchmark.pedantic(contestant.train, (1,), setup=contestant.reset, rounds=7, warmup_rounds=2)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_shuffled_epoch(benchmark, backend):
    """As `fit` does by default: each batch is gathered from all over the data."""
    case, data = CASES["784-256-128-10"], problem(CASES["784-256-128-10"])
    net = Network(case.sizes, case.activation, case.output, case.loss, backend=backend)
    arguments = {"epochs": 1, "batch_size": case.batch_size, "learning_rate": case.learning_rate}
    benchmark.pedantic(net.fit, (data.X, data.Y), arguments, rounds=7, warmup_rounds=2)
