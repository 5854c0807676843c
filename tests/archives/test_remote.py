import random
import urllib.request
from typing import Any

import pytest

from cah_dask.archives.remote import (
    ATTEMPTS,
    BACKOFF_S,
    SKIPPED_BYTES,
    RemoteFile,
    _Redirects,
    open_places,
)
from cah_dask.errors import RetryableError
from tests.fileserver import FileServer, serve

CONTENT = random.Random(1).randbytes(300_000)


def read(server: FileServer, pauses: list[float] | None = None) -> bytes:
    pauses = [] if pauses is None else pauses
    with serve(server), RemoteFile(server.url, pause=pauses.append) as file:
        return file.read()


def test_a_file_is_read_with_one_request():
    server = FileServer(CONTENT)
    assert read(server) == CONTENT
    assert server.requests == [None]


def test_a_cut_connection_is_resumed_where_it_broke():
    server = FileServer(CONTENT, cut_after=100_000)
    assert read(server) == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_a_busy_server_is_asked_again_after_growing_pauses():
    server = FileServer(CONTENT, failures=[503, 429, 500, 403])
    pauses: list[float] = []
    assert read(server, pauses) == CONTENT
    assert pauses == list(BACKOFF_S[:4])


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_server_that_says_how_long_it_wants_to_be_left_alone_is_heeded(status: int):
    server = FileServer(CONTENT, failures=[status], retry_after="77")
    pauses: list[float] = []
    assert read(server, pauses) == CONTENT
    assert pauses == [77.0]
    with pytest.raises(RetryableError, match=f"HTTP {status}, 1 times in a row"):
        read(FileServer(CONTENT, failures=[status], retry_after="86400"))


def test_progress_makes_up_for_failures():
    server = FileServer(CONTENT, cut_after=10_000)
    assert read(server) == CONTENT
    assert len(server.requests) > ATTEMPTS


def test_a_server_that_never_answers_may_be_tried_later():
    with pytest.raises(RetryableError, match=f"HTTP 503, {ATTEMPTS} times in a row"):
        read(FileServer(CONTENT, failures=[503] * ATTEMPTS))
    with pytest.raises(RetryableError, match="times in a row"):
        RemoteFile("http://127.0.0.1:9/x", pause=lambda _: None)


def test_a_connection_that_breaks_at_once_each_time_may_be_tried_later():
    with pytest.raises(RetryableError, match="ended after 0 of 300000 bytes"):
        read(FileServer(CONTENT, cut_after=0))


@pytest.mark.parametrize("status", [202, 204, 206, 400, 401, 404, 410, 451])
def test_a_refused_file_is_lost(status):
    with pytest.raises(RetryableError, match=f"HTTP {status}"):
        read(FileServer(CONTENT, failures=[status]))


@pytest.mark.parametrize("status", [403, 420, 423, 429, 430, 500, 503, 508, 520, 530, 598])
def test_a_server_in_trouble_is_asked_again(status):
    assert read(FileServer(CONTENT, failures=[status] * 2)) == CONTENT


def test_a_file_that_changes_meanwhile_is_lost():
    with pytest.raises(RetryableError, match="the file has changed"):
        read(FileServer(CONTENT, cut_after=1000, etags=['"v1"', '"v2"']))


def test_a_server_without_ranges_cannot_be_resumed():
    with pytest.raises(RetryableError, match="no range requests"):
        read(FileServer(CONTENT, cut_after=1000, has_ranges=False))


def test_a_server_that_does_not_tell_the_length_is_read_to_its_end():
    assert read(FileServer(CONTENT, has_length=False)) == CONTENT


def test_an_empty_file_is_empty():
    assert read(FileServer(b"")) == b""


def test_the_position_is_that_of_the_next_byte():
    with serve(FileServer(CONTENT)) as server, RemoteFile(server.url) as file:
        file.read(5)
        assert file.readable()
        assert file.tell() == 5


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/hostname", "data:,x"])
def test_a_redirect_leads_to_nothing_but_http(place: str):
    with pytest.raises(RetryableError, match=r"which is not followed|HTTP 302"):
        read(FileServer(CONTENT, failures=[302], location=place))


def test_a_redirect_of_a_private_server_is_followed():
    with serve(FileServer(CONTENT)) as there:
        assert read(FileServer(b"", failures=[302], location=there.url)) == CONTENT


@pytest.mark.parametrize(
    ("here", "there", "is_followed"),
    [
        ("http://192.0.2.1/x", "http://192.0.2.2/x", True),
        ("http://9.9.9.9/x", "http://9.9.9.10/x", True),
        ("http://9.9.9.9/x", "http://127.0.0.1/x", False),
        ("http://9.9.9.9/x", "http://[::1]/x", False),
        ("http://9.9.9.9/x", "http://10.0.0.1/x", False),
        ("http://9.9.9.9/x", "http://localhost/x", False),
        ("http://127.0.0.1/x", "http://10.0.0.1/x", True),
    ],
)
def test_a_public_server_leads_to_public_ones_only(here, there, is_followed):
    """Nothing is sent: only the judgement about a redirect is asked for."""
    request = urllib.request.Request(here)
    arguments: Any = (request, None, 302, "", {}, there)
    if is_followed:
        assert _Redirects().redirect_request(*arguments).full_url == there
    else:
        with pytest.raises(RetryableError, match="which is not public"):
            _Redirects().redirect_request(*arguments)


def places(server: FileServer, offsets: list[int], size: int = 100) -> list[bytes]:
    found = []
    with open_places(server.url, 1000) as file:
        for offset in offsets:
            file.seek(offset)
            found.append(file.read(size))
    return found


def test_places_are_asked_for_alone_and_those_that_are_near_with_one_request():
    content = random.Random(2).randbytes(SKIPPED_BYTES * 3)
    far = SKIPPED_BYTES * 2
    offsets = [70_000, 70_050, 90_000, 400_000, 90_000, far, far + 200_000]
    with serve(FileServer(content)) as server:
        assert places(server, offsets) == [content[at : at + 100] for at in offsets]
    assert server.requests == ["bytes=70000-", f"bytes={far}-"]


def test_a_connection_that_breaks_on_the_way_to_a_place_is_made_again_there():
    offsets = [5000, 60_000, 200_000, 299_950, 10_000]
    with serve(FileServer(CONTENT, cut_after=30_000)) as server:
        assert places(server, offsets) == [CONTENT[at : at + 100] for at in offsets]


def test_nothing_is_behind_the_end():
    with serve(FileServer(CONTENT)) as server:
        assert places(server, [400_000, 299_990, 500_000]) == [b"", CONTENT[-10:], b""]


def test_a_server_without_ranges_gives_no_places():
    with (
        serve(FileServer(CONTENT, has_ranges=False)) as server,
        pytest.raises(RetryableError, match="cannot go on from byte 5000"),
    ):
        places(server, [5000])
