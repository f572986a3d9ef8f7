"""The two-layer network learns the planar flower: writes docs/images/planar.png."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from accelnn import Network
from accelnn.data import Standardizer
from accelnn.datasets import planar

data = planar()
scaler = Standardizer.of(data.X, data.features)
X = scaler.apply(data.X).T  # the equations' orientation: examples are columns

net = Network([2, 4, 1], activations="tanh", output="sigmoid", seed=0)
history = net.fit(X, data.y, optimizer="sgd", learning_rate=1.2, epochs=10_000)
accuracy = np.mean((net.predict(X)[0] > 0.5) == data.y)
print(f"{net!r}\nloss {history.loss[0]:.3f} -> {history.loss[-1]:.3f}, training accuracy {100 * accuracy:.1f} %")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), width_ratios=(1.15, 1), layout="constrained")
reach = np.abs(data.X).max() * 1.1
axis = np.linspace(-reach, reach, 300)
grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
probability = net.predict(scaler.apply(grid.T).T).reshape(300, 300)
filled = left.contourf(axis, axis, probability, levels=np.linspace(0, 1, 21), cmap="RdBu", alpha=0.75)
left.contour(axis, axis, probability, levels=[0.5], colors="black", linewidths=1.2)
left.scatter(*data.X.T, c=data.y, cmap="RdBu", s=14, edgecolors="black", linewidths=0.4)
left.set(title=f"2-4-1, tanh: {100 * accuracy:.1f} % of 400", xlabel="x1", ylabel="x2", aspect="equal")
figure.colorbar(filled, ax=left, label="probability of blue", ticks=[0, 0.5, 1])
right.semilogx(np.arange(1, len(history.loss) + 1), history.loss, color="black")
right.set(title="gradient descent, learning rate 1.2", xlabel="iteration", ylabel="J (binary cross-entropy)")
right.grid(alpha=0.3)

target = Path(__file__).parents[1] / "docs" / "images" / "planar.png"
target.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(target, dpi=120)
