"""Which links of a page are its images.

``<img src>`` always; the others only on demand. Common Crawl's writer records the titles of images
and the metas of a page, but neither srcset nor data-src nor picture (ia-web-commons,
ExtractingParseObserver); those options are for archives of other writers.
"""

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

IMAGE = "IMG@/src"

Extra: TypeAlias = Literal["title", "data-src", "srcset", "picture", "og:image"]

_PATHS: dict[Extra, str] = {
    "data-src": "IMG@/data-src",
    "srcset": "IMG@/srcset",
    "picture": "SOURCE@/srcset",
}
_BLANK = " \t\n\f\r"  # for browsers
# Possessive, so that no page can make them take more than linear time. A url ends at a blank or at
# its last comma, its sizes at the next comma.
_CANDIDATE = re.compile(rf"[{_BLANK},]*+(?:([^{_BLANK}]++)(?<=,)|([^{_BLANK}]++)([^,]*+))")
_SIZE = re.compile(rf"[{_BLANK}](\d++(?:\.\d++)?+|\.\d++)[wx](?![^{_BLANK}])", re.ASCII)


class Link(msgspec.Struct, gc=False):
    """A link as its page wrote it."""

    path: str | None = None
    url: str | None = None
    alt: str | None = None
    rel: str | None = None
    title: str | None = None


def marks(also: frozenset[Extra]) -> re.Pattern[bytes]:
    """Return what is found in each record with image links, and in few others.

    A pattern because `re` looks for a rare first byte, twice as fast as ``in`` does.
    """
    others: dict[Extra, bytes] = {"picture": b"SOURCE@", "og:image": b"og:image"}
    return re.compile(b"|".join([b"IMG@", *(others[name] for name in others if name in also)]))


def image_links(links: list[Link], metas: msgspec.Raw, also: frozenset[Extra]) -> list[Link]:
    """Return the image links of a page in document order, those of its metas last.

    Parameters
    ----------
    links
        All links of the page.
    metas
        JSON of its ``Head.Metas``.
    also
        What counts beside ``<img src>``: its ``title`` where it has no alt, the widest of its
        ``srcset``, its ``data-src``, ``picture`` sources, and ``og:image`` with its alt or the
        page's ``og:title``.
    """
    if not also:
        return [link for link in links if link.path == IMAGE]
    paths = {IMAGE, *(path for name, path in _PATHS.items() if name in also)}
    images = [_image(link, also) for link in links if link.path in paths]
    return images + (_og_images(metas) if "og:image" in also else [])


def _image(link: Link, also: frozenset[Extra]) -> Link:
    has_alt = link.alt is not None and link.alt.strip()
    alt = link.title if "title" in also and not has_alt else link.alt
    is_set = link.path is not None and link.path.endswith("srcset")
    return Link(link.path, widest(link.url or "") if is_set else link.url, alt)


def widest(srcset: str) -> str | None:
    """Return the url of a srcset with the largest width or density; the first of equal ones."""
    best, widest_so_far = None, -1.0
    for match in _CANDIDATE.finditer(srcset.strip(_BLANK + ",")):
        alone, url, sizes = match.groups()
        size = _SIZE.search(sizes) if sizes else None
        width = float(size[1]) if size else 1.0
        if width > widest_so_far:
            best, widest_so_far = (alone or url).rstrip(","), width
    return best


def _og_images(metas: msgspec.Raw) -> list[Link]:
    """Collect ``og:image`` metas; ``og:image:alt`` belongs to the image before it."""
    images: list[Link] = []
    title = None
    for name, content in _properties(metas):
        if name in ("og:image", "og:image:url"):
            images.append(Link(name, content))
        elif name == "og:image:alt" and images:
            images[-1].alt = content
        elif name == "og:title":
            title = content
    return [Link(link.path, link.url, link.alt or title) for link in images]


def _properties(metas: msgspec.Raw) -> Iterable[tuple[str, str]]:
    try:
        values = msgspec.json.decode(metas)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for meta in values if isinstance(values, list) else ():
        if isinstance(meta, dict):
            name, content = meta.get("property", meta.get("name")), meta.get("content")
            if isinstance(name, str) and isinstance(content, str):
                yield name.lower(), content
