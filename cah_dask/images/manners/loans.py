"""A list's own side of `turns`: which of its hosts it may ask now, and which it gives back.

The lanes of hosts that others want, too, are shut until they are granted. A host that was granted
is given back when nothing waits for it any more, or when it was had for a while and others wait.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from cah_dask.candidates.dedup import host_bucket
from cah_dask.images.manners.frontier import Frontier
from cah_dask.images.manners.turns import SILENCE_S, Notice, Reply

logger = logging.getLogger(__name__)

Exchange: TypeAlias = Callable[[Notice], Awaitable[Reply]]
"""Brings a notice to the `Turns` of the run, and its reply back; any exception says that it could
not."""

PERIOD_S = 1.0
"""Seconds between two notices while there is something to say."""
QUIET_S = 5.0
"""Seconds between them while there is nothing."""
SLICE_S = 10.0
"""Seconds that a list may go on with a host that others wait for."""


class Loans:
    """What one list has of the hosts that several lists lead to.

    Parameters
    ----------
    name
        Of this attempt at the list, different from all others.
    bucket, buckets
        The host bucket of the list, and how many there are.
    """

    def __init__(self, exchange: Exchange, name: str, *, bucket: int, buckets: int) -> None:
        self._exchange = exchange
        self._name = name
        self._bucket = bucket
        self._buckets = buckets
        self._had_since: dict[str, float] = {}
        self._returns: dict[str, float] = {}
        self._heard_at = 0.0

    def is_foreign(self, host: str) -> bool:
        """Tell whether a host is one of another bucket, so that it must be lent first."""
        return host_bucket(host, self._buckets) != self._bucket

    @contextlib.asynccontextmanager
    async def kept(
        self, frontier: Frontier, now: Callable[[], float], changed: asyncio.Event
    ) -> AsyncIterator[None]:
        """Open and shut the lanes of `frontier` as the driver says, from before the first request.

        Parameters
        ----------
        now
            The clock of the frontier.
        changed
            Is set whenever lanes may have been opened.
        """
        await self._speak([], frontier, now)
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep(frontier, now, changed))
            try:
                yield
            finally:
                keeper.cancel()
                with contextlib.suppress(Exception):
                    notice = Notice(self._name, self._bucket, [], {}, is_last=True)
                    await asyncio.wait_for(self._exchange(notice), PERIOD_S)

    async def _keep(
        self, frontier: Frontier, now: Callable[[], float], changed: asyncio.Event
    ) -> None:
        while True:
            wants = [host for host in frontier.shut_hosts if frontier.waits_for(host)]
            await self._speak(wants, frontier, now)
            changed.set()
            is_busy = wants or self._had_since or self._returns
            await asyncio.sleep(PERIOD_S if is_busy else QUIET_S)

    async def _speak(self, wants: list[str], frontier: Frontier, now: Callable[[], float]) -> None:
        self._give_back(frontier, now())
        try:
            reply = await self._exchange(Notice(self._name, self._bucket, wants, self._returns))
        except Exception as error:  # noqa: BLE001  whatever the way to the driver meets
            logger.warning("hosts of several lists: the driver does not answer: %r", error)
            if now() - self._heard_at > SILENCE_S / 2:
                self._shut_all(frontier)
            return
        self._heard_at = now()
        self._returns = {}
        self._heed(reply, frontier, now())

    def _give_back(self, frontier: Frontier, now: float) -> None:
        for host in list(self._had_since):
            is_idle = not frontier.is_in_flight(host)
            if is_idle and (host in frontier.shut_hosts or not frontier.waits_for(host)):
                frontier.shut(host)
                self._returns[host] = frontier.rests_for(host, now)
                del self._had_since[host]

    def _heed(self, reply: Reply, frontier: Frontier, now: float) -> None:
        for host in reply.granted:
            self._had_since[host] = now
            frontier.open(host)
        for host in reply.wanted:
            if now - self._had_since.setdefault(host, now - SLICE_S) >= SLICE_S:
                frontier.shut(host)  # what is in flight ends; then it is given back
        for host in reply.taken:
            frontier.shut(host)

    def _shut_all(self, frontier: Frontier) -> None:
        """Ask nothing of lent hosts: whoever lends them may take this list for dead."""
        for host in self._had_since:
            frontier.shut(host)
