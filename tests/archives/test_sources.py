import gzip
from pathlib import Path

import pytest

from cah_dask.archives.kind import Kind, look
from cah_dask.archives.records import Records
from cah_dask.archives.responses import Responses
from cah_dask.archives.sources import COMMON_CRAWL, check_archive, list_archives
from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.errors import InputError, RetryableError
from tests import warcs
from tests.fileserver import FileServer, serve
from tests.wats import WARCINFO, image, page, write_pages, write_wat


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wat.gz", "a.wat.gz", "c[1].wat.gz"):
        (tmp_path / name).touch()
    return tmp_path


def test_files_globs_and_urls_keep_their_order_and_come_once(folder):
    url = "https://example.org/z.wat.gz"
    inputs = [url, f"{folder}/b.wat.gz", f"{folder}/*.wat.gz", f"{folder}/c[1].wat.gz", url]
    assert list_archives(inputs) == [
        url,
        *(f"{folder}/{name}" for name in ("b.wat.gz", "a.wat.gz", "c[1].wat.gz")),
    ]


def test_a_list_of_common_crawl_names_its_public_address(tmp_path):
    lines = (
        "crawl-data/CC-MAIN-2024-22/wat/x.warc.wat.gz\n\n# a comment\ncrawl-data/y.warc.wat.gz\n"
    )
    with gzip.open(tmp_path / "wat.paths.gz", "wt") as file:
        file.write(lines)
    (tmp_path / "wat.paths").write_text(lines)
    expected = [
        f"{COMMON_CRAWL}crawl-data/CC-MAIN-2024-22/wat/x.warc.wat.gz",
        f"{COMMON_CRAWL}crawl-data/y.warc.wat.gz",
    ]
    assert list_archives([f"{tmp_path}/wat.paths.gz"]) == expected
    assert list_archives([f"{tmp_path}/wat.paths"]) == expected


def test_other_lines_of_a_list_lie_beside_it_or_where_they_say(folder):
    (folder / "my.paths").write_text(f"a.wat.gz\n{folder}/b.wat.gz\nhttp://example.org/c.wat.gz\n")
    assert list_archives([f"{folder}/my.paths"]) == [
        f"{folder}/a.wat.gz",
        f"{folder}/b.wat.gz",
        "http://example.org/c.wat.gz",
    ]


def test_a_list_may_be_remote():
    server = FileServer(gzip.compress(b"crawl-data/x.warc.wat.gz\n"))
    with serve(server, "wat.paths.gz"):
        assert list_archives([server.url]) == [f"{COMMON_CRAWL}crawl-data/x.warc.wat.gz"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no inputs"),
        (["{}/missing.wat.gz"], "does not exist"),
        (["{}/*.nothing"], "matches no file"),
        (["{}"], "is a folder"),
        (["gs://bucket/x.wat.gz"], "unknown scheme"),
        (["{}/missing.paths"], "does not exist"),
        (["{}/empty.paths"], "is empty"),
        (["{}/broken.paths.gz"], "no readable list"),
        (["{}/dangling.paths"], "does not exist"),
    ],
)
def test_bad_inputs_are_a_clear_error(folder, entries, message):
    (folder / "empty.paths").write_text("\n# nothing\n")
    (folder / "broken.paths.gz").write_text("no gzip")
    (folder / "dangling.paths").write_text("nowhere.wat.gz")
    with pytest.raises(InputError, match=message):
        list_archives([entry.format(folder) for entry in entries])


@pytest.mark.parametrize("scheme", ["http", "https", "s3"])
@pytest.mark.parametrize("end", ["x.warc.gz", "x.paths", ""])
def test_a_url_with_credentials_is_refused_and_not_repeated(tmp_path, scheme, end):
    url = f"{scheme}://me:secret@127.0.0.1:1/{end}"
    (tmp_path / "l.paths").write_text(f"{url}\n")
    for entry in (url, str(tmp_path / "l.paths")):
        with pytest.raises(InputError, match="url with credentials") as refused:
            list_archives([entry])
        assert "secret" not in str(refused.value)


def test_wats_and_warcs_pass_the_check_and_a_remote_one_is_taken_on_trust(tmp_path):
    check_archive(write_pages(tmp_path / "x.wat.gz", page()))
    responses = [warcs.response("http://h.test/", b"<p>A page")]
    check_archive(warcs.write_warc(tmp_path / "x.warc.gz", responses, requests=True))
    check_archive("http://example.org/x.wat.gz")


def test_an_archive_is_told_by_its_records_and_not_by_its_name(tmp_path):
    notes = warcs.record("metadata", "http://h.test/", b'{"a": 1}', "application/json")
    answered = warcs.response("http://h.test/", b"<p>A page")
    wat = Path(write_pages(tmp_path / "a.warc.gz", page())).read_bytes()
    warc = Path(warcs.write_warc(tmp_path / "b.warc.wat.gz", [notes, answered])).read_bytes()
    for name, data, kind in (
        ("wat", wat, Kind.WAT),
        ("warc", warc, Kind.WARC),
        ("wat-first", wat + warc, Kind.WAT),
        ("warc-first", warc + wat, Kind.WARC),
        ("damaged", warc[20:], Kind.WARC),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert look(str(path))[0] == kind, name


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


ANSWER = warcs.response("http://h.test/", b"<p>A page")
OTHERS = {
    "warcinfo": WARCINFO,
    "request": warcs.request("http://h.test/"),
    "metadata": warcs.metadata("http://h.test/"),
    "JSON": warcs.record("metadata", "http://h.test/", b'{"a": 1}', "application/json"),
}


@pytest.mark.parametrize("is_gzip", [True, False])
@pytest.mark.parametrize("others", OTHERS)
def test_an_archive_passes_the_check_however_late_its_pages_come_or_if_it_has_none(
    tmp_path, others, is_gzip
):
    data = member(OTHERS[others]) if is_gzip else OTHERS[others]
    for end in (b"", member(ANSWER) if is_gzip else ANSWER):
        path = tmp_path / "x.warc.gz"
        path.write_bytes(data * 120 + end)
        check_archive(str(path))


@pytest.mark.parametrize(
    "damage",
    [member(ANSWER)[:-30], member(ANSWER * 9).replace(b"\x00", b"\x01"), b"rubbish" * 99],
)
def test_an_archive_passes_the_check_if_there_are_pages_behind_damage(tmp_path, damage):
    path = tmp_path / "x.warc.gz"
    for start in (b"", member(WARCINFO)):
        path.write_bytes(start + damage + member(ANSWER) * 2)
        check_archive(str(path))
        assert len(list(Responses(str(path)))) == 2


def test_the_check_looks_no_further_than_it_must(tmp_path):
    path = tmp_path / "x.warc.gz"
    request = member(OTHERS["request"])
    path.write_bytes(request * 30 + member(ANSWER))
    assert look(str(path), within=len(request) * 20) == (Kind.EMPTY, [])
    assert look(str(path), within=len(request) * 40) == (Kind.WARC, [])


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>", b"\x1f\x8b", bytes(9999)),
        *(member(b""), member(b"a,b\n" * 9)),
        member(WARCINFO)[:-60],
        warcs.record("conversion", "http://h.test/", b"A page", "text/plain"),
        WARCINFO + warcs.record("conversion", "http://h.test/", b"A page", "text/plain"),
    ],
)
def test_what_holds_no_pages_fails_the_check(tmp_path, content):
    path = tmp_path / "x.wat.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.wat\.gz"):
        check_archive(str(path))


def test_a_missing_file_and_a_folder_fail_the_check(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="expected a WAT or WARC archive"):
            check_archive(str(path))


def test_an_archive_may_be_uncompressed_or_have_bare_line_ends(tmp_path):
    path = tmp_path / "x.wat"
    write_pages(path, page(image("x.jpg")))
    data = gzip.decompress(path.read_bytes())
    for content in (data, data.replace(b"\r\n", b"\n")):
        path.write_bytes(content)
        assert len(list(Records(str(path)))) == 1


def test_an_offset_is_that_of_a_member_which_can_be_read_alone(tmp_path):
    path = tmp_path / "x.wat.gz"
    archive = write_pages(path, page(image("1.jpg")), page(image("2.jpg")))
    offsets = [record.offset for record in Records(archive)]
    assert b"2.jpg" in gzip.decompress(path.read_bytes()[offsets[1] :])
    assert path.read_bytes()[offsets[0] :].startswith(b"\x1f\x8b")


def test_a_remote_archive_gives_what_a_local_one_gives_in_spite_of_cuts(tmp_path):
    path = tmp_path / "x.wat.gz"
    local = write_pages(path, *(page(image(f"{i}.jpg", "a text that is long")) for i in range(50)))
    server = FileServer(path.read_bytes(), cut_after=path.stat().st_size // 2 + 1)
    with serve(server):
        found = extract_archive(server.url, ExtractOptions(), buckets=1)
    expected = extract_archive(local, ExtractOptions(), buckets=1)
    assert len(server.requests) == 2
    assert found.counts == expected.counts
    assert found.groups[0].drop_columns("archive") == expected.groups[0].drop_columns("archive")


def test_a_remote_archive_that_is_refused_is_asked_for_again(tmp_path):
    path = tmp_path / "x.wat.gz"
    write_wat(path)
    with (
        serve(FileServer(b"", failures=[404])) as server,
        pytest.raises(RetryableError, match="HTTP 404"),
    ):
        extract_archive(server.url, ExtractOptions(), buckets=1)


@pytest.mark.parametrize("line", ["/etc/hostname", "file:///etc/hostname"])
def test_a_remote_list_names_no_local_file(line: str):
    with (
        serve(FileServer(line.encode()), "wat.paths") as server,
        pytest.raises(InputError),
    ):
        list_archives([server.url])
