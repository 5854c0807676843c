"""WAT archives in the exact layout of Common Crawl's own writer (ia-web-commons, May 2024).

A warcinfo record, then three metadata records a page: of its request, its response and the
crawler's notes, one gzip member each. Keys, their order and their types (numbers are strings,
booleans are not) are those of a genuine archive. As no page was ever stored, lengths, offsets and
digests are made from what is known of it, so the same pages always give the same bytes.
"""

import base64
import gzip
import hashlib
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec

from cah_dask.storage import staged

CRAWLED = datetime(2024, 5, 18, 1, 58, 10, tzinfo=UTC)
"""When all pages were "fetched", unless the caller knows better."""

_EXTRACTED = datetime(2024, 5, 31, 1, 16, 45, tzinfo=UTC)
_EMPTY_DIGEST = "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"
_IP_ADDRESS = "192.0.2.1"  # RFC 5737: documentation
_REQUEST = "application/http; msgtype=request"
_RESPONSE = "application/http; msgtype=response"
_REQUEST_HEADERS = {
    "User-Agent": "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "br,gzip",
}
_NOTES = {"fetchTimeMs": "506", "charset-detected": "UTF-8"}
_GZIP_LEVEL = 6

Tree: TypeAlias = dict[str, Any]
"""A JSON object."""


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """One link of a page, such as ``Link("IMG@/src", "a.png", alt="A cat")``; None is left out."""

    path: str
    url: str | None = None
    rel: str | None = None
    alt: str | None = None
    title: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a WAT tells of one page."""

    url: str
    links: Sequence[Link]
    title: str = ""
    base: str | None = None
    """Its ``<base href>``."""
    metas: Sequence[Mapping[str, str]] = ()
    """Its ``<meta>`` tags, such as ``{"name": "robots", "content": "noindex"}``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of its answer, beyond the usual ones."""


def write_wat(path: Path, pages: Iterable[Page], *, crawled: datetime = CRAWLED) -> int:
    """Write the archive of `pages` and return its number of records.

    Parameters
    ----------
    path
        Should end in ``.warc.wat.gz``; replaced in one step after the last page.
    pages
        May be a generator of any length: only one page is held at a time.
    crawled
        When all pages were fetched; aware.
    """
    n_records = 0
    with staged(path) as unfinished, unfinished.open("wb") as file:
        for record in _records(path.name, pages, crawled):
            file.write(gzip.compress(record, _GZIP_LEVEL, mtime=0))
            n_records += 1
    return n_records


def _records(name: str, pages: Iterable[Page], crawled: datetime) -> Iterator[bytes]:
    yield warcinfo(name)
    writer = _Writer(name.replace(".warc.wat.gz", ".warc.gz"), crawled)
    for page in pages:
        yield from writer.records(page)


class _Writer:
    """Knows how far it is in the WARC that its records pretend to describe."""

    def __init__(self, warc: str, crawled: datetime) -> None:
        self._warc = warc
        self._crawled = crawled
        self._offset = 0

    def records(self, page: Page) -> Iterator[bytes]:
        """Yield the three records of one page."""
        request, response, notes = (
            self._id(f"{self._offset}/{kind}") for kind in ("request", "response", "metadata")
        )
        yield self._record(page, request, _of_request(page), {"WARC-Type": "request"})
        yield self._record(
            page,
            response,
            _of_response(page, self._crawled),
            {"WARC-Type": "response", "WARC-Concurrent-To": request},
        )
        yield self._record(
            page, notes, _of_notes(), {"WARC-Type": "metadata", "WARC-Concurrent-To": response}
        )

    def _id(self, name: str) -> str:
        return record_id(f"{self._warc}/{name}")

    def _record(self, page: Page, record_id: str, payload: Tree, header: Tree) -> bytes:
        length = payload["Actual-Content-Length"]
        warc_header = {
            "WARC-Type": header.pop("WARC-Type"),
            "WARC-Date": f"{self._crawled:%Y-%m-%dT%H:%M:%SZ}",
            "WARC-Record-ID": record_id,
            "Content-Length": length,
            "Content-Type": payload["Actual-Content-Type"],
            "WARC-Warcinfo-ID": self._id("warcinfo"),
            **header,
            "WARC-IP-Address": _IP_ADDRESS,
            "WARC-Target-URI": page.url,
        }
        header_length = _length(warc_header)
        envelope = {
            "Payload-Metadata": payload,
            "Format": "WARC/1.0",
            "WARC-Header-Length": str(header_length),
            "WARC-Header-Metadata": warc_header,
        }
        data = msgspec.json.encode(
            {"Container": self._container(int(length) + header_length, record_id),
             "Envelope": envelope}
        )  # fmt: skip
        return warc_record(
            {
                "WARC-Type": "metadata",
                "WARC-Target-URI": page.url,
                "WARC-Date": f"{_EXTRACTED:%Y-%m-%dT%H:%M:%SZ}",
                "WARC-Record-ID": self._id(record_id),
                "WARC-Refers-To": record_id,
                "Content-Type": "application/json",
            },
            data,
        )

    def _container(self, inflated: int, record_id: str) -> Tree:
        deflated = inflated // 2 + 100
        offset, self._offset = self._offset, self._offset + deflated
        crc = zlib.crc32(record_id.encode()) - (1 << 31)  # Java writes it signed
        return {
            "Filename": self._warc,
            "Compressed": True,
            "Offset": str(offset),
            "Gzip-Metadata": {
                "Deflate-Length": str(deflated),
                "Header-Length": "10",
                "Footer-Length": "8",
                "Inflated-CRC": str(crc),
                "Inflated-Length": str(inflated),
            },
        }


def _of_request(page: Page) -> Tree:
    parts = urlsplit(page.url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    headers = {**_REQUEST_HEADERS, "Host": parts.netloc, "Connection": "Keep-Alive"}
    message = {"Method": "GET", "Path": path, "Version": "HTTP/1.1"}
    return _payload(
        _REQUEST,
        "HTTP-Request-Metadata",
        {
            "Request-Message": message,
            "Headers-Length": str(_length(headers)),
            "Headers": headers,
            "Entity-Length": "0",
            "Entity-Digest": _EMPTY_DIGEST,
            "Entity-Trailing-Slop-Length": "0",
        },
        _length(headers),
    )


def _of_response(page: Page, crawled: datetime) -> Tree:
    html = _html(page)
    body = msgspec.json.encode(html)
    headers = {
        "Date": f"{crawled:%a, %d %b %Y %H:%M:%S} GMT",
        "Content-Type": "text/html; charset=utf-8",
        "Connection": "keep-alive",
        **page.headers,
        "Content-Length": str(len(body)),
    }
    return _payload(
        _RESPONSE,
        "HTTP-Response-Metadata",
        {
            "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
            "Headers-Length": str(_length(headers)),
            "Headers": headers,
            "HTML-Metadata": html,
            "Entity-Length": str(len(body)),
            "Entity-Digest": digest(body),
            "Entity-Trailing-Slop-Length": "0",
        },
        _length(headers) + len(body),
    )


def _html(page: Page) -> Tree:
    head = {"Metas": page.metas, "Title": page.title, "Base": page.base}
    html: Tree = {"Head": {name: value for name, value in head.items() if value}}
    if page.links:
        html["Links"] = page.links
    return html


def _of_notes() -> Tree:
    records = [{"Name": name, "Value": value} for name, value in _NOTES.items()]
    return _payload(
        "application/metadata-fields",
        "WARC-Metadata-Metadata",
        {"Metadata-Records": records},
        _length(_NOTES),
    )


def _payload(content_type: str, name: str, metadata: Tree, length: int) -> Tree:
    return {
        "Actual-Content-Type": content_type,
        name: metadata,
        "Actual-Content-Length": str(length),
        "Trailing-Slop-Length": "4",
        "Block-Digest": digest(msgspec.json.encode(metadata)),
    }


def warcinfo(name: str) -> bytes:
    """Return the first record of an archive of that file name."""
    fields = (
        "Software-Info: ia-web-commons.1.1.10-SNAPSHOT-20240513074037\r\n"
        f"Extracted-Date: {_EXTRACTED:%a, %d %b %Y %H:%M:%S} GMT\r\n"
        "ip: 127.0.0.1\r\n"
        "hostname: localhost\r\n"
        "format: WARC File Format 1.0\r\n"
        "conformsTo: http://bibnum.bnf.fr/WARC/WARC_ISO_28500_version1_latestdraft.pdf\r\n\r\n"
    ).encode()
    return warc_record(
        {
            "WARC-Type": "warcinfo",
            "WARC-Date": f"{_EXTRACTED:%Y-%m-%dT%H:%M:%SZ}",
            "WARC-Filename": name,
            "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}>",
            "Content-Type": "application/warc-fields",
        },
        fields,
    )


def record_id(name: str) -> str:
    """Return a WARC-Record-ID that is always the same for a name."""
    md5 = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return f"<urn:uuid:{uuid.UUID(bytes=md5)}>"


def warc_record(header: Mapping[str, str], block: bytes) -> bytes:
    """Return a record with these fields and its Content-Length."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items())
    head = f"WARC/1.0\r\n{lines}Content-Length: {len(block)}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def _length(headers: Mapping[str, str]) -> int:
    """Return the length of headers as they would go over the wire, in bytes."""
    return 2 + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def digest(data: bytes) -> str:
    """Return a SHA-1 as WARCs write it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
