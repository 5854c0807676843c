"""Samples of a run for people to look at, chosen by a seed over all its fetch lists."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Status
from cah_dask.errors import ConfigError, DamageError, RetryableError, RunError
from cah_dask.groups import group_name_of
from cah_dask.images.picture.thumbnail import data_url
from cah_dask.images.shards import ShardReader
from cah_dask.release.draw import lot
from cah_dask.release.summary import Summary
from cah_dask.schema import SPLITS, similarity_of
from cah_dask.storage import read_part, read_receipt

_SPREAD = 24
"""Lists that the samples are spread over, if there are as many with any."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which samples are to be shown; what is not set admits all.

    Raises
    ------
    ConfigError
        If no sample can be meant.
    """

    outcome: str = Status.OK.value
    split: str = ""
    lang: str = ""
    host: str = ""
    low: float = -math.inf
    high: float = math.inf
    """Similarity, from `low` to `high` inclusively."""
    is_kept: bool | None = None

    def __post_init__(self) -> None:
        """Check what can be, and write a host as urls do."""
        if self.split not in ("", *SPLITS):
            raise ConfigError(f"split {self.split}: expected one of {', '.join(SPLITS)}")
        if self.outcome not in list(Status):
            raise ConfigError(f"outcome {self.outcome}: expected one of {', '.join(Status)}")
        if self.is_kept is not None and self.outcome != Status.OK:
            raise ConfigError(f"outcome {self.outcome}: only what is ok is kept, or rejected")
        if not set(self.host).isdisjoint("/:@"):
            raise ConfigError(f"host {self.host}: expected a name only, such as photos.example")
        msgspec.structs.force_setattr(self, "host", self.host.lower())

    @property
    def needs_similarity(self) -> bool:
        """Whether samples that are not scored are left out."""
        return self.is_kept is not None or self.low > -math.inf or self.high < math.inf


class Sample(msgspec.Struct, frozen=True):
    """One sample as a page shows it; ``thumbnail`` is a data url, or empty if it is gone."""

    text: str
    url: str
    split: str
    lang: str
    outcome: str
    similarity: float | None
    thumbnail: str


def why_gone(summary: Summary) -> str:
    """Say why images that were had cannot be shown."""
    if summary.keeps_images:
        return "The run folder holds the pictures no more; their captions are shown alone."
    return (
        "The run keeps no picture once it is embedded (keep_images: false); their captions are "
        "shown alone."
    )


def choose(
    run_dir: Path, summary: Summary, lists: Sequence[str], wanted: Wanted, number: int, seed: int
) -> Iterator[Sample]:
    """Yield up to `number` samples of some lists: a few of each, then what else those have.

    Where rules drop pairs, only kept ones are shown: the others may be what the rules are for.

    Parameters
    ----------
    lists
        Names such as ``w00000/b00003-l00000``, looked at in this order until there are enough.
    """
    each = math.ceil(number / max(1, min(len(lists), _SPREAD)))
    left = number
    have_more: list[tuple[str, int]] = []
    for name, start in itertools.chain(zip(lists, itertools.repeat(0)), have_more):
        if not left:
            return
        with contextlib.suppress(RetryableError, DamageError):  # set aside, damaged, or gone
            rows = _rows(run_dir, summary, name, wanted)
            lots = pa.array([lot(uid, seed) for uid in rows["uid"].to_pylist()], pa.binary())
            if not start and len(rows) > each:
                have_more.append((name, each))
            rows = rows.take(pc.sort_indices(lots)).slice(start, left if start else min(each, left))
            left -= len(rows)
            yield from _samples(run_dir, rows, wanted.outcome)


def _rows(run_dir: Path, summary: Summary, name: str, wanted: Wanted) -> pa.Table:
    """Return the wanted rows of a list with url, text, image_row and, where known, similarity."""
    bucket, _, number = name.rpartition("-l")
    rows = read_part(
        _part(run_dir, "fetch", bucket),
        row_group=int(number),
        columns=["uid", "url", "text", "split", "lang", "image_wave", "image_list"],
    )
    outcomes = _outcomes(run_dir, bucket, rows)
    outcomes = outcomes.filter(pc.equal(outcomes["status"], wanted.outcome))
    found = pc.index_in(rows["url"], outcomes["url"].combine_chunks())
    for column in ("image_row", "fetched_in"):
        rows = rows.append_column(column, outcomes[column].take(found))
    rows = rows.filter(pc.is_valid(found))
    for column, value in (("split", wanted.split), ("lang", wanted.lang)):
        is_so = pc.equal(pc.utf8_lower(rows[column]), value.lower())
        rows = rows.filter(is_so) if value else rows
    if wanted.host:
        rows = rows.filter(pa.array([_is_of(wanted.host, u) for u in rows["url"].to_pylist()]))
    rows = _with_similarity(run_dir, summary, name, rows)
    if wanted.needs_similarity:
        similarity = rows["similarity"]
        at_least = pc.greater_equal(similarity, wanted.low)
        rows = rows.filter(pc.and_(at_least, pc.less_equal(similarity, wanted.high)))
    if wanted.is_kept is None and not (summary.rules and wanted.outcome == Status.OK):
        return rows
    is_kept = _is_kept(run_dir, summary, name, rows)
    if wanted.is_kept is False:
        return rows.filter(pc.and_(pc.invert(is_kept), not summary.rules))
    return rows.filter(is_kept)


def _outcomes(run_dir: Path, bucket: str, rows: pa.Table) -> pa.Table:
    """Return the outcomes of the lists that fetched some urls: of late texts, other ones."""
    tables = []
    for place in rows.group_by(["image_wave", "image_list"]).aggregate([]).to_pylist():
        number = place["image_list"]
        name = f"w{place['image_wave']:05d}/{bucket.partition('/')[2]}-l{number:05d}"
        part = read_part(_part(run_dir, "images", name), columns=["url", "status", "image_row"])
        tables.append(part.append_column("fetched_in", pa.repeat(name, len(part))))
    return pa.concat_tables(tables)


def _is_of(host: str, url: str) -> bool:
    found = urlsplit(url).hostname or ""
    return found == host or found.endswith(f".{host}")


def _with_similarity(run_dir: Path, summary: Summary, name: str, rows: pa.Table) -> pa.Table:
    """Add the similarity that decides; null where the list is not embedded yet."""
    column = similarity_of(summary.encoder)
    try:
        scored = read_part(_part(run_dir, "scored", name), columns=["uid", column])
    except (RetryableError, DamageError):
        return rows.append_column("similarity", pa.nulls(len(rows), pa.float32()))
    found = pc.index_in(rows["uid"], scored["uid"].combine_chunks())
    return rows.append_column("similarity", scored[column].take(found))


def _is_kept(run_dir: Path, summary: Summary, name: str, rows: pa.Table) -> pa.Array:
    """Tell which rows are selected; before the selection, which reach their threshold."""
    group = group_name_of(name)
    for part in summary.selected:
        if part.endswith(f"/{group}.parquet"):
            selected = read_part(run_dir / part, columns=["part", "uid"])
            selected = selected.filter(pc.equal(selected["part"], f"scored/{name}.parquet"))
            return pc.is_in(rows["uid"], selected["uid"].combine_chunks())
    limits = [summary.thresholds.get(split, math.inf) for split in rows["split"].to_pylist()]
    reach = pc.greater_equal(rows["similarity"], pa.array(limits, pa.float32()))
    return pc.and_(pc.coalesce(reach, pa.scalar(value=False)), not summary.rules)


def _part(run_dir: Path, folder: str, name: str) -> Path:
    return run_dir / folder / f"{name}.parquet"


def _samples(run_dir: Path, rows: pa.Table, outcome: str) -> Iterator[Sample]:
    places = list(zip(rows["fetched_in"].to_pylist(), rows["image_row"].to_pylist(), strict=True))
    found = {
        (name, row): image
        for name in dict.fromkeys(name for name, _ in places)
        for row, image in _images(
            _part(run_dir, "images", name),
            [row for of, row in places if of == name and row is not None],
        ).items()
    }
    shown = rows.select(["text", "url", "split", "lang", "similarity"]).to_pylist()
    for row, place in zip(shown, places, strict=True):
        yield Sample(**row, outcome=outcome, thumbnail=data_url(found.get(place)))


def _images(outcomes: Path, rows: Sequence[int]) -> dict[int, bytes]:
    """Read images from the shard behind an outcomes part; without those that are not there."""
    if not rows:
        return {}
    try:
        (side,) = read_receipt(outcomes).side
        with ShardReader(outcomes.with_name(side.name)) as shard:
            return dict(zip(rows, shard.read(rows), strict=True))
    except (RetryableError, RunError):
        return {}
