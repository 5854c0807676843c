import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.candidates.page_images import IMAGE, Extra, Link, image_links, widest
from tests.strategies import TREES
from tests.wats import image, page, write_pages

LINKS = [
    Link(IMAGE, "a.jpg", "alt a", title="title a"),
    Link(IMAGE, "b.jpg", " ", title="title b"),
    Link("IMG@/data-src", "c.jpg", "alt c"),
    Link("IMG@/srcset", "d-1.jpg 1x, d-2.jpg 2x", "alt d"),
    Link("SOURCE@/srcset", "e.webp"),
    Link("A@/href", "f.jpg", "alt f"),
]
METAS = [
    {"property": "og:title", "content": "the page"},
    {"property": "og:image", "content": "1.jpg"},
    {"property": "og:image:width", "content": "600"},
    {"name": "og:image", "content": "2.jpg"},
    {"property": "OG:image:alt", "content": "second"},
]


def found(*also, metas=METAS) -> list[tuple]:
    raw = msgspec.Raw(json.dumps(metas).encode())
    return [(link.url, link.alt) for link in image_links(LINKS, raw, frozenset(also))]


def test_by_default_only_the_source_of_an_image_counts():
    assert found() == [("a.jpg", "alt a"), ("b.jpg", " ")]


@pytest.mark.parametrize(
    ("also", "added"),
    [
        ("data-src", ("c.jpg", "alt c")),
        ("srcset", ("d-2.jpg", "alt d")),
        ("picture", ("e.webp", None)),
    ],
)
def test_other_attributes_count_on_demand(also, added):
    assert found(also) == [*found(), added]


def test_a_title_stands_in_for_a_missing_alt():
    assert found("title") == [("a.jpg", "alt a"), ("b.jpg", "title b")]


def test_an_image_for_social_networks_has_its_own_text_or_that_of_the_page():
    assert found("og:image")[2:] == [("1.jpg", "the page"), ("2.jpg", "second")]


@given(TREES)
def test_malformed_metas_hold_no_images(metas):
    image_links([], msgspec.Raw(json.dumps([metas, *METAS]).encode()), frozenset(["og:image"]))
    image_links([], msgspec.Raw(json.dumps(metas).encode()), frozenset(["og:image"]))


@pytest.mark.parametrize(
    ("srcset", "url"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg 300w, b.jpg 1200w,c.jpg 600w", "b.jpg"),
        ("a,b.jpg 1.5x, c.jpg 1x", "a,b.jpg"),
        ("a.jpg, b.jpg 2x", "b.jpg"),
        ("a.jpg,,, b.jpg .5x,c.jpg 300w 200h", "c.jpg"),
        ("a.jpg .w, b.jpg 1..5x, c.jpg 0x", "a.jpg"),
        (" \n", None),
        (", ,", None),
    ],
)
def test_the_widest_of_a_srcset_is_taken(srcset, url):
    assert widest(srcset) == url


@pytest.mark.parametrize("unit", [",", " ", "\v", "\xa0", "a,", "a ", "1", " 1", "a,,,, "])
def test_a_monstrous_srcset_is_read_in_linear_time(unit):
    srcset = unit * (1 << 20)
    assert (widest(srcset) or "") in srcset


@given(st.text(alphabet="a.jpg ,0123456789wx\n"))
def test_any_srcset_has_at_most_one_widest_url(srcset):
    url = widest(srcset)
    assert url is None or url in srcset


def test_pages_that_only_have_such_images_are_found_too(tmp_path):
    metas = [{"property": "og:image", "content": "/1.jpg"}, METAS[0]]
    source = {"path": "SOURCE@/srcset", "url": "/2.jpg", "alt": "a picture of a dog"}
    archive = write_pages(tmp_path / "x.wat.gz", page(metas=metas), page(source), page(image("x")))
    cases: list[tuple[tuple[Extra, ...], int, int]] = [
        ((), 1, 0),
        (("og:image",), 2, 1),
        (("og:image", "picture"), 3, 2),
    ]
    for also, seen, kept in cases:
        counts = extract_archive(archive, ExtractOptions(also=also), buckets=1).counts
        assert (counts.seen, counts.kept) == (seen, kept)
