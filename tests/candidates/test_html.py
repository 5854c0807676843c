import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.extract import RESPECTED
from cah_dask.candidates.html import is_html, parse_html
from cah_dask.candidates.page import Page, PageRules
from cah_dask.candidates.page_images import Link
from cah_dask.candidates.wat import parse_page
from tests.wats import as_json

PAGE = "https://www.example.org/a/page.html"
ANSWERS = json.loads(Path(__file__).with_name("common_crawl_writer.json").read_text("utf-8"))
"""Pages with what Common Crawl's own writer makes of them (ia-web-commons 3.0.3, 39b5c22)."""

PLAIN = PageRules(frozenset(RESPECTED))
MORE = PageRules(frozenset(RESPECTED), frozenset({"og:image", "title"}))
ALL = PageRules(
    frozenset(RESPECTED), frozenset({"og:image", "title", "srcset", "data-src", "picture"})
)


def told(page: Page):
    return page.base_href, page.is_reserved, page.license, page.images


def tree_of(case):
    """Return the JSON of a case's WAT record, as a tree."""
    response = {"Headers": {"Content-Type": case["content_type"]}, "HTML-Metadata": case["wat"]}
    return {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": response}}}


def of_wat(case, rules: PageRules) -> Page:
    return parse_page(PAGE, as_json(tree_of(case)), rules)


def of_html(case, rules: PageRules) -> Page:
    body = case["html"].encode(case["charset"])
    return parse_html(PAGE, [("content-type", case["content_type"])], body, rules)


def parse(html: str, rules: PageRules = PLAIN, **headers: str) -> Page:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return parse_html(PAGE, pairs, html.encode(), rules)


@pytest.mark.parametrize("case", ANSWERS["equal"], ids=lambda case: case["says"])
def test_html_says_what_common_crawls_writer_says(case):
    for rules in (PLAIN, MORE):
        assert told(of_html(case, rules)) == told(of_wat(case, rules))


DOG = ("b.png", "dog")
DIFFERENCES = {
    "a slash right behind the name of a tag": [("a.png/alt=cat", None), DOG],
    "< within a tag": [DOG],
    "<!---> and --!> end a comment": [("a.png", "cat"), DOG],
    "CDATA ends at the first >": [DOG],
    "two bases": [DOG],
    "a tag that the end of the page cuts": [DOG],
    "a style that a script ends": [DOG],
    "a comment in a script that does not end": [DOG],
    "an anchor that does not end": [DOG],
    "a licence of a frame": [DOG],
    "a mark against a header": [("a.png", "Katzen 猫")],
    "quotes in the header": [("a.png", "кот Ли")],
    "more in the header": [("a.png", "кот Ли")],
    "meta charset that a detector overrides": [("a.png", "кот Ли")],
    "a meta in a comment": [("a.png", "кот Ли")],
    "ISO-2022-JP without a word": None,
}
"""The images as a browser sees them, where Common Crawl's writer sees others."""


@pytest.mark.parametrize("case", ANSWERS["different"], ids=lambda case: case["says"])
def test_where_html_says_something_else_it_says_what_a_browser_says(case):
    ours, theirs = of_html(case, PLAIN), of_wat(case, PLAIN)
    assert told(ours) != told(theirs)
    expected = DIFFERENCES[case["says"]]
    if expected is not None:
        assert [(link.url, link.alt) for link in ours.images] == expected
    assert (ours.base_href, theirs.base_href) == (
        ("/1/", "/2/") if case["says"] == "two bases" else (None, None)
    )


def test_an_unclosed_anchor_may_name_a_licence_and_a_frame_may_not():
    assert parse("<a rel=license href=/l>").license == "https://www.example.org/l"
    assert parse("<iframe src=https://creativecommons.org/licenses/by/4.0/>").license is None


@pytest.mark.parametrize(
    ("html", "headers"),
    [
        ("", {"X_Robots_Tag": "noindex"}),
        ("", {"x_robots_tag": "noai, noml"}),
        ("", {"TDM_Reservation": "1"}),
        ("<meta name=robots content='nofollow, noimageai'>", {}),
        ("<p><meta content=1 name=tdm-reservation>", {}),
    ],
)
def test_a_page_may_reserve_its_images(html, headers):
    assert parse(f"<img src=a.png alt=cat>{html}", **headers).is_reserved
    assert not parse_html(PAGE, [], html.encode(), PageRules(frozenset())).is_reserved


def test_of_several_headers_of_one_name_each_counts():
    pairs = [("X-Robots-Tag", "noai"), ("x-robots-tag", "all"), ("X-Robots-Tag", "all")]
    assert parse_html(PAGE, pairs, b"", PLAIN).is_reserved


def test_all_sources_of_an_image_can_count_with_its_text():
    html = (
        "<picture><source srcset='a.webp 1x, b.webp 2x'><img data-src=lazy.png alt='A cat' "
        "src=tiny.gif srcset='s.png 1x, m.png 2x'></picture><video><source src=x></video>"
    )
    assert parse(html, ALL).images == [
        Link("SOURCE@/srcset", "b.webp", "A cat"),
        Link("IMG@/src", "tiny.gif", "A cat"),
        Link("IMG@/data-src", "lazy.png", "A cat"),
        Link("IMG@/srcset", "m.png", "A cat"),
    ]


CAT, DOG_LINK = Link("SOURCE@/srcset", "cat.webp", "a dog"), Link("IMG@/src", "dog.png", "a dog")


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("<picture><source srcset=cat.webp>", [CAT]),
        ("<PICTURE class=a><source srcset=cat.webp><br>", [CAT]),
        ("<picture><source srcset=no.webp></picture><picture><source srcset=cat.webp>", [CAT]),
        ("<picture><source srcset=no.webp><picture><source srcset=cat.webp>", [CAT]),
        ("<source srcset=no.webp><picture><source srcset=cat.webp>", [CAT]),
        ("<picture><source srcset=no.webp></picture>", []),
        ("<picture><source srcset=no.webp></PICTURE\n>", []),
        ("<video><source srcset=no.webp></video>", []),
        ("<video><source srcset=no.webp>", []),
        ("<source srcset=no.webp>", []),
        ("<picture><source srcset=no.webp></picture><p><video><source srcset=v.webp></video>", []),
        ("<picture><img><source srcset=no.webp>", []),
        ("<picture></picture><source srcset=no.webp>", []),
    ],
)
def test_a_source_is_that_of_the_image_of_its_picture_and_of_no_other(before, expected):
    assert parse(f"{before}<img src=dog.png alt='a dog'>", ALL).images == [*expected, DOG_LINK]


@pytest.mark.parametrize(
    ("mime", "body", "expected"),
    [
        ("text/html", b"\x89PNG", True),
        ("application/xhtml+xml", b"", True),
        ("image/png", b"<html>", False),
        ("text/plain", b"<html>", False),
        ("", b" \r\n<!DOCTYPE html>", True),
        ("", b"\xef\xbb\xbf<!-- a -->\n<HTML lang=de>", True),
        ("", b"<htmlx>", False),
        ("", b"A page <html>", False),
        ("", b"\x89PNG", False),
        ("", b"", False),
    ],
)
def test_html_is_told_by_its_type_and_without_one_by_its_beginning(mime, body, expected):
    assert is_html(mime, body) is expected


HEADERS = st.lists(
    st.tuples(st.sampled_from(["Content-Type", "X-Robots-Tag"]), st.text(max_size=9))
)
SNIPPETS = st.sampled_from(
    [
        *(b"<img src=", b" alt='", b"'>", b"<base href=", b"<source srcset=", b"&#xD800;"),
        *(b"<meta name=robots content=", b"<meta charset=", b"<a rel=license href="),
        b"//creativecommons.org/licenses/by/4.0/ ",
    ]
)


@given(HEADERS, st.lists(SNIPPETS | st.binary(max_size=4)).map(b"".join))
def test_any_bytes_are_some_page(headers, body):
    page = parse_html(PAGE, headers, body, ALL)
    assert page.license is None or page.license.startswith("http")
    for link in page.images:
        assert f"{link.url} {link.alt}".encode()
