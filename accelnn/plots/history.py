"""A training as curves over its epochs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.errors import DataError, require_known
from accelnn.plots import style

if TYPE_CHECKING:
    from accelnn.training import History

__all__ = ["HistoryDisplay"]

SCALES = ("linear", "log")
FEW = 20  # epochs up to which each is marked by a point


class HistoryDisplay:
    """The loss of each epoch, and what was measured on the validation set, its best epoch marked.

    :meth:`from_estimator` and :meth:`from_history` make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    loss : sequence of float
        J of each epoch.
    validation_loss, validation_score, learning_rate : sequences of float, optional
        Of each epoch, NaN where it was not measured: there the line has a gap. A shorter one belongs to the last
        epochs.
    score_name : str
        What the validation score is.

    Attributes
    ----------
    best_epoch : int or None
        Counted from 1: the first with the highest validation score, else with the lowest validation loss; None
        without either.
    ax_, figure_ : matplotlib Axes and Figure
    second_ax_ : matplotlib Axes or None
        With the axis on the right: of the scores, or else of a learning rate that changes.
    line_ : matplotlib Line2D
        The loss.
    validation_line_, score_line_, learning_rate_line_, best_mark_ : matplotlib Line2D or None
    legend_ : matplotlib Legend or None
        Where there is more than a single line without a name.

    Raises
    ------
    DataError
        For a loss without any epoch, or a sequence that is longer than the loss.

    Examples
    --------
    >>> display = HistoryDisplay(loss=[0.9, 0.5, 0.3], validation_loss=[0.8, 0.6, 0.7])
    >>> display.best_epoch
    2
    """

    def __init__(
        self,
        *,
        loss: Sequence[float],
        validation_loss: Sequence[float] | None = None,
        validation_score: Sequence[float] | None = None,
        learning_rate: Sequence[float] | None = None,
        score_name: str = "validation score",
    ):
        self.loss = _curve("loss", loss)
        if not len(self.loss):
            raise DataError("loss: holds no epoch; train first")
        self.validation_loss = _curve("validation_loss", validation_loss, len(self.loss))
        self.validation_score = _curve("validation_score", validation_score, len(self.loss))
        self.learning_rate = _curve("learning_rate", learning_rate, len(self.loss))
        self.score_name = score_name
        # What to make small, in the order in which it counts; ties go to the first epoch, as early stopping has it.
        measured = [curve for curve in (-self.validation_score, self.validation_loss) if np.isfinite(curve).any()]
        self.best_epoch = None
        if measured:
            finite = np.where(np.isfinite(measured[0]), measured[0], np.inf)
            self.best_epoch = int(self._epochs(finite)[finite.argmin()])

    def _epochs(self, curve: np.ndarray) -> np.ndarray:
        """The epochs that a curve belongs to: the last ones."""
        return np.arange(len(self.loss) - len(curve), len(self.loss)) + 1

    @classmethod
    def from_estimator(
        cls, model: Any, *, ax: Any = None, name: str | None = None, scale: str = "linear", **kwargs: Any
    ) -> "HistoryDisplay":
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        model : MLPClassifier or MLPRegressor, or a pipeline or search that holds one
            Read are `loss_curve_`, `validation_scores_` and `validation_loss_curve_`, as far as there are any, and
            `scoring`, for the name of the scores;
            scikit-learn's own multilayer perceptrons have the first two.
        ax : matplotlib Axes, optional
            By default those of a new figure.
        name : str, optional
            Of the model, for the legend: several models can share the axes.
        scale : {"linear", "log"}
            Of the loss.
        **kwargs
            Further arguments of :meth:`plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
        DataError
            For a model without a curve, such as one that scikit-learn trained with lbfgs; see also :meth:`plot`.
        """
        from sklearn.base import is_classifier
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(model)
        model = style.innermost(model)
        loss = getattr(model, "loss_curve_", None)
        if loss is None or not len(loss):
            if getattr(model, "solver", None) == "lbfgs":
                raise DataError("model: the solver lbfgs records no loss of each epoch; use solver='adam' or 'sgd'")
            kind = type(model).__name__
            raise DataError(f"model: this {kind} has no loss_curve_; give a fitted MLPClassifier or MLPRegressor")
        validation_loss, scoring = getattr(model, "validation_loss_curve_", None), getattr(model, "scoring", None)
        if scoring is None:
            scoring = "accuracy" if is_classifier(model) else "R²"
        # A score that is the loss, negated, would be a second line of the same numbers.
        again = validation_loss is not None and isinstance(scoring, str) and scoring == "loss"
        display = cls(
            loss=loss,
            validation_loss=validation_loss,
            validation_score=None if again else getattr(model, "validation_scores_", None),
            score_name=f"validation {scoring.replace('_', ' ') if isinstance(scoring, str) else 'score'}",
        )
        return display.plot(ax, name=name, scale=scale, **kwargs)

    @classmethod
    def from_history(
        cls, history: "History", *, ax: Any = None, name: str | None = None, scale: str = "linear", **kwargs: Any
    ) -> "HistoryDisplay":
        """Draw what :meth:`accelnn.Network.fit` returned.

        Parameters
        ----------
        history : History
        ax, name, scale, **kwargs
            See :meth:`plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        DataError
            For a run without an epoch; see also :meth:`plot`.
        """
        display = cls(loss=history.loss, validation_loss=history.validation_loss, learning_rate=history.learning_rate)
        return display.plot(ax, name=name, scale=scale, **kwargs)

    def plot(
        self, ax: Any = None, *, name: str | None = None, scale: str = "linear", **kwargs: Any
    ) -> "HistoryDisplay":
        """Draw, for the first time or again.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        name : str, optional
            Of the model, for the legend: several models can share the axes.
        scale : {"linear", "log"}
            Of the loss.
        **kwargs
            For the line of the loss, as matplotlib's ``plot`` takes them; ``color`` is for all lines.

        Returns
        -------
        self

        Raises
        ------
        DataError
            For an unknown scale, a loss that a logarithm cannot show, or where matplotlib is missing.
        """
        require_known("scale", scale, SCALES)
        if scale == "log" and not (self.loss > 0).all():
            raise DataError("scale: 'log' needs losses above 0; use scale='linear'")
        self.ax_ = style.axes(ax, (7.0, 4.2))
        self.figure_ = self.ax_.figure
        self.second_ax_ = self.validation_line_ = self.score_line_ = self.learning_rate_line_ = self.best_mark_ = None
        self._set_scale(scale)
        prefix = f"{name}: " if name else ""
        alone = not len(self.validation_loss) and not len(self.validation_score)
        label = name if name and alone else f"{prefix}training loss"
        self.line_ = self._draw(self.ax_, self.loss, **{"label": label, "color": style.COLORS[1], **kwargs})
        given = {"color": kwargs["color"]} if "color" in kwargs else {}
        if len(self.validation_loss):
            look = {"color": style.COLORS[0], "linestyle": "--", **given}
            self.validation_line_ = self._draw(self.ax_, self.validation_loss, label=f"{prefix}validation loss", **look)
        if len(self.validation_score):
            look = {"color": style.COLORS[2], "linestyle": "-.", **given}
            self.second_ax_ = self._second(self.score_name, look["color"])
            self.score_line_ = self._draw(
                self.second_ax_, self.validation_score, label=f"{prefix}{self.score_name}", **look
            )
        elif len(self.learning_rate) and np.ptp(self.learning_rate) > 0:
            look = {"color": style.GREY, "linestyle": ":", **given}
            self.second_ax_ = self._second("learning rate", look["color"])
            self.learning_rate_line_ = self._draw(
                self.second_ax_, self.learning_rate, label=f"{prefix}learning rate", **look
            )
        if self.best_epoch is not None:
            self._mark(self.best_epoch, self.score_line_ or self.validation_line_, f"{prefix}best epoch")
        self._finish(bool(name) or "label" in kwargs)
        return self

    def _set_scale(self, scale: str) -> None:
        self.ax_.set(xlabel="epoch", ylabel="loss", yscale=scale)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.grid(alpha=0.3)
        if scale == "log":
            from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

            few = self.loss.max() / self.loss.min() < 1000  # powers of ten: numbers between them help
            self.ax_.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            self.ax_.yaxis.set_minor_locator(LogLocator(subs=(2, 5) if few else "auto"))
            self.ax_.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if few else NullFormatter())

    def _draw(self, ax: Any, curve: np.ndarray, **look: Any) -> Any:
        point: dict[str, Any] = {"marker": "o", "markersize": 3.5}
        if len(self.loss) > FEW:
            # Between two gaps there is no line to see.
            known = np.concatenate([[False], ~np.isnan(curve), [False]])
            alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
            point = {**point, "markevery": alone.tolist()} if len(alone) and "marker" not in look else {}
        return ax.plot(self._epochs(curve), curve, **point | look)[0]

    def _second(self, label: str, color: str) -> Any:
        """Axes with a scale of their own on the right, in the colour of the line that they hold if it is one."""
        for other in self._twins():
            if other.get_ylabel() == label:
                other.set_ylabel(label, color="black")
                other.tick_params(axis="y", colors="black")
                return other
        second = self.ax_.twinx()
        second.set_ylabel(label, color=color)
        second.tick_params(axis="y", colors=color)
        return second

    def _twins(self) -> list[Any]:
        """The axes that lie on the given ones, of this display or of one before."""
        siblings = self.ax_.get_shared_x_axes().get_siblings(self.ax_)
        return [ax for ax in siblings if ax is not self.ax_ and ax.bbox.bounds == self.ax_.bbox.bounds]

    def _mark(self, epoch: int, line: Any, text: str) -> None:
        look = {"linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none", "color": "black"}
        value = line.get_ydata()[line.get_xdata() == epoch]
        (self.best_mark_,) = line.axes.plot([epoch], value, markeredgewidth=1.8, label=f"{text} {epoch}", **look)

    def _finish(self, named: bool) -> None:
        """A legend, and limits that leave room for it; the axes in front hold it."""
        both = [self.ax_, *self._twins()]
        lines = {ax: [line for line in ax.lines if not line.get_label().startswith("_")] for ax in both}
        handles = [line for ax in both for line in lines[ax]]
        names = [line.get_label() for line in handles]
        needed = len(names) > 1 or named
        top = style.legend_shape(self.ax_, names)[1] if needed else 0.0
        for ax in both:
            shown = style.finite(np.concatenate([line.get_ydata() for line in lines[ax]]))
            logarithmic = ax.get_yscale() == "log"
            shown = np.log10(shown[shown > 0]) if logarithmic else shown
            if len(shown):
                limits = np.array(style.room(shown.min(), shown.max(), top))
                ax.set_ylim(10**limits if logarithmic else limits)
                if ax is not self.ax_:  # beside the legend no marks: an accuracy has none above 1
                    below = limits[0] + (1 - top) * np.ptp(limits)
                    ax.set_yticks([mark for mark in ax.get_yticks() if limits[0] <= mark <= below])
        if self.best_epoch is not None:
            look = {"color": style.GREY, "linewidth": 0.8, "linestyle": ":", "zorder": 0.5}
            self.ax_.axvline(self.best_epoch, **look)
        for ax in both:
            if ax.get_legend() is not None:
                ax.get_legend().remove()
        self.legend_ = style.legend(both[-1], handles, names) if needed else None


def _curve(argument: str, values: Sequence[float] | None, most: int | None = None) -> np.ndarray:
    try:
        curve = np.asarray([] if values is None else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{argument}: {values!r} is no sequence of numbers; give one for each epoch") from None
    if curve.ndim != 1:
        raise DataError(f"{argument}: has {curve.ndim} dimensions, expected 1: a number for each epoch")
    if most is None:
        return curve
    if len(curve) > most:
        raise DataError(f"{argument}: has {len(curve)} epochs, but loss has {most}; leave the first ones out")
    return curve[:0] if np.isnan(curve).all() else curve  # never measured
