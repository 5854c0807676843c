"""What sites write about the use of pages and images, in all the ways that they write it."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.page_rules import directives
from cah_dask.directives import AGENT_NAME, allows_training, is_reserved, product_token
from cah_dask.images.web.optout_headers import OPT_OUTS, is_opted_out

WANTED = frozenset(OPT_OUTS)
SEPARATORS = [", ", ",", ";", "; ", " ", "\t", " \t , ", ",,"]
OURS = [
    "",
    "cah-dask: ",
    "CAH-Dask:",
    "cah-dask/0.1.0: ",
    "ccbot: ",
    "*: ",
    "robots: ",
    "robots : ",
]
OTHERS = ["otherbot: ", "googlebot:", "cah: ", "cah-daskette: ", "bot/1.0: ", "ai2bot : "]
DATES = [  # the forms of RFC 822, RFC 850, asctime and ISO 8601
    "25 Jun 2030 15:00:00 PST",
    "Fri, 25 Jun 2030 15:00:00 GMT",
    "Friday, 25-Jun-30 15:00:00 UTC",
    "Fri Jun 25 15:00:00 2030",
    "Fri, 25 Jun 2030 15:00:00 GMT+01:00",
    "2030-06-25T15:00:00+00:00",
    "2030-06-25 15:00:00Z",
    "2030-06-25",
]


def given_by_a_page(*values: str) -> set[str]:
    """The opt-outs that a page gives with these headers: the first is a string, or a list."""
    headers = {"X-Robots-Tag": values[0] if len(values) == 1 else list(values)}
    raw = msgspec.Raw(json.dumps(headers).encode())
    return set(directives(msgspec.Raw(b"[]"), raw, WANTED))


def given_by_a_meta(value: str) -> set[str]:
    raw = msgspec.Raw(json.dumps([{"name": "robots", "content": value}]).encode())
    return set(directives(raw, msgspec.Raw(b"{}"), WANTED))


def given_by_an_image(*values: str) -> set[str]:
    return {word for word in OPT_OUTS if is_opted_out(values, "", (word,))}


TABLE = [
    ("", set()),
    ("all", set()),
    ("index, follow", set()),
    ("noindexing, xnoai", set()),
    ("noai", {"noai"}),
    ("NoAI", {"noai"}),
    ('"noai"', {"noai"}),
    ("nofollow, NOINDEX", {"noindex"}),
    ("noai,noimageai;noml none", {"noai", "noimageai", "noml", "none"}),
    ("otherbot: noai", set()),
    ("otherbot: noai, noindex", set()),
    ("noml, otherbot: noai", {"noml"}),
    ("otherbot: noai, cah-dask: noml", {"noml"}),
    ("otherbot: noai, cah-dask: nofollow, noml", {"noml"}),
    ("otherbot: noai robots: noindex", {"noindex"}),
    ("max-image-preview: none", set()),
    ("max-image-preview:none, max-snippet:-1, noai", {"noai"}),
    ("max-snippet: 20 noindex", {"noindex"}),
    ("otherbot: max-snippet: 20, noai", set()),
    (":::,,,", set()),
    (": noai", {"noai"}),
    ("cah-dask/0.1.0 (me@lab.example): noai", {"noai"}),
    ("cah-dask/0.1.0 (+https://lab.example/bot; mail: me@lab.example): noai", {"noai"}),
    ("CCBot/2.0 (https://commoncrawl.org/faq/) : noai, noml", {"noai", "noml"}),
    ("cah-dask/v0.1: noai", {"noai"}),
    ("otherbot/2.0 (+https://lab.example/cah-dask: noai): noindex", set()),
    ("noai|noml", {"noai", "noml"}),
    ("noai/noimageai", {"noai", "noimageai"}),
    ("noai\uff0cnoml\u3001noindex", {"noai", "noml", "noindex"}),
    ("[noai]", {"noai"}),
    ("unavailable-after: 2030-06-25, noai", {"noai"}),
]
REPEATED = [
    *("max-", "max-a", "max-:", "max- ", "unavailable_after", "unavailable_after ", "noai(", "()"),
    *("noai/", "a: ", "a :", ":", " ", "\t:", "ai-train", "ai-train ", "cah-dask/", "noai,", "(a"),
    *('"ai-train"', '"', "'="),
]


@pytest.mark.parametrize("text", REPEATED)
def test_whatever_a_value_repeats_it_is_read_in_linear_time(text: str):
    """Of 256 kB: a quadratic pattern would take minutes."""
    value = text * ((256 << 10) // len(text))
    started = time.process_time()
    is_opted_out([value], value, OPT_OUTS)
    allows_training(value)
    given_by_a_meta(value)
    assert time.process_time() - started < 4


@pytest.mark.parametrize("reader", [given_by_a_page, given_by_a_meta, given_by_an_image])
@pytest.mark.parametrize(("value", "expected"), TABLE)
def test_one_value_means_the_same_for_pages_metas_and_images(reader, value, expected):
    assert reader(value) == expected


@pytest.mark.parametrize("reader", [given_by_a_page, given_by_a_meta, given_by_an_image])
@pytest.mark.parametrize("date", DATES)
def test_a_date_hides_nothing_and_names_nobody(reader, date):
    tag = f"unavailable_after: {date}"
    assert reader(tag) == set()
    assert reader(f"{tag}, noai") == {"noai"}
    assert reader(f"noml; {tag} noindex") == {"noml", "noindex"}
    assert reader(f"otherbot: {tag}, noai, cah-dask: {tag}; noml") == {"noml"}


@given(
    st.lists(st.sampled_from([*OPT_OUTS, "nofollow", "all", "max-snippet: 3", "notranslate"])),
    st.sampled_from(SEPARATORS),
    st.sampled_from(OURS),
    st.sampled_from(OTHERS),
)
def test_any_separator_and_any_scope_is_understood(words, separator, ours, other):
    expected = WANTED.intersection(words)
    mine, theirs = separator.join(words), other + separator.join(OPT_OUTS)
    for reader in (given_by_a_page, given_by_a_meta, given_by_an_image):
        assert reader(ours + mine) == expected
        assert reader(theirs) == set()
        if ours:
            assert reader(theirs + separator + ours + mine) == expected
        else:
            assert reader(mine + separator + theirs) == expected


@given(st.text(max_size=60) | st.text("noai:;, *\t-robts1", max_size=60))
def test_pages_and_images_never_differ(value):
    assert given_by_a_page(value) == given_by_a_meta(value) == given_by_an_image(value)


def test_one_header_of_many_is_enough():
    for reader in (given_by_a_page, given_by_an_image):
        assert reader("all", "otherbot: none", "noimageindex") == {"noimageindex"}
        assert reader("otherbot: nofollow", "noai") == {"noai"}, "an agent ends with its header"


def test_directives_may_be_chosen():
    assert not is_opted_out(["noindex"], "", ("noai",))
    assert not is_opted_out(["noai"], "", ())
    assert is_opted_out(["noai"], "", ("NoAI",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in ["1", " 1 ", "1, 1", "0,1", "1;x", '"1"']),
        *((value, False) for value in ["", "0", "0, 0", "10", "true"]),
    ],
)
def test_rights_reserved_for_mining_are_an_opt_out(value, expected):
    assert is_reserved(value) is expected
    assert is_opted_out([], value, OPT_OUTS) is expected
    raw = msgspec.Raw(json.dumps([{"name": "TDM-Reservation ", "content": value}]).encode())
    found = directives(raw, msgspec.Raw(b"{}"), frozenset({"tdm-reservation"}))
    assert bool(found) is expected


TRAINING = {
    "": None,
    "search=yes": None,
    "search=yes,ai-train=no": False,
    "ai-train=no, search=yes": False,
    "Search=Yes; AI-Train = No": False,
    "ai-train=yes": True,
    "train-ai=n": False,
    "train-ai=y, search=n": True,
    'search=y,train-ai="n"': False,
    '"search=yes, ai-train=no"': False,
    '"ai-train=no"': False,
    "'ai-train=no'": False,
    '"ai-train"="no"': False,
    "ai-train='no', search='yes'": False,
    "\u201cai-train=no\u201d": False,
    '"search=yes, ai-train=yes"': True,
    '"not-ai-train=no"': None,
    '"ai-train=none"': None,
    "train-ai=n;x=1": False,
    "train-ai=y, train-ai=n": False,
    "train-ai=no": False,
    "train-ai=never": None,
    "not-train-ai=n": None,
    "retrain-ai=n": None,
    "ai-training=no": None,
    "ai-train": None,
    "ai-input=no": None,
}


@pytest.mark.parametrize(("value", "expected"), TRAINING.items())
def test_what_is_said_of_training_is_understood_in_both_vocabularies(value, expected):
    assert allows_training(value) is expected


TOKENS = {
    AGENT_NAME: [
        *("cah-dask", " CAH-Dask ", "cah-dask/0.1.0 (+https://lab.example; me@lab.example)"),
        *("cah-dask*", "*cah-dask", "cah-dask, otherbot"),
    ],
    "*": ["*", " * ", "**", "* otherbot", "*, otherbot"],
    "otherbot": ["otherbot", "otherbot/1.0", "OtherBot cah-dask", "*otherbot"],
    "cah": ["cah", "cah/2", "cah dask"],
    "cah-daskette": ["cah-daskette"],
    "": ["", "1bot", "/cah-dask"],
}


@pytest.mark.parametrize("token", TOKENS)
def test_agents_are_compared_by_their_product_token(token):
    assert {product_token(agent) for agent in TOKENS[token]} == {token}
