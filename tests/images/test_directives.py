import pytest

from cah_dask.images.directives import OPT_OUTS, directives_for, is_opted_out


@pytest.mark.parametrize("value", ["noai", "NoImageAI", "noindex, nofollow", "none", "noml"])
@pytest.mark.parametrize("scope", ["", "cah-dask: ", "CAH-Dask:", "*: "])
def test_a_directive_for_us_is_an_opt_out(value, scope):
    assert is_opted_out([scope + value], "", OPT_OUTS)


@pytest.mark.parametrize(
    "value",
    [
        "otherbot: noai",
        "nofollow",
        "all",
        "unavailable_after: 25 Jun 2030 15:00:00 PST, nosnippet",
        "max-image-preview: none",
        "",
        ":::,,,",
    ],
)
def test_other_directives_are_not(value):
    assert not is_opted_out([value], "", OPT_OUTS)


def test_an_agent_holds_for_what_follows_it():
    tag = "otherbot: noai, noindex, cah-dask: nofollow, noml"
    assert directives_for(tag, "cah-dask") == ["nofollow", "noml"]


def test_one_header_of_many_is_enough():
    assert is_opted_out(["all", "otherbot: none", "noimageindex"], "", OPT_OUTS)


def test_rights_reserved_for_mining_are_an_opt_out():
    assert is_opted_out([], " 1 ", OPT_OUTS)
    assert not is_opted_out([], "0", OPT_OUTS)


def test_directives_may_be_chosen():
    assert not is_opted_out(["noindex"], "", ("noai",))
    assert not is_opted_out(["noai"], "", ())
