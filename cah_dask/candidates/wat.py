"""Pages and their image links out of the JSON of WAT records.

The structs name only the fields that we read; msgspec skips the rest, which makes it the fastest
parser that we know (docs/benchmarks.md). What it refuses (a lone surrogate, a broken byte, a value
of the wrong type) is read again by the tolerant parser of the standard library.
"""

import json
import re
from functools import partial
from typing import Any

import msgspec

from cah_dask.candidates.page import (
    COMMONS,
    LICENSE,
    Head,
    Html,
    Markup,
    Page,
    PageRules,
    licenses,
)
from cah_dask.candidates.page_images import Link
from cah_dask.errors import RecordError

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Payload(msgspec.Struct, gc=False):
    response: Markup = msgspec.field(name="HTTP-Response-Metadata", default_factory=Markup)


class _Envelope(msgspec.Struct, gc=False):
    payload: _Payload = msgspec.field(name="Payload-Metadata", default_factory=_Payload)


class _Record(msgspec.Struct, gc=False):
    envelope: _Envelope = msgspec.field(name="Envelope", default_factory=_Envelope)


_decode_record = msgspec.json.Decoder(_Record).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def is_json(data: bytes) -> bool:
    """Tell whether data are JSON, without reading it: a hundredth of what extraction costs."""
    try:
        _skip(data)
    except _REFUSED:
        return False
    return True


def parse_page(url: str, data: bytes, rules: PageRules) -> Page:
    """Read the page at `url` out of the JSON of its WAT record.

    Raises
    ------
    RecordError
        If the record is no JSON at all.
    """
    markup = _decode(data) or _decode_tolerantly(data)
    return rules.page(url, markup, len(data), partial(_license, url, data, markup.html))


def _license(url: str, data: bytes, html: Html) -> str | None:
    """Return the addresses of the licences that the page links to."""
    links = html.links
    has_deeds = COMMONS.encode() in data
    if has_deeds or LICENSE.encode() in bytes(html.head.link):
        links = _head_links(html.head.link) + links
    return licenses(links, url, html.head.base, has_deeds=has_deeds)


def _head_links(raw: msgspec.Raw) -> list[Link]:
    try:
        return _links(msgspec.json.decode(raw))
    except _REFUSED:
        return []


def _decode(data: bytes) -> Markup | None:
    try:
        return _decode_record(data).envelope.payload.response
    except _REFUSED:
        return None


def _decode_tolerantly(data: bytes) -> Markup:
    try:
        tree = json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"no JSON: {error}") from error
    response = _member(tree, "Envelope", "Payload-Metadata", "HTTP-Response-Metadata")
    html = _member(response, "HTML-Metadata")
    head = _member(html, "Head")
    return Markup(
        html=Html(
            Head(_text(head.get("Base")), _raw(head.get("Metas")), _raw(head.get("Link"))),
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
