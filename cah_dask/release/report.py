"""One HTML page that says what a run did: funnel, rejects, downloads, similarities, samples.

The page is self-contained (no scripts, no links to elsewhere) and everything that came from the web
is escaped: it may be opened from a file and handed on. Its size has a bound however large the run
is: two grids of `SAMPLES_SHOWN` thumbnails, captions and settings that are cut, tables of reasons,
languages and lost inputs that have a longest length, charts of so many bars.
"""

import functools
import math
from datetime import timedelta
from pathlib import Path

import jinja2
import msgspec
import yaml

from cah_dask.images.outcomes import TROUBLE
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.release.bar_chart import Bar, BarChart, bar_chart
from cah_dask.release.draw import SEED
from cah_dask.release.politeness import politeness
from cah_dask.release.samples import Sample, Wanted, choose, why_gone
from cah_dask.release.summary import (
    LANGUAGES_SHOWN,
    Summary,
    by_language,
    funnel,
    left_edge,
    long_texts,
    similarity_histogram,
)
from cah_dask.release.timeline import Timeline, ends_of
from cah_dask.release.work import work_by_pool, worker_hours
from cah_dask.storage import write_atomic
from cah_dask.words import counted, cut, printable, short, span

SAMPLES_SHOWN = 24
"""Pictures in each of the two grids: kept pairs, and pairs below the threshold."""

_CAPTION_CHARACTERS = 200
_SETTING_CHARACTERS = 2000
_ROW_PX = (600, 28)
_PACKAGE = "cah_dask.release"


class Row(msgspec.Struct, frozen=True):
    """The timeline of one stage."""

    stage: str
    most: float
    """Tasks at work, in the time with the most of them."""
    bars: list[Bar]


def write_report(path: Path, run_dir: Path, summary: Summary) -> None:
    """Write the page to `path`; samples come from the parts and shards under `run_dir`.

    Where rules drop pairs, none of the rejected ones is shown: it may be what they are there for.
    """

    def samples(*, is_kept: bool) -> list[Sample]:
        wanted = Wanted(is_kept=is_kept)
        return list(choose(run_dir, summary, summary.lists, wanted, SAMPLES_SHOWN, SEED))

    page = template("report.html").render(
        summary=summary,
        stands_out=[printable(line) for line in summary.stands_out],
        settings={key: as_yaml(value) for key, value in summary.settings.items()},
        funnel=funnel(summary),
        hosts=_hosts(summary),
        outcomes=_outcomes(summary),
        charts=_charts(summary),
        timeline=_timeline(summary.timeline),
        times=None if summary.timeline is None else ends_of(summary.timeline),
        work=work_by_pool(summary),
        hours={name: worker_hours(stage) for name, stage in summary.stages.items()},
        manners=politeness(run_dir, summary, summary.lists),
        languages=by_language(summary)[:LANGUAGES_SHOWN],
        long_texts=long_texts(summary),
        kept=samples(is_kept=True),
        rejected=samples(is_kept=False),
        gone=why_gone(summary),
        money=functools.partial(_money, currency=summary.options.currency),
    )
    write_atomic(path, page.encode())


def as_yaml(value: object) -> str:
    """Return a setting as it would stand in a file, or the beginning of a very long one."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return cut(text.removesuffix("\n").removesuffix("\n..."), _SETTING_CHARACTERS)


def template(name: str, package: str = _PACKAGE) -> jinja2.Template:
    """Return a template of a package, which may include those of this one.

    What is put into a page is escaped; what is put into another file, such as a card, is not.
    """
    places = [jinja2.PackageLoader(each, "templates") for each in (package, _PACKAGE)]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(places),
        autoescape=name.endswith(".html"),  # a card is no HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["span"] = span
    environment.filters["hours"] = _hours
    environment.filters["counted"] = counted
    environment.filters["caption"] = functools.partial(short, most=_CAPTION_CHARACTERS)
    return environment.get_template(name)


def _hours(hours: float | None) -> str:
    """Return hours, or minutes and seconds where it is less than one."""
    return f"{hours:,.2f} h" if hours is not None and hours >= 1 else _time(hours)


def _time(hours: float | None) -> str:
    seconds = None if hours is None else hours * 3600
    return "under 1 s" if seconds is not None and 0 < seconds < 1 else span(seconds)


def _money(cost: float, currency: str) -> str:
    """Return a cost to the hundredth, or with two digits that count where it is less than one."""
    digits = 2 if cost == 0 or cost >= 1 else max(2, 1 - math.floor(math.log10(cost)))
    return f"{cost:,.{digits}f} {currency}".strip()


def _outcomes(summary: Summary) -> list[tuple[str, int, float]]:
    """Return (status, urls, share) of the download, most frequent first."""
    counts = summary.counts("download")
    rows = {"ok": counts.kept, **counts.rejected}
    ranked = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    return [(status, urls, urls / max(1, counts.seen)) for status, urls in ranked if urls]


def _hosts(summary: Summary) -> list[tuple[str, int, dict[str, int]]]:
    """Return the hosts with the most trouble, how many urls had it, and what became of all."""
    return [
        (printable(host), sum(outcomes.get(status, 0) for status in TROUBLE), outcomes)
        for host, outcomes in summary.hosts.items()
    ]


def _charts(summary: Summary) -> list[BarChart]:
    return [
        _chart(split, bins, summary.thresholds.get(split))
        for split, bins in similarity_histogram(summary).items()
    ]


def _chart(split: str, bins: dict[int, int], threshold: float | None) -> BarChart:
    """Draw the occupied part of [-1, 1], a little wider.

    The threshold is None while all samples are not scored that it is to keep a share of.
    """
    return bar_chart(
        split,
        bins,
        (max(0, min(bins) - 2), min(HISTOGRAM_BINS, max(bins) + 3)),
        edge=left_edge,
        is_kept=lambda low, _: threshold is not None and low >= threshold,
        threshold=threshold,
    )


def _timeline(timeline: Timeline | None) -> list[Row]:
    """Draw the tasks at work of each stage, each stage by its own measure."""
    if timeline is None:
        return []
    rows = []
    width, height = _ROW_PX
    step = width / timeline.length
    for stage, at_work in timeline.at_work.items():
        most = max(at_work)
        bars = []
        for index, number in enumerate(at_work):
            size = height * number / most if most else 0
            label = f"{timedelta(seconds=round(index * timeline.width_s))}: {number:.1f}"
            bars.append(Bar(index * step, height - size, step, size, label, is_kept=True))
        rows.append(Row(stage, most, [bar for bar in bars if bar.height]))
    return rows
