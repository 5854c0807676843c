import json

import pytest
from hypothesis import given, settings

from cah_dask.candidates.extract import RESPECTED
from cah_dask.candidates.page import PageRules
from cah_dask.candidates.page_images import Link
from cah_dask.candidates.wat import _decode, _decode_tolerantly, parse_page
from cah_dask.errors import RecordError
from tests.strategies import wat_json
from tests.wats import anchor, as_json, image, page

PAGE = "https://www.example.org/a/page.html"


def parse(tree):
    return parse_page(PAGE, as_json(tree), PageRules(frozenset(RESPECTED)))


@settings(max_examples=50)
@given(wat_json())
def test_the_tolerant_parser_says_what_the_fast_one_says(tree):
    data = json.dumps(tree).encode()
    fast = _decode(data)
    if fast is not None:
        slow = _decode_tolerantly(data)
        assert slow.html.links == fast.html.links
        assert slow.html.head.base == fast.html.head.base
        for a, b in (
            (slow.headers, fast.headers),
            (slow.html.head.metas, fast.html.head.metas),
            (slow.html.head.link, fast.html.head.link),
        ):
            assert json.loads(bytes(a)) == json.loads(bytes(b))


def test_a_page_has_its_images_in_document_order():
    tree = page(anchor("/x"), image("1.jpg", "one"), image(None, "two"), image("3.jpg"))
    assert parse(tree).images == [
        Link("IMG@/src", "1.jpg", "one"),
        Link("IMG@/src", None, "two"),
        Link("IMG@/src", "3.jpg", None),
    ]


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"links": [anchor("http://creativecommons.org/licenses/by/4.0/")]}, ["licenses/by/4.0/"]),
        (
            {
                "links": [
                    anchor("//creativecommons.org/licenses/by/4.0/deed.de"),
                    anchor("/x", rel="nofollow"),
                    anchor("http://creativecommons.org/licenses/by/4.0/", rel="license"),
                    anchor("https://creativecommons.org/publicdomain/zero/1.0/"),
                ]
            },
            ["licenses/by/4.0/", "publicdomain/zero/1.0/"],
        ),
        (
            {
                "head_links": [
                    {"path": "LINK@/href", "url": "http://creativecommons.org/licenses/by/2.0/"}
                ]
            },
            ["licenses/by/2.0/"],
        ),
        ({"links": [image("http://creativecommons.org/x.png", "logo")]}, None),
        ({"links": [{"path": "A@/href", "rel": "license"}]}, None),
        ({"links": [anchor("//[", rel="license")]}, None),
    ],
)
def test_licences_are_deeds_that_the_page_links_to(details, expected):
    tree = page(*details.get("links", ()), head_links=details.get("head_links"))
    deeds = expected and " ".join(f"https://creativecommons.org/{name}" for name in expected)
    assert parse(tree).license == deeds


def test_a_link_that_calls_itself_the_licence_is_believed():
    in_body = page(anchor("/terms?x=1#y", rel="External License"))
    in_head = page(head_links=[{"path": "LINK@/href", "url": "/terms?x=1", "rel": "license"}])
    assert parse(in_body).license == "https://www.example.org/terms?x=1"
    assert parse(in_head).license == "https://www.example.org/terms?x=1"


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": ' + b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_a_record_error(data):
    with pytest.raises(RecordError, match="no JSON"):
        parse_page(PAGE, data, PageRules(frozenset()))
