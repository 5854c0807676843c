import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.images.fetch import ROBOTS_BYTES
from cah_dask.images.robots import Rules, relevant, rules_of

URL = "http://a.example/images/b.jpg"


def rules(text: str) -> Rules:
    return rules_of(relevant(text.encode()))


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [
        ("", True),
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: *\nDisallow: /\nUser-agent: cah-dask\nAllow: /", True),
        ("User-agent: cah-dask\nDisallow: /images/", False),
        ("User-agent: CAH-Dask\nDisallow: /images/*.jpg$", False),
        ("user-agent:cah-dask # us\ndisallow:/images", False),
        ("User-agent: otherbot\nDisallow: /", True),
        ("User-agent: otherbot\nUser-agent: cah-dask\nDisallow: /", False),
        ("User-agent: cah-dask\nUser-agent: otherbot\nDisallow: /", False),
        ("User-agent: cah-dask\nDisallow:\nUser-agent: *\nDisallow: /", True),
        ("User-agent: *\nDisallow: /images\nAllow: /images/b.jpg", True),
        ("\ufeffUser-agent: *\nDisallow: /", False),
        ("<html><body>404</body></html>", True),
    ],
)
def test_rules_are_read_as_the_standard_says(text, is_allowed):
    assert rules(text).allow(URL) is is_allowed


def test_a_delay_is_read():
    assert rules("User-agent: *\nCrawl-delay: 2.5").delay_s == 2.5
    assert rules("User-agent: otherbot\nCrawl-delay: 9").delay_s == 0
    assert Rules().delay_s == 0


@pytest.mark.parametrize(
    "line",
    [
        b"User-agent: x%d\n",
        b"User-agent: x%d\nDisallow: /y\n",
        b"Disallow: /%d*a*a*a*a*b\n",
        b"#\n",
    ],
)
def test_a_hostile_file_is_read_in_no_time(line):
    numbered = (line.replace(b"%d", b"%d" % n) for n in range(60_000))
    body = b"User-agent: *\n" + b"".join(numbered)
    body = body[: ROBOTS_BYTES - 20] + b"\nDisallow: /images/\n"
    began = time.process_time()
    rules_of(relevant(body)).allow("http://a.example/" + "a" * 2000)
    assert time.process_time() - began < 3


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_is_an_exception(body):
    found = rules_of(relevant(body))
    assert found.allow(URL) in (True, False)
    assert found.delay_s >= 0
