"""The pages of an archive that have image links, one by one."""

import re
from collections import Counter
from collections.abc import Generator
from urllib.parse import urlsplit

from cah_dask.archives.kind import Kind, look
from cah_dask.archives.records import Record, Records
from cah_dask.archives.remote import is_remote
from cah_dask.archives.responses import LeftOut, Responses, Wanted
from cah_dask.candidates.html import MEDIA_TYPES, is_html, parse_html
from cah_dask.candidates.page import Page, PageRules
from cah_dask.candidates.page_images import marks
from cah_dask.candidates.wat import is_json, parse_page
from cah_dask.errors import RecordError, ShardError
from cah_dask.words import few

Pages = Generator[tuple[int, Page], None, None]
"""Pages, each with the offset of its record."""

_CALLED_WAT = re.compile(r"\.wat(?:\.gz)?\Z", re.IGNORECASE)


def read_pages(archive: str, rules: PageRules, notes: Counter[str]) -> Pages:
    """Yield the pages with image links of an archive in its order.

    Parameters
    ----------
    archive
        Path or url. Its records tell whether it is a WAT or a WARC; a remote one that is called a
        WAT (``.wat``, ``.wat.gz``) is read as one first, which saves a request.
    rules
        What to look for in a page.
    notes
        Is told of records, pages with image links, bad records, and bytes of JSON or HTML; of a
        WARC also of records that were left out, by reason, and of pages that are not whole.

    Raises
    ------
    ShardError
        After the last page: what could not be read. Before the first one: nothing can be.
    RetryableError
        A local archive is out of reach, or the server of a remote one does not answer.
    """
    errors: list[str] = []
    if is_remote(archive) and _CALLED_WAT.search(urlsplit(archive).path):
        errors = yield from _read_wat(archive, rules, notes)
    if not notes["records"]:
        notes["bad_records"] = 0  # they are counted as what they are
        errors = yield from _read_as_told(archive, rules, notes)
    if errors:
        raise ShardError(f"{archive}: {'; '.join(few(errors))}")


def _read_as_told(
    archive: str, rules: PageRules, notes: Counter[str]
) -> Generator[tuple[int, Page], None, list[str]]:
    """Yield the pages of an archive by what its records are; return what could not be read."""
    kind, errors = look(archive)
    if kind is None:
        why = f" ({'; '.join(few(errors))})" if errors else ""
        raise ShardError(f"{archive} holds neither WAT records nor responses{why}")
    read = _read_wat if kind is Kind.WAT else _read_warc
    return (yield from read(archive, rules, notes))


def _read_warc(
    archive: str, rules: PageRules, notes: Counter[str]
) -> Generator[tuple[int, Page], None, list[str]]:
    """Yield the pages of a WARC; return what could not be read."""
    wanted = Wanted(("response", "resource"), (200,), (*MEDIA_TYPES, ""), max_bytes=rules.max_bytes)
    responses = Responses(archive, wanted)
    try:
        for response in responses:
            if not is_html(response.mime, response.body):
                responses.left_out[LeftOut.MIME] += 1
                continue
            notes["bytes"] += len(response.body)
            notes["cut_pages"] += bool(response.fault)
            headers = response.headers or (("Content-Type", response.content_type),)
            page = parse_html(response.url, headers, response.body, rules)
            if page.images:
                notes["pages"] += 1
                yield response.offset, page
    finally:
        notes.update(records=responses.n_records, bad_records=responses.n_bad)
        notes.update({f"other_{reason}": n for reason, n in responses.left_out.items()})
    return responses.errors


def _read_wat(
    archive: str, rules: PageRules, notes: Counter[str]
) -> Generator[tuple[int, Page], None, list[str]]:
    """Yield the pages of a WAT; return what could not be read."""
    may_have_images = marks(rules.also).search
    n_pages = 0
    records = Records(archive, lambda data: may_have_images(data) or not is_json(data))
    try:
        for record in records:
            page = _page(record, records, rules)
            if page is None:
                records.n_bad += 1
            else:
                n_pages += 1
                yield record.offset, page
    finally:
        notes.update(
            records=records.n_records,
            bytes=records.n_bytes,
            pages=n_pages,
            bad_records=records.n_bad,
        )
    return records.errors


def _page(record: Record, records: Records, rules: PageRules) -> Page | None:
    """Parse a record; where it is no JSON, what its gzip member holds."""
    try:
        return parse_page(record.url, record.data, rules)
    except RecordError:
        data = records.reread()
    if data is None:
        return None
    try:
        return parse_page(record.url, data, rules)
    except RecordError:
        return None
