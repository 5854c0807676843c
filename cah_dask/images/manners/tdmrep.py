"""What ``/.well-known/tdmrep.json`` reserves (W3C TDM Reservation Protocol, section 5.1)."""

import fnmatch
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

PATH = "/.well-known/tdmrep.json"

_MAX_RULES = 1000
_EVERYTHING = [["/", True]]


def relevant(body: bytes) -> str | None:
    """Return the rules of a file, as a JSON list of locations and whether they are reserved.

    Returns
    -------
    str or None
        Empty where nothing is reserved, or where the answer is no such file but a page; None for a
        file that cannot be read.
    """
    text = body.decode("utf-8-sig", errors="replace").strip()
    if not text.startswith(("[", "{")):
        return ""
    try:
        entries = json.loads(text, parse_int=str)
    except (ValueError, RecursionError):
        return None
    found = map(_rule, entries if isinstance(entries, list) else [entries])
    rules = [rule for rule in found if rule is not None]
    if not any(is_reserved for _, is_reserved in rules):
        return ""
    return json.dumps(rules if len(rules) <= _MAX_RULES else _EVERYTHING)


def _rule(entry: Any) -> tuple[str, bool] | None:
    location = entry.get("location") if isinstance(entry, dict) else None
    if not isinstance(location, str):
        return None
    return location, entry.get("tdm-reservation") in ("1", True)


@dataclass(frozen=True, slots=True)
class Reservations:
    """The rules of one file; the first that matches a url decides."""

    rules: tuple[tuple[Callable[[str], object], bool], ...] = ()

    def __contains__(self, url: str) -> bool:
        """Tell whether a url is reserved."""
        parts = urlsplit(url)
        path = unquote(f"{parts.path}?{parts.query}" if parts.query else parts.path)
        return next((is_reserved for matches, is_reserved in self.rules if matches(path)), False)


NOTHING = Reservations()


def reservations(lines: str) -> Reservations:
    """Return the rules that `relevant` has left of a file."""
    rules = json.loads(lines) if lines else []
    return Reservations(tuple((_pattern(where), is_reserved) for where, is_reserved in rules))


def _pattern(location: str) -> Callable[[str], object]:
    """Return what matches a location as robots.txt writes it: ``*`` is anything, ``$`` the end.

    `fnmatch` makes expressions that no url can make slow.
    """
    path = unquote(location if location.startswith(("/", "*")) else f"/{location}")
    glob = re.sub(r"[?\[]", r"[\g<0>]", path)
    glob = glob[:-1] if glob.endswith("$") else f"{glob}*"
    return re.compile(fnmatch.translate(glob)).match
