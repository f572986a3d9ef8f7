"""What the pictures share: the drawing library, colours for all eyes, and room for a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelnn.errors import DataError

__all__ = [
    "COLORS",
    "DIVERGING",
    "GREY",
    "LETTER",
    "MARKERS",
    "SMALL",
    "axes",
    "finite",
    "inches",
    "innermost",
    "legend",
    "legend_shape",
    "pyplot",
    "room",
    "symbol",
]

# Distinct for colour-blind eyes: Okabe and Ito, Color Universal Design (2008), without black, which draws outlines.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#4D4D4D"
DIVERGING = "RdBu"  # negative red, 0 white, positive blue

SMALL = 9.0  # points, of legends and notes
ROW, KEY, LETTER = 0.21, 0.46, 0.067  # inches at that size: a legend's row, its key with the gaps, a letter


def pyplot() -> Any:
    """The module matplotlib.pyplot.

    Raises
    ------
    DataError
        Where matplotlib is not installed, with the command that installs it.
    """
    try:
        import matplotlib.pyplot
    except ImportError:
        raise DataError(
            'matplotlib: is not installed, and pictures need it; run: pip install "accelnn[plot]"'
        ) from None
    return matplotlib.pyplot


def axes(ax: Any = None, size: tuple[float, float] = (6.4, 4.2)) -> Any:
    """The given axes, or those of a new figure of this size in inches."""
    plt = pyplot()
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def inches(ax: Any) -> tuple[float, float]:
    """Width and height of axes, as far as they are known before the figure is laid out."""
    extent = ax.get_window_extent()
    return extent.width / ax.figure.dpi, extent.height / ax.figure.dpi


def innermost(model: Any) -> Any:
    """The model itself, or the one that a fitted search, transformer of the target or pipeline holds."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "regressor_"):
            model = model.regressor_
        elif getattr(model, "steps", None):
            model = model.steps[-1][1]
        else:
            return model


def symbol(k: int) -> tuple[str, str]:
    """Colour and marker of class number k; the pair is another one for each of the first 56 classes."""
    return COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)]


def legend_shape(ax: Any, names: Sequence[str]) -> tuple[int, float]:
    """Columns of a legend that is no wider than the axes, and the share of their height that it takes."""
    width, height = inches(ax)
    columns = max(1, len(names))
    while columns > 1 and _legend_width(names, columns) > 0.85 * width:  # labels of axes will take some
        columns -= 1
    rows = -(-len(names) // columns)
    return columns, min(0.5, (ROW * rows + 0.12) / height)


def _legend_width(names: Sequence[str], columns: int) -> float:
    """In inches, about; the first columns are the fuller ones."""
    lengths = np.array_split([len(name) for name in names], columns)
    return sum(KEY + LETTER * max(column, default=0) for column in lengths)


def legend(ax: Any, handles: Sequence[Any], names: Sequence[str]) -> Any:
    """Along the upper edge, inside: there it is neither cut off nor in the way of a title. `room` keeps it free."""
    columns, _ = legend_shape(ax, names)
    made = ax.legend(
        handles,
        names,
        loc="upper center",
        ncols=columns,
        fontsize=SMALL,
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.4,
        framealpha=1.0,
    )
    for text in made.get_texts():
        text.set_parse_math(False)  # a user's names are no formulas
    return made


def room(low: float, high: float, top: float, margin: float = 0.05) -> tuple[float, float]:
    """Limits of an axis from `low` to `high` with a margin, and above it a share `top` of the whole left free."""
    span = (high - low) or abs(high) or 1.0
    start = low - margin * span
    return start, start + (1 + 2 * margin) * span / (1 - top)


def finite(values: Any) -> np.ndarray:
    """Those that are neither NaN nor infinite."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
