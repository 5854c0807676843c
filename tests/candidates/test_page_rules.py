import json

import msgspec
import pytest
from hypothesis import given

from cah_dask.candidates.extract import RESPECTED
from cah_dask.candidates.page_rules import deed, directives
from tests.strategies import TREES


def raw(value) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def found(metas=None, headers=None, wanted=frozenset(RESPECTED)) -> set[str]:
    return set(directives(raw(metas), raw(headers), wanted))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("noindex", {"noindex"}),
        ("NoIndex, NOAI;noimageai  noml", {"noindex", "noai", "noimageai", "noml"}),
        ("otherbot: noindex", set()),
        ("otherbot: noindex, noai", set()),
        ("otherbot: noindex, cah-dask: noai", {"noai"}),
        ("CCBot: noai, noml", {"noai", "noml"}),
        ("*: noai", {"noai"}),
        ("noai, unavailable_after: 1 Jan 2030 10:00:00 PST", {"noai"}),
        ("max-snippet: 20, noindex", {"noindex"}),
    ],
)
def test_a_robots_header_means_us_unless_it_names_another_agent(value, expected):
    assert found(headers={"X-Robots-Tag": value}) == expected
    assert found(headers={"x-robots-TAG": ["all", value]}) == expected


def test_only_wanted_directives_are_told():
    metas = [{"name": "robots", "content": "noindex, noarchive"}]
    assert found(metas, wanted=frozenset()) == set()
    assert found(metas, wanted=frozenset({"noarchive", "noai"})) == {"noarchive"}


def test_metas_for_all_robots_and_for_us_add_up_with_headers():
    metas = [
        {"name": "Robots", "content": "noindex,nofollow"},
        {"content": "noai", "name": "CCBot"},
        {"name": "googlebot", "content": "noimageindex"},
        {"name": "tdm-reservation", "content": " 1 "},
        {"property": "og:image", "content": "robots"},
    ]
    assert found(metas, {"tdm-reservation": ["0"]}) == {"noindex", "noai", "tdm-reservation"}


@given(TREES, TREES)
def test_malformed_metas_and_headers_say_nothing_and_break_nothing(metas, headers):
    found([metas, {"name": "robots", "content": metas}], {"x-robots-tag": headers})
    found(metas, headers)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://creativecommons.org/licenses/by-sa/3.0/", "licenses/by-sa/3.0/"),
        ("https://creativecommons.org/licenses/by/4.0/deed.fr", "licenses/by/4.0/"),
        ("https://creativecommons.org/licenses/by/4.0/deed", "licenses/by/4.0/"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "licenses/by/4.0/"),
        ("//www.creativecommons.org/licenses/by-nc/2.5/de/deed.en", "licenses/by-nc/2.5/de/"),
        ("HTTPS://CreativeCommons.org/publicdomain/zero/1.0", "publicdomain/zero/1.0/"),
        ("http://creativecommons.org/publicdomain/mark/1.0/?ref=x", "publicdomain/mark/1.0/"),
        ("http://creativecommons.org/licenses/publicdomain/", "licenses/publicdomain/"),
    ],
)
def test_the_forms_of_a_deed_have_one_address(url, expected):
    assert deed(url) == f"https://creativecommons.org/{expected}"


@pytest.mark.parametrize(
    "url",
    [
        "https://creativecommons.org/",
        "https://creativecommons.org/licenses/",
        "https://search.example.org/?q=creativecommons.org/licenses/by/4.0",
        "https://notcreativecommons.org/licenses/by/4.0/",
        "/licenses/by/4.0/",
        "",
    ],
)
def test_other_addresses_are_no_deeds(url):
    assert deed(url) is None
