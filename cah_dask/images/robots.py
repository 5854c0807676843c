"""What robots.txt allows (RFC 9309): asked for before anything else, and believed for 24 hours."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from protego import Protego

from cah_dask.images.answers import Answer
from cah_dask.images.fetch import Fetcher
from cah_dask.images.hosts import FAILURES
from cah_dask.images.network import AGENT_NAME
from cah_dask.images.once import Once
from cah_dask.images.pace import Pause
from cah_dask.images.robotsfile import RobotsFile
from cah_dask.images.targets import Target
from cah_dask.schema import Status

_MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2: at least five should be followed
_TROUBLE_S = 10.0
_MAX_PARSED_CHARS = 2 << 20  # Protego takes up to 100 bytes of memory for each
_AGENT_LINE = re.compile(r"user[ -]?agent\s*:?\s*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one origin, for us."""

    rules: Protego | None = None
    """None allows everything."""

    def allow(self, url: str) -> bool:
        """Tell whether a url may be requested."""
        return self.rules is None or self.rules.can_fetch(url, AGENT_NAME)

    @property
    def delay_s(self) -> float:
        """Seconds between two requests that the site asks for."""
        return 0.0 if self.rules is None else self.rules.crawl_delay(AGENT_NAME) or 0.0


def rules_of(lines: str) -> Rules:
    """Return the rules that some lines of a robots.txt make."""
    return Rules(Protego.parse(lines) if lines else None)


@dataclass(frozen=True, slots=True)
class _Moved:
    location: str


class Robots:
    """The rules of all origins of one list.

    Parameters
    ----------
    fetcher
        Makes the requests.
    said
        What earlier lists of the bucket were told; what this one is told goes there. A host lives
        in one bucket, so it is asked once in 24 hours. Only a host that lists of other buckets are
        redirected to may be asked once more by each of those buckets. Where a robots.txt has moved,
        the new place is asked once for all hosts that it has moved from.
    target_of
        Reads a url, relative to another; the status says why it may not be requested.
    pause
        Holds back what redirects lead to.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        said: RobotsFile,
        target_of: Callable[[str, str | None], Target | Status],
        pause: Pause,
    ) -> None:
        self._fetcher = fetcher
        self._said = said
        self._target_of = target_of
        self._pause = pause
        self._parsed: dict[str, Rules] = {}
        self._n_chars = 0
        self._troubles: Once[str, Answer | None] = Once(self._ask)
        self._answers: Once[Target, str | Answer | _Moved] = Once(self._request)

    def known(self, origin: str) -> Rules | None:
        """Return the rules of an origin if they are at hand and not too old."""
        lines = self._said.get(origin)
        return None if lines is None else self._rules_of(lines)

    def _rules_of(self, lines: str) -> Rules:
        """Return the rules that some lines make; hosts that say the same share them."""
        if lines not in self._parsed:
            self._n_chars += len(lines)
            if self._n_chars > _MAX_PARSED_CHARS:
                self._parsed.clear()
                self._n_chars = len(lines)
            self._parsed[lines] = rules_of(lines)
        return self._parsed[lines]

    async def learn(self, origin: str) -> Answer | None:
        """Ask for the rules of an origin, which are `known` then.

        Returns
        -------
        Answer or None
            The answer that says why they cannot be had now. It is not remembered: who asks later
            has it tried again.
        """
        if self.known(origin) is not None:  # while this visit waited for an address
            return None
        trouble = await self._troubles.get(origin)
        self._troubles.forget(origin)
        return trouble

    async def _ask(self, origin: str) -> Answer | None:
        """Ask; a file that is not there allows all, a server in trouble allows nothing now.

        What is said where redirects lead holds for every place on the way. Where they lead nowhere,
        to a place that may not be asked, or too far, all is allowed.
        """
        where = self._target_of(f"{origin}/robots.txt", None)
        passed: dict[str, Target] = {}
        while isinstance(where, Target) and _place(where) not in passed:
            if self._said.get(_place(where)) is not None:
                self._said.repeat(_place(where), passed)
                return None
            if len(passed) > _MAX_REDIRECTS:
                break
            passed[_place(where)] = where
            said = await self._answers.get(where)
            if not isinstance(said, _Moved):
                return self._settle(passed, said)
            where = self._target_of(said.location, where.url)
            await self._pause.over()
        self._said.put(origin, "")
        return None

    def _settle(self, passed: dict[str, Target], said: str | Answer) -> Answer | None:
        """Remember for all places passed what was said at the last one, or hand back trouble."""
        last = next(reversed(passed))
        if isinstance(said, Answer):
            if len(passed) == 1:  # others that lead here keep out of its way for a while
                self._answers.forget(passed[last])
            return said
        self._said.put(last, said)
        self._said.repeat(last, passed)
        for where in passed.values():
            self._answers.forget(where)
        return None

    async def _request(self, where: Target) -> str | Answer | _Moved:
        answer = await self._fetcher.robots(where)
        if answer.location is not None:
            return _Moved(answer.location)
        if answer.status in FAILURES:
            asyncio.get_running_loop().call_later(_TROUBLE_S, self._answers.forget, where)
            return answer
        return relevant(answer.body) if answer.status is Status.OK else ""


def _place(where: Target) -> str:
    """Name a robots.txt: by its origin, unless it has moved away from its usual path."""
    return where.origin if where.url == f"{where.origin}/robots.txt" else where.url


def relevant(body: bytes | bytearray) -> str:
    """Return the lines that concern us: other agents lose their names, whose number can be huge."""
    lines: list[str] = []
    for raw in body.decode("utf-8-sig", errors="replace").splitlines():
        line = raw.partition("#")[0].strip()
        match = _AGENT_LINE.fullmatch(line)
        if match is None:
            lines += [line] if line else []
            continue
        agent = match[1].lower()
        is_ours = agent == "*" or (agent.strip("*") and agent.strip("*") in AGENT_NAME)
        named = f"User-agent: {agent}" if is_ours else "User-agent: -"
        if not lines or lines[-1] != named:
            lines.append(named)
    return "\n".join(lines)
