"""What the rounds say: medians and quartiles, and ratios between contestants that were timed side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "paired_ratio", "summary"]


@dataclass(frozen=True)
class Summary:
    """Of one contestant's rounds, in the unit of its values."""

    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float


def summary(values: Sequence[float]) -> Summary:
    """Median, quartiles (linear between the values, as NumPy's default) and minimum."""
    lower = upper = values[0]
    if len(values) > 1:
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(statistics.median(values), lower, upper, min(values))


def paired_ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median over rounds of ``values / base``: what slows the machine for a round slows both."""
    return statistics.median(value / other for value, other in zip(values, base, strict=True))
