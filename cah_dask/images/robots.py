"""What robots.txt allows (RFC 9309): asked once per origin and list, before anything else."""

import re
from dataclasses import dataclass

from protego import Protego

from cah_dask.images.answers import Answer
from cah_dask.images.fetch import Fetcher
from cah_dask.images.hosts import FAILURES
from cah_dask.images.network import AGENT_NAME
from cah_dask.images.once import Once
from cah_dask.images.targets import Target, target
from cah_dask.schema import Status

_MAX_REDIRECTS = 5
_AGENT_LINE = re.compile(r"\s*user[ -]?agent\s*:?\s*(.*?)\s*(#.*)?", re.IGNORECASE)


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


class Robots:
    """The rules of all origins of one list."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._rules: Once[Rules | Answer] = Once(self._load)

    def known(self, origin: str) -> Rules | None:
        """Return the rules of an origin if they are at hand."""
        rules = self._rules.known(origin)
        return rules if isinstance(rules, Rules) else None

    async def rules(self, origin: str) -> Rules | Answer:
        """Return the rules of an origin, or the answer that says why they cannot be had now.

        That answer is not remembered: who asks later has it tried again.
        """
        rules = await self._rules.get(origin)
        if isinstance(rules, Answer):
            self._rules.forget(origin)
        return rules

    async def _load(self, origin: str) -> Rules | Answer:
        """Ask; a file that is not there allows all, a server in trouble allows nothing now."""
        where: Target | Status = target(f"{origin}/robots.txt", self._fetcher.guard)
        for _ in range(1 + _MAX_REDIRECTS):
            if isinstance(where, Status):
                break
            answer = await self._fetcher.robots(where)
            if answer.location is None:
                return _rules(answer)
            where = target(answer.location, self._fetcher.guard, base=where.url)
        return Rules()


def _rules(answer: Answer) -> Rules | Answer:
    if answer.status is Status.OK:
        return Rules(parse(answer.body))
    return answer if answer.status in FAILURES else Rules()


def parse(body: bytes) -> Protego:
    """Parse what concerns us; groups of other agents are left out, as their number can be huge."""
    lines = []
    for line in body.decode("utf-8-sig", errors="replace").splitlines():
        match = _AGENT_LINE.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        agent = match[1].lower()
        is_ours = agent == "*" or (agent.strip("*") and agent.strip("*") in AGENT_NAME)
        named = f"User-agent: {agent}" if is_ours else "User-agent: -"
        if not lines or lines[-1] != named:
            lines.append(named)
    return Protego.parse("\n".join(lines))
