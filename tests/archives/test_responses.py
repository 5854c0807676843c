"""Whatever a WARC holds, its sound responses are read, one by one and at their offsets."""

import contextlib
import gzip
import itertools
import random
import time
from pathlib import Path

import pytest
from fastwarc.stream_io import Lz4Writer, ZstdWriter
from fastwarc.warc import ArchiveIterator
from fastwarc.warc import response as response_type
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.archives.responses import (
    Fault,
    LeftOut,
    Response,
    Responses,
    Wanted,
    opened,
    read_response,
)
from cah_dask.errors import RecordError, RetryableError
from tests.fileserver import FileServer, serve
from tests.warcs import (
    DATE,
    chunked,
    digest,
    metadata,
    record,
    request,
    response,
    revisit,
    write_warc,
)
from tests.wats import WARCINFO

HTML = {"Content-Type": "text/html; charset=utf-8"}
PICTURE = {"Content-Type": "Image/JPEG"}
CHUNKED = {"Transfer-Encoding": "chunked"}
ALL = Wanted()
PIXELS = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8


def page(number: int) -> bytes:
    """A response whose body ends like a record does."""
    return response(f"http://h.test/{number}", b"<html>%d</html>\r\n\r\n" % number)


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def write(path: Path, *pieces: bytes) -> str:
    path.write_bytes(b"".join(pieces))
    return str(path)


def read(archive: str, wanted: Wanted = ALL) -> tuple[list[Response], Responses]:
    responses = Responses(archive, wanted)
    found = list(responses)
    assert responses.n_records == len(found) + responses.left_out.total()
    return found, responses


def of_one(path: Path, data: bytes, wanted: Wanted = ALL) -> Response:
    """The response of an archive with one, which is the same at its offset."""
    archive = write_warc(path / "x.warc.gz", [data])
    (found,), _ = read(archive, wanted)
    assert found == read_response(archive, found.offset, max_bytes=wanted.max_bytes)
    return found


def test_a_response_is_given_with_what_its_record_and_its_message_say(tmp_path: Path):
    headers = [("content-TYPE", "Text/HTML; charset=x"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    found = of_one(tmp_path, response("http://h.test/a?b", b"<html>", headers, status=404))
    assert found == Response(
        offset=len(member(WARCINFO)),
        kind="response",
        url="http://h.test/a?b",
        date=DATE,
        digest=digest(b"<html>"),
        status=404,
        headers=tuple(headers),
        mime="text/html",
        refers_to=("", ""),
        body=b"<html>",
        content_type="Text/HTML; charset=x",
    )


@pytest.mark.parametrize("kind", ["resource", "conversion"])
def test_a_record_without_http_has_the_type_of_the_record(tmp_path: Path, kind: str):
    block = b"HTTP/1.1 200 OK\r\n\r\n"
    found = of_one(tmp_path, response("urn:x", block, {"Content-Type": "Text/Plain; a"}, kind=kind))
    assert (found.kind, found.status, found.mime) == (kind, None, "text/plain")
    assert (found.content_type, found.headers) == ("Text/Plain; a", ())
    assert found.body == block


def test_a_revisit_says_what_it_stands_for(tmp_path: Path):
    found = of_one(tmp_path, revisit("http://h.test/", ("<http://h.test/a>", DATE), "sha1:A"))
    assert (found.kind, found.refers_to) == ("revisit", ("http://h.test/a", DATE))
    assert (found.status, found.digest, found.body, found.fault) == (200, "sha1:A", b"", "")


@pytest.mark.parametrize("block", [b"", b"HTTP/1.1 304 Not Modified\r\nETag: x"])
def test_a_revisit_needs_no_message(tmp_path: Path, block: bytes):
    found = of_one(tmp_path, record("revisit", "http://h.test/", block))
    assert (found.refers_to, found.body, found.fault) == (("", ""), b"", "")


def test_a_response_that_is_not_of_http_is_read_like_a_resource(tmp_path: Path):
    found = of_one(tmp_path, record("response", "dns:h.test", b"20240531\nh.test.", "text/dns"))
    assert (found.status, found.mime, found.fault) == (None, "text/dns", "")
    assert found.body == b"20240531\nh.test."


def test_clean_records_are_read_as_fastwarc_reads_them(tmp_path: Path):
    rng = random.Random(1)
    bodies = [rng.randbytes(rng.randrange(60_000)) for _ in range(30)]
    records = [response(f"http://h.test/{n}", body, PICTURE) for n, body in enumerate(bodies)]
    archive = write_warc(tmp_path / "x.warc.gz", records, requests=True)
    found, responses = read(archive)
    expected = [
        (each.stream_pos, each.http_headers.to_tuples(), each.reader.read())
        for each in ArchiveIterator(archive, record_types=response_type)
    ]
    assert [(each.offset, each.headers, each.body) for each in found] == expected
    assert [each.body for each in found] == bodies
    assert (responses.n_bad, responses.errors) == (0, [])


def test_bodies_of_common_crawl_are_as_long_as_they_say(tmp_path: Path):
    body = b"<html><body>as it is once it is unpacked</body></html>"
    headers = {  # what was sent has other names there
        "Content-Type": "text/html",
        "X-Crawl-Content-Encoding": "gzip",
        "X-Crawl-Content-Length": "31",
        "Content-Length": str(len(body)),
    }
    archive = write_warc(tmp_path / "x.warc.gz", [response("http://h.test/", body, headers)])
    found, _ = read(archive)
    assert [each.body for each in found] == [body]
    assert [len(each.body) for each in found] == [int(dict(found[0].headers)["Content-Length"])]


@pytest.mark.parametrize("gzip_members", [True, False])
def test_all_records_are_found_with_others_between(tmp_path: Path, *, gzip_members: bool):
    records = [page(1), revisit("http://h.test/2", ("http://h.test/1", DATE)), page(3)]
    archive = write_warc(tmp_path / "x.warc", records, gzip=gzip_members, requests=True)
    found, _ = read(archive)
    assert [each.url[-1] for each in found] == ["1", "2", "3"]
    assert [read_response(archive, each.offset) for each in found] == found


@pytest.mark.parametrize("writer", [Lz4Writer, ZstdWriter])
def test_records_may_be_frames_of_lz4_or_zstandard(tmp_path: Path, writer: type):
    with (tmp_path / "x.warc").open("wb") as file:
        for data in (WARCINFO, page(1), request("http://h.test/"), page(2)):
            frame = writer(file)
            frame.write(data)
            frame.finish()
            frame.flush()
    archive = str(tmp_path / "x.warc")
    found, _ = read(archive)
    assert [each.url[-1] for each in found] == ["1", "2"]
    assert [read_response(archive, each.offset) for each in found] == found


BAD = {
    "too large": (response("u", b"x" * 501), Fault.TOO_LARGE, b"x" * 500),
    "too large when unpacked": (
        response("u", gzip.compress(b"x" * 501), {"Content-Encoding": "gzip"}),
        Fault.TOO_LARGE,
        b"x" * 500,
    ),
    "too large and chunked": (
        response("u", chunked(b"x" * 501, 100), {"Transfer-Encoding": "chunked"}),
        Fault.TOO_LARGE,
        b"x" * 473,
    ),
    "shorter than it says": (response("u", b"x", {"Content-Length": "2"}), Fault.CUT, b"x"),
    "cut by the crawler": (
        response("u", b"x", fields={"WARC-Truncated": "length"}),
        Fault.CUT,
        b"x",
    ),
    "of several records": (
        response("u", b"x", fields={"WARC-Segment-Number": "1"}),
        Fault.CUT,
        b"x",
    ),
    "without its last chunk": (
        response("u", chunked(b"x")[:-5], {"Transfer-Encoding": "chunked"}),
        Fault.CUT,
        b"x",
    ),
    "badly packed": (
        response("u", gzip.compress(b"x" * 90)[:-4], {"Content-Encoding": "gzip"}),
        Fault.BAD_CODING,
        b"x" * 90,
    ),
    "no http": (record("response", "u", b"<html>"), Fault.BAD_HTTP, b"<html>"),
    "empty": (record("response", "u", b""), Fault.BAD_HTTP, b""),
    "without status": (record("response", "u", b"HTTP/1.1\r\nA: b\r\n\r\nx"), Fault.BAD_HTTP, b"x"),
    "without body": (
        record("response", "u", b"HTTP/1.1 200 OK\r\nA: b"),
        Fault.BAD_HTTP,
        b"HTTP/1.1 200 OK\r\nA: b",
    ),
    "a head without end": (
        record("response", "u", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 90_000),
        Fault.BAD_HTTP,
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 90)[:500],
    ),
    "a line without end": (
        record("response", "u", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 10**6),
        Fault.BAD_HTTP,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 480,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_told_and_what_there_is_is_given(tmp_path: Path, name: str):
    data, fault, body = BAD[name]
    found = of_one(tmp_path, data, Wanted(max_bytes=500))
    assert (found.fault, found.body) == (fault, body)


def test_thousands_of_headers_are_read(tmp_path: Path):
    headers = [(f"X-{number}", "b" * 20) for number in range(8000)]
    found = of_one(tmp_path, response("u", b"x", headers))
    assert (found.headers, found.body, found.fault) == (tuple(headers), b"x", "")


@pytest.mark.parametrize(
    ("wanted", "left", "reasons"),
    [
        (Wanted(), "012345", {}),
        (Wanted(kinds=("response",)), "012", {LeftOut.KIND: 3}),
        (Wanted(statuses=(200,)), "02345", {LeftOut.STATUS: 1}),
        (Wanted(mimes=("image/",)), "23", {LeftOut.MIME: 4}),
        (Wanted(mimes=("image/", "")), "234", {LeftOut.MIME: 3}),
        (Wanted(min_bytes=7), "13", {LeftOut.TOO_SMALL: 4}),
        (Wanted(("response",), (200,), ("text/",), 7), "", dict.fromkeys(LeftOut, 1) | {"kind": 3}),
    ],
)
def test_what_is_not_wanted_is_counted_by_reason(
    tmp_path: Path, wanted: Wanted, left: str, reasons: dict
):
    records = [
        response("http://h.test/0", b"<html>", HTML),
        response("http://h.test/1", b"<html></html>", HTML, status=404),
        response("http://h.test/2", b"small", PICTURE),
        response("http://h.test/3", PIXELS, PICTURE, kind="resource"),
        response("http://h.test/4", b"", {}, kind="resource"),
        revisit("http://h.test/5", ("http://h.test/0", DATE)),
    ]
    archive = write_warc(tmp_path / "x.warc.gz", records, requests=True)
    found, responses = read(archive, wanted)
    assert "".join(each.url[-1] for each in found) == left
    assert responses.left_out == reasons
    assert responses.n_records == 6


def test_what_is_packed_counts_by_what_it_holds(tmp_path: Path):
    data = response("u", gzip.compress(b"x" * 5000), {"Content-Encoding": "gzip"})
    assert len(of_one(tmp_path, data, Wanted(min_bytes=5000)).body) == 5000


def odd(number: int) -> dict[str, bytes]:
    """Members whose one record is whole, in forms that older or careless writers leave."""
    whole = page(number)
    head, _, block = whole.partition(b"\r\n\r\n")
    return {
        "version 1.1": whole.replace(b"WARC/1.0", b"WARC/1.1", 1),
        "version 0.17": whole.replace(b"WARC/1.0", b"WARC/0.17", 1),
        "an unknown version": whole.replace(b"WARC/1.0", b"WARC/2.0", 1),
        "angle brackets": whole.replace(
            b"http://h.test/%d" % number, b"<http://h.test/%d>" % number
        ),
        "names in lower case": head.lower().replace(b"warc/1.0", b"WARC/1.0") + b"\r\n\r\n" + block,
        "a type in capitals": whole.replace(b": response", b": RESPONSE", 1),
        "bare line ends": head.replace(b"\r\n", b"\n") + b"\n\n" + block,
        "a long url": whole.replace(b"h.test", b"h.test/" + b"a" * 40_000, 1),
        "a long field": head + b"\r\nX-Long: " + b"b" * 10**6 + b"\r\n\r\n" + block,
        "blanks before it": b"\r\n \r\n" + whole,
        "a byte order mark before it": b"\xef\xbb\xbf" + whole,
        "another one in its member": whole + WARCINFO,
        "nothing behind it": whole.removesuffix(b"\r\n\r\n"),
        "a length that is too short": claims(whole, -9),
        "a length that is too long": claims(whole, 5000),
        "no length": head.replace(b"Content-Length", b"X-Length") + b"\r\n\r\n" + block,
    }


def claims(whole: bytes, delta: int) -> bytes:
    """A record whose Content-Length is wrong."""
    length = int(whole.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return whole.replace(b"Length: %d" % length, b"Length: %d" % (length + delta), 1)


@pytest.mark.parametrize("form", odd(0))
@pytest.mark.parametrize("neighbour", [request("http://h.test/"), page(9)])
def test_a_record_in_an_odd_form_is_read_and_so_are_its_neighbours(
    tmp_path: Path, form: str, neighbour: bytes
):
    pieces = [neighbour, odd(1)[form], neighbour, odd(2)[form], neighbour]
    archive = write(tmp_path / "x.warc.gz", *map(member, pieces))
    found, responses = read(archive)
    bodies = {each.url[-1]: each.body for each in found}
    assert bodies["1"] == b"<html>1</html>\r\n\r\n"
    assert bodies["2"] == b"<html>2</html>\r\n\r\n"
    assert len(found) == 2 + 3 * (neighbour == page(9))
    assert (responses.n_bad, responses.errors) == (0, [])
    assert [read_response(archive, each.offset) for each in found] == found


def damaged(seed: int) -> bytes:
    """A member with a few wrong bytes behind its header."""
    data = bytearray(member(page(900) * 3))
    rng = random.Random(seed)
    for _ in range(4):
        data[rng.randrange(12, len(data))] ^= 1 + rng.randrange(255)
    return bytes(data)


TROUBLE = st.one_of(
    st.sampled_from(
        [
            b"", member(b""), b"\0" * 512, b"\r\n\r\n", member(WARCINFO), member(metadata("u")),
            member(b"no record at all"), member(page(901)[:-60]), member(page(902))[:-30],
            member(page(903).replace(b"WARC-Type", b"X-Type")), page(904), b"\x1f\x8b\x08 rubbish",
            member(record("response", "http://h.test/905", b"\0" * 5000)),
            member(record("request", "u", b"x", length=3000)), member(page(906) + page(907)),
        ]
    ),
    # Lengths that end where another record does are believed.
    st.one_of(st.integers(-120, 180), st.integers(10**5, 10**10)).map(
        lambda delta: member(claims(page(908), delta))
    ),
    st.integers(0, 10_000).map(damaged),
    st.sampled_from(sorted(odd(0))).map(lambda form: member(odd(909)[form])),
    st.binary(min_size=1, max_size=300).filter(lambda data: b"\x1f\x8b" not in data),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.one_of(TROUBLE, st.none()), min_size=1, max_size=8))
def test_every_sound_member_gives_its_response_whatever_lies_between(tmp_path_factory, pieces):
    """None stands for a sound member; one more is the last."""
    path = tmp_path_factory.mktemp("warc") / "x.warc.gz"
    data, offsets = b"", {}
    for number, piece in enumerate([*pieces, None]):
        if piece is None:
            offsets[f"http://h.test/{number}"] = len(data)
        data += member(page(number)) if piece is None else piece
    found, _ = read(write(path, data))
    bodies = {each.url: (each.offset, each.body) for each in found}
    for number in (int(url.rpartition("/")[2]) for url in offsets):
        url = f"http://h.test/{number}"
        assert bodies[url] == (offsets[url], b"<html>%d</html>\r\n\r\n" % number)
    assert len({each.offset for each in found if each.url in offsets}) == len(offsets)
    with opened(str(path)) as archive:
        for url, offset in offsets.items():
            assert archive.read_response(offset).url == url


@settings(max_examples=200)
@given(st.data())
def test_a_mutated_archive_raises_nothing_but_our_errors(tmp_path_factory, data):
    is_gzip = data.draw(st.booleans())
    pieces = [response(f"http://h.test/{n}", chunked(b"ab" * n, 3), CHUNKED) for n in range(4)]
    path = tmp_path_factory.mktemp("warc") / "x.warc.gz"
    whole = bytearray(Path(write_warc(path, pieces, gzip=is_gzip, requests=True)).read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    archive = write(path, bytes(whole))
    found, _ = read(archive)
    for offset in [each.offset for each in found] + [data.draw(st.integers(0, 5000))]:
        with contextlib.suppress(RecordError):
            assert read_response(archive, offset).offset == offset


@pytest.mark.parametrize("step", range(7))
def test_an_archive_that_is_cut_anywhere_gives_all_before_the_cut(tmp_path: Path, step: int):
    members = [member(page(number)) for number in range(4)]
    ends = list(itertools.accumulate(map(len, members)))
    whole = b"".join(members)
    for cut in range(20 + step, len(whole), 7):
        found, responses = read(write(tmp_path / "x.warc.gz", whole[:cut]))
        n_whole = sum(end <= cut for end in ends)
        assert n_whole <= len(found) <= n_whole + 1  # one whose checksum is cut is whole, too
        bodies = [b"<html>%d</html>\r\n\r\n" % number for number in range(4)]
        assert [each.body for each in found] == bodies[: len(found)]
        assert responses.errors or cut in ends


def test_records_of_one_member_are_all_read(tmp_path: Path):
    archive = write(tmp_path / "x.warc.gz", member(WARCINFO + page(1) + page(2)), member(page(3)))
    found, _ = read(archive)
    assert [each.body for each in found] == [b"<html>%d</html>\r\n\r\n" % n for n in (1, 2, 3)]


def test_a_record_that_is_passed_over_and_claims_too_much_takes_none_behind_it(tmp_path: Path):
    """FastWARC goes on behind an empty member as if nothing had been."""
    long = [
        record("request", "u", b"x", length=3000),
        claims(response("http://h.test/8", b"x", PICTURE), 3000),
        claims(response("http://h.test/8", b"x" * 50, HTML), 3000),
    ]
    for data in long:
        archive = write(tmp_path / "x.warc.gz", *map(member, (data, page(1), b"", page(2))))
        found, responses = read(archive, Wanted(mimes=("text/",), max_bytes=30))
        assert [each.url[-1] for each in found if each.url[-1] != "8"] == ["1", "2"]
        assert responses.errors == []


def test_a_wrong_offset_gives_no_other_record(tmp_path: Path):
    archive = write(tmp_path / "x.warc.gz", member(WARCINFO), member(page(1)), page(2), page(3))
    begin, plain = len(member(WARCINFO)), len(member(WARCINFO) + member(page(1)))
    size = Path(archive).stat().st_size
    right = {begin, plain, plain + len(page(2))}
    with opened(archive) as look_up:
        for offset in {*range(size + 3), 10**12} - right:
            with pytest.raises(RecordError, match=f"x.warc.gz: at byte {offset}: "):
                look_up.read_response(offset)
        assert [look_up.read_response(offset).url[-1] for offset in sorted(right)] == list("123")


@pytest.mark.parametrize("kind", ["warcinfo", "request", "metadata"])
def test_an_offset_of_a_record_without_content_says_so(tmp_path: Path, kind: str):
    archive = write(tmp_path / "x.warc.gz", member(record(kind, "u", b"x")))
    with pytest.raises(RecordError, match=f"of type '{kind}'; those with content are response"):
        read_response(archive, 0)


def test_a_large_record_is_cut_and_not_passed_over(tmp_path: Path):
    archive = write_warc(tmp_path / "x.warc.gz", [response("u", b"x" * 5000), page(2)])
    found = read_response(archive, len(member(WARCINFO)), max_bytes=100)
    assert (found.url, found.fault, found.body) == ("u", Fault.TOO_LARGE, b"x" * 100)


def test_the_lines_of_a_head_are_gone_through_in_linear_time(tmp_path: Path):
    """Of 1 MB; each line was put behind a copy of all before."""
    head = b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: 1\r\n" + b"a\n" * 500_000
    archive = write(tmp_path / "x.warc", head + b"\r\nx\r\n\r\n")
    started = time.process_time()
    assert read_response(archive, 0).body == b"x"
    assert time.process_time() - started < 3


@pytest.mark.parametrize("lines", [b"a\n" * 2_000_000, b"a" * 4_000_000])
def test_a_head_that_is_longer_than_any_is_no_record(tmp_path: Path, lines: bytes):
    archive = write(tmp_path / "x.warc", b"WARC/1.0\r\n" + lines + b"\r\n\r\n", page(1))
    with pytest.raises(RecordError, match="no record begins"):
        read_response(archive, 0)
    _, responses = read(archive)
    assert "its head does not end" in responses.errors[0]


def test_an_archive_that_is_not_there_may_come_back(tmp_path: Path):
    with pytest.raises(RetryableError, match="out of reach"):
        read_response(str(tmp_path / "x.warc.gz"), 0)
    with pytest.raises(RetryableError, match="out of reach"):
        list(Responses(str(tmp_path / "x.warc.gz")))


@pytest.mark.parametrize("cut_after", [None, 700])
def test_a_remote_archive_gives_the_same(tmp_path: Path, cut_after: int | None):
    pieces = [WARCINFO, page(1), b"", claims(page(2), 500), page(3), page(4)]
    data = b"".join(map(member, pieces))
    local, _ = read(write(tmp_path / "x.warc.gz", data))
    with serve(FileServer(data, cut_after=cut_after)) as server:
        found, _ = read(server.url)
        assert found == local
        assert [read_response(server.url, each.offset) for each in local] == local
