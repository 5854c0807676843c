"""The charts of the page: outcomes of downloads over time, and similarities of each split."""

from collections.abc import Mapping

from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    HoverTool,
    InlineStyleSheet,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.models.annotations import Span, Title
from bokeh.plotting import figure

from cah_dask.counts import Status
from cah_dask.images.outcomes import TROUBLE
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.release.summary import left_edge
from cah_dask.run.watch.figures import Figures, HistogramFigures, Moment
from cah_dask.schema import SPLITS

_DARK = "@media (prefers-color-scheme: dark) {:host {filter: invert(0.9) hue-rotate(180deg);}}"
"""A chart is painted for a light page; in a dark one the browser turns it over."""

_REFUSED = frozenset({Status.HTTP_403, Status.HTTP_429, Status.HOST_SUSPENDED})
_RULES = frozenset(
    {Status.BAD_URL, Status.BLOCKED_ADDRESS, Status.BLOCKED_PORT, Status.ROBOTS, Status.OPTOUT,
     Status.HASH_LISTED}
)  # fmt: skip
_DEAD = frozenset({Status.HTTP_404, Status.HTTP_410, Status.DNS_NOT_FOUND})

KINDS = {
    "ok": "#2f7d4f",
    "dead link": "#9aa0a6",
    "no such picture": "#c9a227",
    "rules": "#6a51a3",
    "host failed": "#d95f0e",
    "host refused": "#b2182b",
}
"""What outcomes are brought together as, and its colour."""


def kind_of(status: str) -> str:
    """Return which of `KINDS` an outcome is."""
    if status == Status.OK:
        return "ok"
    kinds = (("host refused", _REFUSED), ("dead link", _DEAD), ("rules", _RULES))
    for kind, statuses in (*kinds, ("host failed", TROUBLE)):
        if status in statuses:
            return kind
    return "no such picture"


class Outcomes:
    """Shares of the outcomes of urls over time."""

    def __init__(self) -> None:
        self._source = ColumnDataSource({name: [] for name in ("at", "width", "urls", *KINDS)})
        chart = figure(
            name="outcomes",
            x_axis_type="datetime",
            height=240,
            sizing_mode="stretch_width",
            toolbar_location=None,
            tools="",
            y_range=Range1d(start=0, end=1),
            stylesheets=[InlineStyleSheet(css=_DARK)],
        )
        bars = chart.vbar_stack(
            list(KINDS),
            x="at",
            width="width",
            color=list(KINDS.values()),
            legend_label=list(KINDS),
            line_color=None,
            source=self._source,
        )
        chart.add_tools(
            HoverTool(
                renderers=[*bars],
                tooltips=[("urls", "@urls{0,0}"), *((k, f"@{{{k}}}{{0.0%}}") for k in KINDS)],
            )
        )
        chart.yaxis.formatter = NumeralTickFormatter(format="0%")
        chart.xgrid.visible = False
        chart.add_layout(chart.legend[0], "below")
        chart.legend.orientation = "horizontal"
        chart.legend.ncols = 3
        chart.legend.border_line_color = None
        chart.legend.background_fill_alpha = 0
        self.roots = [chart]

    def show(self, figures: Figures) -> None:
        """Change the bars if they are others now."""
        columns: dict[str, list[float]] = {name: [] for name in self._source.data}
        for moment in figures.moments:
            for name, value in _bar(moment).items():
                columns[name].append(value)
        if self._source.data != columns:
            self._source.data = columns


def _bar(moment: Moment) -> dict[str, float]:
    total = max(1, sum(moment.outcomes.values()))
    shares = dict.fromkeys(KINDS, 0.0)
    for status, number in moment.outcomes.items():
        shares[kind_of(status)] += number / total
    middle = 1000 * (moment.at.timestamp() + moment.seconds / 2)
    return {"at": middle, "width": 900 * moment.seconds, "urls": total, **shares}


class Histograms:
    """Similarities of scored samples by split, with the threshold."""

    def __init__(self) -> None:
        self._charts = {split: _Histogram(split) for split in SPLITS}
        self.roots = [chart.figure for chart in self._charts.values()]

    def show(self, figures: Figures) -> None:
        """Change the bars that are others now; a split without samples has no chart."""
        found: Mapping[str, HistogramFigures] = {each.split: each for each in figures.histograms}
        for split, chart in self._charts.items():
            chart.show(found.get(split))


class _Histogram:
    def __init__(self, split: str) -> None:
        self._source = ColumnDataSource({"left": [], "right": [], "samples": [], "color": []})
        self._title = Title()
        self.figure = figure(
            name=f"similarity_{split}",
            title=self._title,
            height=200,
            sizing_mode="stretch_width",
            toolbar_location=None,
            tools="",
            visible=False,
            y_range=DataRange1d(start=0),
            stylesheets=[InlineStyleSheet(css=_DARK)],
        )
        bars = self.figure.quad(
            left="left", right="right", bottom=0, top="samples", color="color", source=self._source
        )
        tooltips = [("similarity", "@left{0.00} to @right{0.00}"), ("samples", "@samples{0,0}")]
        self.figure.add_tools(HoverTool(renderers=[bars], tooltips=tooltips))
        self.figure.xgrid.visible = False
        self._threshold = Span(
            location=0, dimension="height", line_color="#b2182b", line_dash="dashed", visible=False
        )
        self.figure.add_layout(self._threshold)

    def show(self, found: HistogramFigures | None) -> None:
        if found is None:
            return
        bins = sorted(found.bins.items())
        lefts = [left_edge(index) for index, _ in bins]
        threshold = found.threshold
        is_kept = [threshold is not None and left >= threshold for left in lefts]
        columns = {
            "left": lefts,
            "right": [left + 2 / HISTOGRAM_BINS for left in lefts],
            "samples": [number for _, number in bins],
            "color": ["#2f7d4f" if kept else "#9aa0a6" for kept in is_kept],
        }
        if self._source.data != columns:
            self._source.data = columns
            self._title.text = _title(found)
            self.figure.visible = True
        if threshold is not None:
            self._threshold.update(location=threshold, visible=True)


def _title(found: HistogramFigures) -> str:
    total = f"{found.split}: {sum(found.bins.values()):,} samples"
    return total if found.threshold is None else f"{total}, threshold {found.threshold:g}"
