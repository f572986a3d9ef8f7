"""When to stop: the loss of training falls on and on, the score on other examples does not.

A network learns handwritten digits. With early stopping, a tenth of the examples is held out as a validation set;
training ends when the accuracy there has not improved for ten epochs, and the weights of the best epoch are kept.
Left: the curves, the best epoch marked. Right: the loss for three learning rates: too small a step is slow, too
large a one is restless.

    python examples/learning_curves.py [--out FOLDER]

writes learning_curves.png, by default into docs/images.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from accelnn import MLPClassifier
from accelnn.plots import HistoryDisplay

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images", metavar="FOLDER")
out = parser.parse_args().out

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)

model = MLPClassifier((64,), early_stopping=True, validation_fraction=0.1, batch_size=32, random_state=0)
model.fit(X_train, y_train)
accuracy = model.score(X_test, y_test)
print(f"{model.n_iter_} epochs, test accuracy {100 * accuracy:.1f} %")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
HistoryDisplay.from_estimator(model, ax=left)
left.set_title(f"early stopping: {100 * accuracy:.1f} % of the test set")

for rate, color in ((0.0001, "#56B4E9"), (0.001, "#0072B2"), (0.1, "#D55E00")):
    model = MLPClassifier((64,), learning_rate_init=rate, batch_size=32, random_state=0)
    for _ in range(40):  # epochs, whatever the loss does
        model.partial_fit(X_train, y_train, classes=range(10))
    HistoryDisplay.from_estimator(model, ax=right, name=f"rate {rate:g}", scale="log", color=color)
right.set_title("adam, by learning rate")

out.mkdir(parents=True, exist_ok=True)
figure.savefig(out / "learning_curves.png", dpi=120)
