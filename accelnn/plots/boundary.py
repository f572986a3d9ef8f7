"""What a model answers over a plane, and the examples on it."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from accelnn import checks
from accelnn.errors import DataError, require_known
from accelnn.network import Network
from accelnn.plots import style

__all__ = ["plot_decision_boundary"]

MARGIN = 0.06  # of a feature's range, on each side
PALE = 0.45  # share of a class's colour in its surface; the rest is white, so that the examples stand out
COLORINGS = frozenset({"c", "color", "facecolor", "facecolors"})
OTHERS: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median}


def plot_decision_boundary(
    model: Any,
    X: Any,
    y: Any,
    *,
    features: Sequence[int | str] | None = None,
    others: str = "median",
    class_names: Sequence[str] | None = None,
    ax: Any = None,
    colorbar: bool = True,
    grid_resolution: int = 200,
    scatter_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """The examples of two features on the model's answer to every point of their plane.

    For classes, the colour is that of the most probable one, the paler the less probable, and black lines are where
    two classes draw level. For numbers, surface and examples share one colour scale: a good prediction vanishes.

    Parameters
    ----------
    model : estimator or Network
        A fitted classifier with `predict_proba`, a regressor for one target, or a pipeline that ends with one; or an
        :class:`accelnn.Network` of one output, or of softmax.
    X : array or data frame of shape (n_samples, n_features)
        For a Network, of shape (n_features, m), as its `predict` takes it. The two features drawn are finite numbers;
        the others may be whatever the model takes, such as text or numbers with gaps.
    y : array of shape (n_samples,)
        Classes or numbers; for a Network, the numbers of the classes.
    features : pair of int or str, optional
        The two columns to draw; needed where there are more than two.
    others : {"median", "mean"}
        Of the examples' other features, where the plane cuts them; of their finite values. What is no number, such
        as text, is at its most frequent value, of several the first in X.
    class_names : sequence of str, optional
        For the legend, in the order of `classes_`.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    colorbar : bool
        Whether to add the scale of probabilities (of two classes) or of numbers.
    grid_resolution : int
        Points of the grid in each direction.
    scatter_kwargs : dict, optional
        For the examples, as matplotlib's ``scatter`` takes them; a colour replaces that of the classes or numbers.
    **kwargs
        For the surface, as scikit-learn's ``DecisionBoundaryDisplay.from_estimator`` takes them, `plot_method` among
        them.

    Returns
    -------
    sklearn.inspection.DecisionBoundaryDisplay
        With further attributes: `scatter_` (a list, for each class), `boundary_` (a list of the black lines),
        `legend_` and `colorbar_` (or None).

    Raises
    ------
    sklearn.exceptions.NotFittedError
    DataError
        For features, targets or a model that cannot be drawn, or where matplotlib is missing.
    """
    plt = style.pyplot()
    require_known("others", others, tuple(OTHERS))
    section = _Section(model, X, features, others)
    y = _targets(y, section)
    names = _class_names(class_names, section.classes)
    ax = style.axes(ax, (5.8, 4.6))
    surface = {"grid_resolution": grid_resolution, "eps": 0.0, "zorder": 0, **kwargs}
    draw = _draw_classes if names else _draw_numbers
    display = draw(section, y, names, ax, surface, scatter_kwargs or {})
    display.colorbar_ = None
    if colorbar and len(names) in (0, 2):
        display.colorbar_ = plt.colorbar(display.surface_, ax=ax, ticks=_ticks(display, names))
        label = f"probability of {names[1]}" if names else "prediction (surface), target (examples)"
        display.colorbar_.set_label(label, parse_math=False)
    formulas = section.frame is None
    ax.set_xlabel(section.names[0], parse_math=formulas)
    ax.set_ylabel(section.names[1], parse_math=formulas)
    if section.cut:
        ax.set_title(section.cut, fontsize=style.SMALL)
    return display


class _Section:
    """A model as a function of two features: an estimator for scikit-learn's display.

    Attributes
    ----------
    points : array of shape (n_samples, 2)
    names : list of two str
    cut : str
        Where the plane lies; empty where there are two features only.
    classes : array or None
    """

    def __init__(self, model: Any, X: Any, features: Sequence[int | str] | None, others: str):
        from sklearn.base import is_classifier, is_regressor
        from sklearn.utils.validation import check_is_fitted

        self.model = model
        if isinstance(model, Network):
            X = np.asarray(X).T
            self.classes = _network_classes(model)
        else:
            check_is_fitted(model)
            if not is_classifier(model) and not is_regressor(model):
                raise DataError(f"model: {type(model).__name__} is no classifier and no regressor; give a fitted one")
            if is_classifier(model) and not hasattr(model, "predict_proba"):
                raise DataError(f"model: this {type(model).__name__} has no predict_proba, which gives the surface")
            self.classes = model.classes_ if is_classifier(model) else None
        if self.classes is not None:
            self.classes_ = self.classes  # an attribute that tells scikit-learn what this is
        table = _table(X)
        self.frame = table if hasattr(table, "columns") else None
        names = list(map(str, table.columns)) if self.frame is not None else None
        count = table.shape[1]
        self.places = _places(features, count, names)
        self.points = np.column_stack([_drawn(table, k, repr(names[k]) if names else str(k)) for k in self.places])
        self.names = [names[k] if names else f"$x_{{{k + 1}}}$" for k in self.places]
        self.base = [_middle(_column(table, k), others) if k not in self.places else 0.0 for k in range(count)]
        kinds = [others] * (count - 2 > sum(isinstance(value, _Example) for value in self.base))
        kinds += ["most frequent value"] * any(isinstance(value, _Example) for value in self.base)
        self.cut = f"at the {' or '.join(kinds)} of the other features" if count > 2 else ""

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        classes = self.classes is not None
        return Tags(
            estimator_type="classifier" if classes else "regressor",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classes else None,
            regressor_tags=None if classes else RegressorTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> "_Section":
        """Nothing: what scikit-learn takes for an estimator has this method."""
        return self

    def predict(self, grid: np.ndarray) -> np.ndarray:
        """The numbers at points of shape (n, 2), or the most probable classes."""
        if self.classes is not None:
            return self.classes[self.predict_proba(grid).argmax(axis=1)]
        answer = np.asarray(self._ask("predict", grid))
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = answer[:, 0]
        if answer.ndim != 1:
            raise DataError(f"model: predicts {answer.shape[1]} numbers; a plane can show those of one target only")
        return answer

    def predict_proba(self, grid: np.ndarray) -> np.ndarray:
        """The probabilities at points of shape (n, 2), a column for each class."""
        answer = np.asarray(self._ask("predict_proba", grid))
        if answer.ndim == 2 and answer.shape[1] == 1:
            return np.hstack([1 - answer, answer])
        return answer

    def _ask(self, method: str, grid: np.ndarray) -> Any:
        columns = [value.repeated(len(grid)) if isinstance(value, _Example) else value for value in self.base]
        columns = [np.full(len(grid), column) if isinstance(column, float) else column for column in columns]
        for place, numbers in zip(self.places, grid.T, strict=True):
            columns[place] = numbers
        if isinstance(self.model, Network):
            return self.model.predict(np.stack(columns)).T
        return getattr(self.model, method)(_like(self.frame, columns))


class _Example(NamedTuple):
    """The value of one example, to be repeated with the type that its column has."""

    column: Any
    row: int

    def repeated(self, count: int) -> Any:
        rows = np.full(count, self.row)
        # pandas aligns columns by their index: all get the same.
        return self.column.iloc[rows].reset_index(drop=True) if hasattr(self.column, "iloc") else self.column[rows]


def _table(X: Any) -> Any:
    """X as a data frame or an array of two dimensions."""
    if checks.is_sparse(X):
        raise DataError("X: is sparse; give X.toarray()")
    if not hasattr(X, "columns"):
        try:
            text = not isinstance(X, np.ndarray) and np.asarray(X).dtype.kind in "US"
            X = np.asarray(X, dtype=object if text else None)  # beside text, numbers would become text as well
        except (TypeError, ValueError) as error:
            raise DataError(f"X: is no array of shape (n_samples, n_features): {error}") from None
    if len(X.shape) != 2 or not X.shape[0]:
        raise DataError(f"X: has shape {tuple(X.shape)}, expected (n_samples, n_features), both at least 1")
    return X


def _column(table: Any, k: int) -> Any:
    if isinstance(table, np.ndarray):
        return table[:, k]
    return table.iloc[:, k] if hasattr(table, "iloc") else table[table.columns[k]]


def _numbers(column: Any) -> np.ndarray | None:
    """A column as floats, missing ones as NaN; None where it holds anything that is no number."""
    values = np.asarray(column)
    if str(getattr(column, "dtype", "")) == "category":  # of numbers as well
        return None
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    if values.dtype.kind != "O" or any(isinstance(value, str | bytes) for value in values):
        return None
    try:
        return np.array([np.nan if _is_missing(value) else float(value) for value in values])
    except (TypeError, ValueError):
        return None


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA
        return True


def _drawn(table: Any, k: int, name: str) -> np.ndarray:
    numbers = _numbers(_column(table, k))
    if numbers is None:
        raise DataError(f"X: column {name} holds values that are no numbers; draw other features")
    if not np.isfinite(numbers).all():
        raise DataError(f"X: column {name} holds NaN or infinity; remove or impute such values, or draw other features")
    return numbers


def _middle(column: Any, others: str) -> "float | _Example":
    """Where the plane cuts a feature that is not drawn."""
    numbers = _numbers(column)
    if numbers is not None:
        numbers = style.finite(numbers)
        return float(OTHERS[others](numbers)) if len(numbers) else float("nan")
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(column):
        if not _is_missing(value):
            rows.setdefault(value, []).append(row)
    return _Example(column, max(rows.values(), key=len, default=[0])[0])


def _like(frame: Any, columns: list[Any]) -> Any:
    """Columns as a data frame of the same kind and names, so that the model knows its features by them."""
    if frame is None:
        return np.column_stack(columns)
    rows = type(frame)({str(k): column for k, column in enumerate(columns)})
    rows.columns = frame.columns
    return rows


def _network_classes(network: Network) -> np.ndarray | None:
    if network.output == "softmax":
        return np.arange(network.sizes[-1])
    if network.sizes[-1] > 1:
        raise DataError(
            f"model: has {network.sizes[-1]} outputs of {network.output!r}; a plane can show one of them, or softmax"
        )
    return np.arange(2) if network.output == "sigmoid" else None


def _places(features: Sequence[int | str] | None, count: int, columns: list[str] | None) -> list[int]:
    if count < 2:
        raise DataError("X: has 1 feature, and a plane needs two")
    if features is None:
        if count > 2:
            raise DataError(f"features: X has {count}; name the two to draw, such as features=(0, 1)")
        return [0, 1]
    if isinstance(features, str) or len(features) != 2 or features[0] == features[1]:
        raise DataError(f"features: {features!r} are no two different columns; give a pair such as (0, 1)")
    places = []
    for feature in features:
        if isinstance(feature, str):
            if columns is None or feature not in columns:
                known = f"X has {', '.join(map(repr, columns[:8]))}" if columns else "X has no column names"
                raise DataError(f"features: there is no column {feature!r}; {known}")
            places.append(columns.index(feature))
        elif isinstance(feature, int | np.integer) and 0 <= feature < count:
            places.append(int(feature))
        else:
            raise DataError(f"features: {feature!r} is no column of X; give numbers from 0 to {count - 1}, or names")
    return places


def _targets(y: Any, section: _Section) -> np.ndarray:
    """Numbers, or the place of each class in `classes_`."""
    y = np.asarray(y)
    y = y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y
    if y.ndim != 1:
        raise DataError(f"y: has {y.ndim} dimensions, expected 1: a class or a number for each example")
    if len(y) != len(section.points):
        raise DataError(f"y: has {len(y)} examples, but X has {len(section.points)}")
    if section.classes is None:
        if y.dtype.kind not in "fiub" or not np.isfinite(y).all():
            raise DataError("y: holds NaN, infinity or values that are no numbers, but the model is a regressor")
        return y.astype(np.float64)
    unknown = ~np.isin(y, section.classes)
    if unknown.any():
        place = int(unknown.argmax())
        raise DataError(f"y: y[{place}] is {y.tolist()[place]!r}, which is no class of the model")
    return np.searchsorted(section.classes, y)


def _class_names(names: Sequence[str] | None, classes: np.ndarray | None) -> list[str]:
    """One for each class; none for numbers."""
    count = 0 if classes is None else len(classes)
    if names is None:
        return [] if classes is None else [str(label) for label in classes]
    if len(names) != count:
        raise DataError(f"class_names: names {len(names)} classes, but the model has {count}")
    return [str(name) for name in names]


def _ticks(display: Any, names: list[str]) -> Any:
    """Round numbers within the scale."""
    from matplotlib.ticker import MaxNLocator

    low, high = display.surface_.get_clim()
    marks = MaxNLocator(7).tick_values(low, high)
    return [0, 0.25, 0.5, 0.75, 1] if names else [mark for mark in marks if low <= mark <= high]


def _draw_surface(section: _Section, ax: Any, top: float, options: dict[str, Any]) -> Any:
    """Scikit-learn's display on axes whose limits are the examples', a margin, and the share `top` for a legend."""
    from sklearn.inspection import DecisionBoundaryDisplay

    (left, bottom), (right, upper) = section.points.min(axis=0), section.points.max(axis=0)
    limits = {"xlim": style.room(left, right, 0.0, MARGIN), "ylim": style.room(bottom, upper, top, MARGIN)}
    corners = np.column_stack(list(limits.values()))
    display = DecisionBoundaryDisplay.from_estimator(section, corners, ax=ax, **options)
    ax.set(**limits)
    return display


def _scale(given: dict[str, Any], levels: np.ndarray, cmap: Any, **contours: Any) -> dict[str, Any]:
    """Options for colours from the first level to the last, as the method that is to draw them knows them."""
    method = given.get("plot_method", "contourf")
    options: dict[str, Any] = {"plot_method": method}
    if method != "pcolormesh":
        options |= {"levels": levels, **contours}
    elif "norm" not in given:
        options |= {"vmin": levels[0], "vmax": levels[-1]}
    return options if "colors" in given else {"cmap": cmap, **options}


def _draw_examples(ax: Any, points: np.ndarray, count: int, look: dict[str, Any], given: dict[str, Any]) -> Any:
    """Points, the smaller the more there are in all."""
    size = float(np.clip(9000 / count, 9, 28))
    if COLORINGS & given.keys():  # matplotlib takes one of these only
        look = {name: value for name, value in look.items() if name not in ("c", "color", "cmap", "norm")}
    return ax.scatter(*points.T, **{"s": size, "edgecolors": "black", "linewidths": 0.5, "zorder": 2, **look, **given})


def _draw_classes(
    section: _Section, y: np.ndarray, names: list[str], ax: Any, given: dict[str, Any], scatter: dict[str, Any]
) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap
    from sklearn.inspection import DecisionBoundaryDisplay

    pale = [_mixed(style.symbol(k)[0], PALE) for k in range(len(names))]
    options: dict[str, Any] = {"response_method": "predict_proba"}
    if len(names) == 2:
        cmap = LinearSegmentedColormap.from_list("two classes", [pale[0], (1.0, 1.0, 1.0), pale[1]])
        options |= _scale(given, np.linspace(0, 1, 21), cmap)
    elif "multiclass_colors" in inspect.signature(DecisionBoundaryDisplay.from_estimator).parameters:
        options |= {"plot_method": "pcolormesh", "multiclass_colors": pale, "vmin": 0.0, "vmax": 1.0}
    else:  # scikit-learn before 1.7 shows which of several classes is predicted, and not how probable it is
        options |= {"response_method": "predict"}
        options |= _scale(given, np.arange(len(names) + 1) - 0.5, ListedColormap(pale))
    _, top = style.legend_shape(ax, names)
    display = _draw_surface(section, ax, top, options | given)
    display.boundary_ = _draw_boundary(section, display, ax)
    display.scatter_ = []
    for k in range(len(names)):
        color, marker = style.symbol(k)
        look = {"color": color, "marker": marker}
        display.scatter_.append(_draw_examples(ax, section.points[y == k], len(y), look, scatter))
    display.legend_ = style.legend(ax, display.scatter_, names)
    return display


def _draw_boundary(section: _Section, display: Any, ax: Any) -> list[Any]:
    """Black lines where the lead of a class over all others is 0."""
    probability = section.predict_proba(np.column_stack([display.xx0.ravel(), display.xx1.ravel()])).T
    leads = [probability[k] - np.delete(probability, k, axis=0).max(axis=0) for k in range(len(probability))]
    leads = leads[1:] if len(leads) == 2 else leads  # of two classes, one line is the other's
    shape, look = display.xx0.shape, {"colors": "black", "linewidths": 1.1, "zorder": 1}
    return [
        ax.contour(display.xx0, display.xx1, lead.reshape(shape), levels=[0.0], **look)
        for lead in leads
        if lead.min() < 0 < lead.max()
    ]


def _draw_numbers(
    section: _Section, y: np.ndarray, names: list[str], ax: Any, given: dict[str, Any], scatter: dict[str, Any]
) -> Any:
    low, high = y.min(), y.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    options = {"response_method": "predict", **_scale(given, np.linspace(low, high, 21), "cividis", extend="both")}
    display = _draw_surface(section, ax, 0.0, options | given)
    look = {"c": y, "cmap": display.surface_.get_cmap(), "norm": display.surface_.norm}
    display.scatter_ = [_draw_examples(ax, section.points, len(y), look, scatter)]
    display.boundary_, display.legend_ = [], None
    return display


def _mixed(color: str, share: float) -> tuple[float, float, float]:
    """A colour, the rest white."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - share * (1 - part) for part in to_rgb(color))
    return red, green, blue
