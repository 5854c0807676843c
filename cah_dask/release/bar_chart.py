"""Histograms of scores as bars, for pages that people look at."""

from collections.abc import Callable, Mapping

import msgspec

WIDTH_PX, HEIGHT_PX = 360, 110
"""Of a chart: as wide as on a phone, where its letters keep their size so."""

_BAR_SHARE = 0.9
"""Of the width of a bin; the rest parts it from the next."""


class Bar(msgspec.Struct, frozen=True):
    """One bar, in pixels of its chart, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str
    is_kept: bool


class BarChart(msgspec.Struct, frozen=True):
    """How many samples have which score."""

    name: str
    total: int
    tallest: int
    """Samples of the highest bar."""
    bars: list[Bar]
    low: float
    high: float
    """Score at the left and at the right end."""
    threshold: float | None = None
    width: int = WIDTH_PX
    height: int = HEIGHT_PX

    @property
    def threshold_x(self) -> float | None:
        """Where the threshold is, in pixels from the left; None without one."""
        if self.threshold is None:
            return None
        return self.width * (self.threshold - self.low) / (self.high - self.low)


def bar_chart(
    name: str,
    bins: Mapping[int, int],
    ends: tuple[int, int],
    *,
    edge: Callable[[int], float],
    is_kept: Callable[[float, float], bool],
    threshold: float | None = None,
) -> BarChart:
    """Draw the bins from one number up to, but not with, another.

    Parameters
    ----------
    bins
        Samples by the number of their bin; not empty.
    edge
        Gives the score at the left edge of a bin.
    is_kept
        Tells by the scores at both edges of a bin whether what is in it is kept.
    """
    first, end = ends
    step, tallest = WIDTH_PX / (end - first), max(bins.values())
    bars = []
    for number, count in sorted(bins.items()):
        low, high = edge(number), edge(number + 1)
        size = HEIGHT_PX * count / tallest
        x, width = (number - first) * step, step * _BAR_SHARE
        label = f"{low:.4g} to {high:.4g}: {count:,}"
        bars.append(Bar(x, HEIGHT_PX - size, width, size, label, is_kept(low, high)))
    return BarChart(
        name, sum(bins.values()), tallest, bars, edge(first), edge(end), threshold=threshold
    )
