"""A page as an archive tells of it: its images, what it asks for, and its licences.

The structs are the layout of Common Crawl's WAT records, whose JSON decodes into them; of a WARC
they are made from the HTML. They name only the fields that we read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from cah_dask.candidates.page_images import Extra, Link, image_links
from cah_dask.candidates.page_rules import deed, directives
from cah_dask.urls import Base, Url, resolve

COMMONS = "creativecommons.org"
LICENSE = "license"
_MAX_TOLD = 100  # links of a page that are looked at, for licences
_MAX_LICENSE = 500  # characters of all licences of a page; a deed takes fifty
_NOTHING = msgspec.Raw(b"null")


class Head(msgspec.Struct, gc=False, rename="pascal"):
    """What stands in the head of a page, its lists as JSON that few pages need to have read."""

    base: str | None = None
    metas: msgspec.Raw = _NOTHING
    link: msgspec.Raw = _NOTHING


class Html(msgspec.Struct, gc=False, rename="pascal"):
    """What a page says, in HTML."""

    head: Head = msgspec.field(default_factory=Head)
    links: list[Link] = []


class Markup(msgspec.Struct, gc=False):
    """What a page says, in HTML and in the headers of the answer that it came with."""

    html: Html = msgspec.field(name="HTML-Metadata", default_factory=Html)
    headers: msgspec.Raw = msgspec.field(name="Headers", default=_NOTHING)


@dataclass(eq=False)  # not frozen, which would cost a microsecond a page
class Page:
    """The image links of one page, in document order, and what the page says about them."""

    url: str
    base_href: str | None
    images: list[Link]
    is_reserved: bool
    find_license: Callable[[], str | None]
    n_bytes: float = math.inf
    """Bytes of JSON or HTML that say all this; inf where a page is no more than its one image."""
    is_published: bool = False
    """Whether text and url of its image were published as a pair, whose uid they must keep."""
    sha256: bytes | None = None
    """What the bytes of its image had when they were published, if that is known."""

    @cached_property
    def base(self) -> Base:
        """What its links are relative to; four pages in ten have no link that asks."""
        return Base.of_page(self.url, self.base_href)

    @cached_property
    def license(self) -> str | None:
        """Addresses of the licences that the page links to, divided by spaces.

        Looked for when asked for: that costs a quarter of what parsing has cost so far.
        """
        return self.find_license()


@dataclass(frozen=True, slots=True)
class PageRules:
    """What is looked for in a page."""

    reserve: frozenset[str]
    """Directives, in lower case, any of which reserves the page's images."""
    also: frozenset[Extra] = frozenset()
    """What counts as an image beside ``<img src>``; see `page_images.image_links`."""
    max_bytes: int = 8 << 20
    """HTML of a page that is read at most, in bytes."""

    def page(
        self, url: str, markup: Markup, n_bytes: int, find_license: Callable[[], str | None]
    ) -> Page:
        """Return the page at `url`, which says all that in `n_bytes` bytes."""
        head = markup.html.head
        return Page(
            url,
            head.base,
            image_links(markup.html.links, head.metas, self.also),
            bool(directives(head.metas, markup.headers, self.reserve)),
            find_license,
            n_bytes,
        )


def licenses(
    links: Sequence[Link], url: str, base_href: str | None, *, has_deeds: bool = True
) -> str | None:
    """Return the addresses of the licences that links of a page lead to, divided by spaces.

    They stand in every row of the page, so one that has more than any page needs says nothing.

    Parameters
    ----------
    links
        In document order, those of the head first.
    url, base_href
        Address of the page and its ``<base href>``.
    has_deeds
        Whether any of them may lead to Creative Commons.
    """
    told = [link for link in links if link.rel and LICENSE in link.rel.lower()]
    if has_deeds:
        told += [link for link in links if link.url and COMMONS in link.url]
    if not told:
        return None
    base = Base.of_page(url, base_href)
    addresses = dict.fromkeys(filter(None, (_licensed(link, base) for link in told[:_MAX_TOLD])))
    told_by_page = " ".join(addresses)
    return told_by_page if 0 < len(told_by_page) <= _MAX_LICENSE else None


def _licensed(link: Link, base: Base) -> str | None:
    if link.url is None:
        return None
    if found := deed(link.url):
        return found
    if link.rel is None or LICENSE not in link.rel.lower().split():
        return None
    target = resolve(link.url, base)
    return target.href if isinstance(target, Url) else None
