"""What an HTTP message in an archive holds, whatever its headers say of it."""

import gzip
import zlib

import brotli
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.archives.http_message import dechunked, parse_head, read_body
from tests.warcs import chunked

TEXT = b"<html>Two brown dogs playing in the green grass</html>" * 40


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def message(*headers: str):
    return parse_head("\r\n".join(["HTTP/1.1 200 OK", *headers]).encode())


PACKINGS = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "GZip": gzip.compress, "br": brotli.compress,
    "deflate": zlib.compress, "zstd": zstd,
}  # fmt: skip


@pytest.mark.parametrize("coding", PACKINGS)
def test_a_body_is_unpacked_as_its_header_says(coding: str):
    found = read_body(PACKINGS[coding](TEXT), message(f"Content-Encoding: {coding}"), 10**6)
    assert (found.data, found.is_cut, found.is_sound) == (TEXT, False, True)


def test_deflate_is_read_without_the_frame_of_zlib():
    found = read_body(raw_deflate(TEXT), message("content-encoding: deflate"), 10**6)
    assert (found.data, found.is_sound) == (TEXT, True)


def test_packings_are_undone_in_turn_after_the_chunks():
    stored = chunked(brotli.compress(gzip.compress(TEXT)), 100)
    head = message("Content-Encoding: gzip", "transfer-encoding: CHUNKED", "Content-Encoding: br")
    found = read_body(stored, head, 10**6)
    assert (found.data, found.is_cut, found.is_sound) == (TEXT, False, True)


@pytest.mark.parametrize("coding", [*PACKINGS, "identity", "utf-8", "deflate, gzip"])
@pytest.mark.parametrize("body", [TEXT, b"", b"\xff\xd8\xff\xe0\0\x10JFIF\0"])
def test_a_body_that_is_not_packed_as_it_says_is_taken_as_it_is(coding: str, body: bytes):
    head = message(f"Content-Encoding: {coding}", "Transfer-Encoding: chunked")
    found = read_body(body, head, 10**6)
    assert found.data == body
    assert not found.is_cut


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd"])
def test_of_a_cut_packing_the_beginning_is_kept(coding: str):
    text = bytes(range(256)) * 2000
    stored = PACKINGS[coding](text)[:-9]
    found = read_body(stored, message(f"Content-Encoding: {coding}"), 10**6)
    assert text.startswith(found.data)
    assert not found.is_sound


@pytest.mark.parametrize("coding", PACKINGS)
def test_no_packing_gives_more_than_its_limit(coding: str):
    stored = PACKINGS[coding](b"\0" * 10**7)
    found = read_body(stored, message(f"Content-Encoding: {coding}"), 5000)
    assert found.data == b"\0" * 5000


@pytest.mark.parametrize("length", [0, 5, 10, 11, 10**15])
def test_a_wrong_length_costs_nothing_of_a_body(length: int):
    found = read_body(b"0123456789", message(f"Content-Length: {length}"), 100)
    assert (found.data, found.is_cut) == (b"0123456789", length > 10)


@pytest.mark.parametrize("length", ["-1", "many", "1_0", "\u0661", "9" * 5000])
def test_a_length_that_is_no_number_says_nothing(length: str):
    assert not read_body(b"0", message(f"Content-Length: {length}"), 100).is_cut


def test_the_length_of_what_was_packed_says_nothing_of_what_an_archive_unpacked():
    head = message("Content-Encoding: gzip", "Content-Length: 300")
    assert not read_body(TEXT[:400], head, 10**6).is_cut
    assert not read_body(b"", message("Content-Length: 300")._replace(status=304), 10).is_cut


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 400))
def test_chunks_are_put_together_up_to_where_they_are_cut(body: bytes, size: int, cut: int):
    whole = chunked(body, size)
    assert dechunked(whole, 10**6) == (body, False)
    found, is_cut = dechunked(whole[:cut], 10**6)
    assert body.startswith(found) or found == whole[:cut]
    assert is_cut or cut >= len(whole) - 2 or found == whole[:cut]


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 400))
def test_chunks_give_no_more_than_the_limit(body: bytes, size: int, limit: int):
    assert dechunked(chunked(body, size), limit)[0] == body[:limit]


@pytest.mark.parametrize(
    "stored",
    [
        b"5;name=value\r\nhello\r\n0\r\n\r\n", b"5  \r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"5\nhello\n0\n\n", b"0005\r\nhello\r\n000\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_may_be_written_as_browsers_take_them(stored: bytes):
    assert dechunked(stored, 100) == (b"hello", False)


@pytest.mark.parametrize(
    "stored",
    [b"", b"hello", b"5\r\nhello, world", b"add\r\nthese\r\n" * 300, b"\r\n", b"-5\r\nhello"],
)
def test_a_body_without_chunks_is_left_as_it_is(stored: bytes):
    assert dechunked(stored, 10**6) == (stored, False)


def test_a_chunk_that_ends_elsewhere_ends_the_body():
    assert dechunked(b"2\r\nab\r\n2\r\ncde\r\n0\r\n\r\n", 100) == (b"abcd", True)


def test_headers_are_kept_in_order_as_they_are_written():
    head = parse_head(
        b"HTTP/1.0 404 Not Found\r\nSet-Cookie: a=1\r\nX: \r\nset-cookie :b:2 \nFolded: one\r\n"
        b"\ttwo\r\n  three\r\nno colon\r\nName: caf\xe9\r\nUtf: caf\xc3\xa9\r\n\r\n"
    )
    assert head.status == 404
    assert head.headers == (
        ("Set-Cookie", "a=1"), ("X", ""), ("set-cookie", "b:2"), ("Folded", "one two three"),
        ("Name", "caf\xe9"), ("Utf", "caf\xe9"),
    )  # fmt: skip
    assert head.first["set-cookie"] == "a=1"
    assert head.all("set-cookie") == "a=1,b:2"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200), (b"HTTP/2 301", 301), (b"HTTP/1.1  204 ", 204),
        (b"HTTP/1.1 OK", None), (b"HTTP/1.1 2000 OK", None), (b"HTTP/1.1 20", None), (b"", None),
    ],
)  # fmt: skip
def test_a_status_is_three_digits(line: bytes, status: int | None):
    assert parse_head(line + b"\r\nA: b").status == status


@given(st.binary(max_size=400))
def test_any_bytes_are_a_head(data: bytes):
    head = parse_head(b"HTTP/1.1 200 OK\r\n" + data)
    assert head.status == 200
    assert len(head.headers) <= data.count(b":")
