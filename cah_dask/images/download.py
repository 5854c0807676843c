"""A fetch list -> an image shard and the outcome of every url.

fetch -> decode -> shard, for thousands of hosts at once in one event loop. The order and the pace
of requests are the business of `hosts`; here each visit is carried from its turn to its outcome.
What is kept depends on the answers of the web, never on their order: images are laid out in the
order of the list.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pyarrow as pa

from cah_dask.candidates.exclusion import Exclusion
from cah_dask.errors import InputError
from cah_dask.images.answers import Answer
from cah_dask.images.decode import DecodeOptions
from cah_dask.images.decoders import Decoders, Task, Verdict
from cah_dask.images.fetch import Fetcher, FetchOptions
from cah_dask.images.frontier import Frontier
from cah_dask.images.hashlists import HashLists, load_hash_lists
from cah_dask.images.hosts import RETRYABLE, HostOptions, Visit
from cah_dask.images.ledger import Alarm, Ledger, Outcome, judged, outcome
from cah_dask.images.network import AddressError, check_network
from cah_dask.images.pace import Budget, Pace, Pause
from cah_dask.images.requestlog import RequestLog
from cah_dask.images.robots import Robots, Rules
from cah_dask.images.robotsfile import RobotsFile
from cah_dask.images.shards import ShardWriter
from cah_dask.images.targets import Target, target
from cah_dask.schema import Counts, Status

_RETRY_GROWTH = 4


class DownloadOptions(FetchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a fetch list is downloaded."""

    crawl: Literal["forbidden", "ask", "allowed"] = "ask"
    """Whether the site lets you crawl the web from its machines. With `ask`, a run at a site (Slurm
    or a site file) does not start: ask, then say `allowed`. What a site forbids stays forbidden."""
    hosts: HostOptions = HostOptions()
    """Manners towards one host."""
    obey_robots: bool = True
    """Whether robots.txt decides what may be requested."""
    max_redirects: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Redirects followed for one url."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Further tries of a url where one can help (names, connections, timeouts, 429, 5xx)."""
    retry_delay_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    """Seconds before the first further try; four times as long before each one after it."""
    requests_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Requests a second of the whole run, robots.txt included; each download that may be in flight
    has an equal share. A host is given up after `hosts.max_time_s`, however small the share."""
    bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Bytes a second that the whole run may receive, in bodies; shared likewise."""
    connections: Annotated[int, msgspec.Meta(ge=1)] = 256
    """Urls of one list in the works at the same time."""
    decoders: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Processes that decode for one list."""
    decode_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Seconds to decode one image before its decoder is killed."""
    hash_lists: tuple[str, ...] = ()
    """Files of md5, sha1 or sha256 digests or perceptual hashes (hex, one a line, gzipped or not)
    of images that may never be stored, whoever serves them."""
    phash_distance: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Bits of 64 in which a perceptual hash may differ from a listed one and still match it."""
    alarm_hosts: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Hosts of a list that must have been tried before the alarm may stop the run."""
    alarm_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """The alarm stops the run when a smaller share of them gave any image; 0 switches it off."""
    alarm_dns_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    """It also stops the run when a larger share of them ended in dns_error, as the resolver cannot
    keep up then; 1 switches this off. Names that do not exist (dns_not_found) do not count."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What became of one fetch list."""

    outcomes: pa.Table
    """`schema.OUTCOMES`, one row per url, in the order given."""
    counts: Counts
    """Urls: kept are ok, rejected are by status; notes count requests, bytes and tries."""


def check_options(options: DownloadOptions) -> None:
    """Raise ConfigError, in one clear line, for options no download may start with."""
    check_network(options)
    for path in options.hash_lists:
        if not Path(path).is_file():
            raise InputError(f"download.hash_lists: {path} does not exist")


def download_list(  # noqa: PLR0913  who else is at work belongs to the run, not to its options
    urls: Sequence[str],
    shard: Path,
    options: DownloadOptions,
    decode: DecodeOptions,
    *,
    exclusion: Exclusion | None = None,
    pause_file: Path | None = None,
    lists_at_once: int = 1,
    request_log: Path | None = None,
    robots_file: Path | None = None,
) -> Downloaded:
    """Download one fetch list, write its image shard, and say what became of every url.

    Runs an event loop of its own, so call it from any thread that has none.

    Parameters
    ----------
    urls
        Distinct urls.
    shard
        Where to write the image shard: a temporary name, published by the caller. Its images are
        in the order of `urls`.
    exclusion
        Hosts that may not be asked, be it by a redirect (optout), and md5s of images that may
        never be stored (hash_listed); the other lists have done their work before the download.
    pause_file
        While this file exists no new request is made; looked at once a second.
    lists_at_once
        As many lists may be in flight in the whole run: this one has such a share of its budgets
        and of its requests to one address.
    request_log
        Where to write down every request (`schema.REQUESTS`), also when the download fails.
    robots_file
        What earlier lists of the bucket were told by robots.txt (`schema.ROBOTS`), if there were
        any: it is read, and replaced at the end, also when the download fails.

    Raises
    ------
    ConfigError
        If the options are not fit for a download, or a hash list cannot be read.
    RunError
        If so few hosts give an image, or so many have no name, that the fault must be on our side;
        the disk is full, or this process may not open more files.
    """
    check_options(options)
    options = msgspec.structs.replace(options, hosts=options.hosts.share(lists_at_once))
    pace = Pace(
        Pause(pause_file),
        Budget(options.requests_per_s, lists_at_once),
        Budget(options.bytes_per_s, lists_at_once),
    )
    log = None if request_log is None else RequestLog(request_log)
    with (
        log or contextlib.nullcontext(),
        RobotsFile(robots_file) as robots,
        ShardWriter(shard) as writer,
    ):
        ledger = Ledger(urls)
        listed = load_hash_lists(options.hash_lists)
        distance = options.phash_distance
        work = _Work(urls, ledger, writer, robots, exclusion or Exclusion(), listed, distance)
        notes = asyncio.run(_download(work, options, decode, pace, log))
        writer.arrange(ledger.arrivals)
    return Downloaded(ledger.table(), ledger.counts(notes))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done, and where the results go."""

    urls: Sequence[str]
    ledger: Ledger
    writer: ShardWriter
    robots: RobotsFile
    exclusion: Exclusion
    listed: HashLists
    phash_distance: int

    def is_listed(self, verdict: Verdict) -> bool:
        """Tell whether a list forbids to store what was received."""
        phash = None if verdict.picture is None else verdict.picture.phash
        return (
            self.exclusion.excludes_image(bytes.fromhex(verdict.md5))
            or self.listed.match(md5=verdict.md5, sha1=verdict.sha1, sha256=verdict.sha256)
            or (phash is not None and self.listed.resembles(phash, self.phash_distance))
        )


async def _download(
    work: _Work,
    options: DownloadOptions,
    decode: DecodeOptions,
    pace: Pace,
    log: RequestLog | None,
) -> dict[str, int]:
    takes_phash = decode.phash or work.listed.with_phash
    decoders = Decoders(
        Task(msgspec.structs.replace(decode, phash=takes_phash), work.listed.with_sha1),
        processes=options.decoders,
        timeout_s=options.decode_timeout_s,
    )
    async with decoders, Fetcher(options, pace, log) as fetcher:
        await _Crawl(work, options, decoders, fetcher, pace).run()
    return {"requests": fetcher.n_requests, "bytes": fetcher.n_bytes}


class _Crawl:
    """Carries the visits of one list, each from its turn to its outcome."""

    def __init__(
        self,
        work: _Work,
        options: DownloadOptions,
        decoders: Decoders,
        fetcher: Fetcher,
        pace: Pace,
    ) -> None:
        self._work = work
        self._ledger = work.ledger
        self._options = options
        self._decoders = decoders
        self._fetcher = fetcher
        self._robots = Robots(fetcher, work.robots)
        self._frontier = Frontier(self._visits(), options.hosts)
        self._alarm = Alarm(
            options.alarm_hosts,
            min_share=options.alarm_share,
            max_dns_share=options.alarm_dns_share,
            nameservers=options.nameservers,
        )
        self._slots = asyncio.Semaphore(options.connections)
        self._changed = asyncio.Event()
        self._pace = pace

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
        if isinstance(where, Target) and self._work.exclusion.excludes_host(where.host):
            return Status.OPTOUT
        return where

    def _now(self) -> float:
        return self._pace.pause.now()

    async def run(self) -> None:
        """Carry all visits; return when every url has its outcome.

        The next list may begin with the host that this one ends with: keep the distance for it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                while not self._frontier.is_done:
                    await self._slots.acquire()
                    await asyncio.sleep(self._pace.requests.charge(1))
                    await self._pace.pause.wait()
                    visit = self._frontier.take(self._now())
                    if visit is None:
                        self._slots.release()
                        self._pace.requests.charge(-1)
                        await self._wait_for_change()
                    else:
                        group.create_task(self._carry(visit))
        except ExceptionGroup as error:
            raise error.exceptions[0] from error
        await asyncio.sleep(self._frontier.keeps_away_until - self._now())

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
        rules = self._robots.known(where.origin) if self._options.obey_robots else Rules()
        try:
            if rules is not None:
                self._frontier.slow_down(where.host, rules.delay_s)
                if not rules.allow(where.url):
                    return Answer(Status.ROBOTS)
            addresses = await self._fetcher.lookup(where.host)
        except AddressError as error:
            return Answer(error.status)
        finally:  # what `run` has charged; from here on each request is charged when it is sent
            self._pace.requests.charge(-1)
        if self._pace.pause.is_set():
            self._frontier.put_back(visit)
            return None
        if not self._frontier.bind(visit, addresses[0], self._now()):
            return None
        if rules is None:
            return await self._learn_rules(visit)
        keep = self._frontier.keeps_connection(visit, self._options.connections)
        return await self._fetcher.image(where, keep_connection=keep)

    async def _learn_rules(self, visit: Visit) -> Answer | None:
        """Ask for robots.txt; that was a request, so the visit has had its turn."""
        trouble = await self._robots.learn(visit.target.origin)
        if trouble is None:
            self._frontier.put_back(visit)
        return trouble

    def _settle(self, visit: Visit, answer: Answer) -> bool:
        """Do what an answer asks for; True says that its body is an image to be kept.

        Nothing here waits: between a release and what follows from it the frontier may look done.
        """
        if answer.status is Status.ROBOTS:
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
        if not self._ledger.has(visit.index):
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
        self._fetcher.forget(answer.body)
        if self._work.is_listed(verdict):
            verdict = msgspec.structs.replace(verdict, status=Status.HASH_LISTED, picture=None)
        row = None if verdict.picture is None else self._work.writer.add(verdict.picture.data)
        result = judged(outcome(visit, answer), verdict, len(answer.body))
        self._ledger.record(visit.index, result, row)
        self._alarm.note(visit.start.host, result.status)

    def _record(self, visit: Visit, answer: Answer, *, is_last: bool = True) -> None:
        self._ledger.record(visit.index, outcome(visit, answer))
        self._alarm.note(visit.start.host, answer.status, is_last=is_last)
