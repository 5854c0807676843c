"""Files that say what a site allows, asked for before anything else and believed for a day."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cah_dask.counts import Status
from cah_dask.images.manners.hosts import FAILURES
from cah_dask.images.manners.pause import Pause
from cah_dask.images.manners.robots_cache import RobotsFile
from cah_dask.images.web.async_cache import Once
from cah_dask.images.web.fetch import Fetcher
from cah_dask.images.web.network import AddressError
from cah_dask.images.web.request_url import Target
from cah_dask.images.web.responses import Answer

_MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2: at least five should be followed
_MAX_URL_CHARS = 2000
_TROUBLE_S = 10.0
_UNAVAILABLE = frozenset({Status.HTTP_403, Status.HTTP_404, Status.HTTP_410, Status.HTTP_4XX})
"""Statuses of a file that is not there, so that it says nothing (RFC 9309 2.3.1.3)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that sites have at one place."""

    path: str
    accept: str
    relevant: Callable[[bytes], str | None]
    """Returns what is to be kept of a text, None if it cannot be understood."""
    label: str = ""
    """Comes before the names of its places, and so tells them from those of another kind."""


@dataclass(frozen=True, slots=True)
class _Moved:
    location: str


class SiteFiles:
    """The files of one kind of all origins of one list.

    Parameters
    ----------
    kind
        Which file.
    fetcher
        Makes the requests.
    said
        What earlier lists of the bucket were told; what this one is told goes there. A host lives
        in one bucket, so it is asked once in 24 hours. Only a host that lists of other buckets are
        redirected to may be asked once more by each of those buckets. Where a file has moved, the
        new place is asked once for all hosts that it has moved from.
    target_of
        Reads a url, relative to another; the status says why it may not be requested.
    pause
        Holds back what redirects lead to.
    """

    def __init__(
        self,
        kind: Kind,
        fetcher: Fetcher,
        said: RobotsFile,
        target_of: Callable[[str, str | None], Target | Status],
        pause: Pause,
    ) -> None:
        self._kind = kind
        self._fetcher = fetcher
        self._said = said
        self._target_of = target_of
        self._pause = pause
        self._troubles: Once[str, Answer | None] = Once(self._ask)
        self._answers: Once[Target, str | Answer | _Moved] = Once(self._request)
        self._rests_until: dict[Target, float] = {}

    def known(self, origin: str) -> str | None:
        """Return what an origin says if that is at hand and not too old; empty allows all."""
        return self._said.get(self._kind.label + origin)

    async def learn(self, origin: str) -> Answer | None:
        """Ask an origin for what it says, which is `known` then.

        Returns
        -------
        Answer or None
            The answer that says why it cannot be had now. It is not remembered: who asks later has
            it tried again.
        """
        if self.known(origin) is not None:  # while this visit waited for an address
            return None
        trouble = await self._troubles.get(origin)
        self._troubles.forget(origin)
        return trouble

    async def _ask(self, origin: str) -> Answer | None:
        """Ask; a file that is not there allows all, one that cannot be read allows nothing now.

        What is said where redirects lead holds for every place on the way. More of them than are
        followed count as a file that is not there (RFC 9309 2.3.1.2).
        """
        where = self._target_of(f"{origin}{self._kind.path}", None)
        passed: list[Target] = []
        while where not in passed and len(passed) <= _MAX_REDIRECTS:
            if isinstance(where, Status):
                return Answer(Status.ROBOTS_UNREACHABLE)
            passed.append(where)
            said = await self._hear(where, is_elsewhere=len(passed) > 1)
            if isinstance(said, Answer):
                return said
            if isinstance(said, str):
                self._said.repeat(self._place(where), map(self._place, passed))
                for each in passed:
                    self._answers.forget(each)
                return None
            where = self._target_of(said.location, where.url)
        self._said.put(self._kind.label + origin, "")
        return None

    async def _hear(self, where: Target, *, is_elsewhere: bool) -> str | Answer | _Moved:
        """Return what a place says, and have it asked once for all who want to know."""
        place = self._place(where)
        if is_elsewhere and self._said.get(place) is None:
            await self._approach(where)
        known = self._said.get(place)
        if known is not None:
            return known
        said = await self._answers.get(where)
        if isinstance(said, Answer):
            self._answers.forget(where)
            if is_elsewhere:
                self._rests_until[where] = time.monotonic() + _TROUBLE_S
        elif isinstance(said, str) and self._said.get(place) is None:
            self._said.put(place, said)
        return said

    async def _approach(self, where: Target) -> None:
        """Wait until a place may be asked, which has no turn of its own: no pause, no trouble."""
        with contextlib.suppress(AddressError):
            await self._fetcher.lookup(where.host)
        await self._pause.over()
        while (rest_s := self._rests_until.get(where, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(rest_s)
            await self._pause.over()

    async def _request(self, where: Target) -> str | Answer | _Moved:
        """Ask; whatever cannot be read, and is no sign that there is no file, is an Answer."""
        answer = await self._fetcher.text(where, self._kind.accept)
        if answer.location and len(answer.location) <= _MAX_URL_CHARS:
            return _Moved(answer.location)
        if answer.status in _UNAVAILABLE:
            return ""
        if answer.status in FAILURES:
            return answer
        is_read = answer.status is Status.OK and answer.location is None
        said = self._kind.relevant(bytes(answer.body)) if is_read else None
        if said is None:
            return replace(answer, status=Status.ROBOTS_UNREACHABLE, location=None, body=b"")
        return said

    def _place(self, where: Target) -> str:
        """Name a file: by its origin, unless it has moved away from its usual path."""
        is_usual = where.url == f"{where.origin}{self._kind.path}"
        return self._kind.label + (where.origin if is_usual else where.url)
