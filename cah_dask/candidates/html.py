"""Pages and their image links out of HTML, as Common Crawl's writer would tell of them in a WAT.

Which tags and attributes count is its choice (ia-web-commons, ExtractingParseObserver); what a tag
is, and which charset it is in, is that of browsers. docs/extract.md names all differences.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from cah_dask.candidates.charset import decoded
from cah_dask.candidates.page import COMMONS, Head, Html, Markup, Page, PageRules, licenses
from cah_dask.candidates.page_images import Link
from cah_dask.candidates.tags import Tag, tags

Headers = Sequence[tuple[str, str]]
"""HTTP headers by name, in order, as written."""

MEDIA_TYPES = ("text/html", "application/xhtml+xml")

_OF_IMAGES = ("img", "base", "meta", "source", "picture", "/picture")
_OF_LICENSES = ("link", "a", "area")
_META = ("name", "rel", "content", "http-equiv", "property")
_SOURCES = ("src", "data-src", "srcset")
_LICENSED = ("icense", "ICENSE")  # looked for without a change of case, which takes as long as tags
_REL = re.compile(r"\brel\s*=", re.IGNORECASE)
_REL_LENGTH = 100  # characters between rel and a licence that it names
_LOOKS_LIKE_HTML = re.compile(
    rb"[\xef\xbb\xbf\s]*+(?:<!--.{0,500}?-->\s*+)?+<(?:!doctype\s++html|html|head|body|title)[\s>]",
    re.IGNORECASE | re.DOTALL,
)


def is_html(mime: str, body: bytes) -> bool:
    """Tell whether a body is HTML: by its media type (lower case), without one by its beginning."""
    return mime in MEDIA_TYPES if mime else bool(_LOOKS_LIKE_HTML.match(body))


def parse_html(url: str, headers: Headers, body: bytes, rules: PageRules) -> Page:
    """Read the page at `url` out of its HTML; anything is some page, so nothing is raised.

    Parameters
    ----------
    url
        Address of the page.
    headers
        Of the answer that it came with.
    body
        Its bytes, codings undone, in any charset.
    rules
        What to look for.
    """
    content_types = (value for name, value in headers if name.lower() == "content-type")
    text = decoded(body, next(content_types, ""))
    found = _Found()
    for tag in tags(text, _OF_IMAGES + (_OF_LICENSES if _may_have_licenses(text) else ())):
        found.add(tag)
    html = Html(Head(found.base, _json(found.metas)), found.images)
    find_license = partial(licenses, found.head_links + found.links, url, found.base)
    return rules.page(url, Markup(html, _json(_by_name(headers))), len(body), find_license)


def _may_have_licenses(text: str) -> bool:
    """Tell whether a page may link to a licence: the tags that can are most of those it has."""
    return COMMONS in text or any(
        _REL.search(before[-_REL_LENGTH:].rpartition(">")[2])
        for word in _LICENSED
        for before in text.split(word)[:-1]
    )


class _Found:
    """What the tags of a page say."""

    def __init__(self) -> None:
        self.base: str | None = None
        self.metas: list[dict[str, str]] = []
        self.images: list[Link] = []
        self.head_links: list[Link] = []
        self.links: list[Link] = []
        self._sources: list[Link] = []  # of a picture whose image is still to come
        self._is_in_picture = False

    def add(self, tag: Tag) -> None:
        """Note what a tag says; of several bases the first one counts."""
        attributes = tag.attributes
        match tag.name:
            case "img":
                self._add_image(attributes)
            case "picture" | "/picture":
                self._sources, self._is_in_picture = [], tag.name == "picture"
            case "source" if self._is_in_picture and "srcset" in attributes:
                self._sources.append(Link("SOURCE@/srcset", attributes["srcset"]))
            case "meta":
                self.metas.append({name: attributes[name] for name in _META if name in attributes})
            case "base" if self.base is None:
                self.base = attributes.get("href")
            case "link" if "href" in attributes:
                self.head_links.append(_link(attributes))
            case "a" | "area" if "href" in attributes:
                self.links.append(_link(attributes))

    def _add_image(self, attributes: dict[str, str]) -> None:
        """Add an image and what else it can be loaded from; its sources have no text but its."""
        self._is_in_picture = False
        alt, title = attributes.get("alt"), attributes.get("title")
        for source in self._sources:
            source.alt, source.title = alt, title
        self.images += self._sources
        self._sources = []
        self.images += [
            Link(f"IMG@/{name}", attributes[name], alt, title=title)
            for name in _SOURCES
            if name in attributes
        ]


def _link(attributes: dict[str, str]) -> Link:
    return Link(url=attributes["href"], rel=attributes.get("rel"))


def _by_name(headers: Headers) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return values


def _json(value: Iterable[object]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
