"""Comparisons as bars on a logarithmic axis, the floor drawn in as a line."""

from pathlib import Path

from accelnn.benchmark.figures import summary
from accelnn.benchmark.report import Report, best, floor, seconds_text

__all__ = ["draw"]

OURS, OTHERS, FLOOR = "#1f5fa8", "#9aa4ae", "#c0392b"
WIDTH, BAR, HEAD = 9.0, 0.34, 0.95  # inches


def draw(report: Report, path: Path) -> None:
    """One panel a case: medians as bars, quartiles as whiskers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [len(comparison.timed()) for comparison in report.comparisons]
    heights = [HEAD + BAR * max(count, 1) for count in rows]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(report.heading(), fontsize=8)
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, comparison in zip(panels, report.comparisons, strict=True):
        bars = [outcome for outcome in comparison.timed() if outcome.name != "floor"]
        bars.sort(key=lambda outcome: summary(outcome.seconds_per_step).median, reverse=True)
        figures = [summary(outcome.seconds_per_step) for outcome in bars]
        medians = [each.median for each in figures]
        whiskers = [
            [each.median - each.lower_quartile for each in figures],
            [each.upper_quartile - each.median for each in figures],
        ]
        axes.set_title(comparison.case.describe(), fontsize=8, loc="left")
        axes.set_xscale("log")
        if bars:
            colors = [OURS if outcome.family == "accelnn" else OTHERS for outcome in bars]
            axes.barh(
                [outcome.name for outcome in bars], medians, xerr=whiskers, color=colors, ecolor="black", capsize=2
            )
            for place, each in enumerate(figures):
                axes.text(each.upper_quartile, place, f"  {seconds_text(each.median)}", va="center", fontsize=7)
        base, ours = floor(comparison), best(comparison)
        if base:
            least = summary(base.seconds_per_step).median
            axes.axvline(
                least, color=FLOOR, linewidth=1.2, label=f"floor: matrix products alone, {seconds_text(least)}"
            )
            axes.legend(fontsize=7, loc="upper right", frameon=False)
            medians = [*medians, least]
        if medians:
            # A bar needs a length on a logarithmic axis too: it starts a factor below the shortest.
            axes.set_xlim(min(medians) / 3, max(medians) * 4)
        axes.set_xlabel("seconds a step" + ("" if ours else "; accelnn was not timed"), fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", which="major", alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=120)
