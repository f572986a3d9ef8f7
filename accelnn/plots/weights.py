"""The weights of a network: as a diagram of its units, or as a heat map of each layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelnn.errors import DataError, require_known
from accelnn.network import Network
from accelnn.plots import style

__all__ = ["NetworkDisplay", "plot_network"]

KINDS = ("auto", "graph", "heatmap")
MOST_UNITS = 16  # of a layer, in a diagram and in the names along a heat map
MOST_BINS = 40


class NetworkDisplay:
    """Weights and biases of each layer.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    weights : sequence of arrays
        ``W[l]`` of shape (n_l, n_{l-1}), for l = 1..L.
    biases : sequence of arrays
        ``b[l]``, n_l numbers each.
    activations : sequence of str, optional
        One for each layer.
    feature_names, output_names : sequences of str, optional
        Of the inputs and of the units of layer L.

    Attributes
    ----------
    sizes : list of int
        Units ``n_0 .. n_L``.
    kind_ : {"graph", "heatmap"}
        What was drawn.
    ax_, figure_ : matplotlib Axes and Figure
        For heat maps, the (invisible) axes whose place they take.
    axes_ : array of matplotlib Axes, shape (2, L)
        Heat maps above, histograms below; of shape (1, 1) for a diagram.
    edges_ : list of matplotlib LineCollection
        For each layer; empty for heat maps.
    units_ : list of matplotlib PathCollection
        For each layer, the inputs included; empty for heat maps.
    images_ : list of matplotlib AxesImage
        For each layer; empty for a diagram.
    colorbar_ : matplotlib Colorbar
        Of a diagram; of the first heat map.

    Raises
    ------
    DataError
        For arrays or names whose numbers do not fit together.
    """

    def __init__(
        self,
        *,
        weights: Sequence[Any],
        biases: Sequence[Any],
        activations: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ):
        self.weights = [np.asarray(W, dtype=np.float64) for W in weights]
        self.biases = [np.asarray(b, dtype=np.float64).reshape(-1) for b in biases]
        self.sizes = _sizes(self.weights, self.biases)
        self.activations = _named("activations", activations, len(self.weights), "layers")
        self.feature_names = _named("feature_names", feature_names, self.sizes[0], "inputs")
        self.output_names = _named("output_names", output_names, self.sizes[-1], "outputs")

    @classmethod
    def from_estimator(cls, model: Any) -> "NetworkDisplay":
        """The weights of a fitted estimator, or of a network.

        Parameters
        ----------
        model : MLPClassifier, MLPRegressor, a pipeline or search that holds one, or Network
            The inputs' names are its `feature_names_in_`, the outputs' its `classes_` (of two classes, the second is
            the one whose probability the output is). Scikit-learn's own multilayer perceptrons work as well.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        DataError
            For a model without weights.
        """
        if isinstance(model, Network):
            to_host = model.backend.to_host
            return cls(
                weights=[to_host(W) for W in model.W[1:]],
                biases=[to_host(b) for b in model.b[1:]],
                activations=[*model.activations, model.output],
            )
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model)
        last = style.innermost(model)
        if not hasattr(last, "coefs_") or not hasattr(last, "intercepts_"):
            raise DataError(
                f"model: {type(last).__name__} has no coefs_ and intercepts_; give a fitted MLPClassifier or "
                "MLPRegressor, or an accelnn.Network"
            )
        weights, biases = [W.T for W in last.coefs_], last.intercepts_
        names = getattr(last, "feature_names_in_", getattr(model, "feature_names_in_", None))
        classes = getattr(last, "classes_", None)
        if classes is not None and len(classes) == 2 and len(biases[-1]) == 1:
            classes = classes[1:]
        return cls(
            weights=weights,
            biases=biases,
            activations=_activations(last, len(weights)),
            feature_names=names if names is not None and len(names) == weights[0].shape[1] else None,
            output_names=classes if classes is not None and len(classes) == len(biases[-1]) else None,
        )

    def plot(
        self, ax: Any = None, *, kind: str = "auto", cmap: Any = style.DIVERGING, **kwargs: Any
    ) -> "NetworkDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        kind : {"auto", "graph", "heatmap"}
            ``"graph"`` draws each unit as a circle whose colour is its bias, and each weight as a line whose colour
            and width are its value, on one scale for all layers. ``"heatmap"`` draws ``W[l]`` of each layer, a row
            for each unit, above the histogram of its values. ``"auto"`` takes the first where no layer has more than
            16 units.
        cmap : str or matplotlib Colormap
            A diverging one: its middle is 0.
        **kwargs
            For the lines of a diagram (matplotlib's ``LineCollection``), or for the heat maps (``imshow``).

        Returns
        -------
        self

        Raises
        ------
        DataError
            For an unknown kind, a diagram of too many units, axes without a place in a grid (for heat maps), or where
            matplotlib is missing.
        """
        require_known("kind", kind, KINDS)
        widest = int(np.argmax(self.sizes))
        small = self.sizes[widest] <= MOST_UNITS
        if kind == "graph" and not small:
            raise DataError(
                f"kind: 'graph' draws at most {MOST_UNITS} units a layer, and layer {widest} has {self.sizes[widest]}; "
                "use kind='heatmap'"
            )
        self.kind_ = ("graph" if small else "heatmap") if kind == "auto" else kind
        self.edges_: list[Any] = []
        self.units_: list[Any] = []
        self.images_: list[Any] = []
        L = len(self.weights)
        if self.kind_ == "graph":
            self.ax_ = style.axes(ax, (2.4 + 1.9 * L, max(3.0, 1.2 + 0.36 * max(self.sizes))))
        else:
            names = self.feature_names if self.sizes[0] <= MOST_UNITS else None
            self.ax_ = style.axes(ax, (1.0 + 3.4 * L, 5.0 + style.LETTER * max(map(len, names or [""]))))
        self.figure_ = self.ax_.figure
        self.ax_.set_axis_off()
        (self._graph if self.kind_ == "graph" else self._heatmaps)(cmap, kwargs)
        return self

    def _layer_name(self, l: int) -> str:
        if l == 0:
            return "inputs"
        kind = "output" if l == len(self.weights) else f"hidden {l}"
        return f"{kind}\n{self.activations[l - 1]}" if self.activations else kind

    # The diagram.

    def _graph(self, cmap: Any, given: dict[str, Any]) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.collections import LineCollection

        ax, most = self.ax_, max(self.sizes)
        largest = max(np.abs(values).max() for values in (*self.weights, *self.biases)) or 1.0
        scale = ScalarMappable(_symmetric(largest), cmap)
        colored = {"cmap": scale.get_cmap(), "norm": scale.norm}
        places = [np.column_stack([np.full(n, float(l)), (n - 1) / 2 - np.arange(n)]) for l, n in enumerate(self.sizes)]
        spacing = 72 * 0.8 * style.inches(ax)[1] / (most + 1.5)  # points from unit to unit, about
        diameter = min(22.0, 0.72 * spacing)
        for l, W in enumerate(self.weights, 1):
            unit, source = np.unravel_index(np.argsort(np.abs(W), axis=None), W.shape)  # the heaviest lie on top
            width = 0.3 + 4.2 * np.abs(W[unit, source]) / largest
            ends = list(np.stack([places[l - 1][source], places[l][unit]], axis=1))
            edges = LineCollection(ends, **{"zorder": 1, "capstyle": "round", "linewidths": width, **colored, **given})
            edges.set_array(W[unit, source])
            self.edges_.append(ax.add_collection(edges))
        for l, place in enumerate(places):
            fill = {"c": self.biases[l - 1], **colored} if l else {"color": "#E8E8E8"}
            look = {"s": diameter**2, "edgecolors": "black", "linewidths": 1.0, "zorder": 2}
            self.units_.append(ax.scatter(*place.T, **look, **fill))
            ax.text(l, most / 2 + 0.35, self._layer_name(l), ha="center", va="bottom", fontsize=style.SMALL)
        look = {"textcoords": "offset points", "va": "center", "fontsize": min(10.0, 0.75 * spacing)}
        for place, name in zip(places[0], self.feature_names or _numbered("x", self.sizes[0]), strict=True):
            offset = (-diameter / 2 - 4, 0)
            ax.annotate(name, place, offset, ha="right", parse_math=not self.feature_names, **look)
        for place, name in zip(places[-1], self.output_names or _numbered(r"\hat{y}", self.sizes[-1]), strict=True):
            offset = (diameter / 2 + 4, 0)
            ax.annotate(name, place, offset, ha="left", parse_math=not self.output_names, **look)
        ax.set(xlim=(-0.15, len(self.weights) + 0.15), ylim=(-most / 2 - 0.1, most / 2 + 0.1))
        self.axes_ = np.array([[ax]])
        self.colorbar_ = self.figure_.colorbar(scale, ax=ax, label="weight (line), bias (unit)", shrink=0.8, pad=0.04)

    # Heat maps.

    def _heatmaps(self, cmap: Any, given: dict[str, Any]) -> None:
        from matplotlib.gridspec import GridSpecFromSubplotSpec

        place = self.ax_.get_subplotspec()
        if place is None:
            raise DataError("ax: has no place in a grid, which heat maps divide; make it with plt.subplots")
        L = len(self.weights)
        grid = GridSpecFromSubplotSpec(2, L, subplot_spec=place, height_ratios=(2.2, 1))
        self.axes_ = np.array([[self.figure_.add_subplot(grid[row, l]) for l in range(L)] for row in range(2)])
        for l, W in enumerate(self.weights, 1):
            above, below = self.axes_[:, l - 1]
            look = {"aspect": "auto", "interpolation": "nearest", "cmap": cmap, "norm": _symmetric(np.abs(W).max())}
            look["extent"] = (0.5, W.shape[1] + 0.5, W.shape[0] + 0.5, 0.5)  # units are counted from 1
            image = above.imshow(W, **look | given)
            self.images_.append(image)
            colorbar = self.figure_.colorbar(image, ax=above)
            if l == 1:
                self.colorbar_ = colorbar
            self._label(above, l)
            _, edges, bars = below.hist(W.ravel(), bins=_bins(W))
            for bar, middle in zip(bars, (edges[1:] + edges[:-1]) / 2, strict=True):
                bar.set(facecolor=image.cmap(image.norm(middle)), edgecolor="#808080", linewidth=0.4)
            below.axvline(0, color="black", linewidth=0.8)
            below.set(xlabel="weight", ylabel="count")
            below.yaxis.get_major_locator().set_params(integer=True)
            below.set_title(f"standard deviation {W.std():.3g}", fontsize=style.SMALL)

    def _label(self, ax: Any, l: int) -> None:
        """Title, labels and ticks of a heat map: names where there are any, and room for them."""
        kind = self._layer_name(l).replace("\n", ", ")
        ax.set_title(f"$W^{{[{l}]}}$, {kind}", fontsize=10)
        ax.set(xlabel="input" if l == 1 else f"unit of layer {l - 1}", ylabel=f"unit of layer {l}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(integer=True)
        if l == 1 and self.feature_names and self.sizes[0] <= MOST_UNITS:
            ax.set_xticks(
                range(1, self.sizes[0] + 1), self.feature_names, rotation=90, fontsize=style.SMALL, parse_math=False
            )
        if l == len(self.weights) and self.output_names and self.sizes[-1] <= MOST_UNITS:
            ax.set_yticks(range(1, self.sizes[-1] + 1), self.output_names, parse_math=False)
            ax.set_ylabel("output")


def plot_network(model: Any, ax: Any = None, *, kind: str = "auto", **kwargs: Any) -> NetworkDisplay:
    """Draw the weights of a fitted estimator or of a network.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, a pipeline or search that holds one, or Network
    ax : matplotlib Axes, optional
        By default those of a new figure.
    kind : {"auto", "graph", "heatmap"}
        See :meth:`NetworkDisplay.plot`.
    **kwargs
        Further arguments of :meth:`NetworkDisplay.plot`.

    Returns
    -------
    NetworkDisplay

    Raises
    ------
    sklearn.exceptions.NotFittedError
    DataError
        See :meth:`NetworkDisplay.from_estimator` and :meth:`NetworkDisplay.plot`.
    """
    return NetworkDisplay.from_estimator(model).plot(ax, kind=kind, **kwargs)


def _symmetric(largest: float) -> Any:
    from matplotlib.colors import Normalize

    return Normalize(-(largest or 1.0), largest or 1.0)


def _bins(W: np.ndarray) -> np.ndarray:
    """Edges of an even number of bins, so that one of them is 0."""
    largest = float(np.abs(W).max()) or 1.0
    half = int(np.clip(np.sqrt(W.size) / 2, 5, MOST_BINS // 2))
    return np.linspace(-largest, largest, 2 * half + 1)


def _numbered(letter: str, count: int) -> list[str]:
    return [f"${letter}$"] if count == 1 else [f"${letter}_{{{k}}}$" for k in range(1, count + 1)]


def _named(argument: str, names: Sequence[Any] | None, count: int, what: str) -> list[str] | None:
    if names is None:
        return None
    if len(names) != count:
        raise DataError(f"{argument}: names {len(names)}, but there are {count} {what}")
    return list(map(str, names))


def _activations(model: Any, layers: int) -> list[str] | None:
    """One for each layer, as far as the estimator tells them."""
    network = getattr(model, "network_", None)
    activation, output = getattr(model, "activation", None), getattr(model, "out_activation_", None)
    if output is None:
        return None
    if isinstance(network, Network):
        return [*network.activations, output]
    return [*[activation] * (layers - 1), output] if isinstance(activation, str) else None


def _sizes(weights: list[np.ndarray], biases: list[np.ndarray]) -> list[int]:
    if not weights or len(weights) != len(biases):
        raise DataError(f"weights: has {len(weights)} layers and biases {len(biases)}; give both for each layer")
    sizes = [weights[0].shape[1] if weights[0].ndim == 2 else 0]
    for l, (W, b) in enumerate(zip(weights, biases, strict=True), 1):
        if W.ndim != 2 or W.shape[1] != sizes[-1] or len(b) != W.shape[0]:
            raise DataError(
                f"weights: layer {l} has W of shape {W.shape}, b of {len(b)} numbers; expected (n, {sizes[-1]}) and n"
            )
        if not np.isfinite(W).all() or not np.isfinite(b).all():
            raise DataError(f"weights: layer {l} holds NaN or infinity, which have no colour")
        sizes.append(W.shape[0])
    return sizes
