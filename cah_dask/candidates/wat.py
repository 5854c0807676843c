"""Pages and their image links out of the JSON of WAT records.

The structs name only the fields we read; msgspec skips the rest, which makes it the fastest parser
we know (docs/benchmarks.md). Records that it refuses for a lone surrogate, a broken byte or a value
of the wrong type are read again by the tolerant parser of the standard library.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cah_dask.candidates.page_rules import deed, directives
from cah_dask.candidates.urls import Base, Url, resolve
from cah_dask.errors import RecordError

IMAGE = "IMG@/src"
MARK = b"IMG@"
"""A record without these bytes holds no image link and need not be parsed."""

_NOTHING = msgspec.Raw(b"null")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Link(msgspec.Struct, gc=False):
    path: str | None = None
    url: str | None = None
    alt: str | None = None
    rel: str | None = None


class _Head(msgspec.Struct, gc=False, rename="pascal"):
    base: str | None = None
    metas: msgspec.Raw = _NOTHING
    link: list[_Link] = []


class _Html(msgspec.Struct, gc=False, rename="pascal"):
    head: _Head = msgspec.field(default_factory=_Head)
    links: list[_Link] = []


class _Response(msgspec.Struct, gc=False):
    html: _Html = msgspec.field(name="HTML-Metadata", default_factory=_Html)
    headers: msgspec.Raw = msgspec.field(name="Headers", default=_NOTHING)


class _Payload(msgspec.Struct, gc=False):
    response: _Response = msgspec.field(name="HTTP-Response-Metadata", default_factory=_Response)


class _Envelope(msgspec.Struct, gc=False):
    payload: _Payload = msgspec.field(name="Payload-Metadata", default_factory=_Payload)


class _Record(msgspec.Struct, gc=False):
    envelope: _Envelope = msgspec.field(name="Envelope", default_factory=_Envelope)


_decode = msgspec.json.Decoder(_Record).decode


@dataclass(frozen=True, slots=True)
class ImageLink:
    """An ``<img>`` as its page wrote it."""

    url: str | None
    alt: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """The image links of one page, in document order, and what the page says about them."""

    url: str
    base: Base
    images: list[ImageLink]
    directives: frozenset[str]
    license: str | None


def parse_page(url: str, data: bytes) -> Page:
    """Read the page at `url` out of the JSON of its WAT record.

    Raises
    ------
    RecordError
        If the record is no JSON object at all.
    """
    try:
        response = _decode(data).envelope.payload.response
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        response = _decode_tolerantly(data)
    html = response.html
    base = Base.of_page(url, html.head.base)
    return Page(
        url,
        base,
        [ImageLink(link.url, link.alt) for link in html.links if link.path == IMAGE],
        directives(html.head.metas, response.headers),
        " ".join(dict.fromkeys(_licenses([*html.head.link, *html.links], base))) or None,
    )


def _licenses(links: list[_Link], base: Base) -> Iterator[str]:
    for link in links:
        if link.url is None:
            continue
        if "creativecommons.org" in link.url and (found := deed(link.url)):
            yield found
        elif link.rel and "license" in link.rel.lower().split():
            target = resolve(link.url, base)
            if isinstance(target, Url):
                yield target.href


def _decode_tolerantly(data: bytes) -> _Response:
    try:
        tree = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"no JSON: {error}") from error
    response = _member(tree, "Envelope", "Payload-Metadata", "HTTP-Response-Metadata")
    html = _member(response, "HTML-Metadata")
    head = _member(html, "Head")
    return _Response(
        html=_Html(
            _Head(_text(head.get("Base")), _raw(head.get("Metas")), _links(head.get("Link"))),
            _links(html.get("Links")),
        ),
        headers=_raw(response.get("Headers")),
    )


def _member(tree: Any, *path: str) -> dict[str, Any]:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def _links(values: Any) -> list[_Link]:
    return [
        _Link(*(_text(value.get(name)) for name in _Link.__struct_fields__))
        for value in (values if isinstance(values, list) else ())
        if isinstance(value, dict)
    ]


def _text(value: Any) -> str | None:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
