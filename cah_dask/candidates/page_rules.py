"""What a page says about the use of its images: robots directives and licence links.

Both are read from the WAT itself, so respecting them costs no request. Directives come as raw JSON
that is not parsed before one of their words is found in it.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

AGENTS = ("cah-dask", "ccbot")
"""Names under which a directive means us: our own, and Common Crawl's, whose copy we read."""

_HEADER = "x-robots-tag"
_TDM = "tdm-reservation"
_BOT, _TDM_BYTES, _US = b"bot", _TDM.encode(), AGENTS[0].encode()  # in every name that counts
# Directives that carry a value after a colon, so that the colon does not name an agent.
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_DEED = re.compile(
    r"\s*(?:https?:)?//(?:[a-z0-9-]+\.)*creativecommons\.org/"
    r"(licenses|publicdomain)/([a-z+-]+)(?:/(\d\.\d)(?:/(?!deed)([a-z]{2,5})(?![a-z]))?)?",
    re.IGNORECASE,
)


def directives(metas: msgspec.Raw, headers: msgspec.Raw, wanted: frozenset[str]) -> frozenset[str]:
    """Return which of the `wanted` directives (lower case) a page gives to robots.

    Parameters
    ----------
    metas
        JSON of the ``Head.Metas`` list: robots metas, metas named after one of `AGENTS`, and
        ``tdm-reservation``.
    headers
        JSON of the response headers, in any case, one value or a list of them: ``X-Robots-Tag``
        without an agent or for one of `AGENTS`, and ``tdm-reservation``.
    wanted
        Such as ``{"noindex", "noai"}``. ``tdm-reservation`` is given when its value is 1.

    Returns
    -------
    frozenset
        Anything malformed says nothing.
    """
    data = (bytes(metas) + bytes(headers)).lower()
    if not (_BOT in data or _TDM_BYTES in data or _US in data):
        return frozenset()
    for word in _encoded(wanted):
        if word in data:
            break
    else:
        return frozenset()
    return wanted.intersection((*_of_metas(_parse(metas)), *_of_headers(_parse(headers))))


@cache
def _encoded(words: frozenset[str]) -> list[bytes]:
    return [word.encode() for word in sorted(words)]


def _parse(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(bytes(raw).lower())
    except (msgspec.DecodeError, RecursionError):
        return None


def _of_metas(metas: Any) -> Iterator[str]:
    for meta in metas if isinstance(metas, list) else ():
        name, content = (
            (meta.get("name"), meta.get("content")) if isinstance(meta, dict) else ("", "")
        )
        if isinstance(content, str):
            if name == "robots" or name in AGENTS:
                yield from _split(content)
            elif name == _TDM and content.strip() == "1":
                yield _TDM


def _of_headers(headers: Any) -> Iterator[str]:
    for name, values in headers.items() if isinstance(headers, dict) else ():
        for value in values if isinstance(values, list) else [values]:
            if name == _HEADER and isinstance(value, str):
                yield from _scoped(value)
            elif name == _TDM and isinstance(value, str) and value.strip() == "1":
                yield _TDM


def _scoped(value: str) -> Iterator[str]:
    """Split ``otherbot: noindex, cah-dask: noai``: an agent holds until the next one is named."""
    is_ours = True
    for part in value.split(","):
        agent, colon, rest = part.partition(":")
        names_agent = bool(colon) and agent.strip() not in _VALUED
        if names_agent:
            is_ours = agent.strip() in (*AGENTS, "*", "robots")
        if is_ours:
            yield from _split(rest if names_agent else part)


def _split(content: str) -> Iterable[str]:
    return re.split(r"[\s,;]+", content.strip())


def deed(url: str) -> str | None:
    """Return the canonical address of a Creative Commons licence or public domain deed.

    Language variants and legal code fall together; a ported version (``/3.0/de/``) stays apart.
    """
    match = _DEED.match(url)
    if match is None:
        return None
    return "/".join(
        ["https://creativecommons.org", *(part.lower() for part in match.groups() if part), ""]
    )
