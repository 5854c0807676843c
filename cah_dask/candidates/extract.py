"""One archive to candidates: image links with a text worth keeping, every rejected one counted.

Checks run in the order of their price, and the first that fails is the reason of a link: what the
page asks, the text, the url, the file format, an equal pair before. Only texts that are left go to
the language detector.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import msgspec
import pyarrow as pa

from cah_dask.addresses import Network
from cah_dask.archives.sources import check_archive
from cah_dask.candidates.archive_pages import read_pages
from cah_dask.candidates.language import Detector, LanguageOptions
from cah_dask.candidates.page import Page, PageRules
from cah_dask.candidates.page_images import Extra, Link
from cah_dask.candidates.rows import Pair, RowBuilder
from cah_dask.candidates.tables import TableOptions, check_table, is_table, read_table
from cah_dask.candidates.text import clean, has_length, is_far_beyond
from cah_dask.counts import Counts, Reject
from cah_dask.errors import ShardError
from cah_dask.keys import Keys
from cah_dask.schema import SPLITS, Split, uid
from cah_dask.urls import ABSOLUTE, NOWHERE, Url, resolve

RESPECTED = ("noindex", "noimageindex", "noai", "noimageai", "noml", "none", "tdm-reservation")
"""Directives that keep a page's images out: those of img2dataset, `noml`, `none` (noindex and
nofollow in one) and the TDM reservation protocol."""

PAGE_BYTES, PAGE_FACTOR = 16 << 10, 16
"""What the rows of a page may take: so many bytes, and so many times those of its JSON. Usual pages
take less than twice their JSON; one could repeat its address and licences in thousands of rows."""

ARCHIVE_BYTES = 1 << 30
"""What the rows of an archive may take in memory; those of a WAT take about 0.1 GB."""

Characters = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ExtractOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which image links become candidates."""

    min_text: Characters = 5
    """Shortest text in characters, after cleaning (crawling@home, November 2021)."""
    max_text: Characters = 2000
    """Longest text in characters, after cleaning (crawling@home cut there; we reject)."""
    max_url: Characters = 2000
    """Longest url in characters, resolved and escaped (crawling@home cut there; we reject)."""
    reject_suffixes: tuple[str, ...] = (".svg", ".svgz", ".ico")
    """Ends of url paths that are no pictures for CLIP; case does not matter."""
    respect: tuple[str, ...] = RESPECTED
    """Robots directives, from metas and headers of the page, that keep all its images out. An empty
    list respects none."""
    max_page_bytes: Annotated[int, msgspec.Meta(ge=1, le=256 << 20)] = 8 << 20
    """HTML of a page of a WARC that is read at most, in bytes; Common Crawl stores no more than 5
    MiB."""
    also: tuple[Extra, ...] = ()
    """Images beside `<img src>`: `og:image` (with its alt, else og:title), `title` (of images
    without alt), and for WARCs, and WATs of other writers than Common Crawl, `srcset`, `data-src`
    and `picture`."""
    table: TableOptions = TableOptions()
    """Columns of inputs that are tables (parquet, CSV, TSV) instead of archives."""
    language: LanguageOptions = LanguageOptions()
    """When to believe the language detector."""
    splits: Annotated[tuple[Split, ...], msgspec.Meta(min_length=1)] = SPLITS
    """Splits that go on; texts of the others are rejected, so they need no model."""

    def page_rules(self) -> PageRules:
        """Return what is looked for in the pages of an archive."""
        reserve = frozenset(name.lower() for name in self.respect)
        return PageRules(reserve, frozenset(self.also), self.max_page_bytes)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one archive held.

    ``groups`` follow `schema.CANDIDATES` in (bucket, record_offset, link_index) order. ``counts``
    count image links; its notes are those of `archive_pages.read_pages`. ``errors`` says where the
    archive could not be read any further.
    """

    groups: Sequence[pa.Table]
    counts: Counts
    errors: tuple[str, ...]


def check_input(archive: str, options: ExtractOptions) -> None:
    """Look at the first records of a local archive or table; a remote one is taken on trust.

    Raises
    ------
    InputError
        It cannot be read, or is not what it should be.
    """
    if is_table(archive):
        check_table(archive, options.table)
    else:
        check_archive(archive)


def extract_archive(
    archive: str,
    options: ExtractOptions,
    *,
    buckets: int,
    name: str | None = None,
    allow_addresses: Sequence[str] = (),
    subset: Keys | None = None,
) -> Extraction:
    """Return the candidates of one archive.

    Parameters
    ----------
    archive
        Path or http(s) url of a WAT or WARC archive, or of a table of urls and texts.
    options
        Which links to keep.
    buckets
        Number of host buckets; see `dedup.host_bucket`.
    name
        What rows call the archive; by default as it is called here.
    allow_addresses
        Networks (CIDR) whose addresses urls may name although they are not public, as
        `download.allow_addresses`.
    subset
        Sorted uids: rows of tables that have others are left out.

    Raises
    ------
    ShardError
        Nothing of the archive can be read, or it is none.
    RetryableError
        The server of a remote archive does not answer.
    """
    rows = RowBuilder(Detector(options.language), options.splits, buckets)
    links = _Links(options, rows, tuple(map(ip_network, allow_addresses)))
    notes = Counter(records=0, pages=0, bad_records=0, bytes=0)
    pages = (
        _read_rows(archive, options, notes, subset)
        if is_table(archive)
        else read_pages(archive, options.page_rules(), notes)
    )
    errors: tuple[str, ...] = ()
    try:
        with contextlib.closing(pages):
            for offset, page in pages:
                links.add_page(page, offset)
    except ShardError as error:
        errors = (str(error),)
    n_others = notes.pop(Reject.NOT_IN_SUBSET, 0)
    links.leave_out(Reject.NOT_IN_SUBSET, n_others)
    notes["records"] += n_others
    if not notes["records"] and (errors or notes["bad_records"]):
        raise ShardError(*errors or (f"{archive} holds no sound record",))
    groups = links.rows.groups(name or archive)
    return Extraction(groups, links.counts(groups.n_rows, dict(notes)), errors)


def links_per_byte(archive: str, options: ExtractOptions, n_bytes: int) -> float:
    """Return how many candidates a local archive has for each of its bytes.

    Looks at its first `n_bytes` bytes, or a little more; 0 if nothing can be read there.
    """
    rows = RowBuilder(Detector(options.language), options.splits, buckets=1)
    links, end = _Links(options, rows, ()), 0
    with contextlib.suppress(ShardError):
        for offset, page in read_pages(archive, options.page_rules(), Counter()):
            links.add_page(page, offset)
            end = offset
            if offset > n_bytes:
                return links.n_unique / offset
    return links.n_unique / max(end, Path(archive).stat().st_size)


def _read_rows(
    archive: str, options: ExtractOptions, notes: Counter[str], subset: Keys | None
) -> Generator[tuple[int, Page], None, None]:
    """Yield the rows of a table, each as a page of one image with its number as offset."""
    for number, page in read_table(archive, options.table, notes, subset):
        notes["records"] += 1
        yield number, page
    if not notes["records"] and not notes[Reject.NOT_IN_SUBSET]:
        raise ShardError(f"{archive} holds no records")


class _Links:
    """The image links of one archive: what was seen, kept and rejected."""

    def __init__(
        self, options: ExtractOptions, rows: RowBuilder, allowed: Sequence[Network]
    ) -> None:
        self.rows = rows
        self._options = options
        self._allowed = allowed
        self._suffixes = tuple(suffix.lower() for suffix in options.reject_suffixes)
        self._uids: set[bytes] = set()
        self._seen = self._n_bytes = 0
        self._room = math.inf
        self._rejected: Counter[Reject] = Counter()

    @property
    def n_unique(self) -> int:
        """How many different pairs were kept so far, of any split."""
        return len(self._uids)

    def counts(self, kept: int, notes: dict[str, int]) -> Counts:
        """Return what became of all links; new pairs that are not kept are of an unwanted split."""
        rejected = self._rejected + Counter({Reject.SPLIT: len(self._uids) - kept})
        by_reason = {reason.value: count for reason, count in sorted(rejected.items())}
        return Counts(self._seen, kept, by_reason, notes)

    def leave_out(self, reason: Reject, number: int) -> None:
        """Count links that are not looked at."""
        self._seen += number
        self._rejected[reason] += number

    def add_page(self, page: Page, offset: int) -> None:
        """Judge the links of one page; keep the good ones.

        Raises
        ------
        ShardError
            If the rows of the archive take more than any archive's should.
        """
        self._room = PAGE_BYTES + PAGE_FACTOR * page.n_bytes
        if len(page.url) > self._options.max_url:
            page.url = ""
        self._seen += len(page.images)
        if page.is_reserved:
            self._rejected[Reject.PAGE_DIRECTIVE] += len(page.images)
            return
        n_without = 0
        for index, link in enumerate(page.images):
            if not link.alt:
                n_without += 1
            elif reason := self._judge(link, page, offset, index):
                self._rejected[reason] += 1
        if n_without:
            self._rejected[Reject.NO_TEXT] += n_without
        if self._n_bytes > ARCHIVE_BYTES and math.isfinite(
            page.n_bytes
        ):  # a table's rows are its own
            raise ShardError(
                f"its rows take more than {ARCHIVE_BYTES >> 20} MiB; what follows byte {offset} "
                "is not read"
            )

    def _judge(self, link: Link, page: Page, offset: int, index: int) -> Reject | None:
        """Keep a link, or return why not."""
        text = self._text(link.alt or "")
        if isinstance(text, Reject):
            return text
        url = self._url(link.url or "", page)
        if isinstance(url, Reject):
            return url
        href = url.href
        if page.is_published:
            text, href = link.alt or "", link.url or ""
        key = uid(text, href)
        if key in self._uids:
            return Reject.DUPLICATE
        n_bytes = len(href) + len(text) + len(page.license or "") + len(page.url)
        if n_bytes > self._room:
            return Reject.PAGE_SIZE
        self._room -= n_bytes
        self._n_bytes += n_bytes
        self._uids.add(key)
        found_at = page.license, page.url, offset, index
        self.rows.add(Pair(key, href, url.host, text, *found_at, page.sha256))
        return None

    def _url(self, href: str, page: Page) -> Url | Reject:
        """Resolve a link, or return why it leads to no picture of ours.

        One that is relative to an endless base is too long without a look.
        """
        base = NOWHERE if href.startswith(ABSOLUTE) else page.base
        if len(base.href) > self._options.max_url and not (base.origin and href.startswith("/")):
            return Reject.LONG_URL
        url = resolve(href, base, self._allowed)
        if isinstance(url, Reject):
            return url
        if len(url.href) > self._options.max_url:
            return Reject.LONG_URL
        return Reject.FORMAT if url.path.lower().endswith(self._suffixes) else url

    def _text(self, alt: str) -> str | Reject:
        options = self._options
        if is_far_beyond(alt, options.max_text):
            return Reject.LONG_TEXT
        text = clean(alt)
        if len(text) < options.min_text or not has_length(text, options.min_text):
            return Reject.SHORT_TEXT if has_length(text, 1) else Reject.NO_TEXT
        return text if len(text) <= options.max_text else Reject.LONG_TEXT
