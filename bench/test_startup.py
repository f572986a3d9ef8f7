"""How long a person waits before anything happens. Run with ``pytest bench``; figures, no verdicts."""

import subprocess
import sys

import pytest

STATEMENTS = {
    "python alone": "pass",
    "import numpy": "import numpy",
    "import accelnn": "import accelnn",
    "accelnn.Network": "import accelnn; accelnn.Network",
    "a numpy network": "import accelnn; accelnn.Network([2, 1], backend='numpy').predict([[0.0], [0.0]])",
    "a numba network, kernels kept": "import accelnn; accelnn.Network([2, 1], backend='numba').predict([[0.0], [0.0]])",
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_process(benchmark, statement):
    command = [sys.executable, "-c", STATEMENTS[statement]]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=7, warmup_rounds=1)
