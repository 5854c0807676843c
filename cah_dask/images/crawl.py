"""The visits of one list, each carried from its turn to its outcome, in one event loop.

The order and the pace of requests are the business of `frontier` and `hosts`.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from cah_dask.counts import Status
from cah_dask.images.alarm import Alarm
from cah_dask.images.manners.frontier import Frontier
from cah_dask.images.manners.hosts import RETRYABLE, Visit
from cah_dask.images.manners.loans import Loans
from cah_dask.images.manners.pause import Pause
from cah_dask.images.manners.robots import Robots
from cah_dask.images.manners.robots_cache import RobotsFile
from cah_dask.images.options import DownloadOptions
from cah_dask.images.outcomes import Ledger, Outcome, judged, outcome
from cah_dask.images.picture.decoders import Decoders
from cah_dask.images.picture_rules import PictureRules
from cah_dask.images.shard_queue import Backlog
from cah_dask.images.shards import ShardWriter
from cah_dask.images.web.fetch import Fetcher
from cah_dask.images.web.network import AddressError
from cah_dask.images.web.request_url import Target, target
from cah_dask.images.web.responses import Answer

_RETRY_GROWTH = 4
_UNASKED = frozenset({Status.ROBOTS, Status.OPTOUT})
"""Statuses of urls that what their site says keeps from being requested."""
_DISK_S = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, and where the results go."""

    urls: Sequence[str]
    ledger: Ledger
    writer: ShardWriter
    robots: RobotsFile
    rules: PictureRules


class Crawl:
    """Carries the visits of one list, each from its turn to its outcome."""

    def __init__(
        self,
        work: Work,
        options: DownloadOptions,
        decoders: Decoders,
        fetcher: Fetcher,
        pause: Pause,
        loans: Loans | None = None,
    ) -> None:
        self._work = work
        self._ledger = work.ledger
        self._options = options
        self._decoders = decoders
        self._fetcher = fetcher
        self._robots = Robots(options, fetcher, work.robots, self._target, pause)
        self._frontier = Frontier(
            self._visits(), options.hosts, loans.is_foreign if loans else lambda _: False
        )
        self._loans = loans
        self._alarm = Alarm(
            options.alarm_hosts,
            min_share=options.alarm_share,
            max_dns_share=options.alarm_dns_share,
            nameservers=options.nameservers,
        )
        self._slots = asyncio.Semaphore(options.connections)
        self._changed = asyncio.Event()
        self._pause = pause
        self._backlog = Backlog(work.writer)

    def _visits(self) -> Iterator[Visit]:
        for index, url in enumerate(self._work.urls):
            start = self._target(url)
            if isinstance(start, Status):
                self._ledger.record(index, Outcome(start, attempts=0))
            else:
                yield Visit(index, start, start)

    def _target(self, url: str, base: str | None = None) -> Target | Status:
        """Read a url; the status says why it may not be requested."""
        where = target(url, self._fetcher.guard, base)
        if isinstance(where, Target) and self._work.rules.exclusion.excludes_host(where.host):
            return Status.OPTOUT
        return where

    def _now(self) -> float:
        return self._pause.now()

    async def run(self) -> None:
        """Carry all visits; return when every url has its outcome.

        The next list may begin with the host that this one ends with: keep the distance for it.
        """
        try:
            with self._backlog:
                await self._carry_all()
        except ExceptionGroup as error:
            raise error.exceptions[0] from error
        await asyncio.sleep(self._frontier.keeps_away_until - self._now())

    @contextlib.asynccontextmanager
    async def _lent_hosts(self) -> AsyncIterator[None]:
        """Share hosts with the other lists of the run, if there are any."""
        if self._loans is None:
            yield
            return
        async with self._loans.kept(self._frontier, self._now, self._changed):
            yield

    async def _carry_all(self) -> None:
        async with self._lent_hosts(), asyncio.TaskGroup() as group:
            while not self._frontier.is_done:
                await self._slots.acquire()
                await asyncio.sleep(self._fetcher.budgets.requests.charge(1))
                await self._pause.wait()
                visit = self._frontier.take(self._now())
                if visit is None:
                    self._slots.release()
                    self._fetcher.budgets.requests.charge(-1)
                    await self._wait_for_change()
                else:
                    group.create_task(self._carry(visit))

    async def _wait_for_change(self) -> None:
        """Return when a visit has been released, or some host may be asked again."""
        if self._frontier.is_done:  # the last release came while a slot was waited for
            return
        wakes_at = self._frontier.wakes_at
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if wakes_at == math.inf else wakes_at - self._now()):
                await self._changed.wait()

    async def _carry(self, visit: Visit) -> None:
        try:
            answer = await self._ask(visit)
            self._changed.set()
            if answer is not None and self._settle(visit, answer):
                await self._keep(visit, answer)
        finally:
            self._slots.release()

    async def _ask(self, visit: Visit) -> Answer | None:
        """Make the request; None says that the visit was put back to wait for another turn."""
        where = visit.target
        rules = self._robots.known(where.origin)
        try:
            if rules is not None:
                self._frontier.slow_down(where.host, rules.delay_s)
                if (refusal := rules.refusal(where.url)) is not None:
                    return Answer(refusal)
            addresses = await self._fetcher.lookup(where.host)
        except AddressError as error:
            return Answer(error.status)
        finally:  # what `run` has charged; from here on each request is charged when it is sent
            self._fetcher.budgets.requests.charge(-1)
        if self._pause.is_set() or self._frontier.verdict(where.host) is not None:
            self._put_back(visit)
            return None
        if not self._frontier.bind(visit, addresses[0], self._now()):
            return None
        if rules is None or not rules.is_complete:
            answer = await self._learn_rules(visit)
        else:
            keep = self._frontier.keeps_connection(visit, self._options.connections)
            answer = await self._fetcher.image(where, keep_connection=keep)
        if answer is not None and answer.is_stale:
            self._put_back(visit)
            return None
        return answer

    async def _learn_rules(self, visit: Visit) -> Answer | None:
        """Ask for what its site allows; that was a request, so the visit has had its turn."""
        trouble = await self._robots.learn(visit.target.origin)
        if trouble is None:
            self._put_back(visit)
        return trouble

    def _put_back(self, visit: Visit) -> None:
        """Have a visit wait for another turn, unless its host has been given up meanwhile."""
        if self._frontier.verdict(visit.host) is None:
            self._frontier.put_back(visit)
        else:
            self._frontier.skip(visit, self._now())
            self._give_up(visit)

    def _settle(self, visit: Visit, answer: Answer) -> bool:
        """Do what an answer asks for; True says that its body is an image to be kept.

        Nothing here waits: between a release and what follows from it the frontier may look done.
        """
        if answer.status in _UNASKED and answer.http_status is None:
            self._frontier.skip(visit, self._now())
        else:
            self._release(visit, answer)
        if answer.location is not None:
            self._follow(visit, answer)
        elif answer.status is not Status.OK:
            self._record(visit, answer, is_last=not self._try_again(visit, answer))
        return answer.status is Status.OK and answer.location is None

    def _release(self, visit: Visit, answer: Answer) -> None:
        dropped = self._frontier.release(
            visit,
            self._now(),
            status=answer.status,
            seconds=answer.seconds,
            pause_s=answer.pause_s,
        )
        for other in dropped:
            self._give_up(other)

    def _give_up(self, visit: Visit) -> None:
        """Record that a host was given up, unless a first try of the url says more."""
        if self._ledger.has(visit.index):
            self._ledger.settle(visit.index)
        else:
            status = self._frontier.verdict(visit.host) or Status.HOST_SUSPENDED
            self._ledger.record(visit.index, Outcome(status, attempts=visit.attempts - 1))

    def _follow(self, visit: Visit, answer: Answer) -> None:
        """Queue the next hop of a redirect at its host."""
        where = self._target(answer.location or "", base=visit.target.url)
        if where is Status.BAD_URL or not answer.location:
            self._record(visit, replace(answer, status=Status.REDIRECT_INVALID))
        elif isinstance(where, Status):
            self._record(visit, replace(answer, status=where))
        elif visit.hops == self._options.max_redirects:
            self._record(visit, replace(answer, status=Status.REDIRECT_LIMIT))
        else:
            visit.target = where
            visit.hops += 1
            if not self._frontier.add(visit):
                self._give_up(visit)

    def _try_again(self, visit: Visit, answer: Answer) -> bool:
        """Queue another try if one can help; the outcome so far stands until then."""
        if answer.status not in RETRYABLE or visit.attempts > self._options.retries:
            return False
        delay_s = self._options.retry_delay_s * _RETRY_GROWTH ** (visit.attempts - 1)
        again = Visit(visit.index, visit.start, visit.start, attempts=visit.attempts + 1)
        return self._frontier.add(again, self._now() + delay_s)

    async def _keep(self, visit: Visit, answer: Answer) -> None:
        """Decode a body, and store the picture if it is one and no list names it."""
        verdict = await self._decoders.judge(answer.body)
        verdict = self._work.rules.applied(self._work.urls[visit.index], verdict)
        row = None if verdict.picture is None else await self._store(verdict.picture.data)
        self._fetcher.forget(answer.body)
        result = judged(outcome(visit, answer), verdict, len(answer.body))
        self._ledger.record(visit.index, result, row)
        self._alarm.note(visit.start.host, result.status)

    async def _store(self, data: bytes) -> int:
        while self._backlog.is_full:  # noqa: ASYNC110  a disk sends no event
            await asyncio.sleep(_DISK_S)
        return self._backlog.add(data)

    def _record(self, visit: Visit, answer: Answer, *, is_last: bool = True) -> None:
        self._ledger.record(visit.index, outcome(visit, answer), is_last=is_last)
        is_of_host = visit.hops == 0  # not of one that it redirects to
        self._alarm.note(visit.start.host, answer.status, is_last=is_last and is_of_host)
