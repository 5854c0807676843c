import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from protego import Protego

from cah_dask.directives import AGENT_NAME
from cah_dask.images.manners.robots import Rules, relevant, rules_of
from cah_dask.images.web.fetch import ROBOTS_BYTES

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
        ("User-agent: cah-dask/0.1.0 (+https://lab.example; me@lab.example)\nDisallow: /", False),
        ("User-agent: cah\nDisallow: /", True),
        ("User-agent: cah\nAllow: /\nUser-agent: *\nDisallow: /", False),
        ("User-agent: cah-daskette\nAllow: /\nUser-agent: *\nDisallow: /", False),
        ("User-agent: cah-dask\nDisallow: /a\nUser-agent: CAH-Dask/2\nDisallow: /images", False),
        ("User-agent: cah-dask\n\nUser-agent: *\nDisallow: /", False),
        ("User-agent: *\nDisallow: /\nUser-agent: cah-dask", True),
        ("\ufeffUser-agent: *\nDisallow: /", False),
        ("<html><body>404</body></html>", True),
        ("User-agent: *\rDisallow: /\r", False),
        ("User-Agent : *\nDisallow : /", False),
        ("User-agent: *\nSitemap: http://a.example/s\nUser-agent: b\nDisallow: /images", False),
        ("User-agent: *\nFoo: bar\nUser-agent: b\nDisallow: /images", False),
        ("User-agent: *\nCrawl-delay: 1\nUser-agent: b\nDisallow: /images", True),
        ("User-agent: *\nContent-Signal : search=yes\nUser-agent: b\nDisallow: /images", True),
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


NAMES_US = ["cah-dask", "CAH-Dask*", "cah-dask/1.0", "Cah-Dask (+http://a.example)"]
AGENTS = {"*": "*", "* ": "*", "": "", **dict.fromkeys(NAMES_US, AGENT_NAME)}
AGENTS |= dict.fromkeys(["cah", "dask", "otherbot", "cah-daskette", "otherbot cah-dask"], "other")
RULES = ["Disallow: /images", "Allow: /images/b", "Disallow", "disallow /", "Allow : /"]
RULES += ["dissallow: /", "Disalow /images", "ALLOW /images/b.jpg"]
OTHERS = ["Crawl-delay: 3", "crawl delay 7", "Sitemap: http://a.example/s", "", "# none"]
OTHERS += ["Host: a", "Content-Signal: ai-train=no", "visit-time 0400-0845"]
UNKNOWN = ["Foo: x", "hello", "a b: c d", "Noindex: /", "Allowed: /", "x-crawl-delay: 3"]
FIELDS = ["User-agent:", "user-agent :", "User-agent", "user  agent", "user agent:", "useragent:"]


@given(
    st.lists(
        st.tuples(st.sampled_from(FIELDS), st.sampled_from(list(AGENTS)))
        | st.sampled_from(RULES + OTHERS),
        max_size=14,
    )
)
def test_protego_reads_the_same_where_each_agent_is_only_its_token(lines):
    """What is left out changes nothing: of the groups of others, and of what they are called."""
    ours = rules("\n".join(line if isinstance(line, str) else " ".join(line) for line in lines))
    exact = [line if isinstance(line, str) else f"{line[0]} {AGENTS[line[1]]}" for line in lines]
    whole = Protego.parse("\n".join(exact))
    assert ours.allow(URL) == whole.can_fetch(URL, AGENT_NAME)
    assert ours.delay_s == (whole.crawl_delay(AGENT_NAME) or 0)


LINES = ["User-agent: *", "User-agent: cah-dask", "User-agent: b", *RULES, *OTHERS]


@given(st.lists(st.sampled_from(LINES) | st.sampled_from(UNKNOWN), max_size=14))
@example(["User-agent: cah-dask", "Foo: x", "User-agent: b", "Disallow: /images"])
def test_a_line_that_nobody_knows_parts_no_agents(lines):
    """It is as if it were not there (RFC 9309 2.2.4); to Protego it would be a rule."""
    known = "\n".join(line for line in lines if line not in UNKNOWN)
    ours, whole = rules("\n".join(lines)), Protego.parse(known)
    assert ours.allow(URL) == rules(known).allow(URL) == whole.can_fetch(URL, AGENT_NAME)
    assert ours.reserve(URL) == rules(known).reserve(URL)
    assert ours.delay_s == (whole.crawl_delay(AGENT_NAME) or 0)


def test_the_rules_of_others_are_left_out():
    text = "".join(f"User-agent: bot{n}\nDisallow: /{n}\n" for n in range(1000))
    everyone, us = "User-agent: *\nDisallow: /x\n", "User-agent: cah-dask\nDisallow: /y\n"
    assert relevant(text.encode()) == ""
    assert relevant(f"{text}{everyone}".encode()) == "User-agent: *\nDisallow: /x"
    assert relevant(f"{text}{everyone}{us}{text}".encode()) == "User-agent: *\nDisallow: /y"


PREFERENCES = [
    ("Content-Signal: search=yes, ai-train=no", {"/a": True, "/b/c": True}),
    ("content-signal:ai-train=no # none", {"/a": True}),
    ('Content-Signal: "search=yes, ai-train=no"', {"/a": True}),
    ('Content-Usage: /b "train-ai=n"', {"/a": False, "/b/c": True}),
    ("Content-Signal: search=no, ai-input=no", {"/a": False}),
    ("Content-Signal: ai-train=yes", {"/a": False}),
    ("Content-Usage: train-ai=n", {"/a": True}),
    ("Content-Usage: train-ai=n\nContent-Usage: /b/ train-ai=y", {"/a": True, "/b/c": False}),
    ("Content-Usage: /b/ train-ai=n\nContent-Usage: train-ai=y", {"/a": False, "/b/c": True}),
    ("Content-Usage: /*.jpg$ train-ai=n", {"/a.jpg": True, "/a.jpg.png": False}),
    ("Content-Usage: /b\ttrain-ai=n", {"/a": False, "/b/c": True}),
    ("Content-Usage: train-ai=n\nContent-Usage: train-ai=y", {"/a": True}),
    ("Content-Usage: train-ai=y\nContent-Signal: ai-train=no", {"/a": True}),
    ("Content-Usage: train-ai=n\nContent-Usage: /b search=n", {"/b/c": True}),
    ("Content-Usage: /b", {"/b": False}),
    ("X-Content-Signal: ai-train=no", {"/a": False}),
]


@pytest.mark.parametrize(("lines", "expected"), PREFERENCES)
@pytest.mark.parametrize("agent", ["*", "cah-dask/1.0"])
def test_what_is_said_of_training_holds_for_the_longest_path(lines, expected, agent):
    found = rules(f"User-agent: otherbot\nAllow: /\n\nUser-agent: {agent}\n{lines}\nAllow: /")
    assert {path: found.reserve(f"http://a.example{path}") for path in expected} == expected
    assert all(found.allow(f"http://a.example{path}") for path in expected)


def test_what_is_said_of_training_to_others_does_not_hold_for_us():
    found = rules(
        "User-agent: *\nContent-Signal: ai-train=no\nAllow: /\nUser-agent: cah-dask\nAllow: /"
    )
    assert not found.reserve(URL)
    assert not rules("User-agent: otherbot\nContent-Signal: ai-train=no").reserve(URL)


def test_each_way_to_speak_of_training_can_be_ignored():
    lines = "User-agent: *\nContent-Signal: ai-train=no"
    assert rules_of(lines).reserve(URL)
    assert not rules_of(lines, ["content-usage"]).reserve(URL)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_is_an_exception(body):
    found = rules_of(relevant(body))
    assert found.allow(URL) in (True, False)
    assert found.delay_s >= 0
