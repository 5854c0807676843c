"""WARC archives written out by hand, in the layout of crawlers and browsers."""

import base64
import gzip as gz
import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.wats import WARCINFO

DATE = "2024-05-31T01:17:49Z"
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_PROFILE = "http://netpreserve.org/warc/1.0/revisit/identical-payload-digest"
NOTHING: Mapping[str, str] = {}
_HTTP_RESPONSE = "application/http; msgtype=response"

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


def record(
    kind: str,
    url: str,
    block: bytes,
    content_type: str = _HTTP_RESPONSE,
    *,
    length: int | None = None,
    fields: Mapping[str, str] = NOTHING,
) -> bytes:
    """Return a record of any type; `fields` are further WARC fields.

    `length` is what it claims of its length, if that is wrong.
    """
    head = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": DATE,
        "WARC-Record-ID": "<urn:uuid:3d3f4785-c69a-4f8c-968c-d23302c55ef4>",
        **fields,
        "Content-Type": content_type,
        "Content-Length": str(len(block) if length is None else length),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value)
    return (
        b"WARC/1.0\r\n" + lines.encode("utf-8", "surrogateescape") + b"\r\n" + block + b"\r\n\r\n"
    )


def http(body: bytes, headers: Headers = _HTML, status: int = 200) -> bytes:
    """Return an HTTP message with these headers and no others."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {status} Some Reason\r\n{lines}\r\n".encode() + body


def response(
    url: str,
    body: bytes,
    headers: Headers = _HTML,
    status: int = 200,
    kind: str = "response",
    fields: Mapping[str, str] = NOTHING,
) -> bytes:
    """Return a response, with the digest of its body as it is here.

    `headers` are those of HTTP, of which none is added. A kind "resource" or "conversion" has no
    HTTP message: its body is the block, and its Content-Type that of `headers`.
    """
    fields = {"WARC-Payload-Digest": digest(body), **fields}
    if kind in ("resource", "conversion"):
        mime = dict(headers).get("Content-Type", "")
        return record(kind, url, body, mime, fields=fields)
    return record(kind, url, http(body, headers, status), fields=fields)


def revisit(url: str, refers_to: tuple[str, str], digest: str = "", status: int = 200) -> bytes:
    """Return a revisit of a payload that is stored under another url and date."""
    return record(
        "revisit",
        url,
        http(b"", _HTML, status),
        fields={
            "WARC-Payload-Digest": digest,
            "WARC-Profile": _PROFILE,
            "WARC-Refers-To-Target-URI": refers_to[0],
            "WARC-Refers-To-Date": refers_to[1],
        },
    )


def request(url: str) -> bytes:
    """Return the request that a crawler writes beside a response."""
    head = f"GET {url} HTTP/1.1\r\nUser-Agent: test\r\n\r\n".encode()
    return record("request", url, head, "application/http; msgtype=request")


def metadata(url: str) -> bytes:
    """Return what a crawler noted of a fetch."""
    return record("metadata", url, b"fetchTimeMs: 12\r\n", "application/warc-fields")


def chunked(body: bytes, size: int = 1000) -> bytes:
    """Return a body with the chunked transfer coding."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def digest(body: bytes) -> str:
    """Return a WARC-Payload-Digest."""
    return "sha1:" + base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()


def write_warc(
    path: Path, records: Iterable[bytes], *, gzip: bool = True, requests: bool = False
) -> str:
    """Write an archive after a warcinfo, by default of one gzip member a record; return its name.

    With `requests`, a request stands before each record and a metadata record behind it.
    """
    pieces = [WARCINFO]
    for piece in records:
        around = (request("http://h.test/"), piece, metadata("http://h.test/"))
        pieces += around if requests else (piece,)
    path.write_bytes(b"".join(gz.compress(p, 6, mtime=0) if gzip else p for p in pieces))
    return str(path)


def within_one_another(begin: bytes, n: int, stream: bytes) -> bytes:
    """Members in a row, each of which begins so and goes on with what all the others hold.

    Behind its beginning each has a block that is stored and ends where all do; what they share is
    inflated again for each of them.
    """
    stored = b"\0" + struct.pack("<HH", len(begin), len(begin) ^ 0xFFFF) + begin if begin else b""
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + stored
    step, data = len(head) + 5, b""
    for number in range(n):
        n_left = step * (n - number - 1)
        data += head + b"\0" + struct.pack("<HH", n_left, n_left ^ 0xFFFF)
    return data + stream
