"""Answers that say an image may not be used to train models, read from their headers."""

from collections.abc import Iterable

from cah_dask.directives import is_reserved, robots_directives

OPT_OUTS = ("noai", "noimageai", "noindex", "noimageindex", "noml", "none")
"""Values of X-Robots-Tag that are respected by default (img2dataset #249, #365)."""


def is_opted_out(robots_tags: Iterable[str], tdm_reservation: str, opt_outs: Iterable[str]) -> bool:
    """Tell whether an answer reserves its image.

    Parameters
    ----------
    robots_tags
        The values of all X-Robots-Tag headers.
    tdm_reservation
        The values of all TDM-Reservation headers (W3C TDM Reservation Protocol), joined with
        commas; "" if there is none.
    opt_outs
        Which directives count; case does not matter.
    """
    if is_reserved(tdm_reservation):
        return True
    given = {directive for tag in robots_tags for directive in robots_directives(tag)}
    return not given.isdisjoint(directive.lower() for directive in opt_outs)
