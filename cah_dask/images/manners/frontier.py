"""Whose turn it is: the order in which the urls of a list are requested.

Every host has a lane of visits with rules of its own (`hosts`). Hosts of one address form a group
that shares a limit, too; before its address is known a host is a group by itself.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from cah_dask.counts import Status
from cah_dask.images.manners.hosts import HostOptions, Lane, Visit

T = TypeVar("T")


class Agenda(Generic[T]):
    """Items by the time when they are due; each is there once, at the earliest time given."""

    def __init__(self) -> None:
        self._due: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()

    def put(self, item: T, due: float) -> None:
        """Add an item, or bring it forward."""
        if due < self._due.get(item, math.inf):
            self._due[item] = due
            heapq.heappush(self._heap, (due, next(self._numbers), item))

    @property
    def due(self) -> float:
        """When the first item is due; inf if there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # it was brought forward, and is gone
        return self._heap[0][0] if self._heap else math.inf

    def pop(self) -> T:
        """Remove and return the first item; only when `due` says that there is one."""
        item = heapq.heappop(self._heap)[2]
        del self._due[item]
        return item


class Group:
    """The hosts of one address, which may be asked so many things at the same time."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lanes: Agenda[Lane] = Agenda()
        self.in_flight = 0

    @property
    def is_full(self) -> bool:
        """Tell whether nothing more may be asked at this address now."""
        return self.in_flight >= self._limit

    @property
    def due(self) -> float:
        """When the next lane is due; inf while the group is full or empty."""
        return math.inf if self.is_full else self._lanes.due

    def put(self, lane: Lane) -> None:
        """Give a lane its place, if it can start anything."""
        if lane.can_start:
            self._lanes.put(lane, lane.due)

    def pop(self, now: float) -> Lane | None:
        """Remove and return a lane that may start something now."""
        while self.due <= now:
            lane = self._lanes.pop()
            if lane.can_start and lane.due <= now:
                return lane
            self.put(lane)
        return None


class Frontier:
    """The visits of one list, handed out when their host may be asked.

    Parameters
    ----------
    is_foreign
        Tells whether a host must be lent by other lists before it is asked; its lane is shut until
        `open`.
    """

    def __init__(
        self,
        visits: Iterable[Visit],
        options: HostOptions,
        is_foreign: Callable[[str], bool] = lambda host: False,  # noqa: ARG005  all are its own
    ) -> None:
        self._options = options
        self._is_foreign = is_foreign
        self.shut_hosts: set[str] = set()
        self._lanes: dict[str, Lane] = {}
        self._group_of: dict[Lane, Group] = {}
        self._counted_at: dict[int, Group] = {}
        self._addresses: dict[str, Group] = {}
        self._agenda: Agenda[Group] = Agenda()
        self._begun: set[Lane] = set()
        self._n_left = 0
        for visit in visits:
            self._lane(visit.host).push(visit)
            self._n_left += 1
        self._fresh = deque(sorted(self._lanes.values(), key=len, reverse=True))

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is in flight and nothing is left."""
        return not (self._counted_at or self._n_left)

    @property
    def wakes_at(self) -> float:
        """When `take` may have something, if nothing is released before; inf if never."""
        return self._agenda.due

    @property
    def keeps_away_until(self) -> float:
        """When another list may ask any of these hosts and keep its distance."""
        return max((lane.keeps_away_until for lane in self._lanes.values()), default=-math.inf)

    def take(self, now: float) -> Visit | None:
        """Return a visit whose host may be asked now: hosts already begun first, then long lanes.

        Every visit taken must be released, skipped or put back.
        """
        while self._agenda.due <= now:
            group = self._agenda.pop()
            lane = group.pop(now)
            if lane is not None and self._group_of[lane] is group:  # it may have moved since
                return self._start(lane, now)
            self._schedule(group)
        while self._fresh:
            lane = self._fresh.popleft()
            if lane.started_at is None and not lane.is_shut:  # a redirect may have led there before
                return self._start(lane, now)
        return None

    def bind(self, visit: Visit, address: str, now: float) -> bool:
        """Tell which address a request is about to go to.

        Returns
        -------
        bool
            False if the visit was put back instead: the address is too busy, or the host was sent
            another request a moment ago.
        """
        if address not in self._addresses:
            self._addresses[address] = Group(self._options.address_concurrency)
        group = self._addresses[address]
        lane = self._lanes[visit.host]
        if self._group_of[lane] is not group:
            self._group_of[lane] = group
            self._queue(lane)
        is_counted = self._counted_at[visit.index] is group
        if (group.is_full and not is_counted) or not lane.may_send(now):
            self.put_back(visit)
            return False
        if not is_counted:
            self._uncount(visit)
            self._count(visit, group)
        return True

    def put_back(self, visit: Visit) -> None:
        """Have a visit go first when its host may be asked again."""
        lane = self._land(visit)
        lane.push_first(visit)
        self._n_left += 1
        self._queue(lane)

    def skip(self, visit: Visit, now: float) -> None:
        """Report that a visit needed no request, so that its host may be asked at once."""
        lane = self._land(visit)
        lane.free(now)
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
        lane.report(status, now, seconds, pause_s)
        if lane.verdict is not None:
            self._n_left -= len(lane)
            self._begun.discard(lane)
            return lane.drain()
        self._queue(lane)
        return []

    def add(self, visit: Visit, due: float = 0.0) -> bool:
        """Queue a further request, not before `due`; False says its host has been given up."""
        lane = self._lane(visit.host)
        if lane.verdict is not None:
            return False
        lane.push(visit, due)
        self._n_left += 1
        self._queue(lane)
        return True

    def verdict(self, host: str) -> Status | None:
        """Return the status of all further urls of a host if it has been given up."""
        return self._lane(host).verdict

    def slow_down(self, host: str, delay_s: float) -> None:
        """Keep to the Crawl-delay of a host."""
        self._lane(host).slow_down(delay_s)

    def keeps_connection(self, visit: Visit, limit: int) -> bool:
        """Tell whether a host will be asked again, and no more than `limit` hosts will be."""
        return self._lanes[visit.host] in self._begun and len(self._begun) <= limit

    def shut(self, host: str) -> None:
        """Start nothing more at a host that another list has or wants."""
        self._lane(host).is_shut = True
        self.shut_hosts.add(host)

    def open(self, host: str) -> None:
        """Go on with a host that this list has again."""
        self._lane(host).is_shut = False
        self.shut_hosts.discard(host)
        self._queue(self._lane(host))

    def waits_for(self, host: str) -> bool:
        """Tell whether visits wait for a host."""
        return len(self._lane(host)) > 0

    def is_in_flight(self, host: str) -> bool:
        """Tell whether a host is being asked something."""
        return self._lane(host).in_flight > 0

    def rests_for(self, host: str, now: float) -> float:
        """Return the seconds for which nobody may ask a host."""
        return self._lane(host).rests_for(now)

    def _lane(self, host: str) -> Lane:
        if host not in self._lanes:
            lane = self._lanes[host] = Lane(self._options.towards(host))
            self._group_of[lane] = Group(math.inf)
            if self._is_foreign(host):
                self.shut(host)
        return self._lanes[host]

    def _start(self, lane: Lane, now: float) -> Visit:
        visit = lane.start(now)
        self._n_left -= 1
        (self._begun.add if len(lane) else self._begun.discard)(lane)
        self._count(visit, self._group_of[lane])
        self._queue(lane)
        return visit

    def _land(self, visit: Visit) -> Lane:
        """Take a visit out of the air."""
        self._uncount(visit)
        lane = self._lanes[visit.host]
        lane.in_flight -= 1
        return lane

    def _count(self, visit: Visit, group: Group) -> None:
        self._counted_at[visit.index] = group
        group.in_flight += 1
        self._schedule(group)

    def _uncount(self, visit: Visit) -> None:
        group = self._counted_at.pop(visit.index)
        group.in_flight -= 1
        self._schedule(group)

    def _queue(self, lane: Lane) -> None:
        """Give a lane its place in its group if it can start something."""
        group = self._group_of[lane]
        group.put(lane)
        self._schedule(group)

    def _schedule(self, group: Group) -> None:
        """Give a group its place among the others."""
        self._agenda.put(group, group.due)
