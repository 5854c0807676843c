"""What a page says is never taken for a record: not quoted text, nor an archive that it holds."""

import gzip
import random
from pathlib import Path

import pytest
from fastwarc.stream_io import Lz4Writer

from cah_dask.archives.responses import Responses, Wanted, read_response
from tests.warcs import record, response
from tests.wats import WARCINFO

PHANTOM = response("http://victim.test/logo.png", b"not what it shows")
PLAIN, PACKED = "plain", "packed"
NOISE = random.Random(1).randbytes(4000)


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def sound(number: int) -> bytes:
    return response(f"http://h.test/{number}", b"<html>%d" % number)


QUOTES = {
    "a record": b"text\r\n\r\n" + PHANTOM,
    "a record first": PHANTOM,
    "a record behind blanks": b"\r\n\r\n" + PHANTOM,
    "a record with bare line ends": b"\n\n" + PHANTOM.replace(b"\r\n", b"\n"),
    "an archive": member(WARCINFO) + member(PHANTOM),
    "an archive behind noise": NOISE + member(PHANTOM) + NOISE,
}
HEADS = {
    "usual": lambda data: data,
    "small": lambda data: data.replace(b"Content-Length:", b"content-length:", 1),
    "capital": lambda data: data.replace(b"Content-Length:", b"CONTENT-LENGTH:", 1),
    "blanks": lambda data: data.replace(b"Content-Length: ", b"Content-length:   ", 1),
    "long": lambda data: data.replace(b"evil.test/", b"evil.test/" + b"a" * 40_000, 1),
}
NO_LENGTHS = {
    "none": lambda data: data.replace(b"Content-Length:", b"X-Length:", 1),
    "negative": lambda data: data.replace(b"Content-Length: ", b"Content-Length: -", 1),
    "no number": lambda data: data.replace(b"Content-Length: ", b"Content-Length: x", 1),
}


def quoting(kind: str, quote: bytes) -> bytes:
    """A record of any type, whose content is the quote, or ends with it."""
    if kind == "response":
        return response("http://evil.test/", quote)
    return record(kind, "http://evil.test/", quote, "text/plain")


def write(path: Path, pieces: list[bytes], packing: str) -> str:
    packed = pieces if packing == PLAIN else map(member, pieces)
    path.write_bytes(b"".join(packed))
    return str(path)


def read(archive: str) -> tuple[dict[str, bytes], Responses]:
    responses = Responses(archive)
    found = list(responses)
    for each in found:
        assert read_response(archive, each.offset) == each
    return {each.url[:20]: each.body for each in found}, responses


@pytest.mark.parametrize("packing", [PLAIN, PACKED])
@pytest.mark.parametrize("kind", ["response", "resource", "request"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", QUOTES)
def test_a_record_is_as_long_as_it_says_whatever_it_quotes(
    tmp_path: Path, packing: str, kind: str, head: str, name: str
):
    evil = HEADS[head](quoting(kind, QUOTES[name]))
    archive = write(tmp_path / "x.warc", [sound(1), evil, sound(2), evil], packing)
    found, responses = read(archive)
    expected = {f"http://h.test/{n}": b"<html>%d" % n for n in (1, 2)}
    if kind != "request":
        expected[f"http://evil.test/{'a' * 40_000 if head == 'long' else ''}"[:20]] = QUOTES[name]
    assert found == expected
    assert (responses.n_bad, responses.errors) == (0, [])


@pytest.mark.parametrize("length", NO_LENGTHS)
@pytest.mark.parametrize("kind", ["response", "resource", "request"])
@pytest.mark.parametrize("name", QUOTES)
def test_a_member_bounds_a_record_that_says_no_length(
    tmp_path: Path, length: str, kind: str, name: str
):
    evil = NO_LENGTHS[length](quoting(kind, QUOTES[name]))
    found, responses = read(write(tmp_path / "x.warc.gz", [sound(1), evil, sound(2)], PACKED))
    expected = {f"http://h.test/{n}": b"<html>%d" % n for n in (1, 2)}
    if kind != "request":
        # What ends the record cannot be told from blank lines that it ends with.
        assert QUOTES[name].startswith(found.pop("http://evil.test/"))
    assert found == expected
    assert (responses.n_bad, responses.errors) == (0, [])


@pytest.mark.parametrize("length", NO_LENGTHS)
@pytest.mark.parametrize("kind", ["response", "request"])
@pytest.mark.parametrize("name", QUOTES)
@pytest.mark.parametrize("frames", [False, True])
def test_where_nothing_tells_the_end_of_a_record_nothing_is_made_up(
    tmp_path: Path, length: str, kind: str, name: str, *, frames: bool
):
    evil = NO_LENGTHS[length](quoting(kind, QUOTES[name]))
    archive = write(tmp_path / "x.warc", [sound(1), evil, sound(2)], PLAIN)
    if frames:
        archive = write_frames(tmp_path / "x.warc.lz4", [sound(1), evil, sound(2)])
    found, responses = read(archive)
    assert found == {"http://h.test/1": b"<html>1"}
    assert responses.errors


def write_frames(path: Path, pieces: list[bytes]) -> str:
    with path.open("wb") as file:
        for piece in pieces:
            frame = Lz4Writer(file)
            frame.write(piece)
            frame.finish()
            frame.flush()
    return str(path)


@pytest.mark.parametrize("packing", [PLAIN, PACKED])
def test_an_archive_in_the_last_record_is_no_part_of_the_archive(tmp_path: Path, packing: str):
    inner = member(WARCINFO) + member(PHANTOM)
    pieces = [WARCINFO, sound(1), response("http://evil.test/", inner)]
    found, responses = read(write(tmp_path / "x.warc", pieces, packing))
    assert found == {"http://h.test/1": b"<html>1", "http://evil.test/": inner}
    assert (responses.n_bad, responses.errors) == (0, [])


@pytest.mark.parametrize("n_noise", [0, 200_000])
def test_an_archive_in_the_last_record_of_one_member_for_all_is_none(tmp_path: Path, n_noise: int):
    """Deflate leaves what it cannot make smaller as it is, so it lies there to be found."""
    noise = random.Random(2).randbytes(n_noise)
    last = response("http://evil.test/", noise + member(PHANTOM + NOISE))
    whole = gzip.compress(WARCINFO + sound(1) + response("http://h.test/2", noise) + last)
    (tmp_path / "x.warc.gz").write_bytes(whole)
    urls = [each.url for each in Responses(str(tmp_path / "x.warc.gz"))]
    assert urls == ["http://h.test/1", "http://h.test/2", "http://evil.test/"]


@pytest.mark.parametrize("delta", [-3, 5, 20, 400])
def test_a_wrong_length_in_an_archive_that_is_not_packed_is_told(tmp_path: Path, delta: int):
    wrong = response("http://h.test/0", b"x" * 300)
    length = int(wrong.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    wrong = wrong.replace(b"Length: %d" % length, b"Length: %d" % (length + delta), 1)
    pieces = [sound(1), wrong, *map(sound, range(2, 6))]
    found, responses = read(write(tmp_path / "x.warc", pieces, PLAIN))
    assert {f"http://h.test/{n}" for n in (1, 4, 5)} <= found.keys()
    assert len(responses.errors) == 1
    assert "are no records" in responses.errors[0]


@pytest.mark.parametrize("kind", ["response", "request"])
def test_a_record_that_ends_behind_the_archive_is_told(tmp_path: Path, kind: str):
    cut = quoting(kind, b"x" * 1000)[:-500]
    found, responses = read(write(tmp_path / "x.warc", [sound(1), cut], PLAIN))
    assert found == {"http://h.test/1": b"<html>1"}
    assert any("is cut" in error for error in responses.errors)
    assert responses.n_bad == (kind == "response")


def test_several_records_of_a_member_are_read_however_they_say_their_lengths(tmp_path: Path):
    small = [HEADS["small"](quoting("response", QUOTES["a record"])), sound(1), sound(2)]
    (tmp_path / "x.warc.gz").write_bytes(member(b"".join(small)) + member(sound(3)))
    responses = Responses(str(tmp_path / "x.warc.gz"), Wanted())
    urls = [each.url for each in responses]
    assert urls == ["http://evil.test/", *(f"http://h.test/{n}" for n in (1, 2, 3))]
    assert (responses.n_bad, responses.errors) == (0, [])
