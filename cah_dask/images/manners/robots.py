"""What a site allows: robots.txt (RFC 9309), and what is said there of training."""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from protego import Protego

from cah_dask.counts import Status
from cah_dask.directives import AGENT_NAME, EVERYONE, allows_training, product_token
from cah_dask.images.manners import tdmrep
from cah_dask.images.manners.pause import Pause
from cah_dask.images.manners.robots_cache import RobotsFile
from cah_dask.images.manners.sitefiles import Kind, SiteFiles
from cah_dask.images.manners.tdmrep import NOTHING, Reservations, reservations
from cah_dask.images.web.fetch import Fetcher, FetchOptions
from cah_dask.images.web.request_url import Target
from cah_dask.images.web.responses import Answer

PREFERENCES = ("content-signal", "content-usage")
"""Lines that say what may be done with what was fetched (Cloudflare; IETF, AIPREF)."""

_AGENT_FIELDS = frozenset({"user-agent", "useragent", "user agent"})
_AGENT_WORDS = re.compile(r"(?:user-?agent|user\s+agent)(?:\s+(.*))?", re.IGNORECASE)
# What is a rule to Protego or to us; any other line is passed over (RFC 9309 2.2.4).
_RULE = re.compile(
    r"(?:allow|diss?all?ow|diasllow|disallaw|(?:crawl-|crawl\s+)delay|(?:request-|request\s+)rate"
    r"|(?:visit-|visit\s+)time|content-(?:signal|usage)(?=\s*:))(?:\s|:|$)",
    re.IGNORECASE,
)
_PREFERENCE = re.compile(r"([a-z-]+)\s*:\s*(?:([/*]\S*)\s+)?(.*)", re.IGNORECASE)


class RobotsOptions(FetchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which files of a site are asked for what it allows."""

    obey_robots: bool = True
    """Whether robots.txt decides what may be requested; else it is not asked for."""
    respect_tdm_file: bool = False
    """Whether ``/.well-known/tdmrep.json`` decides what may be used. Off by default: it is one more
    request to every site, and few have the file; ``TDM-Reservation`` headers come with images."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one origin, for us."""

    rules: Protego | None = None
    """None allows everything."""
    training: Protego | None = None
    """Where training is allowed; None says nothing of it."""
    reserved: Reservations = NOTHING
    is_complete: bool = True
    """Whether all has been asked that is to be asked."""

    def allow(self, url: str) -> bool:
        """Tell whether a url may be requested."""
        return self.rules is None or self.rules.can_fetch(url, AGENT_NAME)

    def reserve(self, url: str) -> bool:
        """Tell whether what a url stands for may not be used."""
        is_refused = self.training is not None and not self.training.can_fetch(url, AGENT_NAME)
        return is_refused or url in self.reserved

    def refusal(self, url: str) -> Status | None:
        """Return the status of a url that need not be requested."""
        if not self.allow(url):
            return Status.ROBOTS
        return Status.OPTOUT if self.reserve(url) else None

    @property
    def delay_s(self) -> float:
        """Seconds between two requests that the site asks for."""
        return 0.0 if self.rules is None else self.rules.crawl_delay(AGENT_NAME) or 0.0


def rules_of(lines: str, preferences: Collection[str] = PREFERENCES) -> Rules:
    """Return the rules that some lines of a robots.txt make, and preferences of these names."""
    return Rules(Protego.parse(lines), _training(lines, preferences)) if lines else Rules()


def _training(lines: str, preferences: Collection[str]) -> Protego | None:
    """Read what is said of training as rules: as there, the longest path that matches counts.

    Of two lines that say different things of one path the stricter one holds.
    """
    allowed: dict[str, bool] = {}
    for line in lines.splitlines():
        found = _PREFERENCE.match(line)
        if found is None or found[1].lower() not in preferences:
            continue
        answer = allows_training(found[3])
        if answer is not None:
            path = found[2] or "/"
            allowed[path] = answer and allowed.get(path, True)
    if all(allowed.values()):
        return None
    rules = [f"{'Allow' if is_so else 'Disallow'}: {path}" for path, is_so in allowed.items()]
    return Protego.parse("\n".join(["User-agent: *", *rules]))


class Robots:
    """The rules of all origins of one list, each file of an origin asked for by itself.

    Parameters
    ----------
    options
        Which files are asked for, and what of them is respected.
    fetcher, said, target_of, pause
        See `SiteFiles`.
    """

    def __init__(
        self,
        options: RobotsOptions,
        fetcher: Fetcher,
        said: RobotsFile,
        target_of: Callable[[str, str | None], Target | Status],
        pause: Pause,
    ) -> None:
        self._options = options
        self._txt = SiteFiles(_ROBOTS_TXT, fetcher, said, target_of, pause)
        self._tdm = SiteFiles(_TDMREP, fetcher, said, target_of, pause)
        respected = (options.respect_content_signal, options.respect_content_usage)
        self._preferences = frozenset(itertools.compress(PREFERENCES, respected))
        self._rules: dict[tuple[str, str | None], Rules] = {}

    def known(self, origin: str) -> Rules | None:
        """Return the rules of an origin if its robots.txt is at hand and not too old."""
        lines = self._txt.known(origin) if self._options.obey_robots else ""
        if lines is None:
            return None
        rules = self._made(lines, "")
        if not self._options.respect_tdm_file or not rules.allow(origin + tdmrep.PATH):
            return rules
        return self._made(lines, self._tdm.known(origin))

    async def learn(self, origin: str) -> Answer | None:
        """Ask an origin for the next file that is not known; see `SiteFiles.learn`."""
        files = self._txt if self.known(origin) is None else self._tdm
        return await files.learn(origin)

    def _made(self, lines: str, reserved: str | None) -> Rules:
        """Return the rules that two files make; many hosts may say the same."""
        rules = self._rules.get((lines, reserved))
        if rules is None:
            rules = replace(
                rules_of(lines, self._preferences),
                reserved=reservations(reserved or ""),
                is_complete=reserved is not None,
            )
            self._rules[lines, reserved] = rules
        return rules


def _agent_of(line: str) -> str | None:
    """Return the agent that a line names, as Protego reads it: with or without a colon."""
    field, colon, value = line.partition(":")
    if colon and field.strip().lower() in _AGENT_FIELDS:
        return value
    if colon and not value[:1].strip():
        return None
    words = _AGENT_WORDS.fullmatch(line)
    return None if words is None else words[1] or ""


def relevant(body: bytes | bytearray) -> str:
    """Return the lines that concern us, as the only group of a robots.txt; empty if there are none.

    They are those of all groups that name our product token, or else of all groups for everyone
    (RFC 9309 2.2.1). A group ends where an agent follows a rule, be it a `Crawl-delay` or what is
    said of training; other lines do not part its agents.
    """
    lines: defaultdict[str, list[str]] = defaultdict(list)
    agents: set[str] = set()
    has_rules = False
    for raw in body.decode("utf-8-sig", errors="replace").splitlines():
        line = raw.partition("#")[0].strip()
        agent = _agent_of(line)
        if agent is None:
            has_rules = has_rules or _RULE.match(line) is not None
            for each in agents if line else ():
                lines[each].append(line)
            continue
        if has_rules:
            agents, has_rules = set(), False
        token = product_token(agent)
        if token in (AGENT_NAME, EVERYONE):
            agents.add(token)
            lines[token] += []  # a group that names us counts without rules, too
    ours = lines.get(AGENT_NAME, lines.get(EVERYONE, []))
    return "\n".join(["User-agent: *", *ours]) if ours else ""


_ROBOTS_TXT = Kind("/robots.txt", "text/plain, */*;q=0.1", relevant)
_TDMREP = Kind(tdmrep.PATH, "application/json, */*;q=0.1", tdmrep.relevant, label="tdm ")
