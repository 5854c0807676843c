"""What a run found beside what was planted, reason by reason."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from cah_dask.counts import Counts, Status
from cah_dask.demo.plants import moved
from cah_dask.demo.site import Pair, Site
from cah_dask.images.options import DownloadOptions
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import DOWNLOAD

LEAST = 0.95
"""Precision and recall that the release must reach."""

_LOG_LINE = re.compile(r"\d+ (\S+)")
_REQUESTS_A_TRY = {
    Status.REDIRECT_LIMIT: 1 + DownloadOptions().max_redirects,
    Status.DISCONNECTED: 2,  # aiohttp repeats a GET itself when a kept connection was closed
}


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a run beside what it must be."""

    stage: str
    what: str
    planted: int
    found: int

    @property
    def is_right(self) -> bool:
        """Whether the two are equal."""
        return self.planted == self.found


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run did."""

    rows: tuple[Row, ...]
    precision: float
    """Share of the released pairs whose text is right."""
    recall: float
    """Share of the right texts of reachable images that were released."""

    @property
    def is_good(self) -> bool:
        """Whether every count is exact, and the release as good as it has to be."""
        is_exact = all(row.is_right for row in self.rows)
        return is_exact and min(self.precision, self.recall) >= LEAST


def judge(site: Site, run_dir: Path, access_log: Path) -> Verdict:
    """Compare a finished run over `site` with the truth."""
    released = read_pairs(run_dir)
    right = {pair for pair, is_match in site.truth.matches.items() if is_match}
    n_good = len(released & right)
    return Verdict(
        rows=(*_stages(site, run_dir), _asked_too_often(run_dir, access_log)),
        precision=n_good / max(1, len(released)),
        recall=n_good / len(right),
    )


def read_pairs(run_dir: Path) -> set[Pair]:
    """Return url and text of every released pair."""
    table = pq.read_table(RunFolder(run_dir).release / "pairs", columns=["url", "text"])
    return set(zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True))


def _stages(site: Site, run_dir: Path) -> Iterator[Row]:
    truth, summary = site.truth, RunFolder(run_dir).summary()
    yield from _rows("extract", truth.extract, summary.counts("extract"))
    yield from _rows("dedup", truth.dedup, summary.counts("dedup"))
    yield from _rows("download", truth.download, summary.counts("download"))
    # Which pairs are selected is the model's judgement: precision and recall tell how good it is.
    scored = Counts(truth.dedup.kept, len(truth.matches), truth.lost)
    yield from _rows("embed", scored, summary.counts("embed"))


def _rows(stage: str, planted: Counts, found: Counts) -> Iterator[Row]:
    yield Row(stage, "seen", planted.seen, found.seen)
    for reason in sorted({*planted.rejected, *found.rejected}):
        yield Row(stage, reason, planted.rejected.get(reason, 0), found.rejected.get(reason, 0))
    yield Row(stage, "passed on", planted.kept, found.kept)


def _asked_too_often(run_dir: Path, access_log: Path) -> Row:
    """Count urls that the servers were asked for more often than the run says it tried them."""
    tries: Counter[str] = Counter()
    for part in sorted((run_dir / DOWNLOAD.folder).glob("*/*.parquet")):
        table = pq.read_table(part, columns=["url", "status", "attempts"])
        for url, status, attempts in zip(*(column.to_pylist() for column in table), strict=True):
            tries[url] += attempts * _REQUESTS_A_TRY.get(status, 1)
            tries[moved(url)] += attempts
    asked = Counter(_LOG_LINE.findall(access_log.read_text(encoding="utf-8")))
    too_often = [
        url
        for url, count in asked.items()
        if count > tries[url] and not url.endswith("/robots.txt")
    ]
    return Row("download", "asked too often", 0, len(too_often))
