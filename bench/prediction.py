"""Time of a prediction, one row and 500, beside PyTorch and scikit-learn: ``python bench/prediction.py``.

The same 64-100-10 network with softmax, the same rows as host arrays, checked to give the same probabilities.
Writes prediction.json into bench/results/.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from accelnn import Network
from accelnn.benchmark.machine import machine
from accelnn.threads import thread_count

SIZES = (64, 100, 10)


def contestants(net: Network, threads: int) -> dict[str, Callable[[np.ndarray], Any]]:
    """Functions of examples as rows, which give the outputs as rows."""
    import torch
    from sklearn.neural_network import MLPClassifier

    torch.set_num_threads(threads)
    module = torch.nn.Sequential(
        torch.nn.Linear(64, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10), torch.nn.Softmax(1)
    ).eval()
    with torch.no_grad():
        for layer, l in ((module[0], 1), (module[2], 2)):
            layer.weight.copy_(torch.from_numpy(net.W[l]))
            layer.bias.copy_(torch.from_numpy(net.b[l][:, 0]))

    def by_torch(module: Any) -> Callable[[np.ndarray], Any]:
        def run(rows: np.ndarray) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(rows)).numpy()

        return run

    rng = np.random.default_rng(0)
    scikit = MLPClassifier((100,), max_iter=1).partial_fit(
        rng.normal(size=(20, 64)).astype("float32"), np.arange(20) % 10, classes=np.arange(10)
    )
    scikit.coefs_ = [np.ascontiguousarray(W.T) for W in net.W[1:]]
    scikit.intercepts_ = [b[:, 0].copy() for b in net.b[1:]]
    return {
        "accelnn numba": lambda rows: net.predict(rows.T).T,
        "torch": by_torch(module),
        "torch.compile": by_torch(torch.compile(module)),
        "sklearn": scikit.predict_proba,
    }


def seconds(function: Callable[[], Any], target: float = 0.05) -> float:
    """Of one call, over as many as take about `target`."""
    began = time.perf_counter()
    function()
    calls = max(3, int(target / (time.perf_counter() - began)))
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    net = Network(SIZES, output="softmax", backend="numba", threads=options.threads)
    runs = contestants(net, options.threads)
    results = {}
    for m in (1, 500):
        rows = np.random.default_rng(1).normal(size=(m, 64)).astype("float32")
        for name, run in runs.items():
            np.testing.assert_allclose(run(rows), net.predict(rows.T).T, atol=1e-6, err_msg=name)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                taken[name].append(seconds(lambda run=run, rows=rows: run(rows)))
        results[m] = {name: np.percentile(times, [25, 50, 75]).tolist() for name, times in taken.items()}
        for name, (low, median, high) in results[m].items():
            print(f"{m:4} row(s)  {name:14} {1e6 * median:6.1f} µs  quartiles {1e6 * low:.1f} to {1e6 * high:.1f} µs")
    content = {"machine": machine(), "threads": options.threads, "quartiles in seconds": results}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "prediction.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
