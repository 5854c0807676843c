"""Answers that say an image may not be used to train models, read from their headers."""

from collections.abc import Iterable

from cah_dask.images.network import AGENT_NAME

OPT_OUTS = ("noai", "noimageai", "noindex", "noimageindex", "noml", "none")
"""Values of X-Robots-Tag that are respected by default (img2dataset #249, #365)."""

_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives that are written with a colon themselves and so name no agent."""


def is_opted_out(robots_tags: Iterable[str], tdm_reservation: str, opt_outs: Iterable[str]) -> bool:
    """Tell whether an answer reserves its image.

    Parameters
    ----------
    robots_tags
        The values of all X-Robots-Tag headers.
    tdm_reservation
        The value of TDM-Reservation (W3C TDM Reservation Protocol), "" if there is none.
    opt_outs
        Which directives count.
    """
    if tdm_reservation.strip() == "1":
        return True
    given = {directive for tag in robots_tags for directive in directives_for(tag, AGENT_NAME)}
    return not given.isdisjoint(opt_outs)


def directives_for(tag: str, agent: str) -> list[str]:
    """Return the directives of one X-Robots-Tag value that are meant for everyone, or for `agent`.

    An agent's name and a colon before a directive hold for those that follow in the same value, as
    in ``otherbot: noindex, nofollow``.
    """
    directives = []
    is_for_us = True
    for item in tag.lower().split(","):
        name, colon, rest = item.strip().partition(":")
        if colon and name.strip() not in _WITH_VALUE:
            is_for_us = name.strip() in (agent, "*")
            name = rest
        if is_for_us:
            directives.append(name.strip())
    return directives
