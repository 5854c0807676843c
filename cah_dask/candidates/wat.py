"""Pages and their image links out of the JSON of WAT records.

The structs name only the fields that we read; msgspec skips the rest, which makes it the fastest
parser that we know (docs/benchmarks.md). What it refuses (a lone surrogate, a broken byte, a value
of the wrong type) is read again by the tolerant parser of the standard library.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import msgspec

from cah_dask.candidates.page_images import Extra, Link, image_links
from cah_dask.candidates.page_rules import deed, directives
from cah_dask.errors import RecordError
from cah_dask.urls import Base, Url, resolve

_COMMONS = "creativecommons.org"
_LICENSE = "license"
_MAX_TOLD = 100  # links of a page that are looked at, for licences
_MAX_LICENSE = 500  # characters of all licences of a page; a deed takes fifty
_NOTHING = msgspec.Raw(b"null")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Head(msgspec.Struct, gc=False, rename="pascal"):
    base: str | None = None
    metas: msgspec.Raw = _NOTHING
    link: msgspec.Raw = _NOTHING


class _Html(msgspec.Struct, gc=False, rename="pascal"):
    head: _Head = msgspec.field(default_factory=_Head)
    links: list[Link] = []


class _Response(msgspec.Struct, gc=False):
    html: _Html = msgspec.field(name="HTML-Metadata", default_factory=_Html)
    headers: msgspec.Raw = msgspec.field(name="Headers", default=_NOTHING)


class _Payload(msgspec.Struct, gc=False):
    response: _Response = msgspec.field(name="HTTP-Response-Metadata", default_factory=_Response)


class _Envelope(msgspec.Struct, gc=False):
    payload: _Payload = msgspec.field(name="Payload-Metadata", default_factory=_Payload)


class _Record(msgspec.Struct, gc=False):
    envelope: _Envelope = msgspec.field(name="Envelope", default_factory=_Envelope)


_decode_record = msgspec.json.Decoder(_Record).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(eq=False)  # not frozen, which would cost a microsecond a page
class Page:
    """The image links of one page, in document order, and what the page says about them."""

    url: str
    base_href: str | None
    images: list[Link]
    is_reserved: bool
    find_license: Callable[[], str | None]
    n_bytes: float = math.inf
    """Bytes of JSON that say all this; inf where a page is no more than its one image."""
    is_published: bool = False
    """Whether text and url of its image were published as a pair, whose uid they must keep."""
    sha256: bytes | None = None
    """What the bytes of its image had when they were published, if that is known."""

    @cached_property
    def base(self) -> Base:
        """What its links are relative to; four pages in ten have no link that asks."""
        return Base.of_page(self.url, self.base_href)

    @cached_property
    def license(self) -> str | None:
        """Addresses of the licences that the page links to, divided by spaces.

        Looked for when asked for: that costs a quarter of what parsing has cost so far.
        """
        return self.find_license()


def is_json(data: bytes) -> bool:
    """Tell whether data are JSON, without reading it: a hundredth of what extraction costs."""
    try:
        _skip(data)
    except _REFUSED:
        return False
    return True


def parse_page(
    url: str, data: bytes, reserve: frozenset[str], also: frozenset[Extra] = frozenset()
) -> Page:
    """Read the page at `url` out of the JSON of its WAT record.

    Parameters
    ----------
    url
        Address of the page.
    data
        JSON of the record.
    reserve
        Directives, in lower case, any of which reserves the page's images.
    also
        What counts as an image beside ``<img src>``; see `page_images.image_links`.

    Raises
    ------
    RecordError
        If the record is no JSON at all.
    """
    response = _decode(data) or _decode_tolerantly(data)
    html = response.html
    return Page(
        url,
        html.head.base,
        image_links(html.links, html.head.metas, also),
        bool(directives(html.head.metas, response.headers, reserve)),
        partial(_license, url, data, html),
        len(data),
    )


def _license(url: str, data: bytes, html: _Html) -> str | None:
    """Return the addresses of the licences that the page links to, divided by spaces.

    They stand in every row of the page, so one that has more than any page needs says nothing.
    """
    links = html.links
    has_deeds = _COMMONS.encode() in data
    if has_deeds or _LICENSE.encode() in bytes(html.head.link):
        links = _head_links(html.head.link) + links
    told = [link for link in links if link.rel and _LICENSE in link.rel.lower()]
    if has_deeds:
        told += [link for link in links if link.url and _COMMONS in link.url]
    if not told:
        return None
    base = Base.of_page(url, html.head.base)
    addresses = dict.fromkeys(filter(None, (_licensed(link, base) for link in told[:_MAX_TOLD])))
    told_by_page = " ".join(addresses)
    return told_by_page if 0 < len(told_by_page) <= _MAX_LICENSE else None


def _head_links(raw: msgspec.Raw) -> list[Link]:
    try:
        return _links(msgspec.json.decode(raw))
    except _REFUSED:
        return []


def _licensed(link: Link, base: Base) -> str | None:
    if link.url is None:
        return None
    if found := deed(link.url):
        return found
    if link.rel is None or _LICENSE not in link.rel.lower().split():
        return None
    target = resolve(link.url, base)
    return target.href if isinstance(target, Url) else None


def _decode(data: bytes) -> _Response | None:
    try:
        return _decode_record(data).envelope.payload.response
    except _REFUSED:
        return None


def _decode_tolerantly(data: bytes) -> _Response:
    try:
        tree = json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"no JSON: {error}") from error
    response = _member(tree, "Envelope", "Payload-Metadata", "HTTP-Response-Metadata")
    html = _member(response, "HTML-Metadata")
    head = _member(html, "Head")
    return _Response(
        html=_Html(
            _Head(_text(head.get("Base")), _raw(head.get("Metas")), _raw(head.get("Link"))),
            _links(html.get("Links")),
        ),
        headers=_raw(response.get("Headers")),
    )


def _member(tree: Any, *path: str) -> dict[str, Any]:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def _links(values: Any) -> list[Link]:
    return [
        Link(*(_text(value.get(name)) for name in Link.__struct_fields__))
        for value in (values if isinstance(values, list) else ())
        if isinstance(value, dict)
    ]


def _text(value: Any) -> str | None:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
