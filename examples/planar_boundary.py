"""A network of four hidden units bends its boundary round a flower.

The two classes of the planar data set are the petals of one flower in turn, and a straight line separates them about
as well as a coin. Four tanh units and 10,000 steps of plain gradient descent on all 400 examples do better. Left: the
examples on the probability that the network gives to blue, black where it is a half. Right: the loss on its way.

    python examples/planar_boundary.py [--out FOLDER]

writes planar.png, by default into docs/images.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from accelnn import Network
from accelnn.datasets import planar
from accelnn.plots import HistoryDisplay, plot_decision_boundary
from accelnn.tables.schema import Standardizer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images", metavar="FOLDER")
out = parser.parse_args().out

data = planar()
X = Standardizer.of(data.X, data.features).apply(data.X).T  # the equations' orientation: examples are columns

net = Network([2, 4, 1], activations="tanh", output="sigmoid", seed=0)
history = net.fit(X, data.y, optimizer="sgd", learning_rate=1.2, epochs=10_000)
accuracy = np.mean((net.predict(X)[0] > 0.5) == data.y)
print(f"{net!r}\nloss {history.loss[0]:.3f} -> {history.loss[-1]:.3f}, training accuracy {100 * accuracy:.1f} %")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1.15, 1), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)
plot_decision_boundary(net, X, data.y, class_names=data.classes, ax=left)
left.set(
    title=f"2-4-1, tanh: {100 * accuracy:.1f} % of 400", xlabel="$x_1$, standardised", ylabel="$x_2$, standardised"
)

HistoryDisplay.from_history(history, ax=right)
right.set(title="gradient descent, learning rate 1.2", xscale="log", xlabel="iteration", ylabel="J, cross-entropy")

out.mkdir(parents=True, exist_ok=True)
figure.savefig(out / "planar.png", dpi=120)
