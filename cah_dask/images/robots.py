"""What robots.txt allows (RFC 9309): asked once per origin in 24 hours, before anything else."""

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

_MAX_REDIRECTS = 5
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


class Robots:
    """The rules of all origins of one list.

    Parameters
    ----------
    fetcher
        Makes the requests.
    said
        What earlier lists of the bucket were told; what this one is told goes there. A host lives
        in one bucket, so it is asked once in 24 hours. Only a host that lists of other buckets are
        redirected to may be asked once more by each of those buckets.
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
        self._answers: Once[Answer | None] = Once(self._ask)

    def known(self, origin: str) -> Rules | None:
        """Return the rules of an origin if they are at hand and not too old."""
        lines = self._said.get(origin)
        if lines is None:
            return None
        if origin not in self._rules:
            self._rules[origin] = rules_of(lines)
        return self._rules[origin]

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
        answer = await self._answers.get(origin)
        self._answers.forget(origin)
        return answer

    async def _ask(self, origin: str) -> Answer | None:
        lines = await self._load(origin)
        if isinstance(lines, Answer):
            return lines
        self._rules.pop(origin, None)
        self._said.put(origin, lines)
        return None

    async def _load(self, origin: str) -> str | Answer:
        """Ask; a file that is not there allows all, a server in trouble allows nothing now."""
        where = self._target_of(f"{origin}/robots.txt", None)
        for _ in range(1 + _MAX_REDIRECTS):
            if isinstance(where, Status):
                break
            answer = await self._fetcher.robots(where)
            if answer.location is None:
                return _lines(answer)
            where = self._target_of(answer.location, where.url)
            await self._pause.over()
        return ""


def _lines(answer: Answer) -> str | Answer:
    if answer.status is Status.OK:
        return relevant(answer.body)
    return answer if answer.status in FAILURES else ""


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
