"""The pictures show the numbers that they are made from, name them, and keep their texts apart."""

import itertools
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import sklearn.neural_network
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from accelnn import DataError, History, MLPClassifier, MLPRegressor, Network
from accelnn.plots import HistoryDisplay, NetworkDisplay, plot_decision_boundary, plot_network
from accelnn.plots.style import symbol

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {"max_iter": 12, "random_state": 0, "backend": "numpy"}
IRIS = load_iris()
SPECIES = IRIS.target_names[IRIS.target]
FRAME = polars.DataFrame(IRIS.data, schema=list(IRIS.feature_names))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def species():
    """Three classes, known by name, from four features that have names."""
    return MLPClassifier((5, 4), **SETTINGS).fit(FRAME, SPECIES)


@pytest.fixture(scope="module")
def blobs():
    """Two features and two classes, with a boundary within the plane."""
    X, y = make_blobs(120, centers=[[-2.0, 0.0], [2.0, 1.0]], random_state=0)
    model = MLPClassifier((4,), "tanh", solver="lbfgs", random_state=0, backend="numpy").fit(X, y)
    return model, X, y


@pytest.fixture(scope="module")
def numbers():
    """Two features and a number."""
    X = np.random.default_rng(0).uniform(-2, 2, (100, 2))
    y = np.sin(X[:, 0]) * X[:, 1]
    return MLPRegressor(hidden_layer_sizes=(6,), **SETTINGS).fit(X, y), X, y


@pytest.fixture(scope="module")
def stopped():
    """Trained with early stopping."""
    return MLPClassifier((8,), early_stopping=True, validation_fraction=0.3, **SETTINGS).fit(IRIS.data, SPECIES)


def shown_texts(figure):
    """Every text that a reader sees, with its extent."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        texts = [*ax.texts, ax.title]
        for legend in filter(None, [ax.get_legend()]):
            texts += legend.get_texts()
        if ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
                texts += [axis.label]
                for tick in ticks:
                    if low <= tick.get_loc() <= high:
                        texts += [tick.label1, tick.label2]
        for text in texts:
            if text.get_visible() and text.get_text().strip():
                yield text.get_text(), text.get_window_extent()


def assert_texts_apart(figure):
    """No text covers another or leaves the figure."""
    found = list(shown_texts(figure))
    assert len(found) > 5
    for name, extent in found:
        inside = figure.bbox.padded(1.5)
        assert inside.x0 <= extent.x0, f"{name!r} is cut off"
        assert extent.x1 <= inside.x1, f"{name!r} is cut off"
        assert inside.y0 <= extent.y0, f"{name!r} is cut off"
        assert extent.y1 <= inside.y1, f"{name!r} is cut off"
    for (name, one), (other, two) in itertools.combinations(found, 2):
        width = min(one.x1, two.x1) - max(one.x0, two.x0)
        height = min(one.y1, two.y1) - max(one.y0, two.y0)
        assert min(width, height) < 1.0, f"{name!r} covers {other!r}"


def test_importing_loads_neither_matplotlib_nor_scikit_learn():
    code = "import sys, accelnn.plots; print([n for n in ('matplotlib', 'sklearn') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("what", ["history", "boundary", "weights"])
def test_without_matplotlib_the_error_says_how_to_get_it(what, blobs, monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    model, X, y = blobs
    with pytest.raises(DataError, match=r'pip install "accelnn\[plot\]"'):
        {
            "history": lambda: HistoryDisplay(loss=[1.0]).plot(),
            "boundary": lambda: plot_decision_boundary(model, X, y),
            "weights": lambda: plot_network(model),
        }[what]()


# The history.


def test_a_history_draws_the_estimators_curves(stopped):
    display = HistoryDisplay.from_estimator(stopped)
    epochs = np.arange(stopped.n_iter_) + 1
    np.testing.assert_array_equal(display.line_.get_xydata(), np.column_stack([epochs, stopped.loss_curve_]))
    np.testing.assert_array_equal(display.score_line_.get_xydata().T, [epochs, stopped.validation_scores_])
    assert display.score_line_.axes is display.second_ax_ is not display.ax_
    assert display.second_ax_.get_ylabel() == "validation accuracy"
    assert display.figure_ is display.ax_.figure


def test_the_marked_epoch_is_that_of_the_best_score(stopped):
    display = HistoryDisplay.from_estimator(stopped)
    assert display.best_mark_.get_xydata().tolist() == [[display.best_epoch, stopped.best_validation_score_]]
    assert f"best epoch {display.best_epoch}" in [text.get_text() for text in display.legend_.get_texts()]


def test_a_validation_loss_is_drawn_on_the_scale_of_the_loss(stopped, monkeypatch):
    monkeypatch.setattr(stopped, "validation_loss_curve_", stopped.loss_curve_[::-1], raising=False)
    display = HistoryDisplay.from_estimator(stopped)
    assert display.validation_line_.axes is display.ax_
    assert display.validation_line_.get_ydata().tolist() == stopped.loss_curve_[::-1]
    assert display.score_line_ is not None


def test_a_display_is_drawn_at_once_and_can_be_drawn_again(stopped):
    figure, (left, right) = plt.subplots(1, 2)
    display = HistoryDisplay.from_estimator(stopped, ax=left, name="net", scale="log", color="C3")
    assert display.ax_ is left
    assert (left.get_yscale(), display.line_.get_color()) == ("log", "C3")
    assert display.line_.get_label() == "net: training loss"
    first = display.line_
    assert display.plot(right) is display
    assert display.ax_ is right
    assert right.get_yscale() == "linear"
    np.testing.assert_array_equal(display.line_.get_xydata(), first.get_xydata())
    history = History(loss=[3.0, 1.0])
    other = HistoryDisplay.from_history(history, ax=figure.subplots(), name="run", scale="log", color="C4")
    assert (other.ax_.get_yscale(), other.line_.get_color(), other.line_.get_label()) == ("log", "C4", "run")
    assert plt.get_fignums() == [figure.number]


def test_epochs_without_validation_are_a_gap_and_never_the_best(stopped, monkeypatch):
    nan = float("nan")
    loss = np.geomspace(4, 1, 30)
    validation_loss = [nan] * 10 + [3.0] + [nan] * 4 + list(np.linspace(2, 1, 14)) + [nan]
    for name, curve in (
        ("loss_curve_", loss),
        ("validation_loss_curve_", validation_loss),
        ("validation_scores_", None),
    ):
        monkeypatch.setattr(stopped, name, curve, raising=False)
    for scale in ("linear", "log"):
        display = HistoryDisplay.from_estimator(stopped, scale=scale)
        np.testing.assert_array_equal(display.validation_line_.get_xydata().T, [np.arange(30) + 1, validation_loss])
        assert display.validation_line_.get_markevery() == [10], "an epoch between gaps is seen by its marker alone"
        assert display.best_epoch == 29
        assert display.best_mark_.get_xydata().tolist() == [[29, 1.0]]
        low, high = display.ax_.get_ylim()
        assert low < 1.0 < 4.0 < high
        assert display.line_.get_marker() == "None"
        display.figure_.draw_without_rendering()


def test_a_validation_loss_of_no_epoch_is_none():
    display = HistoryDisplay(loss=[2.0, 1.0], validation_loss=[float("nan")] * 2).plot()
    assert display.validation_line_ is display.best_epoch is display.legend_ is None


def test_a_partial_fit_with_a_validation_set_now_and_then_has_a_history():
    model = MLPClassifier((3,), **SETTINGS)
    for k in range(6):
        held = (IRIS.data, SPECIES) if k in (2, 3) else None
        model.partial_fit(IRIS.data, SPECIES, classes=IRIS.target_names, eval_set=held)
    display = HistoryDisplay.from_estimator(model)
    assert np.isfinite(display.validation_line_.get_ydata()).tolist() == [k in (2, 3) for k in range(6)]
    assert display.best_epoch in (3, 4)


@pytest.mark.parametrize(
    ("scoring", "name"),
    [("balanced_accuracy", "validation balanced accuracy"), (max, "validation score"), (None, "validation accuracy")],
)
def test_the_scores_bear_the_name_of_what_was_measured(scoring, name, stopped, monkeypatch):
    monkeypatch.setattr(stopped, "scoring", scoring, raising=False)
    assert HistoryDisplay.from_estimator(stopped).second_ax_.get_ylabel() == name


def test_a_score_that_is_the_loss_is_drawn_once(stopped, monkeypatch):
    monkeypatch.setattr(stopped, "scoring", "loss", raising=False)
    monkeypatch.setattr(stopped, "validation_loss_curve_", stopped.loss_curve_, raising=False)
    display = HistoryDisplay.from_estimator(stopped)
    assert display.score_line_ is None
    assert display.best_epoch == np.argmin(stopped.loss_curve_) + 1


def test_a_model_without_validation_has_no_lines_of_it():
    display = HistoryDisplay.from_estimator(MLPClassifier((2,), **SETTINGS).fit(IRIS.data, SPECIES))
    assert display.validation_line_ is display.score_line_ is display.second_ax_ is display.best_mark_ is None


@given(
    st.lists(st.sampled_from([0.1, 0.5, 0.9, float("nan"), float("-inf")]), min_size=1, max_size=12), st.integers(0, 3)
)
def test_the_best_epoch_is_the_first_with_the_highest_score_or_the_lowest_loss(scores, before):
    display = HistoryDisplay(loss=np.ones(len(scores) + before), validation_score=scores)
    finite = [score for score in scores if np.isfinite(score)]
    expected = scores.index(max(finite)) + before + 1 if finite else None
    assert display.best_epoch == expected
    losses = [-score for score in scores]
    assert HistoryDisplay(loss=np.ones(len(scores) + before), validation_loss=losses).best_epoch == expected


def test_the_best_epoch_is_that_of_the_lowest_validation_loss_where_there_is_no_score():
    assert HistoryDisplay(loss=[3, 2, 1, 0], validation_loss=[2.0, 1.0, 1.0, 4.0]).best_epoch == 2
    assert HistoryDisplay(loss=[3, 2, 1, 0]).best_epoch is None


def test_a_networks_history_shows_validation_and_a_learning_rate_that_changes():
    net = Network([2, 3, 1], backend="numpy")
    X, Y = np.random.default_rng(0).uniform(size=(2, 30)), np.ones((1, 30))
    history = net.fit(X, Y, epochs=5, validation=(X, Y), learning_rate=lambda steps: 0.1 / (1.0 + steps))
    display = HistoryDisplay.from_history(history)
    assert display.validation_line_.get_ydata().tolist() == history.validation_loss
    assert display.learning_rate_line_.get_ydata().tolist() == history.learning_rate
    assert display.second_ax_.get_ylabel() == "learning rate"
    assert HistoryDisplay.from_history(net.fit(X, Y, epochs=5)).second_ax_ is None


def test_a_single_line_needs_no_legend_unless_it_has_a_name():
    assert HistoryDisplay(loss=[2, 1]).plot().legend_ is None
    legend = HistoryDisplay(loss=[2, 1]).plot(name="costs $5_").legend_
    assert [text.get_text() for text in legend.get_texts()] == ["costs $5_"]


def test_scikit_learns_own_perceptron_has_a_history_too():
    model = sklearn.neural_network.MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, random_state=0)
    display = HistoryDisplay.from_estimator(make_pipeline(StandardScaler(), model).fit(IRIS.data, IRIS.target))
    assert len(display.loss) == 5


def test_several_models_share_axes_and_legend(stopped):
    figure, ax = plt.subplots()
    first = HistoryDisplay.from_estimator(stopped, ax=ax, name="one", color="C0")
    second = HistoryDisplay.from_estimator(stopped, ax=ax, name="two", color="C1", scale="log")
    assert first.second_ax_ is second.second_ax_
    assert figure.axes == [ax, first.second_ax_]
    names = [text.get_text() for text in second.legend_.get_texts()]
    for name in ("one", "two"):
        assert f"{name}: training loss" in names
        assert f"{name}: validation accuracy" in names
    assert [ax.get_legend() for ax in figure.axes] == [None, second.legend_]
    assert second.score_line_.get_color() == "C1"


@pytest.mark.parametrize("first", ["plain", "scored"])
def test_one_legend_is_left_whichever_model_comes_first(first, stopped):
    plain = HistoryDisplay(loss=[2.0, 1.0])
    scored = HistoryDisplay(loss=stopped.loss_curve_, validation_score=stopped.validation_scores_)
    order = [plain, scored] if first == "plain" else [scored, plain]
    figure, ax = plt.subplots()
    for display in order:
        display.plot(ax, name="plain" if display is plain else "scored")
    (legend,) = filter(None, [each.get_legend() for each in figure.axes])
    assert legend is order[-1].legend_
    assert {"plain", "scored: training loss"} <= {text.get_text() for text in legend.get_texts()}


@pytest.mark.parametrize("size", [(3.4, 2.8), (5, 3), (8, 4)])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_no_curve_runs_under_the_legend(size, scale):
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    epochs = np.arange(30)
    curves = {"loss": np.exp(-epochs / 9) + 0.1, "validation_loss": 0.2 + np.exp(-epochs / 12)}
    display = HistoryDisplay(**curves, validation_score=1 - np.exp(-epochs / 5)).plot(ax, scale=scale)
    figure.draw_without_rendering()
    lowest = display.legend_.get_window_extent().y0
    for line in (display.line_, display.validation_line_, display.score_line_, display.best_mark_):
        assert line.axes.transData.transform(line.get_xydata())[:, 1].max() <= lowest


def test_the_given_axes_are_used_and_no_figure_is_made(blobs, numbers):
    _, axes = plt.subplots(1, 4)
    assert HistoryDisplay(loss=[1.0, 0.5]).plot(axes[0]).ax_ is axes[0]
    assert plot_decision_boundary(*blobs, ax=axes[1]).ax_ is axes[1]
    assert plot_decision_boundary(*numbers, ax=axes[2]).ax_ is axes[2]
    assert plot_network(blobs[0], axes[3]).ax_ is axes[3]
    assert plt.get_fignums() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HistoryDisplay(loss=[]), "no epoch"),
        (lambda: HistoryDisplay.from_history(History()), "no epoch"),
        (lambda: HistoryDisplay(loss=["a"]), "loss: .* no sequence of numbers"),
        (lambda: HistoryDisplay(loss=[[1.0]]), "loss: has 2 dimensions"),
        (lambda: HistoryDisplay(loss=[1.0], validation_score=[1.0, 2.0]), "validation_score: has 2 epochs"),
        (lambda: HistoryDisplay(loss=[1.0]).plot(scale="cubic"), "scale: 'cubic' is not known; .*linear, log"),
        (lambda: HistoryDisplay(loss=[1.0, -1.0]).plot(scale="log"), "scale: 'log' needs losses above 0"),
        (
            lambda: HistoryDisplay.from_estimator(LinearRegression().fit([[0]], [0])),
            "LinearRegression has no loss_curve_",
        ),
    ],
)
def test_what_has_no_history_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("kind", [MLPClassifier, sklearn.neural_network.MLPClassifier])
def test_lbfgs_without_a_curve_has_no_history(kind, monkeypatch):
    model = kind((3,), solver="lbfgs", max_iter=2).fit(IRIS.data, IRIS.target)
    monkeypatch.setattr(model, "loss_curve_", [], raising=False)
    with pytest.raises(DataError, match="lbfgs records no loss of each epoch; use solver='adam'"):
        HistoryDisplay.from_estimator(model)


@pytest.mark.parametrize(
    "draw",
    [
        HistoryDisplay.from_estimator,
        plot_network,
        lambda model: plot_decision_boundary(model, IRIS.data[:, :2], SPECIES),
    ],
)
@pytest.mark.parametrize("wrap", [lambda model: model, make_pipeline])
def test_an_unfitted_model_is_refused(draw, wrap):
    with pytest.raises(NotFittedError):
        draw(wrap(MLPClassifier()))


# The boundary.


def test_the_surface_of_two_classes_is_the_probability_of_the_second(blobs):
    model, X, y = blobs
    display = plot_decision_boundary(model, X, y, grid_resolution=20)
    assert isinstance(display, DecisionBoundaryDisplay)
    grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    np.testing.assert_array_equal(display.response.ravel(), model.predict_proba(grid)[:, 1])
    assert display.colorbar_.ax.get_ylabel() == "probability of 1"


def test_the_black_line_is_where_both_classes_are_as_probable(blobs):
    model, X, y = blobs
    (line,) = plot_decision_boundary(model, X, y).boundary_
    (path,) = line.get_paths()
    assert len(path.vertices) > 50
    np.testing.assert_allclose(model.predict_proba(path.vertices)[:, 1], 0.5, atol=0.05)


def test_each_class_has_its_examples_its_colour_and_its_name(species):
    model = MLPClassifier((5,), **SETTINGS).fit(IRIS.data[:, 2:], SPECIES)
    display = plot_decision_boundary(model, IRIS.data[:, 2:], SPECIES)
    for k, label in enumerate(model.classes_):
        np.testing.assert_array_equal(display.scatter_[k].get_offsets(), IRIS.data[label == SPECIES, 2:])
        assert matplotlib.colors.to_hex(display.scatter_[k].get_facecolor()[0]).upper() == symbol(k)[0]
    assert [text.get_text() for text in display.legend_.get_texts()] == list(model.classes_)
    assert display.colorbar_ is None
    assert display.boundary_


def test_the_first_classes_differ_by_colour_and_marker():
    assert len({symbol(k) for k in range(56)}) == 56
    assert len({symbol(k)[0] for k in range(7)}) == len({symbol(k)[1] for k in range(7)}) == 7


@pytest.mark.parametrize("others", ["median", "mean"])
@pytest.mark.parametrize("features", [(2, 0), ("petal length (cm)", "sepal length (cm)")])
def test_a_section_holds_the_other_features_in_the_middle(others, features):
    model = MLPRegressor(hidden_layer_sizes=(4,), **SETTINGS).fit(FRAME, IRIS.target)
    display = plot_decision_boundary(model, FRAME, IRIS.target, features=features, others=others, grid_resolution=9)
    rows = np.tile(getattr(np, others)(IRIS.data, axis=0), (81, 1))
    rows[:, 2], rows[:, 0] = display.xx0.ravel(), display.xx1.ravel()
    expected = model.predict(polars.DataFrame(rows, schema=FRAME.columns))
    np.testing.assert_allclose(display.response.ravel(), expected, rtol=1e-12)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("petal length (cm)", "sepal length (cm)")
    assert display.ax_.get_title() == f"at the {others} of the other features"


def test_the_surface_and_examples_of_a_regressor_share_a_scale(numbers):
    model, X, y = numbers
    display = plot_decision_boundary(model, X, y, grid_resolution=10)
    grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    np.testing.assert_array_equal(display.response.ravel(), model.predict(grid))
    (examples,) = display.scatter_
    np.testing.assert_array_equal(examples.get_array(), y)
    assert examples.norm is display.surface_.norm
    assert (examples.norm.vmin, examples.norm.vmax) == (y.min(), y.max())
    assert display.colorbar_ is not None
    assert plot_decision_boundary(model, X, y, colorbar=False).colorbar_ is None


def test_a_target_that_never_changes_has_a_scale(numbers):
    model, X, _ = numbers
    display = plot_decision_boundary(model, X, np.full(len(X), 3.0))
    assert display.surface_.norm.vmin < 3.0 < display.surface_.norm.vmax


@pytest.mark.parametrize("which", ["classes", "softmax", "numbers"])
def test_a_network_draws_what_its_estimator_draws(which, blobs, numbers):
    model, X, y = numbers if which == "numbers" else blobs
    if which == "softmax":
        X, y = IRIS.data[:, :2], IRIS.target
        model = MLPClassifier((4,), **SETTINGS).fit(X, y)
    ours = plot_decision_boundary(model.network_, X.T, y, grid_resolution=15)
    theirs = plot_decision_boundary(model, X, y, grid_resolution=15)
    np.testing.assert_array_equal(ours.response, theirs.response)


def test_no_example_lies_under_the_legend(blobs):
    model, X, y = blobs
    names = ["a long name of a class", "another long name of a class"]
    for size in [(3, 3), (6, 3)]:
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        display = plot_decision_boundary(model, X, y, class_names=names, ax=ax)
        figure.draw_without_rendering()
        assert ax.transData.transform(X)[:, 1].max() < display.legend_.get_window_extent().y0


def test_options_reach_surface_and_examples(blobs):
    display = plot_decision_boundary(*blobs, alpha=0.25, scatter_kwargs={"s": 99})
    assert display.surface_.get_alpha() == 0.25
    assert display.scatter_[0].get_sizes() == [99]


@pytest.mark.parametrize("method", ["contourf", "contour", "pcolormesh"])
@pytest.mark.parametrize("which", ["two classes", "three classes", "numbers"])
def test_each_method_draws_the_surface_on_the_same_scale(method, which, blobs, numbers, species):
    if which == "three classes":
        model, X, y = species, FRAME, SPECIES
    else:
        model, X, y = blobs if which == "two classes" else numbers
    features = (2, 3) if which == "three classes" else None
    display = plot_decision_boundary(model, X, y, features=features, plot_method=method, grid_resolution=30)
    display.figure_.draw_without_rendering()
    assert (display.colorbar_ is None) == (which == "three classes")
    if which != "three classes":
        assert type(display.surface_).__name__ == ("QuadMesh" if method == "pcolormesh" else "QuadContourSet")
        assert display.surface_.get_clim() == ((0, 1) if which == "two classes" else (y.min(), y.max()))


def test_the_callers_colours_of_the_surface_replace_ours(blobs):
    display = plot_decision_boundary(*blobs, colors=["red", "blue"], levels=[0.0, 0.5, 1.0])
    assert display.surface_.get_facecolor()[:, [0, 2]].tolist() == [[1, 0], [0, 1]]
    norm = matplotlib.colors.Normalize(0.25, 0.75)
    assert plot_decision_boundary(*blobs, plot_method="pcolormesh", norm=norm).surface_.norm is norm


@pytest.mark.parametrize("name", ["c", "color", "facecolor", "facecolors"])
def test_the_callers_colour_of_the_examples_replaces_ours(name, blobs, numbers):
    for data in (blobs, numbers):
        for examples in plot_decision_boundary(*data, scatter_kwargs={name: "k"}).scatter_:
            assert examples.get_facecolor().tolist() == [[0, 0, 0, 1]]


def test_the_callers_numbers_may_colour_the_examples(numbers):
    (examples,) = plot_decision_boundary(*numbers, scatter_kwargs={"c": np.arange(100), "cmap": "plasma"}).scatter_
    assert examples.get_array().tolist() == list(range(100))
    assert (examples.get_cmap().name, examples.norm.vmax) == ("plasma", 99)


HEIGHTS = [1.0, np.nan, 5.0, 2.0, np.nan, 4.0]  # median 3, mean 3
COLOURS = ["red", "blue", None, "blue", "red", "blue"]
WIDTHS, LENGTHS = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5, 3, 4, 1, 2, 0]
MIXED = {
    "pandas": pandas.DataFrame(
        {"height": HEIGHTS, "width": WIDTHS, "colour": COLOURS, "length": LENGTHS}, index=[7, 7, 3, 2, 1, 0]
    ),
    "polars": polars.DataFrame({"height": HEIGHTS, "width": WIDTHS, "colour": COLOURS, "length": LENGTHS}),
    "array": np.array([HEIGHTS, WIDTHS, COLOURS, LENGTHS], dtype=object).T,
    "list": [list(row) for row in zip(HEIGHTS, WIDTHS, COLOURS, LENGTHS, strict=True)],
}
MIXED["categories"] = MIXED["pandas"].astype({"colour": "category", "length": "Int64"})
MIXED["missing"] = MIXED["pandas"].astype({"height": "Float64", "colour": object}).fillna({"colour": pandas.NA})
MIXED["enum"] = MIXED["polars"].with_columns(polars.col("colour").cast(polars.Enum(["red", "blue"])))


class Recorder(LinearRegression):
    """A model of any values, which keeps what it was asked."""

    def fit(self, X, y):
        self.coef_ = [1.0]
        return self

    def predict(self, X):
        self.asked = X
        return np.zeros(len(X))


@pytest.mark.parametrize("kind", MIXED)
def test_features_that_are_not_drawn_keep_their_type_at_their_middle(kind):
    X, model = MIXED[kind], Recorder().fit(None, None)
    display = plot_decision_boundary(model, X, WIDTHS, features=(3, 1), grid_resolution=4)
    assert display.scatter_[0].get_offsets().tolist() == np.column_stack([LENGTHS, WIDTHS]).tolist()
    assert display.ax_.get_title() == "at the median or most frequent value of the other features"
    asked = model.asked
    if kind in ("array", "list"):
        columns = dict(zip(("height", "width", "colour", "length"), asked.T, strict=True))
        assert asked.dtype == object
    else:
        columns = asked
        assert type(asked) is type(X)
        assert list(asked.columns) == list(X.columns)
        assert columns["colour"].dtype == X["colour"].dtype
    assert list(columns["height"]) == [3.0] * 16
    assert list(columns["colour"]) == ["blue"] * 16
    assert list(columns["length"]) == display.xx0.ravel().tolist()
    assert list(columns["width"]) == display.xx1.ravel().tolist()


@pytest.mark.parametrize("kind", ["pandas", "polars", "categories"])
def test_a_pipeline_that_imputes_and_encodes_is_drawn(kind):
    X, y = MIXED[kind], ["a", "b", "a", "b", "a", "b"]
    encoded = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["colour"]), (SimpleImputer(), ["height", "width", "length"])
    )
    model = make_pipeline(encoded, MLPClassifier((3,), **SETTINGS)).fit(X, y)
    display = plot_decision_boundary(model, X, y, features=("width", "length"), grid_resolution=5)
    rows = {"height": [3.0] * 25, "width": display.xx0.ravel(), "colour": ["blue"] * 25, "length": display.xx1.ravel()}
    expected = model.predict_proba(pandas.DataFrame(rows))[:, 1]
    np.testing.assert_allclose(display.response.ravel(), expected, rtol=1e-12)
    with pytest.raises(DataError, match="X: column 'height' holds NaN"):
        plot_decision_boundary(model, X, y, features=("width", "height"))
    with pytest.raises(DataError, match="X: column 'colour' holds values that are no numbers"):
        plot_decision_boundary(model, X, y, features=("width", "colour"))


def test_a_feature_without_any_value_stays_missing():
    X, model = np.array([[0.0, 1.0, np.nan], [1.0, 2.0, np.nan]]), Recorder().fit(None, None)
    plot_decision_boundary(model, X, [0.0, 1.0], features=(0, 1), grid_resolution=3)
    assert np.isnan(model.asked[:, 2]).all()
    text = pandas.DataFrame({"a": [0, 1], "b": [1, 2], "c": pandas.Categorical([None, None], ["x"])})
    plot_decision_boundary(model, text, [0.0, 1.0], features=(0, 1), grid_resolution=3)
    assert model.asked["c"].isna().all()


def boundary(**changes):
    arguments = {"model": LinearRegression().fit(IRIS.data, IRIS.target), "X": IRIS.data, "y": IRIS.target}
    arguments |= {"features": (0, 1), **changes}
    return plot_decision_boundary(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, r"features: X has 4; name the two to draw"),
        ({"features": (0, 0)}, "no two different columns"),
        ({"features": "ab"}, "no two different columns"),
        ({"features": (0, 4)}, "features: 4 is no column of X; give numbers from 0 to 3"),
        ({"features": ("a", "b")}, "no column 'a'; X has no column names"),
        ({"X": FRAME, "features": ("a", "b")}, "no column 'a'; X has 'sepal length"),
        (
            {"X": FRAME.cast(polars.String).with_columns(polars.lit("a"))},
            "X: column 'sepal length .*values that are no numbers",
        ),
        ({"X": IRIS.data[:, :1]}, "X: has 1 feature"),
        ({"X": IRIS.data[0]}, r"X: has shape \(4,\)"),
        ({"X": np.where(IRIS.data > 7, np.nan, IRIS.data)}, "X: column 0 holds NaN"),
        ({"X": scipy.sparse.csr_array(IRIS.data)}, r"X: is sparse; give X.toarray\(\)"),
        ({"X": [[1.0, "a", 2.0], [1.0, "b", 2.0]], "y": [0, 1]}, "X: column 1 holds values that are no numbers"),
        ({"X": [[1.0], [1.0, 2.0]]}, "X: is no array of shape"),
        ({"y": IRIS.target[:5]}, "y: has 5 examples, but X has 150"),
        ({"y": IRIS.data}, "y: has 2 dimensions"),
        ({"y": SPECIES}, "y: holds .* no numbers"),
        ({"others": "mode"}, "others: 'mode' is not known; choose from mean, median"),
        ({"model": StandardScaler().fit(IRIS.data)}, "StandardScaler is no classifier and no regressor"),
        ({"model": RidgeClassifier().fit(IRIS.data, IRIS.target)}, "RidgeClassifier has no predict_proba"),
        ({"model": LinearRegression().fit(IRIS.data, IRIS.data)}, "model: predicts 4 numbers"),
        ({"model": Network([4, 3], output="sigmoid"), "X": IRIS.data.T}, "model: has 3 outputs of 'sigmoid'"),
        ({"class_names": ["a"]}, "class_names: names 1 classes, but the model has 0"),
        ({"model": Network([4, 1]), "X": IRIS.data.T}, r"y: y\[100\] is 2, which is no class of the model"),
    ],
)
def test_what_has_no_boundary_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        boundary(**changes)


# The weights.


def test_a_diagram_has_a_line_for_each_weight_and_a_circle_for_each_unit(species):
    display = plot_network(species)
    assert display.kind_ == "graph"
    assert display.sizes == [4, 5, 4, 3]
    for W, edges in zip(species.network_.W[1:], display.edges_, strict=True):
        np.testing.assert_array_equal(np.sort(edges.get_array()), np.sort(W, axis=None))
        order = np.argsort(np.abs(edges.get_array()))
        assert (np.diff(np.array(edges.get_linewidths())[order]) >= 0).all()
    assert [len(units.get_offsets()) for units in display.units_] == display.sizes
    for b, units in zip(species.intercepts_, display.units_[1:], strict=True):
        np.testing.assert_array_equal(units.get_array(), b)


def test_a_line_joins_the_units_of_its_weight():
    W = np.arange(1.0, 7.0).reshape(2, 3)
    display = NetworkDisplay(weights=[W], biases=[[0.0, 0.0]]).plot()
    inputs, outputs = (units.get_offsets().data for units in display.units_)
    (edges,) = display.edges_
    for value, (start, end) in zip(edges.get_array(), edges.get_segments(), strict=True):
        unit, source = np.argwhere(value == W)[0]
        assert start.tolist() == inputs[source].tolist()
        assert end.tolist() == outputs[unit].tolist()


def test_colours_are_symmetric_about_zero_blue_above_and_red_below():
    display = NetworkDisplay(weights=[[[-1.0, 0.0, 2.0]]], biases=[[-3.0]]).plot()
    (edges,) = display.edges_
    assert (edges.norm.vmin, edges.norm.vmax) == (-3.0, 3.0)
    color = {value: edges.cmap(edges.norm(value)) for value in (-1.0, 0.0, 2.0)}
    red, _, blue, _ = np.array(list(color.values())).T
    assert red[0] > blue[0]
    assert abs(red[1] - blue[1]) < 0.02
    assert red[2] < blue[2]


def test_names_come_from_the_features_and_the_classes(species):
    texts = [text.get_text() for text in plot_network(species).ax_.texts]
    for name in (*IRIS.feature_names, *IRIS.target_names):
        assert texts.count(name) == 1
    assert {"inputs", "hidden 1\nrelu", "hidden 2\nrelu", "output\nsoftmax"} <= set(texts)


def test_names_stand_beside_their_units(species):
    display = plot_network(species)
    display.figure_.draw_without_rendering()
    extents = {text.get_text(): text.get_window_extent() for text in display.ax_.texts}
    for names, units, side in ((IRIS.feature_names, display.units_[0], -1), (IRIS.target_names, display.units_[-1], 1)):
        radius = np.sqrt(units.get_sizes()[0]) / 2 * display.figure_.dpi / 72
        for name, (x, y) in zip(names, display.ax_.transData.transform(units.get_offsets()), strict=True):
            extent = extents[name]
            gap = x - extent.x1 if side < 0 else extent.x0 - x
            assert radius < gap < 3 * radius
            assert extent.y0 < y < extent.y1


def test_two_classes_name_their_unit_by_the_second(blobs):
    _, X, y = blobs
    display = NetworkDisplay.from_estimator(MLPClassifier((2,), **SETTINGS).fit(X, np.array(["no", "yes"])[y]))
    assert display.output_names == ["yes"]
    assert display.feature_names is None
    texts = [text.get_text() for text in display.plot().ax_.texts]
    assert {"$x_{1}$", "$x_{2}$", "yes"} <= set(texts)


def test_a_pipeline_hands_its_names_on():
    display = NetworkDisplay.from_estimator(
        make_pipeline(StandardScaler(), MLPClassifier((2,), **SETTINGS)).fit(FRAME, SPECIES)
    )
    assert display.feature_names == list(IRIS.feature_names)


def test_a_network_and_scikit_learns_perceptron_show_the_same_weights(species):
    ours, network = NetworkDisplay.from_estimator(species), NetworkDisplay.from_estimator(species.network_)
    theirs = sklearn.neural_network.MLPClassifier((5, 4), max_iter=2).fit(IRIS.data, SPECIES)
    theirs.coefs_, theirs.intercepts_ = species.coefs_, species.intercepts_
    for one, two, three in zip(
        (*ours.weights, *ours.biases),
        (*network.weights, *network.biases),
        (*(display := NetworkDisplay.from_estimator(theirs)).weights, *display.biases),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert display.activations == ours.activations == network.activations


def test_each_layer_bears_its_own_activation(blobs):
    _, X, y = blobs
    model = MLPClassifier((3, 2), ["tanh", "relu"], **SETTINGS).fit(X, y)
    texts = {text.get_text() for text in plot_network(make_pipeline(model)).ax_.texts}
    assert {"hidden 1\ntanh", "hidden 2\nrelu", "output\nlogistic"} <= texts


def test_a_foreign_activation_of_an_unknown_form_is_left_out(blobs):
    _, X, y = blobs
    model = sklearn.neural_network.MLPClassifier((3, 2), max_iter=2).fit(X, y)
    model.activation = max
    display = NetworkDisplay.from_estimator(model)
    assert display.activations is None
    assert "hidden 1" in {text.get_text() for text in display.plot().ax_.texts}


def test_a_wide_network_is_shown_as_heat_maps_with_histograms():
    net = Network([20, 17, 3], output="softmax", backend="numpy")
    display = plot_network(net)
    assert display.kind_ == "heatmap"
    assert display.edges_ == []
    assert display.axes_.shape == (2, 2)
    for W, image, below in zip(net.W[1:], display.images_, display.axes_[1], strict=True):
        np.testing.assert_array_equal(image.get_array(), W)
        assert image.norm.vmax == -image.norm.vmin == np.abs(W).max()
        assert sum(bar.get_height() for bar in below.patches) == W.size
        edges = np.array([bar.get_x() for bar in below.patches])
        assert np.abs(edges).min() < 1e-12
    assert plot_network(Network([16, 16, 1], backend="numpy")).kind_ == "graph"


def test_heat_maps_bear_the_names(species):
    display = plot_network(species, kind="heatmap")
    first, last = display.axes_[0, 0], display.axes_[0, -1]
    assert [label.get_text() for label in first.get_xticklabels()] == list(IRIS.feature_names)
    assert [label.get_text() for label in last.get_yticklabels()] == list(IRIS.target_names)


def test_heat_maps_divide_the_place_of_the_given_axes():
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    display = plot_network(Network([20, 3], backend="numpy"), right)
    figure.draw_without_rendering()
    for ax in display.axes_.flat:
        assert ax.get_position().x0 >= left.get_position().x1
    assert not right.axison


def test_weights_of_zero_have_a_scale():
    for kind in ("graph", "heatmap"):
        display = plot_network(Network([2, 1], init="zeros", backend="numpy"), kind=kind)
        assert display.colorbar_.vmin < 0 < display.colorbar_.vmax
        display.figure_.draw_without_rendering()


def test_options_reach_lines_and_heat_maps(species):
    assert plot_network(species, linestyles="--", cmap="PuOr").edges_[0].get_cmap().name == "PuOr"
    assert plot_network(species, kind="heatmap", interpolation="bilinear").images_[0].get_interpolation() == "bilinear"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_network(Network([17, 1]), kind="graph"), "at most 16 units a layer, and layer 0 has 17"),
        (lambda: plot_network(Network([2, 1]), kind="tree"), "kind: 'tree' is not known"),
        (lambda: plot_network(LinearRegression().fit([[0]], [0])), "LinearRegression has no coefs_"),
        (lambda: NetworkDisplay(weights=[], biases=[]), "weights: has 0 layers"),
        (lambda: NetworkDisplay(weights=[np.ones((2, 3))], biases=[[1.0]]), "weights: layer 1"),
        (lambda: NetworkDisplay(weights=[np.ones((2, 3)), np.ones((1, 3))], biases=[[1, 1], [1]]), "weights: layer 2"),
        (lambda: NetworkDisplay(weights=[[[np.nan]]], biases=[[1.0]]), "layer 1 holds NaN"),
        (lambda: NetworkDisplay(weights=[[[1.0]]], biases=[[1.0]], feature_names=["a", "b"]), "feature_names: names 2"),
        (lambda: NetworkDisplay(weights=[[[1.0]]], biases=[[1.0]], activations=[]), "activations: names 0"),
        (lambda: plot_network(Network([20, 1]), plt.figure().add_axes((0, 0, 1, 1))), "ax: has no place in a grid"),
    ],
)
def test_what_has_no_picture_of_weights_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


# Legibility.

PICTURES = {
    "early stopping": lambda data: HistoryDisplay.from_estimator(data["stopped"]),
    "log": lambda data: HistoryDisplay(loss=np.geomspace(3, 0.02, 50), validation_loss=np.geomspace(3, 0.1, 50)).plot(
        scale="log"
    ),
    "two classes": lambda data: plot_decision_boundary(*data["blobs"]),
    "section": lambda data: plot_decision_boundary(data["species"], FRAME, SPECIES, features=(2, 3)),
    "numbers": lambda data: plot_decision_boundary(*data["numbers"]),
    "diagram": lambda data: plot_network(data["species"]),
    "largest diagram": lambda data: plot_network(Network([16, 16, 16, 16], output="softmax", backend="numpy")),
    "smallest diagram": lambda data: plot_network(Network([1, 1], backend="numpy")),
    "heat maps": lambda data: plot_network(data["species"], kind="heatmap"),
    "large heat maps": lambda data: plot_network(Network([64, 100, 50, 10], output="softmax", backend="numpy")),
}


@pytest.mark.parametrize("name", PICTURES)
def test_texts_stay_apart_and_within_the_picture(name, species, blobs, numbers, stopped):
    data = {"species": species, "blobs": blobs, "numbers": numbers, "stopped": stopped}
    assert_texts_apart(PICTURES[name](data).figure_)


def test_the_check_of_texts_sees_texts_that_meet():
    figure, ax = plt.subplots()
    ax.text(0.5, 0.5, "one")
    ax.text(0.5, 0.5, "two")
    with pytest.raises(AssertionError, match="'one' covers 'two'"):
        assert_texts_apart(figure)


def test_names_of_any_letters_are_no_formulas():
    """A dollar starts a formula in matplotlib, which most names would break."""
    X, y = make_blobs(40, centers=2, random_state=0)
    classes, columns = np.array(["$a_{$", "$b^$"]), ["$a^$", "$\\x$"]
    frame = polars.DataFrame(X, schema=columns)
    model = MLPClassifier((2,), **SETTINGS).fit(frame, classes[y])
    for display in (
        plot_decision_boundary(model, frame, classes[y]),
        plot_network(model),
        plot_network(model, kind="heatmap"),
        HistoryDisplay.from_estimator(model, name="$\\y$"),
    ):
        display.figure_.draw_without_rendering()
