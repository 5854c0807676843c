import random
from datetime import UTC, datetime

import pytest

from cah_dask.images.archived.captures import (
    Capture,
    CaptureRows,
    digest_hash,
    in_order,
    key_of,
    moment,
)
from cah_dask.schema import CAPTURES

NEW, OLD = 1_700_000_000, 1_600_000_000


def capture(date: int, status: int = 200, **others) -> Capture:
    about = {"is_revisit": False, "digest": "", "archive": "a", "offset": 0}
    return Capture("http://a.test/1.jpg", date, status, **{**about, **others})


def ordered(*captures: Capture) -> list[tuple[int, int, bool, str]]:
    rows = CaptureRows(8)
    for each in captures:
        rows.add(each)
    table = in_order([rows.table()])
    assert table.schema == CAPTURES
    names = ("date", "status", "is_revisit", "archive")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_what_holds_something_counts_before_revisits_redirects_and_refusals():
    captures = [
        capture(NEW, 404, offset=1),
        capture(NEW, 302, offset=2),
        capture(NEW, 0, is_revisit=True, offset=3),
        capture(NEW, 204, offset=4),
        capture(OLD, 206, offset=5),
        capture(OLD - 1, 200, offset=6),
    ]
    random.Random(1).shuffle(captures)
    assert [row[:3] for row in ordered(*captures)] == [
        (OLD, 206, False),
        (OLD - 1, 200, False),
        (NEW, 0, True),
        (NEW, 302, False),
        *[(NEW, status, False) for _, status, *_ in ordered(*captures)[4:]],
    ]
    assert {row[1] for row in ordered(*captures)[4:]} == {404, 204}


def test_of_one_second_the_archive_whose_name_comes_first_counts():
    captures = [capture(NEW, archive=name, offset=at) for at, name in enumerate("cab")]
    assert [row[3] for row in ordered(*captures)] == ["a", "b", "c"]


def test_a_record_that_two_sources_name_is_there_once():
    assert len(ordered(capture(NEW), capture(NEW), capture(NEW, offset=9))) == 2


def test_captures_of_urls_without_a_host_are_counted():
    rows = CaptureRows(8)
    for url in ("dns:a.test", "metadata://x", "urn:uuid:1", "http://a.test/", "//[", ""):
        rows.add(capture(NEW)._replace(url=url))
    assert (rows.n_kept, rows.n_elsewhere, len(rows.table())) == (1, 5, 1)


def test_no_captures_are_an_empty_table():
    assert len(in_order([CaptureRows(8).table()])) == 0


@pytest.mark.parametrize(
    "spelling",
    [
        *("HTTP://A.test:80/1.jpg", "http://a.test/x/../1.jpg#top", "http://me@a.test./1.jpg"),
        "https://a.test/1.jpg",
    ],
)
def test_a_url_is_found_however_it_is_spelt(spelling):
    assert key_of(spelling) == key_of("http://a.test/1.jpg")
    assert key_of("http://a.test/2.jpg") != key_of("http://a.test/1.jpg")


def test_digests_are_compared_without_their_algorithm():
    assert digest_hash("sha1:ABC") == digest_hash("abc") != digest_hash("sha1:XYZ")
    assert digest_hash("") == digest_hash("-") == 0


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2024-05-31T01:17:49Z", datetime(2024, 5, 31, 1, 17, 49, tzinfo=UTC)),
        ("20240531011749", datetime(2024, 5, 31, 1, 17, 49, tzinfo=UTC)),
        ("2024-05-31T01:17:49.5Z", datetime(2024, 5, 31, 1, 17, 49, 500_000, tzinfo=UTC)),
        ("2024-05-31T03:17:49+02:00", datetime(2024, 5, 31, 1, 17, 49, tzinfo=UTC)),
        ("yesterday", datetime(1970, 1, 1, tzinfo=UTC)),
        ("20241331011749", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_dates_of_archives_and_cdx_files_are_read(date, expected):
    assert moment(date) == expected
