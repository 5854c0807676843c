import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from cah_dask.counts import Status
from cah_dask.images.web.network import Guard, NetworkOptions
from cah_dask.images.web.request_url import Target, target

GUARD = Guard(NetworkOptions(allow_ports=(8080,)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example/b.jpg", "http://a.example/b.jpg"),
        ("HTTP://A.Example:80/b c.jpg?x=ü#top", "http://a.example/b%20c.jpg?x=%C3%BC"),
        ("https://user:secret@a.example/", "https://a.example/"),
        ("http://a.example:8080/", "http://a.example:8080/"),
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://[::1]/", "http://[::1]/"),
        ("http://a.example/%2e%2e/x", "http://a.example/x"),
    ],
)
def test_urls_are_read_as_browsers_do(url, expected):
    result = target(url, GUARD)
    assert isinstance(result, Target)
    assert result.url == expected
    assert result.url.startswith(result.origin + "/")
    assert result.host in result.origin


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("ftp://a.example/", Status.BAD_URL),
        ("file:///etc/passwd", Status.BAD_URL),
        ("data:image/png;base64,x", Status.BAD_URL),
        ("javascript:alert(1)", Status.BAD_URL),
        ("//[", Status.BAD_URL),
        ("http://", Status.BAD_URL),
        ("relative.jpg", Status.BAD_URL),
        ("http://a.example:22/", Status.BLOCKED_PORT),
        ("https://a.example:6379/", Status.BLOCKED_PORT),
        ("http://a.example:99999/", Status.BAD_URL),
    ],
)
def test_what_may_not_be_requested_has_its_reason(url, status):
    assert target(url, GUARD) is status


def test_redirects_are_read_relative_to_their_page():
    for location, expected in [
        ("/c.jpg", "http://a.example/c.jpg"),
        ("d.jpg", "http://a.example/b/d.jpg"),
        ("//e.example/f", "http://e.example/f"),
        ("?g", "http://a.example/b/c?g"),
    ]:
        result = target(location, GUARD, base="http://a.example/b/c")
        assert isinstance(result, Target)
        assert result.url == expected


@given(st.text() | st.text().map("http://a.example/{}".format) | st.text().map("http://{}/".format))
@example("http://a.example/\ud800")
@example("http://\udcff/")
@example("//[")
@example("http://a.example/\0")
def test_no_url_is_an_exception_and_what_is_read_can_be_sent(url):
    result = target(url, GUARD, base="https://b.example/x")
    if isinstance(result, Target):
        assert result.url.isascii()
        assert str(URL(result.url, encoded=True)) == result.url
        raw_host = URL(result.url, encoded=True).raw_host
        assert raw_host is not None
        assert raw_host.rstrip(".") == result.host.strip("[]")
        assert target(result.url, GUARD) == result
