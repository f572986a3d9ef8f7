"""What the estimators add to the network, and the time of one row, beside scikit-learn: ``python bench/overhead.py``.

Calls of all contestants in turn, medians over rounds. Writes overhead.json and overhead.md into bench/results/.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

from accelnn import MLPClassifier, MLPRegressor, Network
from accelnn.benchmark.machine import machine

RESULTS = Path(__file__).parent / "results"
ROWS, FEATURES, CLASSES = 100, 20, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, FEATURES))
y, numbers = rng.integers(0, CLASSES, ROWS), rng.normal(size=ROWS)
ONE_HOT = np.eye(CLASSES)[y].T


def network(backend: str, output: str, Y: np.ndarray) -> Callable[[], Any]:
    """One epoch of a new network, as the estimators train it."""

    def fit() -> None:
        net = Network([FEATURES, 100, len(Y)], "relu", output, dtype="float64", backend=backend)
        net.fit(X.T, Y, "adam", 1e-3, epochs=1, batch_size=ROWS, l2=1e-4)

    return fit


def contestants(backend: str) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is timed: fits of one epoch, and predictions of one row."""
    classifier, regressor = MLPClassifier(backend=backend, max_iter=1), MLPRegressor(backend=backend, max_iter=1)
    theirs = neural_network.MLPClassifier(max_iter=1)
    fits = {
        "Network.fit, softmax": network(backend, "softmax", ONE_HOT),
        "MLPClassifier.fit": lambda: classifier.fit(X, y),
        "Network.fit, identity": network(backend, "identity", numbers[None]),
        "MLPRegressor.fit": lambda: regressor.fit(X, numbers),
        "scikit-learn's MLPClassifier.fit": lambda: theirs.fit(X, y),
    }
    for fit in fits.values():
        fit()  # warm
    row = X[:1].copy()
    net = classifier.network_
    rows = {
        "predict_proba": lambda: classifier.predict_proba(row),
        "network_.predict (the fast path)": lambda: net.predict(row.T).T,
        "scikit-learn's predict_proba": lambda: theirs.predict_proba(row),
    }
    return {"one epoch on 100 rows": fits, "one row": rows}


def timed(functions: dict[str, Callable[[], Any]], rounds: int, calls: int) -> dict[str, list[float]]:
    """Microseconds of a call of each function, which take turns after some calls."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            for _ in range(calls):
                function()
            found[name].append(1e6 * (time.perf_counter() - began) / calls)
    return found


def main() -> None:
    """Time on both backends of the CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore", ConvergenceWarning)
    where, results = machine(), {}
    lines = [
        "# What the estimators add",
        "",
        f"20 features, 100 hidden units, 3 classes, float64; microseconds, median of {rounds} rounds in turn (10th to",
        f"90th percentile), rows 20 calls at a time. {where['cpu']}, {where['usable_cores']} cores,",
        f"{where['date'][:10]}; made by `python bench/overhead.py`.",
        "",
        "| backend | what | call | microseconds |",
        "|---|---|---|---|",
    ]
    for backend in ("numba", "numpy"):
        for what, functions in contestants(backend).items():
            found = timed(functions, rounds, 20 if what == "one row" else 1)
            results[f"{backend}, {what}"] = {name: median(times) for name, times in found.items()}
            for name, times in found.items():
                low, high = np.percentile(times, [10, 90])
                lines.append(f"| {backend} | {what} | {name} | {median(times):.1f} ({low:.1f} to {high:.1f}) |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "overhead.json").write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    (RESULTS / "overhead.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
