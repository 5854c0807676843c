import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.extract import RESPECTED
from cah_dask.candidates.page_rules import deed, directives
from tests.strategies import TREES


def raw(value) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def headers_of(pairs: list[tuple[str, str | list[str]]]) -> msgspec.Raw:
    """Write headers as JSON, be it with one name twice."""
    members = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs)
    return msgspec.Raw(f"{{{', '.join(members)}}}".encode())


def in_any_case(name: str) -> st.SearchStrategy[str]:
    cased = st.tuples(*(st.sampled_from([letter, letter.upper()]) for letter in name))
    return cased.map("".join)


NAMES = in_any_case("x-robots-tag") | st.sampled_from(["X-Robots-Tag", "x-robots-tag", "Other"])
VALUES = st.sampled_from(["noai", "noml", "all", "otherbot: none", "index, follow"])


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


@given(st.lists(st.tuples(NAMES, VALUES | st.lists(VALUES, max_size=2)), max_size=5))
def test_every_value_of_every_spelling_of_a_header_counts(pairs):
    told = " ".join(
        text
        for name, values in pairs
        for text in ([values] if isinstance(values, str) else values)
        if name.lower() == "x-robots-tag"
    )
    expected = {word for word in ("noai", "noml") if word in told}
    assert directives(raw([]), headers_of(pairs), frozenset(RESPECTED)) == expected


@pytest.mark.parametrize("values", [("0", "1"), ("1", "0"), ("1, 1",), (["0", "1"],)])
def test_one_tdm_header_that_reserves_is_enough(values):
    pairs = list(zip(["TDM-Reservation", "tdm-reservation"], values, strict=False))
    assert directives(raw([]), headers_of(pairs), frozenset(RESPECTED)) == {"tdm-reservation"}


@pytest.mark.parametrize(
    "name",
    ["robots ", " ROBOTS\t", "googlebot, robots", "cah-dask robots", "ccbot/2.0", "Cah-Dask"],
)
def test_a_meta_may_have_blanks_and_more_than_one_agent_in_its_name(name):
    assert found([{"name": name, "content": "noai"}]) == {"noai"}
    assert found([{"NAME": name, "Content": "noai"}]) == {"noai"}


@pytest.mark.parametrize("name", ["", " ", "googlebot", "robotstxt", "description", "cah"])
def test_a_meta_of_another_name_means_others(name):
    assert found([{"name": name, "content": "noai"}]) == set()


@pytest.mark.parametrize("more", [b"caf\xff", b'a": "\x01", "b', b'a": 1' + b"0" * 9999 + b', "b'])
def test_what_else_stands_there_hides_no_directive(more):
    """A byte that is no UTF-8, a raw control character, a number that is too long."""
    pair = b'"%b": ""' % more
    metas = msgspec.Raw(b'[{%b}, {"name": "robots", "content": "noai"}]' % pair)
    headers = msgspec.Raw(b'{%b, "X-Robots-Tag": "noml"}' % pair)
    assert directives(metas, headers, frozenset(RESPECTED)) == {"noai", "noml"}


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
