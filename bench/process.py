"""Whole processes, imports included: ``accelnn train digits`` beside the same training written with scikit-learn.

Also the first run ever, whose kernels are compiled (``python bench/process.py``). Writes process.json into
bench/results/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from accelnn.benchmark.machine import machine

SKLEARN = """
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X.astype("float32"), y, stratify=y, random_state=0)
network = MLPClassifier((100,), alpha=0.0, batch_size=32, max_iter=60, tol=0.0, n_iter_no_change=60, random_state=0)
model = make_pipeline(StandardScaler(), network)
import warnings
warnings.simplefilter("ignore")
model.fit(X, y)
print(f"accuracy {100 * model.score(X_test, y_test):.2f} %")
"""


def seconds(command: list[str], cache: str) -> tuple[float, str]:
    """A command's time and what it printed."""
    began = time.perf_counter()
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, result.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    commands = {
        "accelnn train digits": [sys.executable, "-m", "accelnn", "train", "digits"],
        "scikit-learn": [sys.executable, "-c", SKLEARN],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as cache:
        cold, _ = seconds(commands["accelnn train digits"], cache)
        for _ in range(options.rounds):
            for name, command in commands.items():
                taken[name].append(seconds(command, cache)[0])
        for name, command in commands.items():
            lines = seconds(command, cache)[1].splitlines()
            print(name, next(line for line in lines if "accuracy" in line), sep=": ")
    rows = {name: np.percentile(times, [25, 50, 75]).round(3).tolist() for name, times in taken.items()}
    for name, (low, median, high) in rows.items():
        print(f"{name:22} {median:.2f} s  quartiles {low:.2f} to {high:.2f} s")
    print(f"{'with a cold cache':22} {cold:.2f} s")
    content = {"machine": machine(), "rounds": options.rounds, "quartiles in seconds": rows, "first run": cold}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "process.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
