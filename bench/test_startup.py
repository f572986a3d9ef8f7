"""How long a person waits before anything happens. Run with ``pytest bench``; figures, no verdicts."""

import os
import subprocess
import sys

import pytest

FIT = """
import numpy as np
from accelnn import Network
net = Network([64, 100, 10], output="softmax", backend={backend!r})
net.fit(np.ones((64, 200)), np.arange(200) % 10, epochs=1, batch_size=100)
net.predict(np.ones((64, 1)))
"""
STATEMENTS = {
    "python alone": "pass",
    "import numpy": "import numpy",
    "import accelnn": "import accelnn",
    "accelnn.Network": "import accelnn; accelnn.Network",
    "accelnn --help": "import sys; sys.argv = ['accelnn', '--help']; from accelnn.cli import main; main()",
    "a numpy network": "import accelnn; accelnn.Network([2, 1], backend='numpy').predict([[0.0], [0.0]])",
    "a numba network, kernels kept": "import accelnn; accelnn.Network([2, 1], backend='numba').predict([[0.0], [0.0]])",
    "a fit on numpy": FIT.format(backend="numpy"),
    "a fit on numba, kernels kept": FIT.format(backend="numba"),
}


def run(statement, **environment):
    command = [sys.executable, "-c", statement]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})


@pytest.mark.parametrize("statement", STATEMENTS)
def test_process(benchmark, statement):
    benchmark.pedantic(run, (STATEMENTS[statement],), rounds=7, warmup_rounds=1)


def test_first_fit_on_numba_with_an_empty_kernel_cache(benchmark, tmp_path):
    """Everything that a network needs is compiled, in each round into a new folder."""
    folders = (tmp_path / str(number) for number in range(10))

    def empty():
        folder = str(next(folders))
        return (FIT.format(backend="numba"),), {"NUMBA_CACHE_DIR": folder, "XDG_CACHE_HOME": folder}

    benchmark.pedantic(run, setup=empty, rounds=3)
