"""What browsers show gives an image, however the answer that brings it is written."""

import asyncio
import gzip
import time
import zlib
from pathlib import Path

import brotli
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cah_dask.codings import codings_of, inflate, read_text
from cah_dask.images.web.heads import begins_like_head, read_head, start_of_head
from cah_dask.images.web.responses import escaped
from tests.hostile import picture
from tests.images.downloads import download, options, statuses
from tests.rawserver import KeptServer, RawServer, chunked, response

BODY = picture(seed=3)
LENGTH = b"Content-Length: %d" % len(BODY)
KEPT = b"Connection: keep-alive"


def answer(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    """Put an answer together that says nothing but these lines."""
    return b"\r\n".join([status, *lines, b"", b""]) + body


def sized(size: bytes) -> bytes:
    """Return an answer in one chunk, whose size is written like this."""
    body = b"%b%b\r\n0\r\n\r\n" % (size, BODY)
    return answer(b"Transfer-Encoding: chunked", body=body)


SIZE = b"%x" % len(BODY)
SHOWN = {
    "a header of 9 kB": response(BODY, b"Content-Security-Policy: " + b"a" * 9000),
    "a header of 60 kB": response(BODY, b"Link: " + b"a" * 60_000),
    "a header of 200 kB": response(BODY, b"Link: " + b"a" * 200_000),
    "300 headers": response(BODY, *[b"X-%d: y" % n for n in range(300)]),
    "4,000 headers": response(BODY, *[b"X-%d: y" % n for n in range(4000)]),
    "a blank before a colon": response(BODY, b"Content-Type : image/jpeg"),
    "a tab before the colon of the length": answer(b"Content-Length\t: %d" % len(BODY)),
    "the same length twice": answer(LENGTH, LENGTH),
    "the same length three times, kept": answer(LENGTH, KEPT, LENGTH, LENGTH.lower()),
    "a length, and again": answer(b"Content-Length: %d, %d" % (len(BODY), len(BODY))),
    "a length that is no number": answer(b"Content-Length: unknown"),
    "an empty length": answer(b"Content-Length: "),
    "a negative length": answer(b"Content-Length: -1"),
    "a length beyond all numbers": answer(b"Content-Length: 99999999999999999999999"),
    "no length": answer(),
    "identity": answer(LENGTH, b"Transfer-Encoding: identity"),
    "identity without a length": answer(b"Transfer-Encoding: identity"),
    "chunks": chunked(BODY),
    "chunks and a length": chunked(BODY).replace(b"\r\n", b"\r\n" + LENGTH + b"\r\n", 1),
    "chunks and identity": chunked(BODY).replace(b": chunked", b": identity, Chunked", 1),
    "chunks named twice": chunked(BODY).replace(b"\r\n", b"\r\nTransfer-Encoding: chunked\r\n", 1),
    "a chunk whose size ends with LF": sized(SIZE + b"\n"),
    "all lines between chunks end with LF": answer(
        b"Transfer-Encoding: chunked", body=SIZE + b"\n" + BODY + b"\n0\nX: y\n\n"
    ),
    "a chunk with blanks behind its size": sized(SIZE + b"  \r\n"),
    "a chunk with an extension": sized(SIZE + b'; name="a b"\r\n'),
    "a chunk with zeros": sized(b"000" + SIZE.upper() + b"\r\n"),
    "203": answer(LENGTH, status=b"HTTP/1.1 203 Non-Authoritative Information"),
    "201": answer(LENGTH, status=b"HTTP/1.1 201 Created"),
    "206, whole": answer(LENGTH, status=b"HTTP/1.1 206 Partial Content"),
    "226": answer(LENGTH, status=b"HTTP/1.1 226 IM Used"),
    "103 first": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(LENGTH),
    "100 first, with lengths twice after it": b"HTTP/1.1 100\r\n\r\n" + answer(LENGTH, LENGTH),
    "a line without a colon": answer(b"X-Empty", LENGTH),
    "a line without a name": answer(b": nothing", LENGTH),
    "a name that is none": answer(b"X (odd): y", b"caf\xe9: y", LENGTH),
    "a NUL in a value": answer(b"X-Odd: a\0b", LENGTH),
    "a bare CR in a value": answer(b"X-Odd: a\rb", LENGTH),
    "a CR too many": answer(LENGTH).replace(b"\r\n", b"\r\r\n", 2),
    "only LF": answer(LENGTH).replace(b"\r\n", b"\n", 3),
    "a folded header": answer(b"X-A: b", b"\t c", LENGTH),
    "a byte of junk first": b"x" + answer(LENGTH),
    "four bytes of junk first": b"\xef\xbb\xbf\n" + answer(LENGTH),
    "an end of a head first": b"\n-\n\n" + answer(LENGTH),
    "a blank line first": b"\r\n\r\n" + answer(LENGTH),
    "no reason": answer(LENGTH, status=b"HTTP/1.1 200"),
    "a reason in latin-1": answer(LENGTH, status=b"HTTP/1.1 200 D'accord \xe9"),
    "two blanks before the code": answer(LENGTH, status=b"HTTP/1.1  200 OK"),
    "small letters": answer(LENGTH, status=b"http/1.1 200 ok"),
    "HTTP/1.0": answer(LENGTH, status=b"HTTP/1.0 200 OK"),
    "HTTP/2 in words": answer(LENGTH, status=b"HTTP/2 200"),
    "HTTP/1.2": answer(LENGTH, status=b"HTTP/1.2 200 OK"),
    "no version": answer(LENGTH, status=b"HTTP 200 OK"),
    "ICY": answer(LENGTH, status=b"ICY 200 OK"),
    "latin-1 in a value": answer(b"X-Caption: caf\xe9", LENGTH),
    "gzip": response(gzip.compress(BODY), b"Content-Encoding: gzip"),
    "x-gzip": response(gzip.compress(BODY), b"Content-Encoding: X-Gzip"),
    "gzip in chunks": chunked(gzip.compress(BODY)).replace(
        b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1
    ),
    "gzip in two members": response(
        gzip.compress(BODY[:99]) + gzip.compress(BODY[99:]), b"Content-Encoding: gzip"
    ),
    "gzip with a wrong checksum": response(
        gzip.compress(BODY)[:-8] + bytes(8), b"Content-Encoding: gzip"
    ),
    "gzip as text": response(
        gzip.compress(BODY), b"Content-Encoding: gzip", b"Content-Type: text/plain"
    ),
    "br": response(brotli.compress(BODY), b"Content-Encoding: br"),
    "br that is none": response(BODY, b"Content-Encoding: br"),
    "br in chunks": chunked(brotli.compress(BODY)).replace(
        b"\r\n", b"\r\nContent-Encoding: br\r\n", 1
    ),
    "gzip twice": response(gzip.compress(gzip.compress(BODY)), b"Content-Encoding: gzip, gzip"),
    "deflate": response(zlib.compress(BODY), b"Content-Encoding: deflate"),
    "raw deflate": response(zlib.compress(BODY)[2:-4], b"Content-Encoding: deflate"),
    "gzip that lies": response(BODY, b"Content-Encoding: gzip"),
    "deflate that lies": response(BODY, b"Content-Encoding: deflate"),
    "br that lies": response(BODY, b"Content-Encoding: br"),
    "utf-8": response(BODY, b"Content-Encoding: utf-8"),
    "text/plain": response(BODY, b"Content-Type: text/plain"),
}
REFUSED = {
    "two lengths": (answer(LENGTH, b"Content-Length: 7"), "http_other"),
    "a head of 300 kB": (response(BODY, *[b"X: " + b"y" * 60_000] * 5), "http_other"),
    "6,000 headers": (response(BODY, *[b"X-%d: y" % n for n in range(6000)]), "http_other"),
    "no code": (answer(LENGTH, status=b"HTTP/1.1 OK"), "http_other"),
    "a code of four figures": (answer(LENGTH, status=b"HTTP/1.1 2000 OK"), "http_other"),
    "five bytes of junk first": (b"<!-- " + answer(LENGTH), "http_other"),
    "a chunk with a blank before its size": (sized(b" " + SIZE + b"\r\n"), "http_other"),
    "a chunk with 0x": (sized(b"0x" + SIZE + b"\r\n"), "http_other"),
    "a chunk without a size": (sized(b"\n"), "http_other"),
    "a chunk that is longer than it says": (sized(b"7\n"), "http_other"),
    "chunks without an end": (chunked(BODY)[:-2], "disconnected"),
    "no HTTP at all": (BODY, "http_other"),
    "204": (answer(status=b"HTTP/1.1 204 No Content"), "http_other"),
    "304": (answer(status=b"HTTP/1.1 304 Not Modified"), "http_other"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Type: image", "disconnected"),
    "half a body": (answer(LENGTH, body=BODY[:99]), "disconnected"),
    "a text": (response(b"not found, sorry", b"Content-Type: text/plain"), "bad_type"),
    "a short text": (response(b"no", b"Content-Type: text/plain"), "bad_type"),
    "a bomb of br": (
        response(brotli.compress(bytes(10**8)), b"Content-Encoding: br"),
        "too_big",
    ),
    "a bomb": (
        response(gzip.compress(bytes(9 << 20)), b"Content-Encoding: gzip"),
        "too_big",
    ),
    "a bomb in a bomb": (
        response(gzip.compress(gzip.compress(bytes(99 << 20))), b"Content-Encoding: gzip, gzip"),
        "too_big",
    ),
    "br": (response(b"\x0b\x02\x80hello\x03", b"Content-Encoding: br"), "decode_format"),
}


def test_what_browsers_show_is_an_image(tmp_path: Path):
    with RawServer(list(SHOWN.values())) as server:
        urls = [f"http://h{n}.test:{server.port}/{n}" for n in range(len(SHOWN))]
        made, images = download(urls, tmp_path, options(server, retries=0, read_timeout_s=5))
    found = dict(zip(SHOWN, statuses(made), strict=True))
    assert found == dict.fromkeys(SHOWN, "ok")
    assert len(set(images)) == 1


def test_what_they_do_not_show_is_refused_for_its_reason(tmp_path: Path):
    with RawServer([raw for raw, _ in REFUSED.values()]) as server:
        urls = [f"http://h{n}.test:{server.port}/{n}" for n in range(len(REFUSED))]
        made, _ = download(
            urls, tmp_path, options(server, retries=0, read_timeout_s=5, alarm_share=0)
        )
    found = dict(zip(REFUSED, statuses(made), strict=True))
    assert found == {name: status for name, (_, status) in REFUSED.items()}


@pytest.mark.parametrize("length", [1, 2, 3, 4, 11, 12, 13])
def test_a_type_is_judged_on_enough_bytes_however_they_come(length, tmp_path):
    async def talk(_path, _number, writer):
        data = response(BODY, b"Content-Type: text/plain")
        begin = len(data) - len(BODY) + length
        for part in (data[:begin], data[begin:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)  # that the pieces come one by one

    with KeptServer(talk) as server:
        url = f"http://a.test:{server.port}/"
        made, _ = download([url], tmp_path, options(server, obey_robots=False))
    assert statuses(made) == ["ok"]


def test_a_redirect_leads_where_browsers_go(tmp_path: Path):
    places = [
        (b"/caf\xe9.jpg", "/caf%E9.jpg"),
        ("/café.jpg".encode(), "/caf%C3%A9.jpg"),
        ("/日本.jpg".encode("shift-jis"), "/%93%FA%96%7B.jpg"),
        (b"/a b.jpg", "/a%20b.jpg"),
        (b"/?q=\xe9\xfc", "/?q=%E9%FC"),
        (b"/mixed-\xc3\xa9-\xe9.jpg", "/mixed-%C3%A9-%E9.jpg"),
    ]
    paths: dict[str, int] = {}

    async def talk(path, number, writer):
        paths.setdefault(path, number)
        if path.startswith("/go"):
            location = b"Location: " + places[int(path[3:])][0]
            writer.write(response(b"", location, status=b"302 Found"))
        else:
            writer.write(response(BODY))

    with KeptServer(talk) as server:
        urls = [f"http://h{n}.test:{server.port}/go{n}" for n in range(len(places))]
        made, _ = download(urls, tmp_path, options(server, obey_robots=False))
    assert statuses(made) == ["ok"] * len(places)
    assert {asked for _, asked in places} < set(paths)


@given(st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
@example("\udcff")
def test_a_location_is_text_whatever_bytes_it_has(location):
    assert escaped(location).encode().decode() == escaped(location)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding")
)
VALUES = st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.integers(100, 999))
def test_a_good_head_says_afterwards_what_it_said_before(fields, code):
    lines = [f"{name}: {value}".encode() for name, value in fields]
    raw = b"\r\n".join([b"HTTP/1.1 %d Fine" % code, *lines, b"Content-Length: 5", b"", b""])
    head = read_head(raw)
    assert head is not None
    kept = head.lines.split(b"\r\n")
    assert kept == [b"HTTP/1.1 %d " % code, *lines, b"Content-Length: 5", b"", b""]


@given(st.binary(max_size=200).map(lambda raw: b"HTTP/1.1 200 " + raw + b"\r\n\r\n"))
def test_whatever_a_head_is_it_is_clean_afterwards(raw):
    head = read_head(raw)
    assert head is not None
    assert head.lines.endswith(b"\r\n\r\n")
    for line in head.lines[:-4].split(b"\r\n"):
        assert not {0, 10, 13} & set(line)
    assert begins_like_head(raw)


@given(st.binary(max_size=4), st.integers(1, 20))
def test_up_to_four_bytes_are_passed_over_before_a_head(junk, length):
    assume(junk.upper() not in (b"HTTP", b"ICY "))
    data = junk + b"http/1.1 200 OK\r\n\r\n"
    assert begins_like_head(data[:length].lstrip())
    assert start_of_head(data) == len(junk)
    assert start_of_head(data[: len(junk) + 3]) is None


@pytest.mark.parametrize(
    "data", [b"<!-- HTTP/1.1 200 OK", b"<html>", b"12345", b"1234H", b"H1T2P3"]
)
def test_no_more_than_four_are(data):
    assert start_of_head(data) is None
    assert begins_like_head(data) is (data == b"1234H")


@given(st.binary(max_size=3000), st.integers(1, 4000), st.sampled_from(["gzip", "deflate"]))
def test_what_was_packed_is_unpacked_up_to_its_limit(body, limit, coding):
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    assert inflate(packed, [coding], limit) == body[:limit]


def test_many_small_members_take_no_time():
    began = time.process_time()
    members = gzip.compress(b"a") * 200_000
    assert inflate(members, ["gzip"], 1 << 20) == b"a" * 200_000
    assert read_text(members, "gzip", 1 << 20) == b"a" * 200_000
    assert time.process_time() - began < 8


@given(st.binary(max_size=300), st.lists(st.sampled_from(["gzip", "deflate", "br"]), max_size=4))
def test_what_cannot_be_unpacked_is_no_error(body, codings):
    inflate(body, codings_of(",".join(codings)), 10_000)
