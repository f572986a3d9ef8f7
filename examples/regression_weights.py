"""What a network has found out about its inputs, read off its weights.

Friedman's first problem has ten inputs, of which the target depends on five: y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 +
10 x4 + 5 x5 + noise. A small network is not told which. Left: predictions against targets that it has not seen; a
perfect one lies on the diagonal. Right: its weights, blue where positive, red where negative, the thicker the larger:
the penalty has taken away the lines from x6 to x10, which carry nothing.

    python examples/regression_weights.py [--out FOLDER]

writes regression_weights.png, by default into docs/images.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_friedman1
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelnn import MLPRegressor
from accelnn.plots import plot_network

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images", metavar="FOLDER")
out = parser.parse_args().out

X, y = make_friedman1(1000, n_features=10, noise=1.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

network = MLPRegressor(
    hidden_layer_sizes=(8,), activation="tanh", solver="lbfgs", alpha=1.0, max_iter=2000, random_state=0
)
model = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
model.fit(X_train, y_train)
score = model.score(X_test, y_test)
print(f"R² on the test set {score:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=(1, 1.4), layout="constrained")
look = {"s": 14, "color": "#0072B2", "edgecolors": "black", "linewidths": 0.4, "alpha": 0.8}
PredictionErrorDisplay.from_estimator(
    model, X_test, y_test, kind="actual_vs_predicted", ax=left, scatter_kwargs=look, line_kwargs={"color": "#D55E00"}
)
left.set(title=f"test set, R² = {score:.3f}", xlabel="prediction", ylabel="target")
left.set(xticks=range(5, 30, 5), yticks=range(5, 30, 5))
left.grid(alpha=0.3)

plot_network(model, right)

out.mkdir(parents=True, exist_ok=True)
figure.savefig(out / "regression_weights.png", dpi=120)
