"""What a page says about the use of its images: robots directives and licence links.

Both are read from the WAT itself, so respecting them costs no request. Directives come as raw JSON
that is not parsed before one of their words is found in it.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from cah_dask.directives import AGENT_NAME, is_reserved, meta_names_us, robots_directives

_TDM = "tdm-reservation"
_NAMES = (b"bot", _TDM.encode(), AGENT_NAME.encode())  # one of them is in every name that counts
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
        JSON of the ``Head.Metas`` list: robots metas, metas named after one of
        `cah_dask.directives.AGENTS`, and ``tdm-reservation``.
    headers
        JSON of the response headers: ``X-Robots-Tag`` and ``tdm-reservation``, in any case and
        more than once, each with one value or a list of them.
    wanted
        Such as ``{"noindex", "noai"}``. ``tdm-reservation`` is given when its value is 1.

    Returns
    -------
    frozenset
        Anything malformed says nothing.
    """
    data = (bytes(metas) + bytes(headers)).lower()
    for name in _NAMES:
        if name in data:
            break
    else:
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
    """Read JSON whose objects become tuples of pairs: a name may be there twice."""
    text = bytes(raw).decode(errors="replace")
    try:
        return json.loads(text, strict=False, object_pairs_hook=tuple, parse_int=str)
    except (ValueError, RecursionError):
        return None


def _of_metas(metas: Any) -> Iterator[str]:
    for meta in metas if isinstance(metas, list) else ():
        texts = [(field.lower(), text) for field, text in _texts(meta)]
        names = [text for field, text in texts if field == "name"]
        for content in (text for field, text in texts if field == "content"):
            if any(map(meta_names_us, names)):
                yield from robots_directives(content)
            if is_reserved(content) and any(name.strip().lower() == _TDM for name in names):
                yield _TDM


def _of_headers(headers: Any) -> Iterator[str]:
    for name, value in _texts(headers):
        match name.strip().lower():
            case "x-robots-tag":
                yield from robots_directives(value)
            case "tdm-reservation" if is_reserved(value):
                yield _TDM


def _texts(pairs: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of an object with each text that they stand for."""
    for name, values in pairs if isinstance(pairs, tuple) else ():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                yield name, value


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
