"""One archive to candidates: image links with a text worth keeping, every rejected one counted.

Checks run in the order of their price, and the first that fails is the reason of a link: what the
page asks, the text, the url, the file format, an equal pair before. Only texts that are left go to
the language detector.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, NamedTuple

import msgspec
import pyarrow as pa

from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.language import NO_LANGUAGE, Detector, Language, LanguageOptions
from cah_dask.candidates.rows import Row, RowBuilder
from cah_dask.candidates.sources import read_records
from cah_dask.candidates.text import clean, is_filename
from cah_dask.candidates.urls import Base, Url, resolve
from cah_dask.candidates.wat import MARK, ImageLink, Page, parse_page
from cah_dask.errors import RecordError, ShardError
from cah_dask.schema import SPLITS, Counts, Reject, Split, uid

RESPECTED = ("noindex", "noimageindex", "noai", "noimageai", "noml", "none", "tdm-reservation")
"""Directives that keep a page's images out: those of img2dataset, `noml`, `none` (noindex and
nofollow in one) and the TDM reservation protocol."""

_ESCAPE = 16  # no entity or mojibake is longer: a raw text of 16 limits is too long when clean
_CACHED = 1 << 15  # hosts, and texts such as "Facebook", that come again and again in an archive

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
    language: LanguageOptions = LanguageOptions()
    """When to believe the language detector."""
    splits: Annotated[tuple[Split, ...], msgspec.Meta(min_length=1)] = SPLITS
    """Splits that go on; texts of the others are rejected, so they need no model."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one archive held.

    ``groups`` follow `schema.CANDIDATES` in (bucket, record_offset, link_index) order. ``counts``
    count image links; its notes count WAT records, pages with image links, records that were no
    JSON, and bytes of JSON. ``errors`` says where the archive could not be read any further.
    """

    groups: list[pa.Table]
    counts: Counts
    errors: tuple[str, ...]


def extract_archive(archive: str, options: ExtractOptions, *, buckets: int) -> Extraction:
    """Return the candidates of one archive.

    Parameters
    ----------
    archive
        Path or http(s) url of a WAT archive.
    options
        Which links to keep.
    buckets
        Number of host buckets; see `dedup.host_bucket`.

    Raises
    ------
    ShardError
        Nothing of the archive can be read, or it holds no WAT records.
    RetryableError
        The server of a remote archive does not answer.
    """
    links = _Links(options, buckets)
    notes = Counter(records=0, pages=0, bad_records=0, bytes=0)
    errors: tuple[str, ...] = ()
    try:
        for record, data in read_records(archive):
            notes["records"] += 1
            notes["bytes"] += len(data)
            if MARK in data:
                page = _parse(record.headers.get("WARC-Target-URI") or "", data)
                notes["pages" if page else "bad_records"] += 1
                if page:
                    links.add_page(page, record.stream_pos)
    except ShardError as error:
        errors = (str(error),)
    if not notes["records"]:
        raise ShardError(*errors or (f"{archive} holds no WAT records",))
    return Extraction(links.rows.groups(archive), links.counts(dict(notes)), errors)


def _parse(url: str, data: bytes) -> Page | None:
    try:
        return parse_page(url, data)
    except RecordError:
        return None


class _Links:
    """The image links of one archive: what was seen, kept and rejected."""

    def __init__(self, options: ExtractOptions, buckets: int) -> None:
        self.rows = RowBuilder()
        self._options = options
        self._respect = frozenset(name.lower() for name in options.respect)
        self._suffixes = tuple(suffix.lower() for suffix in options.reject_suffixes)
        self._uids: set[bytes] = set()
        self._seen = 0
        self._rejected: Counter[Reject] = Counter()
        self._bucket = lru_cache(_CACHED)(lambda host: host_bucket(host, buckets))
        self._describe = lru_cache(_CACHED)(_Describe(options.language))

    def counts(self, notes: dict[str, int]) -> Counts:
        """Return what became of all links."""
        rejected = {reason.value: count for reason, count in sorted(self._rejected.items())}
        return Counts(self._seen, len(self.rows), rejected, notes)

    def add_page(self, page: Page, offset: int) -> None:
        """Judge the links of one page; keep the good ones."""
        self._seen += len(page.images)
        if not self._respect.isdisjoint(page.directives):
            self._rejected[Reject.PAGE_DIRECTIVE] += len(page.images)
            return
        for index, link in enumerate(page.images):
            pair = self._judge(link, page.base)
            if isinstance(pair, Reject):
                self._rejected[pair] += 1
            else:
                self._keep(pair, page, offset, index)

    def _judge(self, link: ImageLink, base: Base) -> "_Pair | Reject":
        text = self._text(link.alt)
        if isinstance(text, Reject):
            return text
        url = self._url(link.url, base)
        if isinstance(url, Reject):
            return url
        key = uid(text, url.href)
        if key in self._uids:
            return Reject.DUPLICATE
        self._uids.add(key)
        return _Pair(key, url, text)

    def _text(self, alt: str | None) -> str | Reject:
        if not alt:
            return Reject.NO_TEXT
        options = self._options
        if len(alt) > _ESCAPE * options.max_text:
            return Reject.LONG_TEXT
        text = clean(alt)
        if len(text) < options.min_text:
            return Reject.SHORT_TEXT if text else Reject.NO_TEXT
        return text if len(text) <= options.max_text else Reject.LONG_TEXT

    def _url(self, link: str | None, base: Base) -> Url | Reject:
        url = resolve(link or "", base)
        if isinstance(url, Reject):
            return url
        if len(url.href) > self._options.max_url:
            return Reject.LONG_URL
        return Reject.FORMAT if url.path.lower().endswith(self._suffixes) else url

    def _keep(self, pair: "_Pair", page: Page, offset: int, index: int) -> None:
        language, names_file = self._describe(pair.text)
        if language.split not in self._options.splits:
            self._rejected[Reject.SPLIT] += 1
            return
        self.rows.add(
            Row(
                self._bucket(pair.url.host),
                pair.uid,
                pair.url.href,
                pair.text,
                language.split,
                language.lang,
                language.confidence,
                language.is_reliable,
                names_file,
                page.license,
                page.url,
                offset,
                index,
            )
        )


class _Pair(NamedTuple):
    uid: bytes
    url: Url
    text: str


class _Describe:
    """Language of a text, and whether it is the name of a file; file names have no language."""

    def __init__(self, options: LanguageOptions) -> None:
        self._detector = Detector(options)

    def __call__(self, text: str) -> tuple[Language, bool]:
        names_file = is_filename(text)
        return NO_LANGUAGE if names_file else self._detector.classify(text), names_file
