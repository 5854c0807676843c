"""What a site says about the use of a page or an image: one reader for both.

Robots directives are those of ``X-Robots-Tag`` headers and robots metas, in whatever way their
writers separate them. What one writes about training is a line of robots.txt or a header.
"""

import re
from collections.abc import Iterator

AGENT_NAME = "cah-dask"
"""Our product token: what robots.txt and directives call us."""

AGENTS = frozenset({AGENT_NAME, "ccbot"})
"""Names under which a directive means us: our own, and Common Crawl's, whose copy we read."""

EVERYONE = "*"

_TO_ALL = frozenset({EVERYONE, "robots"})
_SEPARATORS = re.compile(r"[\s,;\"']+")
# All that follows takes time in proportion to a value, whatever it repeats: possessive quantifiers,
# and nothing that begins again in the middle of a word.
_COMMENT = re.compile(r"\([^()]*+\)")  # of an agent that was copied from a log
# The value of a directive is none itself: `max-image-preview: none` reserves nothing.
_VALUED = re.compile(r"(?<![a-z-])(?:unavailable[_-]after|max-[a-z-]++)\s*+[:=]\s*+[^\s,;]*+")
# A colon ends the name of an agent and its version, but not within the time of a date: `15:00:00`,
# `gmt+01:00`. Whatever else is no letter parts two directives.
_PART = re.compile(
    r"([^\s,;:|/\uff0c\u3001\uff1b\[\]\"']++)(/[^\s,;:/|\"']*+(?=\s*+:(?!\d)))?(\s*+:(?!\d))?"
)
_TOKEN_ENDS = re.compile(r"[^a-z_-]")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_TRAINING = re.compile(
    rf"(?:^|[,;\s{_QUOTES}])(?:ai-train|train-ai)[{_QUOTES}]?\s*=\s*[{_QUOTES}]?(no?|y(?:es)?)(?![\w.-])"
)


def product_token(agent: str) -> str:
    """Return the token that an agent is compared by (RFC 9309 2.2.1), in lower case.

    ``cah-dask/0.1 (+https://…)``, as owners copy it from their logs, is ``cah-dask``. It is `*` for
    everyone, and empty where there is none.
    """
    agent = agent.strip().lower()
    token = _TOKEN_ENDS.split(agent.lstrip(EVERYONE), maxsplit=1)[0]
    return EVERYONE if agent.startswith(EVERYONE) and not token else token


def robots_directives(value: str) -> Iterator[str]:
    """Yield the directives of one header or meta that are meant for everyone, or for us.

    They are in lower case. An agent and a colon before a directive hold for all that follow in the
    same value, as in ``otherbot: noindex, nofollow``; of dates only harmless pieces come out.
    """
    is_ours = True
    plain = _VALUED.sub(" ", _COMMENT.sub(" ", value.lower()))
    for word, _, colon in _PART.findall(plain):
        if colon:
            is_ours = names_us(word)
        elif is_ours:
            yield word


def names_us(agent: str) -> bool:
    """Tell whether what an agent is told is meant for us."""
    return product_token(agent) in AGENTS | _TO_ALL


def meta_names_us(name: str) -> bool:
    """Tell whether the content of a meta tag of this name is meant for us."""
    return any(map(names_us, words(name)))


def words(value: str) -> list[str]:
    """Split a value at everything that separates words."""
    return _SEPARATORS.split(value.strip())


def is_reserved(tdm_reservation: str) -> bool:
    """Tell whether a TDM-Reservation reserves (W3C TDM Reservation Protocol).

    Several headers, joined with commas, may say different things: one that reserves is enough.
    """
    return "1" in words(tdm_reservation)


def allows_training(value: str) -> bool | None:
    """Return what a Content-Signal or Content-Usage says of training; None if it says nothing.

    ``search=yes, ai-train=no`` (Cloudflare's content signals) and ``train-ai=n`` (the vocabulary of
    the IETF's AIPREF group) have one meaning, and either word counts in either field, in quotes or
    not. One refusal is enough.
    """
    said = [answer[0] for answer in _TRAINING.findall(value.lower())]
    return "n" not in said if said else None
