"""One HTML page that says what a run did: funnel, rejects, downloads, similarities, samples.

The page is self-contained (no scripts, no links to elsewhere) and everything that came from the web
is escaped: it may be opened from a file and handed on.
"""

import base64
import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from cah_dask.errors import RetryableError, RunError
from cah_dask.images.picture.decode import open_rgb
from cah_dask.images.shards import ShardReader
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.release.summary import (
    LANGUAGES_SHOWN,
    Summary,
    by_language,
    funnel,
    long_texts,
    similarity_histogram,
)
from cah_dask.schema import similarity_of
from cah_dask.storage import read_part, read_receipt, write_atomic

SAMPLES_SHOWN = 24
"""Pictures in each of the two grids: kept pairs, and pairs below the threshold."""

_LISTS_READ = 24
_THUMBNAIL_PX = 112
_CHART_PX = (600, 110)


class Sample(msgspec.Struct, frozen=True):
    """One pair as the report shows it; ``thumbnail`` is a data url, or empty if it is gone."""

    text: str
    url: str
    split: str
    lang: str
    similarity: float
    thumbnail: str


class Bar(msgspec.Struct, frozen=True):
    """One bar of a histogram, in pixels of its chart, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str
    is_kept: bool


class Chart(msgspec.Struct, frozen=True):
    """The similarity histogram of one split."""

    split: str
    total: int
    threshold: float | None
    """None while all samples are not scored that it is to keep a share of."""
    threshold_x: float
    bars: list[Bar]
    low: float
    high: float
    """Similarity at the left and at the right end."""
    width: int
    height: int


def write_report(path: Path, run_dir: Path, summary: Summary) -> None:
    """Write the page to `path`; samples come from the parts and shards under `run_dir`.

    Where rules drop pairs, none of the rejected ones is shown: it may be what they are there for.
    """
    page = _template().render(
        summary=summary,
        settings={key: _as_yaml(value) for key, value in summary.settings.items()},
        funnel=funnel(summary),
        outcomes=_outcomes(summary),
        charts=_charts(summary),
        languages=by_language(summary)[:LANGUAGES_SHOWN],
        long_texts=long_texts(summary),
        kept=_samples(run_dir, summary, is_kept=True),
        rejected=[] if summary.rules else _samples(run_dir, summary, is_kept=False),
    )
    write_atomic(path, page.encode())


def _as_yaml(value: object) -> str:
    """Return a setting as it would stand in a file."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cah_dask.release", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _outcomes(summary: Summary) -> list[tuple[str, int, float]]:
    """Return (status, urls, share) of the download, most frequent first."""
    counts = summary.counts("download")
    rows = {"ok": counts.kept, **counts.rejected}
    ranked = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    return [(status, urls, urls / max(1, counts.seen)) for status, urls in ranked if urls]


def _charts(summary: Summary) -> list[Chart]:
    return [
        _chart(split, bins, summary.thresholds.get(split))
        for split, bins in similarity_histogram(summary).items()
    ]


def _chart(split: str, bins: dict[int, int], threshold: float | None) -> Chart:
    """Draw the occupied part of [-1, 1], a little wider, as bars."""
    width, height = _CHART_PX
    first, end = max(0, min(bins) - 2), min(HISTOGRAM_BINS, max(bins) + 3)
    step, tallest = width / (end - first), max(bins.values())
    bars = []
    for index, count in sorted(bins.items()):
        size = height * count / tallest
        label = f"{_left(index):.2f} to {_left(index + 1):.2f}: {count:,}"
        is_kept = threshold is not None and _left(index) >= threshold
        bars.append(Bar((index - first) * step, height - size, step * 0.9, size, label, is_kept))
    return Chart(
        split=split,
        total=sum(bins.values()),
        threshold=threshold,
        threshold_x=((threshold or 0) + 1) / 2 * HISTOGRAM_BINS * step - first * step,
        bars=bars,
        low=_left(first),
        high=_left(end),
        width=width,
        height=height,
    )


def _left(index: int) -> float:
    """Return the similarity at the left edge of a bin."""
    return -1 + 2 * index / HISTOGRAM_BINS


def _samples(run_dir: Path, summary: Summary, *, is_kept: bool) -> list[Sample]:
    """Take a few samples of each of some lists spread over the run; always the same ones.

    Lists of late texts, which fetched no images, are not looked at.
    """
    similarity = similarity_of(summary.encoder)
    chosen = _spread(summary.selected, _LISTS_READ)
    lists = [pair for part in chosen for pair in _lists(run_dir, part, len(chosen))]
    each = max(1, -(-SAMPLES_SHOWN // max(1, len(lists))))
    found: list[Sample] = []
    for scored, uids in lists:
        with contextlib.suppress(RetryableError):  # set aside, or not there any more
            read_receipt(_outcomes_of(run_dir, scored))
            columns = ["uid", "url", "text", "split", "lang", similarity, "image_row"]
            table = read_part(run_dir / scored, columns=columns)
            table = table.rename_columns({similarity: "similarity"})
            is_in = pc.is_in(table["uid"], uids.combine_chunks())
            table = table.filter(is_in if is_kept else pc.invert(is_in))
            found += _with_thumbnails(run_dir, scored, table.sort_by("uid").slice(0, each))
    return found[:SAMPLES_SHOWN]


def _lists(run_dir: Path, part: str, n_parts: int) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield some of the scored parts that a selected part was made of, with the uids selected."""
    with contextlib.suppress(RetryableError):
        selected, inputs = read_part(run_dir / part), read_receipt(run_dir / part).inputs
        for scored in _spread(inputs, -(-_LISTS_READ // n_parts)):
            yield scored, selected.filter(pc.equal(selected["part"], scored))["uid"]


def _spread(names: Sequence[str], number: int) -> Sequence[str]:
    """Return so many of some names, or all, spread evenly."""
    return names[:: max(1, len(names) // number)][:number]


def _with_thumbnails(run_dir: Path, part: str, rows: pa.Table) -> list[Sample]:
    images = _images(run_dir, part, rows["image_row"].to_pylist())
    return [
        Sample(
            row["text"], row["url"], row["split"], row["lang"], row["similarity"], _thumbnail(image)
        )
        for row, image in zip(rows.to_pylist(), images, strict=True)
    ]


def _images(run_dir: Path, part: str, rows: list[int]) -> list[bytes | None]:
    """Read images from the shard behind a scored part; None for each if the shard is gone."""
    outcomes = _outcomes_of(run_dir, part)
    try:
        (side,) = read_receipt(outcomes).side
        with ShardReader(outcomes.with_name(side.name)) as shard:
            return list(shard.read(rows))
    except (RetryableError, RunError):
        return [None] * len(rows)


def _outcomes_of(run_dir: Path, part: str) -> Path:
    return run_dir / "images" / Path(part).relative_to("scored")


def _thumbnail(data: bytes | None) -> str:
    if data is None:
        return ""
    image = open_rgb(data)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
