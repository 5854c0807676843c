"""Whose turn it is: the order in which the urls of a list are requested, so that no host is hurt.

Every host has a lane of visits. A lane lets a few requests run at once, spaces their starts, waits
when the host asks for it, rests after a streak of failures and is given up when that goes on or
when the host has used up its time. Lanes of one address share a limit, too. Nothing here knows a
socket or a clock: the caller says what time it is, so the rules can be tested to the second.
"""

import heapq
import itertools
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from cah_dask.images.targets import Target
from cah_dask.schema import Status

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
    }
)
"""Statuses that speak against the host as a whole; a streak of them opens its circuit breaker."""

RETRYABLE = FAILURES - {Status.TLS_CERTIFICATE, Status.TLS_ERROR, Status.TOO_SLOW}
"""Statuses that may be another one a little later."""

NOWHERE = frozenset({Status.DNS_NOT_FOUND, Status.BLOCKED_ADDRESS})
"""Statuses that hold for every url of the host, without asking again."""


class HostOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Manners towards one host; they hold for a whole run, as one list at a time has a host."""

    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Requests to one host at the same time."""
    address_concurrency: Annotated[int, msgspec.Meta(ge=1)] = 16
    """Requests of one list to one IP address at the same time, whatever the hosts (CDNs)."""
    spacing_s: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Seconds between the starts of two requests to one host."""
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
    """Seconds after its first request when a host is given up for the list, pauses excepted."""


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
    address: str | None = None
    """The address at which it counts while in flight."""

    @property
    def host(self) -> str:
        """The host whose turn it waits for."""
        return self.target.host


@dataclass(slots=True, eq=False)
class Lane:
    """One host: who waits for it, and what is known of it."""

    spacing_s: float
    waiting: deque[Visit] = field(default_factory=deque)
    later: list[tuple[float, int, Visit]] = field(default_factory=list)
    address: str | None = None
    in_flight: int = 0
    started_at: float | None = None
    free_at: float = 0.0
    rests_until: float = 0.0
    queued_at: float | None = None
    failures: int = 0
    refusals: int = 0
    late_s: float = 0.0
    verdict: Status | None = None
    """Why the host has been given up, if it has."""

    @property
    def n_left(self) -> int:
        """How many visits wait."""
        return len(self.waiting) + len(self.later)

    @property
    def due(self) -> float:
        """When the next visit may start; only for a lane where one is left."""
        return self.free_at if self.waiting else max(self.free_at, self.later[0][0])

    def pop(self) -> Visit:
        """Remove and return the next visit."""
        return self.waiting.popleft() if self.waiting else heapq.heappop(self.later)[2]

    def drain(self) -> list[Visit]:
        """Remove and return all visits."""
        visits = [*self.waiting, *(visit for _, _, visit in sorted(self.later))]
        self.waiting.clear()
        self.later.clear()
        return visits


class Frontier:
    """The visits of one list, handed out when their host may be asked.

    Times are seconds on any clock of the caller's that never goes back.
    """

    def __init__(self, visits: Iterable[Visit], options: HostOptions) -> None:
        self._options = options
        self._lanes: dict[str, Lane] = {}
        self._heap: list[tuple[float, int, Lane]] = []
        self._pushed = itertools.count()
        self._at_address: Counter[str] = Counter()
        self._parked: defaultdict[str, deque[Lane]] = defaultdict(deque)
        self._in_flight = 0
        self._n_left = 0
        for visit in visits:
            self._lane(visit.host).waiting.append(visit)
            self._n_left += 1
        longest_first = sorted(self._lanes.values(), key=lambda lane: -lane.n_left)
        self._fresh = deque(longest_first)

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is in flight and nothing is left."""
        return not (self._in_flight or self._n_left)

    @property
    def wakes_at(self) -> float:
        """Return when `take` may have something if nothing is released before; inf if never."""
        return self._heap[0][0] if self._heap else math.inf

    def take(self, now: float) -> Visit | None:
        """Return a visit whose host may be asked now, hosts already begun first."""
        while self._heap and self._heap[0][0] <= now:
            queued_at, _, lane = heapq.heappop(self._heap)
            if queued_at != lane.queued_at:
                continue  # overtaken by an earlier entry
            lane.queued_at = None
            if lane.n_left and lane.due > now:
                self._queue(lane)
            elif lane.n_left and not self._park(lane):
                return self._start(lane, now)
        while self._fresh:
            lane = self._fresh.popleft()
            if lane.started_at is None:  # a redirect may have led there before
                return self._start(lane, now)
        return None

    def verdict(self, host: str) -> Status | None:
        """Return the status of all further urls of a host if it has been given up."""
        return self._lane(host).verdict

    def put_back(self, visit: Visit) -> None:
        """Undo `take`: the visit goes first when the host may be asked again."""
        lane = self._land(visit)
        lane.waiting.appendleft(visit)
        self._n_left += 1
        self._queue(lane)

    def bind(self, visit: Visit, address: str) -> bool:
        """Tell which address serves the host; False says the visit was put back: it is too busy."""
        lane = self._lane(visit.host)
        lane.address = address
        if visit.address is None:
            if self._at_address[address] >= self._options.address_concurrency:
                self.put_back(visit)
                return False
            self._count(visit, address)
        return True

    def skip(self, visit: Visit, now: float) -> None:
        """Report that a visit needed no request, so that the host may be asked at once."""
        lane = self._land(visit)
        lane.free_at = min(lane.free_at, now)
        self._queue(lane)

    def release(
        self,
        visit: Visit,
        now: float,
        *,
        status: Status,
        seconds: float = 0.0,
        pause_s: float | None = None,
    ) -> list[Visit]:
        """Report an answer; return the visits that will not be made as the host is given up.

        Parameters
        ----------
        status
            What became of the request.
        seconds
            How long it took.
        pause_s
            None, unless the host asked for a pause (429, 503): its Retry-After in seconds, or 0.
        """
        lane = self._land(visit)
        lane.late_s += max(0.0, seconds - self._options.prompt_s)
        self._count_streak(lane, status, now)
        if pause_s is not None:
            self._pause(lane, pause_s, now)
        lane.verdict = self._judge(lane, status, now)
        if lane.verdict is not None:
            self._n_left -= lane.n_left
            return lane.drain()
        self._queue(lane)
        return []

    def add(self, visit: Visit, due: float = 0.0) -> bool:
        """Queue a further request, not before `due`; False says its host has been given up."""
        lane = self._lane(visit.host)
        if lane.verdict is not None:
            return False
        if due:
            heapq.heappush(lane.later, (due, visit.index, visit))
        else:
            lane.waiting.append(visit)
        self._n_left += 1
        self._queue(lane)
        return True

    def slow_down(self, host: str, delay_s: float) -> None:
        """Keep to the Crawl-delay of a host."""
        lane = self._lane(host)
        lane.spacing_s = max(lane.spacing_s, min(delay_s, self._options.max_crawl_delay_s))

    def keeps_connection(self, visit: Visit, limit: int) -> bool:
        """Tell whether the host will be asked again soon, and fewer than `limit` others will."""
        return self._lanes[visit.host].n_left > 0 and len(self._heap) < limit

    def _lane(self, host: str) -> Lane:
        if host not in self._lanes:
            self._lanes[host] = Lane(self._options.spacing_s)
        return self._lanes[host]

    def _start(self, lane: Lane, now: float) -> Visit:
        visit = lane.pop()
        self._n_left -= 1
        if lane.started_at is None:
            lane.started_at = now
        lane.in_flight += 1
        self._in_flight += 1
        lane.free_at = max(lane.free_at, now + lane.spacing_s)
        if lane.address is not None:
            self._count(visit, lane.address)
        self._queue(lane)
        return visit

    def _land(self, visit: Visit) -> Lane:
        """Take a visit out of the air."""
        lane = self._lanes[visit.host]
        lane.in_flight -= 1
        self._in_flight -= 1
        address, visit.address = visit.address, None
        if address is not None:
            self._at_address[address] -= 1
            self._wake(self._parked[address])
        return lane

    def _wake(self, parked: deque[Lane]) -> None:
        """Give one parked lane its turn, passing over those that have nothing left."""
        while parked:
            if self._queue(parked.popleft()):
                return

    def _count(self, visit: Visit, address: str) -> None:
        visit.address = address
        self._at_address[address] += 1

    def _park(self, lane: Lane) -> bool:
        """Set a lane aside, until something is released there, if its address is too busy."""
        address = lane.address
        if address is None or self._at_address[address] < self._options.address_concurrency:
            return False
        self._parked[address].append(lane)
        return True

    def _queue(self, lane: Lane) -> bool:
        """Give a lane its place in the heap; False says that it cannot start anything."""
        if not lane.n_left or lane.in_flight >= self._options.concurrency:
            return False
        due = lane.due
        if lane.queued_at is None or due < lane.queued_at:
            lane.queued_at = due
            heapq.heappush(self._heap, (due, next(self._pushed), lane))
        return True

    def _count_streak(self, lane: Lane, status: Status, now: float) -> None:
        if status is Status.HTTP_403:
            lane.refusals += 1
        elif status not in FAILURES:
            lane.failures = lane.refusals = 0
        elif now >= lane.rests_until:  # what was in flight when the rest began says nothing new
            lane.failures += 1
            if lane.failures == self._options.max_failures:
                lane.rests_until = now + self._options.rest_s
                lane.free_at = max(lane.free_at, lane.rests_until)

    def _pause(self, lane: Lane, asked_s: float, now: float) -> None:
        backoff_s = self._options.backoff_s * 2 ** max(0, lane.failures - 1)
        pause_s = max(asked_s, min(backoff_s, self._options.max_backoff_s))
        lane.free_at = max(lane.free_at, now + pause_s)
        lane.late_s += pause_s if pause_s <= self._options.max_backoff_s else math.inf

    def _judge(self, lane: Lane, status: Status, now: float) -> Status | None:
        """Return why a host is given up, if it is: once given up, it stays so."""
        options = self._options
        if lane.verdict is not None or status in NOWHERE:
            return lane.verdict or status
        is_hopeless = (
            lane.failures > options.max_failures
            or lane.refusals >= options.max_refusals
            or lane.late_s > options.patience_s
            or (lane.started_at is not None and now - lane.started_at > options.max_time_s)
        )
        return Status.HOST_SUSPENDED if is_hopeless else None
