"""What became of each url of a list, one outcome each, and an alarm when all goes wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime

import pyarrow as pa

from cah_dask.errors import RunError
from cah_dask.images.manners.hosts import Visit
from cah_dask.images.picture.decoders import Verdict
from cah_dask.images.web.responses import Answer
from cah_dask.schema import OUTCOMES, Counts, Status


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
        self._arrivals: dict[int, int] = {}

    def has(self, index: int) -> bool:
        """Tell whether a url has an outcome, be it that of a try that another follows."""
        return self._outcomes[index] is not None

    def record(self, index: int, outcome: Outcome, arrival: int | None = None) -> None:
        """Set the outcome of a url; `arrival` is the row that the shard writer gave its image."""
        self._outcomes[index] = outcome
        if arrival is not None:
            self._arrivals[index] = arrival

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


class Alarm:
    """Stops a run in which so much fails that the fault is ours: nearly all hosts, or many names.

    Hosts are counted, not urls: a list may hold thousands of urls of one host that is gone.

    Parameters
    ----------
    min_hosts
        Hosts that must have been tried before.
    min_share
        The alarm rings when a smaller share of them gave any image, in [0, 1].
    max_dns_share
        It rings when a larger share of them ended in dns_error, in [0, 1].
    nameservers
        Who is asked for names, for the message; none are those of the system.
    """

    def __init__(
        self,
        min_hosts: int,
        *,
        min_share: float,
        max_dns_share: float,
        nameservers: Sequence[str] = (),
    ) -> None:
        self._min_hosts = min_hosts
        self._min_share = min_share
        self._max_dns_share = max_dns_share
        self._nameservers = nameservers
        self._tried: set[str] = set()
        self._useful: set[str] = set()
        self._nameless: set[str] = set()
        self._statuses: Counter[Status] = Counter()

    def note(self, host: str, status: Status, *, is_last: bool = True) -> None:
        """Count an outcome; `is_last` says that it is the last word on this host by this url.

        Raises
        ------
        RunError
            If this is one too many.
        """
        self._tried.add(host)
        self._statuses[status] += 1
        if status is Status.OK:
            self._useful.add(host)
        if status is Status.DNS_ERROR and is_last:
            self._nameless.add(host)
        else:
            self._nameless.discard(host)
        if len(self._tried) >= self._min_hosts:
            self._judge()

    def _judge(self) -> None:
        tried, useful, nameless = len(self._tried), len(self._useful), len(self._nameless)
        if nameless > self._max_dns_share * tried:
            raise RunError(
                f"{nameless} of the first {tried} hosts ended in dns_error: {self._dns_advice()}, "
                "or raise download.alarm_dns_share"
            )
        if useful < self._min_share * tried:
            ((most, _), *_) = common = self._statuses.most_common(3)
            advice = "check name resolution and outgoing connections here"
            if most is Status.DNS_ERROR:
                advice = self._dns_advice()
            worst = ", ".join(f"{count} {name}" for name, count in common)
            raise RunError(
                f"only {useful} of the first {tried} hosts gave an image ({worst}): {advice}, or "
                "set download.alarm_share to 0"
            )

    def _dns_advice(self) -> str:
        who = " ".join(self._nameservers) or "of this system"
        return (
            f"the name servers ({who}) cannot be reached or cannot keep up; ask them by hand "
            "(dig), let fewer downloads be in flight, name others in download.nameservers"
        )
