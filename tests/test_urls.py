import time

import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cah_dask.blocklists.lines import host_named
from cah_dask.counts import Reject
from cah_dask.urls import (
    NOWHERE,
    Base,
    Url,
    _resolve_by_ada,
    longest_match,
    normal,
    resolve,
)

PAGE = Base.of_page("https://www.example.com/shop/items/page.html?id=1")

PIECES = [
    *(
        "http:",
        "https:",
        "//",
        "/",
        "..",
        ".",
        "?",
        "#",
        "@",
        ":",
        "%2e",
        "%2E",
        "%",
        "&",
        "'",
        "\\",
    ),
    *(
        "[",
        "]",
        "::1",
        "a",
        "b.jpg",
        "Example.COM",
        "example.org",
        "xn--bcher-kva",
        "bücher",
        "1",
        "0x7f",
    ),
    *(
        "_",
        "-",
        " ",
        "\t",
        "\n",
        "\x00",
        "\ud83d",
        "|",
        "^",
        "~",
        "!",
        "*",
        "(",
        ")",
        ",",
        ";",
        "=",
        "$",
    ),
    *("data:", "javascript:", ":80", ":443", ":99999", "é", "127.0.0.1", "localhost", "x" * 260),
]
LINKS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
PAGES = st.sampled_from(
    [
        "https://www.example.com/shop/items/page.html?id=1",
        "http://example.org",
        "http://example.org/a/b/",
        "https://example.com:8443/x/y",
        "http://user:secret@example.com/a",
        "http://xn--bcher-kva.example/",
        "dns:example.org",
        "",
    ]
)


@given(LINKS, PAGES)
@example("//[", "http://example.org")
@example("../../../../x.jpg", "http://example.org/a/b/")
@example("../", "http://example.org/a/b/")
@example("..", "http://example.org/a/b/")
@example("a/./b", "http://example.org/a/b/")
@example("/%2e%2E/x", "http://example.org/a/b/")
@example("http://1.2.3.4.5x/", "http://example.org")
@example("http://a.0x7f/", "http://example.org")
@example("http://a.com/'?'", "http://example.org")
@example("http://a.com/x?a=/../b", "http://example.org")
def test_links_resolve_as_ada_resolves_them(link, page):
    base = Base.of_page(page)
    slow = _resolve_by_ada(link, base)
    assert resolve(link, base) in (slow, Reject.PRIVATE_HOST)


@given(LINKS, PAGES)
def test_a_resolved_url_is_normal_http_without_fragment_and_credentials(link, page):
    url = resolve(link, Base.of_page(page))
    if isinstance(url, Url):
        parsed = ada_url.URL(url.href)
        assert parsed.href == url.href
        assert parsed.protocol in ("http:", "https:")
        assert (parsed.hostname, parsed.pathname) == (url.host, url.path)
        assert (parsed.username, parsed.password, parsed.hash) == ("", "", "")


@pytest.mark.parametrize(
    ("link", "href"),
    [
        ("img/x.jpg", "https://www.example.com/shop/items/img/x.jpg"),
        ("/x.jpg", "https://www.example.com/x.jpg"),
        ("../x.jpg", "https://www.example.com/shop/x.jpg"),
        ("../../../../x.jpg", "https://www.example.com/x.jpg"),
        ("//cdn.example.net/x.jpg", "https://cdn.example.net/x.jpg"),
        ("?size=2", "https://www.example.com/shop/items/page.html?size=2"),
        ("  http://EXAMPLE.com:80/a b.jpg#top ", "http://example.com/a%20b.jpg"),
        ("http://under_score.example.com/x.jpg", "http://under_score.example.com/x.jpg"),
        ("http://me:secret@example.com/x.jpg", "http://example.com/x.jpg"),
        ("http://bücher.example/ü.jpg", "http://xn--bcher-kva.example/%C3%BC.jpg"),
        ("https:\\\\example.com\\x.jpg", "https://example.com/x.jpg"),
        ("http://example.com:8080/x.jpg", "http://example.com:8080/x.jpg"),
        ("http://exam\nple.com/x\t.jpg", "http://example.com/x.jpg"),
        ("http://example.com/back\\slash", "http://example.com/back/slash"),
    ],
)
def test_links_resolve_as_in_a_browser(link, href):
    url = resolve(link, PAGE)
    assert isinstance(url, Url)
    assert url.href == href


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("", Reject.NO_URL),
        (" \n", Reject.NO_URL),
        ("data:image/gif;base64,R0lGOD", Reject.SCHEME),
        ("DATA:image/gif", Reject.SCHEME),
        ("javascript:void(0)", Reject.SCHEME),
        ("java\nscript:void(0)", Reject.SCHEME),
        ("ftp://example.com/x.jpg", Reject.SCHEME),
        ("mailto:me@example.com", Reject.SCHEME),
        ("C:\\pictures\\x.jpg", Reject.SCHEME),
        ("//[", Reject.BAD_URL),
        ("http://", Reject.BAD_URL),
        ("http://exa mple.com/", Reject.BAD_URL),
        ("http://example.com:99999/", Reject.BAD_URL),
        ("http://" + "a." * 130 + "com/x.jpg", Reject.BAD_URL),
        ("http://localhost/x.jpg", Reject.PRIVATE_HOST),
        ("http://10.0.0.1/x.jpg", Reject.PRIVATE_HOST),
        ("http://0x7f000001/x.jpg", Reject.PRIVATE_HOST),
        ("http://2130706433/x.jpg", Reject.PRIVATE_HOST),
        ("http://[::1]/x.jpg", Reject.PRIVATE_HOST),
        ("http://user@127.1:8080/x.jpg", Reject.PRIVATE_HOST),
        ("//printer.local/x.jpg", Reject.PRIVATE_HOST),
        ("http://intranet/x.jpg", Reject.PRIVATE_HOST),
    ],
)
def test_links_that_lead_nowhere_say_why(link, reason):
    assert resolve(link, PAGE) == reason


@pytest.mark.parametrize(
    ("page", "base", "href"),
    [
        ("http://ex.org/a/b.html", None, "http://ex.org/a/img/x.jpg"),
        ("http://ex.org", None, "http://ex.org/img/x.jpg"),
        ("http://ex.org/a/b.html", "/c/", "http://ex.org/c/img/x.jpg"),
        ("http://ex.org/a/b.html", "http://cdn.ex.org/d/e?x", "http://cdn.ex.org/d/img/x.jpg"),
        ("http://ex.org/a/b.html", "//[", "http://ex.org/a/img/x.jpg"),
        ("http://ex.org/a/b.html", "javascript:1", "http://ex.org/a/img/x.jpg"),
        ("http://ex.org/a/b.html", "", "http://ex.org/a/img/x.jpg"),
        ("", "http://ex.org/d/", "http://ex.org/d/img/x.jpg"),
    ],
)
def test_relative_links_follow_the_base_of_the_page(page, base, href):
    url = resolve("img/x.jpg", Base.of_page(page, base))
    assert isinstance(url, Url)
    assert url.href == href


@pytest.mark.parametrize("unit", ["../", "a/../", "%2e/", "/", "?", "@", ":"])
def test_a_monstrous_link_is_resolved_in_linear_time(unit):
    base = Base.of_page("http://ex.org/a/b/")
    started = time.process_time()
    resolve(unit * (1 << 20), base)
    assert time.process_time() - started < 1


def test_without_a_page_address_only_absolute_links_resolve():
    assert resolve("x.jpg", Base.of_page("")) == Reject.BAD_URL
    assert resolve("http://ex.org/x.jpg", Base.of_page("")) == Url(
        "http://ex.org/x.jpg", "ex.org", "/x.jpg"
    )


HOSTS = st.lists(
    st.text(alphabet="abcxyz0189-", min_size=1, max_size=8).filter(
        lambda label: label.strip("-") == label and not label.startswith("xn")
    ),
    min_size=1,
    max_size=3,
).map(lambda labels: ".".join([*labels, "example"]))


@given(HOSTS, st.sampled_from(["{}", "{}.", "%{:02x}", "upper", "{}.:80", "u@{}", "{}。"]))
def test_one_host_has_one_name_however_it_is_spelt(host, form):
    if form == "upper":
        spelt = host.upper()
    elif form.startswith("%"):
        spelt = form.format(ord(host[0])) + host[1:]
    else:
        spelt = form.format(host)
    url = resolve(f"http://{spelt}/x.jpg", NOWHERE)
    assert isinstance(url, Url)
    assert url.host == host
    assert url.href == f"http://{host}/x.jpg"
    assert normal(f"http://{spelt}/x.jpg") == url.href
    if "@" not in spelt and ":" not in spelt:
        assert host_named(spelt) == host


@pytest.mark.parametrize("host", ["shop.example..", "shop..example", "..", ".", "a...b."])
def test_a_host_with_dots_but_no_names_between_them_is_none(host):
    assert resolve(f"http://{host}/x.jpg", NOWHERE) in (Reject.BAD_URL, Reject.PRIVATE_HOST)
    with pytest.raises(ValueError, match="is no host name"):
        host_named(host.lstrip("."))


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("images.example", "name"),
        ("a.images.example", "images"),
        ("b.a.images.example", "images"),
        ("other.example", "example"),
        ("example", "example"),
        ("myexample", "default"),
        ("images.example.org", "default"),
    ],
)
def test_the_longest_pattern_counts(host: str, found: str):
    patterns = {"*.example": "example", "images.example": "name", "*.images.example": "images"}
    assert longest_match(patterns, host, "default") == found
    assert longest_match({}, host, "default") == "default"
