"""What a network looks for in a picture: the weights of its first layer, each unit's as a picture.

The digits are pictures of 8 x 8 pixels, so a unit of the first layer has 8 x 8 weights; ink on a blue pixel raises the
unit's sum, ink on a red one lowers it (the pictures are smoothed). Above: without a hidden layer there is one unit for
each digit, and its weights are a template. That of the 0 forbids ink in the middle. Below: twenty hidden units look
for parts instead, strokes and gaps that several digits share, and recognise more.

    python examples/digit_weights.py [--out FOLDER]

writes digit_weights.png, by default into docs/images.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from accelnn import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images", metavar="FOLDER")
out = parser.parse_args().out

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)

figure = plt.figure(figsize=(10, 4.4), layout="constrained")
for part, hidden in zip(figure.subfigures(2, 1, height_ratios=(1.3, 2)), ((), (20,)), strict=True):
    model = MLPClassifier(hidden, "tanh", solver="lbfgs", alpha=3.0, max_iter=1000, random_state=0)
    model.fit(X_train, y_train)
    accuracy = 100 * model.score(X_test, y_test)
    print(f"hidden units {hidden}: test accuracy {accuracy:.1f} %")

    weights = model.network_.W[1]  # (units, pixels), as in the equations
    largest = np.abs(weights).max()  # one scale for all units of the layer, 0 in its middle
    panels = part.subplots(len(weights) // 10, 10)
    for k, (panel, unit) in enumerate(zip(panels.flat, weights, strict=True)):
        look = {"cmap": "RdBu", "vmin": -largest, "vmax": largest, "interpolation": "bilinear"}
        image = panel.imshow(unit.reshape(8, 8), **look)
        panel.set(xticks=[], yticks=[], xlabel="" if hidden else str(k))
    what = f"{hidden[0]} hidden units" if hidden else "no hidden layer, one unit a digit"
    part.suptitle(f"{what}: {accuracy:.1f} % of the test set")
    marks = {"ticks": [-largest, 0, largest], "format": "%.1f", "aspect": len(weights)}
    part.colorbar(image, ax=panels, label="weight", **marks)

out.mkdir(parents=True, exist_ok=True)
figure.savefig(out / "digit_weights.png", dpi=120)
