"""The tags of a page with their attributes, found as the lexer of a browser finds them.

No tree is made of them: a WAT tells of tags and not of a tree, and the parsers that make one take
the square of the time, and of the memory, where tags are left open (docs/benchmarks.md). This takes
linear time for any page, as no branch of its patterns ever goes back.
"""

import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from html.entities import html5
from typing import NamedTuple

_BLANK = r"\t\n\f\r "
_VALUE = rf"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^{_BLANK}>"'][^{_BLANK}>]*+)"""
_NAME = rf"[^{_BLANK}/>][^{_BLANK}/>=]*+"
_EQUALS = rf"[{_BLANK}]*+=[{_BLANK}]*+"
_ATTRIBUTES = rf"(?:[{_BLANK}/]++|{_NAME}(?:{_EQUALS}{_VALUE}?+)?+)*+"
_ENDS = rf"(?=[{_BLANK}/>])"
_ATTRIBUTE = re.compile(rf"({_NAME})(?:{_EQUALS}({_VALUE})?+)?+")
# Without its semicolon a name counts only where neither a letter, a digit nor = follows.
_REFERENCE = re.compile(
    r"&(?:#(?:\d++|[xX][\da-fA-F]++);?+|[a-zA-Z][a-zA-Z\d]*+(?:;|(?!=)))", re.ASCII
)
_LONGEST_REFERENCE = 20  # characters; one of 4,300 digits is an error for Python


class Tag(NamedTuple):
    """A start tag, or an end tag that was looked for."""

    name: str
    """In lower case; that of an end tag begins with a slash."""
    attributes: dict[str, str]
    """By lower-case name, the first of equal names, character references resolved."""


def tags(text: str, names: tuple[str, ...]) -> Iterator[Tag]:
    """Yield the tags of a page that have one of `names` (lower case), in document order.

    A name is that of start tags, with a slash before it that of end tags.

    None is found in comments, scripts, styles and attributes; within ``<noscript>``, ``<template>``
    and ``<textarea>`` they are, as Common Crawl's writer finds them. One that has no end is none.
    """
    for found in _pattern(names).finditer(text):
        name = found["name"]
        if name:
            yield Tag(name.lower(), _attributes(found["attributes"]))


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern that goes from tag to tag, and names those that are looked for.

    Whatever begins is gone through to its end, be that the end of the page.
    """
    branches = (
        rf"(?P<name>{'|'.join(map(re.escape, names))}){_ENDS}(?P<attributes>{_ATTRIBUTES})>",
        rf"(?P<raw>script|style){_ENDS}{_ATTRIBUTES}(?:>|\Z).*?(?:</(?P=raw){_ENDS}|\Z)",
        rf"/?[a-z][^{_BLANK}/>]*+{_ATTRIBUTES}(?:>|\Z)",
        r"!--(?:-?>|.*?(?:--!?>|\Z))",
        r"[!?/][^>]*+",
    )
    return re.compile(f"<(?:{'|'.join(branches)})", re.IGNORECASE | re.ASCII | re.DOTALL)


def _attributes(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(text):
        values.setdefault(name.lower(), value)
    return {name: resolved(_unquoted(value)) for name, value in values.items() if value}


def _unquoted(value: str) -> str:
    return value[1:-1] if value.startswith(('"', "'")) else value


def resolved(value: str) -> str:
    """Return the value of an attribute with its character references resolved."""
    return _REFERENCE.sub(_character, value) if "&" in value else value


def _character(found: re.Match[str]) -> str:
    reference = found[0]
    if reference.startswith("&#"):
        return unescape(reference) if len(reference) <= _LONGEST_REFERENCE else "\ufffd"
    return html5.get(reference[1:], reference)
