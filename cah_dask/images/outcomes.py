"""What became of each url of a list, one outcome each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime

import pyarrow as pa

from cah_dask.counts import Counts, Status
from cah_dask.errors import RunError
from cah_dask.images.manners.hosts import Visit
from cah_dask.images.picture.decoders import Verdict
from cah_dask.images.web.responses import Answer
from cah_dask.schema import OUTCOMES
from cah_dask.urls import host_of

HOSTS_NOTED = 5
"""Hosts of a list that its receipt names: those with the most trouble."""

TROUBLE = frozenset(
    {
        *(Status.DNS_NOT_FOUND, Status.DNS_ERROR, Status.CONNECT_REFUSED, Status.CONNECT_TIMEOUT),
        *(Status.CONNECT_ERROR, Status.TLS_CERTIFICATE, Status.TLS_ERROR, Status.DISCONNECTED),
        *(Status.HTTP_403, Status.HTTP_429, Status.HTTP_4XX, Status.HTTP_5XX, Status.HTTP_OTHER),
        *(Status.TIMEOUT, Status.TOO_SLOW, Status.HOST_SUSPENDED, Status.ROBOTS_UNREACHABLE),
    }
)
"""Outcomes that speak of a host; a dead link, a rule or a picture that is no good does not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of `schema.OUTCOMES`, without its url and its row in the shard."""

    status: Status
    attempts: int
    http_status: int | None = None
    final_url: str | None = None
    mime: str | None = None
    n_bytes: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    sha256: str | None = None
    md5: str | None = None
    phash: str | None = None
    fetched_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    fetch_ms: int = 0


def outcome(visit: Visit, answer: Answer) -> Outcome:
    """Return the outcome of a visit that ended with this answer."""
    return Outcome(
        answer.status,
        visit.attempts,
        answer.http_status,
        final_url=None if answer.http_status is None else visit.target.url,
        fetch_ms=round(1000 * answer.seconds),
    )


def judged(before: Outcome, verdict: Verdict, n_bytes: int) -> Outcome:
    """Return an outcome completed by the verdict on the body, of so many bytes."""
    after = replace(
        before, status=verdict.status, n_bytes=n_bytes, sha256=verdict.sha256, md5=verdict.md5
    )
    picture = verdict.picture
    if picture is None:
        return after
    return replace(
        after,
        mime=picture.mime,
        original_width=picture.original_width,
        original_height=picture.original_height,
        phash=picture.phash,
    )


class Ledger:
    """The outcomes of one list, by the row of the url."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._outcomes: list[Outcome | None] = [None] * len(urls)
        self._tried_again: set[int] = set()
        self._arrivals: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._urls)

    def left(self) -> list[str]:
        """Return the urls without an outcome that stays; it may be asked by any thread."""
        outcomes, again = list(self._outcomes), self._tried_again.copy()
        return [
            url
            for index, (url, found) in enumerate(zip(self._urls, outcomes, strict=True))
            if found is None or index in again
        ]

    @property
    def n_tried_again(self) -> int:
        """How many urls have failed and are to be tried again; it may be asked by any thread."""
        return len(self._tried_again)

    def has(self, index: int) -> bool:
        """Tell whether a url has an outcome, be it that of a try that another follows."""
        return self._outcomes[index] is not None

    def record(
        self, index: int, outcome: Outcome, arrival: int | None = None, *, is_last: bool = True
    ) -> None:
        """Set the outcome of a url, or of a try that another follows.

        `arrival` is the row that the shard writer gave its image.
        """
        self._outcomes[index] = outcome
        if is_last:
            self.settle(index)
        else:
            self._tried_again.add(index)
        if arrival is not None:
            self._arrivals[index] = arrival

    def settle(self, index: int) -> None:
        """Let the outcome of a url stay."""
        self._tried_again.discard(index)

    @property
    def arrivals(self) -> list[int]:
        """The rows that the shard writer gave, in the order of the urls."""
        return [self._arrivals[index] for index in sorted(self._arrivals)]

    def table(self) -> pa.Table:
        """Return all rows, in the order of the urls.

        Raises
        ------
        RunError
            If a url was lost on the way.
        """
        outcomes = self._complete()
        columns = {
            part.name: [getattr(outcome, part.name) for outcome in outcomes]
            for part in fields(Outcome)
        }
        image_row = {index: row for row, index in enumerate(sorted(self._arrivals))}
        columns["url"] = list(self._urls)
        columns["image_row"] = [image_row.get(index) for index in range(len(outcomes))]
        return pa.table(columns, schema=OUTCOMES)

    def counts(self, notes: Mapping[str, int]) -> Counts:
        """Return the urls by status."""
        by_status = Counter(outcome.status for outcome in self._complete())
        kept = by_status.pop(Status.OK, 0)
        rejected = {str(status): by_status[status] for status in sorted(by_status)}
        return Counts(len(self._urls), kept, rejected, dict(notes))

    def _complete(self) -> list[Outcome]:
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        if len(outcomes) < len(self._urls):
            raise RunError(f"{len(self._urls) - len(outcomes)} urls of a list have no outcome")
        return outcomes


def troubled_hosts(outcomes: pa.Table) -> dict[str, dict[str, int]]:
    """Return what became of the urls of the hosts with the most trouble, by status.

    Parameters
    ----------
    outcomes
        ``url`` and ``status`` of `schema.OUTCOMES`.

    Returns
    -------
    dict
        At most `HOSTS_NOTED` hosts, those with the most urls in `TROUBLE` first.
    """
    found: dict[str, Counter[str]] = {}
    for url, status in zip(
        outcomes["url"].to_pylist(), outcomes["status"].to_pylist(), strict=True
    ):
        found.setdefault(host_of(url), Counter())[status] += 1
    trouble = {host: sum(counts[each] for each in TROUBLE) for host, counts in found.items()}
    worst = sorted(
        (host for host in found if trouble[host]), key=lambda host: (-trouble[host], host)
    )
    return {host: dict(sorted(found[host].items())) for host in worst[:HOSTS_NOTED]}
