"""What the weights of classes do for a rare one: ``python bench/imbalance.py``.

One example in fifty is of the rare class; ten seeds, half of the rows held out, default parameters otherwise. Writes
imbalance.json and imbalance.md into bench/results/.
"""

import json
import warnings
from pathlib import Path
from statistics import mean

from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

from accelnn import MLPClassifier

RESULTS = Path(__file__).parent / "results"
SEEDS = 10
SCORES = {
    "recall of the rare class": recall_score,
    "precision of the rare class": precision_score,
    "balanced accuracy": balanced_accuracy_score,
}


def compare(seed: int) -> dict[str, dict[str, float]]:
    """The scores on the rows that were held out, without and with balanced classes."""
    options = {"n_features": 20, "n_informative": 6, "class_sep": 0.8, "flip_y": 0.0}
    X, y = make_classification(10_000, weights=[0.98], random_state=seed, **options)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
    found = {}
    for weight in (None, "balanced"):
        answer = MLPClassifier(class_weight=weight, max_iter=50, random_state=seed).fit(X, y).predict(X_test)
        found[str(weight)] = {name: float(score(y_test, answer)) for name, score in SCORES.items()}
    return found


def main() -> None:
    """Compare over all seeds."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    results = [compare(seed) for seed in range(SEEDS)]
    lines = [
        "# Balanced classes",
        "",
        f"Two classes, 1 : 50, 10,000 rows of 20 features, half held out, 50 epochs; mean over {SEEDS} seeds (lowest",
        "to highest) on the rows held out. Made by `python bench/imbalance.py`.",
        "",
        f"| class_weight | {' | '.join(SCORES)} |",
        "|---|---|---|---|",
    ]
    for weight in ("None", "balanced"):
        columns = [[result[weight][name] for result in results] for name in SCORES]
        cells = [f"{mean(column):.3f} ({min(column):.3f} to {max(column):.3f})" for column in columns]
        lines.append(f"| {weight} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "imbalance.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "imbalance.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
