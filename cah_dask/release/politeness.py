"""How a run treated the sites that it asked: requests per host, and whose refusals were heeded."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np

from cah_dask.counts import Reject, Status
from cah_dask.errors import DamageError, RetryableError
from cah_dask.release.summary import Summary
from cah_dask.storage import read_part, read_receipt

_REFUSALS = (
    ("download", Status.ROBOTS, "their robots.txt forbids it"),
    ("download", Status.ROBOTS_UNREACHABLE, "their robots.txt could not be had"),
    ("download", Status.OPTOUT, "their site opted out: noai, TDM, content signals, a list"),
    ("extract", Reject.PAGE_DIRECTIVE, "their page opted out: noai, noindex, TDM"),
)


class Refusal(msgspec.Struct, frozen=True):
    """Urls or links that were left alone because their site wishes so."""

    what: str
    rows: int
    share: float
    """Of all that the stage saw."""


class Politeness(msgspec.Struct, frozen=True):
    """Requests to one host by some fetch lists together, robots.txt and redirects included."""

    lists: int
    """That were looked at."""
    all_lists: int
    """That are downloaded."""
    hosts: int
    median: int
    p99: int
    most: int
    refusals: list[Refusal]


def politeness(run_dir: Path, summary: Summary, lists: Sequence[str]) -> Politeness:
    """Look at the logs of requests of some lists; at none that is not there any more."""
    requests: Counter[str | None] = Counter()
    n_lists = 0
    for name in lists:
        with contextlib.suppress(RetryableError, DamageError):
            (side,) = read_receipt(run_dir / "images" / f"{name}.parquet").side
            wave = name.partition("/")[0]
            log = run_dir / "requests" / wave / f"{Path(side.name).stem}.parquet"
            urls = read_part(log, columns=["url"])["url"].to_pylist()
            requests.update(urlsplit(url).hostname for url in urls)
            n_lists += 1
    counts = list(requests.values())
    median, p99, most = (
        (int(np.percentile(counts, at, method="inverted_cdf")) for at in (50, 99, 100))
        if counts
        else (0, 0, 0)
    )
    all_lists = summary.stages["download"].tasks
    return Politeness(n_lists, all_lists, len(counts), median, p99, most, _refusals(summary))


def _refusals(summary: Summary) -> list[Refusal]:
    found = []
    for stage, reason, what in _REFUSALS:
        counts = summary.counts(stage)
        rows = counts.rejected.get(reason.value, 0)
        found.append(Refusal(what, rows, rows / max(1, counts.seen)))
    return found
