"""WAT archives written out by hand, in the layout of Common Crawl's writer."""

import gzip
import json
from pathlib import Path
from typing import Any


def image(url: str | None, alt: str | None = None, **others: Any) -> dict[str, Any]:
    """Return the link of an ``<img>``; None leaves the attribute out."""
    link = {"path": "IMG@/src", "url": url, "alt": alt, **others}
    return {name: value for name, value in link.items() if value is not None}


def anchor(url: str, **others: Any) -> dict[str, Any]:
    return {"path": "A@/href", "url": url, **others}


def page(
    *links: dict[str, Any],
    base: str | None = None,
    metas: list[dict[str, Any]] | None = None,
    head_links: list[dict[str, Any]] | None = None,
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the JSON of one response, as a tree."""
    head = {"Base": base, "Metas": metas, "Title": "A page", "Link": head_links}
    return {
        "Container": {"Filename": "x.warc.gz", "Compressed": True, "Offset": "92892"},
        "Envelope": {
            "Payload-Metadata": {
                "Actual-Content-Type": "application/http; msgtype=response",
                "HTTP-Response-Metadata": {
                    "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
                    "Headers": {"Content-Type": "text/html", **(headers or {})},
                    "HTML-Metadata": {
                        "Head": {name: value for name, value in head.items() if value is not None},
                        "Links": list(links),
                    },
                },
            },
            "Format": "WARC/1.0",
        },
    }


def as_json(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def record(payload: bytes, url: str = "https://www.example.org/a/page.html") -> bytes:
    """Return one WARC record of type metadata."""
    head = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {url}\r\n"
        "WARC-Date: 2024-05-31T01:17:49Z\r\n"
        "WARC-Record-ID: <urn:uuid:3d3f4785-c69a-4f8c-968c-d23302c55ef4>\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload + b"\r\n\r\n"


WARCINFO = (
    b"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: 2024-05-31T01:16:45Z\r\n"
    b"WARC-Record-ID: <urn:uuid:b4fe2291-40c2-4492-b4ab-7a7776be6c73>\r\n"
    b"Content-Type: application/warc-fields\r\nContent-Length: 8\r\n\r\nip: 127\n\r\n\r\n"
)


def write_wat(path: Path, *records: bytes) -> str:
    """Write an archive of one gzip member a record, after a warcinfo; return its name."""
    path.write_bytes(b"".join(gzip.compress(member, 6) for member in (WARCINFO, *records)))
    return str(path)


def write_pages(path: Path, *trees: Any, url: str = "https://www.example.org/a/page.html") -> str:
    """Write an archive of pages that all have the same address; return its name."""
    return write_wat(path, *(record(as_json(tree), url) for tree in trees))
