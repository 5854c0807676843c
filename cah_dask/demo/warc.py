"""WARC archives with the pages that `cah_dask.demo.wat` tells of: the same links, as HTML."""

import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from pathlib import Path

from cah_dask.demo.wat import CRAWLED, Link, Page, digest, record_id, warc_record, warcinfo
from cah_dask.storage import staged

_GZIP_LEVEL = 6


def write_warc(
    path: Path, pages: Iterable[Page], *, crawled: datetime = CRAWLED, filler: str = ""
) -> int:
    """Write the archive of `pages` and return its number of records.

    Parameters
    ----------
    path
        Should end in ``.warc.gz``; replaced in one step after the last page.
    pages
        May be a generator of any length: only one page is held at a time.
    crawled
        When all pages were fetched; aware.
    filler
        HTML without links that each page has too.
    """
    n_records = 0
    with staged(path) as unfinished, unfinished.open("wb") as file:
        for record in _records(path.name, pages, crawled, filler):
            file.write(gzip.compress(record, _GZIP_LEVEL, mtime=0))
            n_records += 1
    return n_records


def _records(name: str, pages: Iterable[Page], crawled: datetime, filler: str) -> Iterator[bytes]:
    yield warcinfo(name)
    for number, page in enumerate(pages):
        body = f"{html(page)}{filler}".encode("utf-8", "replace")
        headers = {
            "Date": f"{crawled:%a, %d %b %Y %H:%M:%S} GMT",
            "Content-Type": "text/html; charset=utf-8",
            **page.headers,
            "Content-Length": str(len(body)),
        }
        lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
        yield warc_record(
            {
                "WARC-Type": "response",
                "WARC-Date": f"{crawled:%Y-%m-%dT%H:%M:%SZ}",
                "WARC-Record-ID": record_id(f"{name}/{number}"),
                "WARC-Target-URI": page.url,
                "WARC-Payload-Digest": digest(body),
                "Content-Type": "application/http; msgtype=response",
            },
            f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + body,
        )


def html(page: Page) -> str:
    """Return a page whose WAT says what is told of it."""
    base = f"<base{_attribute('href', page.base)}>" if page.base else ""
    metas = "".join(f"<meta{_attributes(meta.items())}>" for meta in page.metas)
    links = "\n".join(map(_element, page.links))
    return (
        f"<!doctype html>\n<html><head><title>{escape(page.title)}</title>{base}{metas}</head>\n"
        f"<body>\n{links}\n</body></html>\n"
    )


def _element(link: Link) -> str:
    """Return the element of a link, whose path is ``TAG@/attribute``."""
    tag, _, attribute = link.path.lower().partition("@/")
    others = ("rel", link.rel), ("alt", link.alt), ("title", link.title)
    start = f"<{tag}{_attributes(((attribute, link.url), *others))}>"
    return start if tag == "img" else f"{start}{escape(link.text or '')}</{tag}>"


def _attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    return "".join(_attribute(name, value) for name, value in pairs if value is not None)


def _attribute(name: str, value: str | None) -> str:
    return f' {name}="{escape(value or "")}"'
