import time
import tracemalloc
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from cah_dask.candidates.tags import resolved, tags

NAMES = ("img", "a")


def found(text: str) -> list[tuple[str, dict[str, str]]]:
    return [(tag.name, tag.attributes) for tag in tags(text, NAMES)]


def in_a_tree(text: str) -> list[tuple[str | None, str | None]]:
    """Find images as a parser that builds a tree does."""
    document = HTMLTree.parse(text).document
    images = document.query_selector_all("img") if document else ()
    return [(image.getattr("src"), image.getattr("alt")) for image in images]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a&amp;b &lt;&#65;&#x42;&#X43", "a&b <ABC"),
        ("?a=1&copy=2&copy;&copyx&copy", "?a=1&copy=2©&copyx©"),
        ("&; & &&amp; &# &#x; &nothing;", "&; & && &# &#x; &nothing;"),
        ("&#0;&#xD800;&#x110000;", "\ufffd\ufffd\ufffd"),
        (f"&#{'9' * 5000};", "\ufffd"),
    ],
)
def test_character_references_are_those_of_attributes(value, expected):
    assert resolved(value) == expected


def test_a_tag_is_found_wherever_a_browser_finds_one():
    assert found("<a\nHREF = x><b/><IMG/src='y'title=z>") == [
        ("a", {"href": "x"}),
        ("img", {"src": "y", "title": "z"}),
    ]
    assert found("<ab><imgs src=x></a></img><a<img><!a><!--<a>--><p t='<a>'>") == []


def test_an_end_tag_is_found_where_it_is_looked_for():
    text = "<a><!--</a>--></A\n><script></a></script><b></ab></a t='>'></a<a"
    assert [tag.name for tag in tags(text, ("a", "/a"))] == ["a", "/a", "/a"]


@pytest.mark.parametrize("start", ["<img src='", "<img ", "<!--", "<script>", '<p title="', "<a "])
def test_what_is_left_open_lasts_to_the_end_of_the_page(start):
    assert found(start + "<img src=x") == []


PLAIN = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\r"), max_size=20
)
AROUND = st.sampled_from(
    ["", " ", "text & text", "<p>", "</p>", "<br/>", "<!-- <img src=no> -->", "<!doctype html>",
     "<b title='<img src=no>'>", "<script>'<img src=no>'</script>", "<style><img src=no></style>"]
)  # fmt: skip


@given(st.lists(st.tuples(AROUND, PLAIN, PLAIN, st.sampled_from("\"'"))))
def test_attributes_come_back_as_they_were_written_and_as_in_a_tree(images):
    text = "".join(
        f"{around}<img src={quote}{escape(url)}{quote} alt={quote}{escape(alt)}{quote}>"
        for around, url, alt, quote in images
    )
    expected = [(url, alt) for _, url, alt, _ in images]
    assert [(a["src"], a["alt"]) for name, a in found(text) if name == "img"] == expected
    assert in_a_tree(text) == expected


PIECES = st.sampled_from(
    ["<", ">", "/", "=", "'", '"', " ", "img", "a", "src", "<img src=x", "<a ", "<!--", "-->",
     "--!>", "<script", "</script>", "&", "&#", "&amp", ";", "\0", "\ud800", "é", "<?", "<!", "</"]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=3)).map("".join))
def test_any_text_has_some_tags(text):
    for tag in tags(text, NAMES):
        assert tag.name in NAMES
        assert all(name == name.lower() for name in tag.attributes)


def test_tags_that_are_left_open_take_no_memory():
    text = "".join(f"<font color={n}><p>" for n in range(50_000))
    tracemalloc.start()
    try:
        assert list(tags(text, NAMES)) == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "piece",
    ["<", "<div>", "<b>", "<img ", "<img a='", '<img a="\'', "<!--", "<!---", "<script>", "<a ",
     "a=", "<img alt='&amp", "<img src=a>", "<p title=a ", "<font color=1><p>", "</a", "<!",
     "<img a b"]
)  # fmt: skip
def test_any_page_takes_linear_time(piece):
    def seconds(n: int) -> float:
        text = piece * n
        started = time.process_time()
        list(tags(text, NAMES))
        return time.process_time() - started

    short, long = (min(seconds(n) for _ in range(3)) for n in (10_000, 80_000))
    assert long < 0.2 + 16 * short
