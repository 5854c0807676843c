"""Account for every pair that cc2dataset's rule finds in an archive: ours too, or rejected why.

    python benchmarks/difference.py FILE...

The rule is written out here from its description: an ``IMG@/src`` link with a non-empty alt, its
url joined by `urllib.parse.urljoin` to the page or its base, http or https afterwards. Prints how
many pairs are ours too and how many our stated rules reject, by reason; the rest is unexplained and
must be 0.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urljoin

import msgspec
import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecordType

from cah_dask.candidates.extract import RESPECTED, ExtractOptions, extract_archive
from cah_dask.candidates.page_rules import directives
from cah_dask.candidates.text import clean, has_length
from cah_dask.counts import Reject
from cah_dask.schema import CANDIDATES, uid
from cah_dask.urls import Base, Url, resolve

UNEXPLAINED = "unexplained"


class Pair(NamedTuple):
    """What cc2dataset finds, and the link and page that it found it on."""

    alt: str
    url: str
    link: str
    page_url: str
    head_base: str | None
    is_reserved: bool


def pairs(archive: str) -> Iterator[Pair]:
    """Yield the pairs of cc2dataset's rule; records that it cannot read are skipped."""
    records = ArchiveIterator(
        archive, record_types=WarcRecordType.metadata, parse_http=False, quirks_mode=True
    )
    for record in records:
        try:
            envelope = json.loads(record.reader.read())["Envelope"]
            response = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
            html = response["HTML-Metadata"]
            yield from _pairs_of_page(record.headers["WARC-Target-URI"], response, html)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _pairs_of_page(page_url: str, response: Any, html: Any) -> Iterator[Pair]:
    head = html.get("Head", {})
    metas, headers = (
        msgspec.Raw(json.dumps(part).encode())
        for part in (head.get("Metas"), response.get("Headers"))
    )
    is_reserved = bool(directives(metas, headers, frozenset(RESPECTED)))
    base = _join(page_url, head["Base"]) if "Base" in head else page_url
    for link in html["Links"]:
        url, alt = link.get("url"), link.get("alt")
        if link.get("path") == "IMG@/src" and alt and isinstance(alt, str) and isinstance(url, str):
            joined = url if url.startswith(("http://", "https://")) else _join(base, url)
            if joined.startswith(("http://", "https://")):
                yield Pair(alt, joined, url, page_url, head.get("Base"), is_reserved)


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return url


def explain(pair: Pair, ours: set[bytes]) -> str:
    """Return "same", "cleaned" (ours, after cleaning), the rule that rejects a pair, or neither."""
    text = clean(pair.alt)
    url = resolve(pair.link, Base.of_page(pair.page_url, pair.head_base))
    if reason := _reject_by_rule(pair, text, url):
        return reason
    if not isinstance(url, Url) or uid(text, url.href) not in ours:
        return UNEXPLAINED
    return "same" if (text, url.href) == (pair.alt, pair.url) else "cleaned"


def _reject_by_rule(pair: Pair, text: str, url: Url | Reject) -> str | None:
    options = ExtractOptions()
    if pair.is_reserved:
        return Reject.PAGE_DIRECTIVE
    if not has_length(text, options.min_text):
        return Reject.SHORT_TEXT
    if len(text) > options.max_text:
        return Reject.LONG_TEXT
    if isinstance(url, Reject):
        return url
    if len(url.href) > options.max_url:
        return Reject.LONG_URL
    return Reject.FORMAT if url.path.lower().endswith(options.reject_suffixes) else None


def difference(archive: str) -> Counter[str]:
    """Count the pairs of cc2dataset's rule by what became of them."""
    groups = extract_archive(archive, ExtractOptions(), buckets=1).groups
    table = pa.concat_tables([CANDIDATES.empty_table(), *groups])
    ours = set(table["uid"].to_pylist())
    return Counter(explain(pair, ours) for pair in pairs(archive))


def main() -> None:
    """Print one table an archive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archives", nargs="+")
    for archive in parser.parse_args().archives:
        found = difference(archive)
        print(f"{archive}: {found.total()} pairs, {found[UNEXPLAINED]} unexplained")
        for reason, count in found.most_common():
            print(f"  {count:8d}  {reason}")


if __name__ == "__main__":
    main()
