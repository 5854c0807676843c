"""Extraction from WARC archives, beside that from their WATs."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from cah_dask.candidates.extract import (
    Extraction,
    ExtractOptions,
    extract_archive,
    links_per_byte,
)
from cah_dask.errors import ShardError
from tests import warcs, wats
from tests.candidates.test_html import ANSWERS, tree_of
from tests.fileserver import FileServer, serve

URL = "https://www.example.org/a/page.html"
PAGE = b"<img src=1.png alt='A black cat'><img src=/2.png alt='A brown dog'>"


def extract(archive: str, **options) -> Extraction:
    return extract_archive(archive, ExtractOptions(**options), buckets=4)


def rows(found: Extraction) -> list[dict]:
    table = pa.concat_tables(found.groups)
    return table.drop_columns(["archive", "record_offset"]).to_pylist()


def urls(found: Extraction) -> list[str]:
    return sorted(row["url"] for row in rows(found))


def write(tmp_path: Path, *records: bytes, **how) -> str:
    return warcs.write_warc(tmp_path / "x.warc.gz", records, **how)


def test_a_warc_gives_the_candidates_of_its_wat(tmp_path):
    pages = [
        warcs.response(
            f"https://h{number}.test/a/{number}.html",
            case["html"].encode(case["charset"]),
            [("Content-Type", case["content_type"])],
        )
        for number, case in enumerate(ANSWERS["equal"])
    ]
    records = [
        wats.record(wats.as_json(tree_of(case)), f"https://h{number}.test/a/{number}.html")
        for number, case in enumerate(ANSWERS["equal"])
    ]
    of_warc = extract(write(tmp_path, *pages, requests=True), min_text=1)
    of_wat = extract(wats.write_wat(tmp_path / "x.warc.wat.gz", *records), min_text=1)
    assert len(rows(of_wat)) > 40
    assert rows(of_warc) == rows(of_wat)
    assert of_warc.counts.rejected == of_wat.counts.rejected
    assert (of_warc.counts.seen, of_warc.counts.kept) == (of_wat.counts.seen, of_wat.counts.kept)


@pytest.mark.parametrize("is_gzipped", [True, False])
def test_a_row_tells_where_its_record_begins(tmp_path, is_gzipped):
    archive = write(
        tmp_path, warcs.response(URL, b"<p>"), warcs.response(URL, PAGE), gzip=is_gzipped
    )
    (offset,) = set(pa.concat_tables(extract(archive).groups)["record_offset"].to_pylist())
    data = Path(archive).read_bytes()[offset:]
    record = gzip.decompress(data) if is_gzipped else data
    assert record.startswith(b"WARC/1.0\r\nWARC-Type: response\r\n")
    assert PAGE in record


def test_what_is_no_page_is_counted(tmp_path):
    found = extract(
        write(
            tmp_path,
            warcs.response(URL, PAGE),
            warcs.response(f"{URL}?resource", PAGE, kind="resource"),
            warcs.response(f"{URL}?no-type", b"<!doctype html>" + PAGE, {}),
            warcs.response(f"{URL}?no-images", b"<p>A page"),
            warcs.response(f"{URL}?lost", PAGE, status=404),
            warcs.response(f"{URL}?moved", PAGE, status=301),
            warcs.response(f"{URL}?picture", b"\x89PNG", {"Content-Type": "image/png"}),
            warcs.response(f"{URL}?something", b"\x89PNG", {}),
            warcs.revisit(f"{URL}?again", (URL, warcs.DATE)),
            warcs.response(f"{URL}?text", b"A page", kind="conversion"),
        )
    )
    notes = found.counts.notes
    assert (notes["records"], notes["pages"], notes["bad_records"]) == (10, 3, 0)
    assert (notes["other_status"], notes["other_mime"], notes["other_kind"]) == (2, 2, 2)
    assert notes["bytes"] == 3 * len(PAGE) + len(b"<!doctype html><p>A page")
    assert (found.counts.seen, found.counts.kept) == (6, 2)


def test_directives_of_a_warc_count(tmp_path):
    headers = [("Content-Type", "text/html"), ("X-Robots-Tag", "all"), ("X-Robots-Tag", "noai")]
    archive = write(tmp_path, warcs.response(URL, PAGE, headers))
    assert extract(archive).counts.rejected == {"page_directive": 2}
    assert extract(archive, respect=()).counts.kept == 2


@pytest.mark.parametrize("kind", ["response", "resource"])
@pytest.mark.parametrize("codec", ["iso8859-2", "cp1250", "koi8-r"])
def test_the_charset_is_that_of_the_message_or_else_of_the_record(tmp_path, kind, codec):
    text = {"koi8-r": "Чёрный кот"}.get(codec, "Žlutý kůň")
    headers = {"Content-Type": f"text/html; charset={codec}"}
    body = f"<img src=1.png alt='{text}'>".encode(codec)
    found = extract(write(tmp_path, warcs.response(URL, body, headers, kind=kind)))
    assert [row["text"] for row in rows(found)] == [text]


def test_codings_are_undone(tmp_path):
    html = {"Content-Type": "text/html"}
    packed = warcs.chunked(gzip.compress(PAGE), 20)
    headers = {**html, "Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}
    archive = write(tmp_path, warcs.response(URL, packed, headers))
    assert urls(extract(archive)) == [
        "https://www.example.org/2.png",
        "https://www.example.org/a/1.png",
    ]


def test_of_a_page_that_is_too_large_the_beginning_counts(tmp_path):
    body = PAGE + b"<img src=3.png alt='A green bird'>" * 1000
    found = extract(write(tmp_path, warcs.response(URL, body)), max_page_bytes=len(PAGE) + 10)
    assert len(urls(found)) == 2
    assert found.counts.notes["cut_pages"] == 1
    assert found.counts.notes["bytes"] == len(PAGE) + 10


HOSTILE = {
    "nested": b"<div>" * 100_000,
    "left open": b"".join(b"<font color=%d><p>" % n for n in range(100_000)),
    "attributes": b"<p " + b"".join(b"a%d=1 " % n for n in range(100_000)) + b">",
    "a long attribute": b"<p title='" + b"x" * 7_000_000 + b"'>",
    "zeros": b"\0" * 1_000_000,
    "comments": b"<!--" * 100_000 + b"-->",
    "images": b"<img src=1.png alt='A black cat'>" * 200_000,
    "ends": b"</p>" * 1_000_000,
    "signs": b"<" * 2_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_costs_itself_and_no_other(tmp_path, name):
    before, after = (warcs.response(f"https://{n}.test/", PAGE) for n in ("a", "c"))
    found = extract(write(tmp_path, before, warcs.response(URL, HOSTILE[name] + PAGE), after))
    assert {"https://a.test/1.png", "https://c.test/1.png"} <= set(urls(found))
    assert "https://www.example.org/a/1.png" in urls(found)


def test_an_archive_that_is_cut_gives_what_is_sound(tmp_path):
    archive = Path(
        write(tmp_path, warcs.response(URL, PAGE), warcs.response("https://b.test/", PAGE))
    )
    archive.write_bytes(archive.read_bytes()[:-30])
    found = extract(str(archive))
    assert len(urls(found)) == 2
    assert "cut or damaged" in found.errors[0]


@pytest.mark.parametrize(
    "name", ["x.warc.gz", "www.watson/x.warc.gz", "x.wats.warc.gz", "x.warc.gz?as=.wat.gz"]
)
def test_a_remote_archive_is_told_by_its_records_too(tmp_path, name):
    path = Path(write(tmp_path, warcs.response(URL, PAGE)))
    with serve(FileServer(path.read_bytes()), name) as server:
        assert rows(extract(server.url)) == rows(extract(str(path)))


@pytest.mark.parametrize(
    "name",
    [
        *("www.watson/x.warc.gz", "x.wat.d/x.warc.gz", "x.wat.warc.gz", "x.watch.warc.gz"),
        *("xwat.gz", "x.warc.gz?was=x.wat.gz", "x.warc.gz#.wat", "really-a-warc.wat.gz"),
    ],
)
def test_no_name_hides_the_pages_of_a_remote_warc(tmp_path, name):
    path = Path(write(tmp_path, warcs.response(URL, PAGE)))
    with serve(FileServer(path.read_bytes()), name) as server:
        assert rows(extract(server.url)) == rows(extract(str(path)))


@pytest.mark.parametrize("name", ["x.warc.wat.gz", "X.WAT", "x.wat.gz?token=a.warc.gz"])
def test_a_remote_archive_that_is_called_a_wat_is_asked_for_once(tmp_path, name):
    path = Path(wats.write_pages(tmp_path / "x.wat.gz", wats.page(wats.image("x.jpg", "A cat"))))
    with serve(FileServer(path.read_bytes()), name) as server:
        assert extract(server.url).counts.seen == 1
        assert len(server.requests) == 1


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("records", [(), (warcs.request(URL),) * 3, (warcs.metadata(URL),) * 3])
def test_an_archive_may_hold_no_pages(tmp_path, records, is_remote):
    path = Path(write(tmp_path, *records))
    with serve(FileServer(path.read_bytes())) as server:
        found = extract(server.url if is_remote else str(path))
    notes = found.counts.notes
    assert (notes["records"], notes["pages"], found.counts.seen, found.errors) == (0, 0, 0, ())


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"<html>Not found</html>", b"\x1f\x8b", bytes(5000)),
        gzip.compress(b"a,b\n" * 9, mtime=0),
        gzip.compress(warcs.response(URL, PAGE), mtime=0)[:-30],
        gzip.compress(warcs.response(URL, b"A page", kind="conversion"), mtime=0),
    ],
)
def test_what_is_no_archive_of_pages_is_an_error(tmp_path, data, is_remote):
    path = tmp_path / "x.wat.gz"
    path.write_bytes(data)
    with (
        serve(FileServer(data)) as server,
        pytest.raises(ShardError, match="holds neither WAT records nor responses"),
    ):
        extract(server.url if is_remote else str(path))


def test_an_archive_whose_pages_are_all_lost_is_an_error(tmp_path):
    archive = Path(write(tmp_path, warcs.response(URL, PAGE)))
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ShardError, match="cut or damaged"):
        extract(str(archive))


def test_candidates_of_a_warc_can_be_estimated(tmp_path):
    records = [warcs.response(f"https://h{n}.test/{n}/", PAGE) for n in range(50)]
    archive = write(tmp_path, *records)
    n_bytes = Path(archive).stat().st_size
    for looked_at in (n_bytes // 2, 2 * n_bytes):
        rate = links_per_byte(archive, ExtractOptions(), looked_at)
        assert rate * n_bytes == pytest.approx(100, rel=0.1)
