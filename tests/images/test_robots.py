import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from cah_dask.images.fetch import ROBOTS_BYTES
from cah_dask.images.network import AGENT_NAME
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


AGENTS = ["cah-dask", "CAH-Dask*", "cah", "*", "", "otherbot", "cah-dask/1.0", "dask"]
RULES = ["Disallow: /images", "Allow: /images/b", "Disallow", "disallow /", "Allow : /"]
ODD = [
    "User-agents: cah-dask",
    "User-agent cah-dask",
    "User agent otherbot",
    "user  agent otherbot",
]
ODD += ["user  agent: otherbot", "useragent", "User-agent other:bot", "User-agent otherbot: x"]
OTHERS = ["Crawl-delay: 3", "Crawl-delay: 7", "Sitemap: http://a.example/s", "Foo: x", "", "# none"]


@given(
    st.lists(
        st.sampled_from([f"User-agent: {agent}" for agent in AGENTS] * 2 + RULES + ODD + OTHERS),
        max_size=14,
    )
)
def test_what_is_left_out_changes_nothing_for_us(lines):
    whole, ours = Protego.parse("\n".join(lines)), rules("\n".join(lines))
    assert ours.allow(URL) == whole.can_fetch(URL, AGENT_NAME)
    assert ours.delay_s == (whole.crawl_delay(AGENT_NAME) or 0)


def test_the_rules_of_others_are_left_out():
    text = "".join(f"User-agent: bot{n}\nDisallow: /{n}\n" for n in range(1000))
    assert relevant(f"{text}User-agent: *\nDisallow: /x".encode()).splitlines() == [
        "User-agent: -",
        "User-agent: *",
        "Disallow: /x",
    ]


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_is_an_exception(body):
    found = rules_of(relevant(body))
    assert found.allow(URL) in (True, False)
    assert found.delay_s >= 0
