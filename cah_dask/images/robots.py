"""What robots.txt allows (RFC 9309): asked for before anything else, and believed for 24 hours."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from protego import Protego

from cah_dask.images.answers import Answer
from cah_dask.images.fetch import Fetcher
from cah_dask.images.hosts import FAILURES, NOWHERE
from cah_dask.images.network import AGENT_NAME, AddressError
from cah_dask.images.once import Once
from cah_dask.images.pace import Pause
from cah_dask.images.robotsfile import RobotsFile
from cah_dask.images.targets import Target
from cah_dask.schema import Status

_MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2: at least five should be followed
_MAX_URL_CHARS = 2000
_TROUBLE_S = 10.0
_RULE_LINE = re.compile(r"(dis)?allow\s*:", re.IGNORECASE)
_AGENT_FIELDS = frozenset({"user-agent", "useragent", "user agent"})
_AGENT_WORDS = re.compile(r"(?:user-?agent|user\s+agent)(?:\s+(.*))?", re.IGNORECASE)


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


_NOWHERE = _Moved("")
"""A redirect to itself, which is not followed."""


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
        self._rules: dict[str, Rules] = {}
        self._troubles: Once[str, Answer | None] = Once(self._ask)
        self._answers: Once[Target, str | Answer | _Moved] = Once(self._request)
        self._rests_until: dict[Target, float] = {}

    def known(self, origin: str) -> Rules | None:
        """Return the rules of an origin if they are at hand and not too old."""
        lines = self._said.get(origin)
        if lines is None:
            return None
        if lines not in self._rules:  # many hosts may say the same
            self._rules[lines] = rules_of(lines)
        return self._rules[lines]

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
        passed: list[Target] = []
        while isinstance(where, Target) and where not in passed and len(passed) <= _MAX_REDIRECTS:
            passed.append(where)
            said = await self._hear(where, is_elsewhere=len(passed) > 1)
            if isinstance(said, Answer):
                return said
            if isinstance(said, str):
                self._said.repeat(_place(where), map(_place, passed))
                for each in passed:
                    self._answers.forget(each)
                return None
            where = self._target_of(said.location, where.url)
        self._said.put(origin, "")
        return None

    async def _hear(self, where: Target, *, is_elsewhere: bool) -> str | Answer | _Moved:
        """Return what a place says, and have it asked once for all who want to know."""
        place = _place(where)
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
        answer = await self._fetcher.robots(where)
        if answer.status in NOWHERE:
            return _NOWHERE
        if answer.location is not None:
            is_short = len(answer.location) <= _MAX_URL_CHARS
            return _Moved(answer.location) if is_short else _NOWHERE
        if answer.status in FAILURES:
            return answer
        return relevant(answer.body) if answer.status is Status.OK else ""


def _place(where: Target) -> str:
    """Name a robots.txt: by its origin, unless it has moved away from its usual path."""
    return where.origin if where.url == f"{where.origin}/robots.txt" else where.url


def _agent_of(line: str) -> str | None:
    """Return the agent that a line names, as Protego reads it: with or without a colon."""
    field, colon, value = line.partition(":")
    if colon and field.strip().lower() in _AGENT_FIELDS:
        return value.strip().lower()
    if colon and not value[:1].strip():
        return None
    words = _AGENT_WORDS.fullmatch(line)
    return None if words is None else (words[1] or "").lower()


def relevant(body: bytes | bytearray) -> str:
    """Return the lines that concern us: other agents lose their names and their rules.

    A group ends where an agent follows a rule; of several agents in a group one may be us.
    """
    lines: list[str] = []
    is_ours = has_rules = False
    for raw in body.decode("utf-8-sig", errors="replace").splitlines():
        line = raw.partition("#")[0].strip()
        agent = _agent_of(line)
        if agent is None:
            has_rules = has_rules or _RULE_LINE.match(line) is not None
            lines += [line] if line and is_ours else []
            continue
        names_us = bool(agent == "*" or (agent.strip("*") and agent.strip("*") in AGENT_NAME))
        is_ours = names_us or (is_ours and not has_rules)
        has_rules = False
        named = f"User-agent: {agent}" if names_us else "User-agent: -"
        if not lines or lines[-1] != named:
            lines.append(named)
    return "\n".join(lines)
