"""Manners towards one host: how often it may be asked, when it rests, when it is given up.

Nothing here knows a socket or a clock: the caller says what time it is, in seconds on any clock
that never goes back, so the rules can be tested to the second. `frontier` decides between hosts.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cah_dask.blocklists.lines import host_named
from cah_dask.counts import Status
from cah_dask.errors import ConfigError
from cah_dask.images.web.request_url import Target
from cah_dask.urls import longest_match

FAILURES = frozenset(
    {
        Status.DNS_ERROR,
        Status.CONNECT_REFUSED,
        Status.CONNECT_TIMEOUT,
        Status.CONNECT_ERROR,
        Status.TLS_CERTIFICATE,
        Status.TLS_ERROR,
        Status.DISCONNECTED,
        Status.HTTP_429,
        Status.HTTP_5XX,
        Status.TIMEOUT,
        Status.TOO_SLOW,
        Status.ROBOTS_UNREACHABLE,
    }
)
"""Statuses that speak against the host as a whole; a streak of them opens its circuit breaker."""

RETRYABLE = FAILURES - {Status.TLS_CERTIFICATE, Status.TLS_ERROR}
"""Statuses that may be another one a little later."""

NOWHERE = frozenset({Status.DNS_NOT_FOUND, Status.BLOCKED_ADDRESS})
"""Statuses that hold for every url of the host, without asking again."""


class Manners(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Manners towards some hosts that allow other ones than all."""

    concurrency: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Requests to one of them at the same time."""
    spacing_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds between the starts of two requests to one of them."""


class HostOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Manners towards one host; they hold for a whole run, as one list at a time has a host."""

    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Requests to one host at the same time."""
    address_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Requests of the whole run to one IP address at the same time, whatever the hosts (CDNs). Each
    download that may be in flight has an equal share, at least one: where more of them may be in
    flight than this, the limit is their number."""
    spacing_s: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Seconds between the starts of two requests to one host."""
    quota: Annotated[int, msgspec.Meta(ge=1)] | None = 10_000
    """Urls of one host that a wave fetches; those beyond are rejected as `host_quota`. At a second
    between requests 64 downloads at a time are through with the rest of a wave of 300 archives in
    4 hours, and with these in 3. null: all of them, however long it takes."""
    of: dict[str, Manners] = {}
    """Other manners towards hosts that allow them, by name or `*.domain` (the domain and all names
    below it): `{"*.images.example": {spacing_s: 0.05, concurrency: 8}}`. The longest pattern
    counts; what it does not say is as for all. Ask who runs them first."""
    quota_of: dict[str, Annotated[int, msgspec.Meta(ge=1)] | None] = {}
    """Other quotas, by the same kind of names."""
    max_crawl_delay_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """Largest Crawl-delay of a robots.txt that is kept to, in seconds; a larger one is this."""
    max_failures: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Failures in a row after which a host rests; with one more it is given up for the list."""
    max_refusals: Annotated[int, msgspec.Meta(ge=1)] = 50
    """Answers 403 in a row after which a host is given up for the list: it does not want us."""
    rest_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """Seconds a host rests after a streak of failures."""
    backoff_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    """Seconds a host rests after 429 or 503 without Retry-After; doubled with each in a row."""
    max_backoff_s: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    """A host that asks for a longer pause, in seconds, is given up for the list."""
    prompt_s: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    """Seconds a request may take without using up patience."""
    patience_s: Annotated[float, msgspec.Meta(ge=0)] = 600.0
    """Seconds beyond `prompt_s`, and of pauses asked for, that one host may cost a list."""
    max_time_s: Annotated[float, msgspec.Meta(ge=0)] = 10_800.0
    """Seconds after its first turn when a host is given up for the list, pauses excepted."""

    def towards(self, host: str) -> "HostOptions":
        """Return the manners towards one host."""
        found = longest_match(self.of, host, None)
        if found is None:
            return self
        said = msgspec.structs.asdict(found).items()
        return msgspec.structs.replace(self, **{k: v for k, v in said if v is not None})

    def share(self, lists: int) -> "HostOptions":
        """Return the manners of one of so many lists that may be in flight at the same time.

        A host is in one of them, an address may be in all.

        Notes
        -----
        64 requests are a quarter of the 256 that an Apache works on at a time by default (prefork,
        MaxRequestWorkers), so a machine with a thousand small sites goes on serving others. Two
        lists have 32 each, four have 16. From 33 lists on each has one, which at 0.3 s a request is
        12,000 an hour at one address; fewer than one would be none. So a thousand lists may send a
        thousand requests at a time to a CDN that serves thousands of hosts: where that is too much,
        let fewer downloads be in flight.
        """
        share = max(1, self.address_concurrency // lists)
        return msgspec.structs.replace(self, address_concurrency=share)


def check_patterns(options: HostOptions) -> None:
    """Raise ConfigError for a pattern that no host can match."""
    for name, patterns in (("of", options.of), ("quota_of", options.quota_of)):
        for pattern in patterns:
            host = pattern.removeprefix("*.")
            try:
                is_host = host_named(host) == host
            except ValueError:
                is_host = False
            if not is_host:
                raise ConfigError(
                    f"download.hosts.{name}: {pattern!r} is no host; write a name such as "
                    "images.example, or *.images.example, in small letters"
                )


@dataclass(slots=True)
class Visit:
    """One url of a list on its way through the web."""

    index: int
    """Its row in the list."""
    start: Target
    """The url of the list."""
    target: Target
    """What to request next: the start, then where redirects lead."""
    hops: int = 0
    """Redirects followed since the last start."""
    attempts: int = 1
    """How often it was begun."""

    @property
    def host(self) -> str:
        """The host whose turn it waits for."""
        return self.target.host


class Lane:
    """One host: the visits that wait for it, and what is known of it."""

    __slots__ = (
        "_failures",
        "_free_at",
        "_late_s",
        "_later",
        "_options",
        "_paused_until",
        "_refusals",
        "_rests_until",
        "_sent_at",
        "_spacing_s",
        "_waiting",
        "in_flight",
        "is_shut",
        "started_at",
        "verdict",
    )

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._spacing_s = options.spacing_s
        self._waiting: deque[Visit] = deque()
        self._later: list[tuple[float, int, Visit]] = []
        self._free_at = self._rests_until = self._paused_until = self._late_s = 0.0
        self._sent_at = -math.inf
        self._failures = self._refusals = 0
        self.in_flight = 0
        self.is_shut = False
        """Whether another list has the host now."""
        self.started_at: float | None = None
        self.verdict: Status | None = None
        """Why the host has been given up, if it has."""

    def __len__(self) -> int:
        """Return how many visits wait."""
        return len(self._waiting) + len(self._later)

    @property
    def can_start(self) -> bool:
        """Tell whether a visit waits that no other request and no other list holds up."""
        return len(self) > 0 and not self.is_shut and self.in_flight < self._options.concurrency

    @property
    def due(self) -> float:
        """When the next visit may start; only for a lane where one waits."""
        return self._free_at if self._waiting else max(self._free_at, self._later[0][0])

    def push(self, visit: Visit, due: float = 0.0) -> None:
        """Have a visit wait for its turn, which does not come before `due`."""
        if due:
            heapq.heappush(self._later, (due, visit.index, visit))
        else:
            self._waiting.append(visit)

    def push_first(self, visit: Visit) -> None:
        """Have a visit go before all others."""
        self._waiting.appendleft(visit)

    def start(self, now: float) -> Visit:
        """Take the next visit, which is in flight from now on."""
        if self.started_at is None:
            self.started_at = now
        self.in_flight += 1
        self._free_at = max(self._free_at, now + self._spacing_s)
        return self._waiting.popleft() if self._waiting else heapq.heappop(self._later)[2]

    def may_send(self, now: float) -> bool:
        """Tell whether a visit in flight keeps its distance if it sends its request now.

        It may have waited for the name, and another visit with it: what counts is when requests
        are sent, not when their turn came.
        """
        if now < self.keeps_away_until:
            return False
        self._sent_at = now
        self._free_at = max(self._free_at, self.keeps_away_until)
        return True

    @property
    def keeps_away_until(self) -> float:
        """When the next request would keep its distance; -inf if none was sent."""
        return self._sent_at + self._spacing_s

    def rests_for(self, now: float) -> float:
        """Return the seconds for which nobody may ask the host."""
        return max(0.0, self._free_at - now, self.keeps_away_until - now)

    def drain(self) -> list[Visit]:
        """Remove and return all visits that wait."""
        visits = [*self._waiting, *(visit for _, _, visit in sorted(self._later))]
        self._waiting.clear()
        self._later.clear()
        return visits

    def free(self, now: float) -> None:
        """Let the next visit start at once, if it need not rest: the last one needed no request."""
        self._free_at = max(min(self._free_at, now), self._rests_until, self._paused_until)

    def slow_down(self, delay_s: float) -> None:
        """Keep to a Crawl-delay."""
        self._spacing_s = max(self._spacing_s, min(delay_s, self._options.max_crawl_delay_s))
        self._free_at = max(self._free_at, self.keeps_away_until)

    def report(self, status: Status, now: float, seconds: float, pause_s: float | None) -> None:
        """Learn from an answer; see `Frontier.release`."""
        self._late_s += max(0.0, seconds - self._options.prompt_s)
        self._count_streak(status, now)
        if pause_s is not None:
            self._pause(pause_s, now)
        if self.verdict is None:
            self.verdict = self._judge(status, now)

    def _count_streak(self, status: Status, now: float) -> None:
        if status is Status.HTTP_403:
            self._refusals += 1
        elif status not in FAILURES:
            self._failures = self._refusals = 0
        elif now >= self._rests_until:  # what was in flight when the rest began says nothing new
            self._failures += 1
            if self._failures == self._options.max_failures:
                self._rests_until = now + self._options.rest_s
                self._free_at = max(self._free_at, self._rests_until)

    def _pause(self, asked_s: float, now: float) -> None:
        backoff_s = self._options.backoff_s * 2 ** max(0, self._failures - 1)
        pause_s = max(asked_s, min(backoff_s, self._options.max_backoff_s))
        self._paused_until = max(self._paused_until, now + pause_s)
        self._free_at = max(self._free_at, self._paused_until)
        self._late_s += pause_s if pause_s <= self._options.max_backoff_s else math.inf

    def _judge(self, status: Status, now: float) -> Status | None:
        if status in NOWHERE:
            return status
        options = self._options
        is_hopeless = (
            self._failures > options.max_failures
            or self._refusals >= options.max_refusals
            or self._late_s > options.patience_s
            or (self.started_at is not None and now - self.started_at > options.max_time_s)
        )
        return Status.HOST_SUSPENDED if is_hopeless else None
