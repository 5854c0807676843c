"""The text of a page, whatever it says of its charset.

In this order counts: a byte order mark, the Content-Type of the answer, a ``<meta>``, UTF-8 if the
bytes are that, a guess. Browsers do so too, but guess by the language of their user.
"""

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from cah_dask.candidates.tags import tags

_LOOK_BYTES = 8192
"""Where a page may declare its charset, in bytes: as far as Common Crawl's writer looks; a browser
looks at 1,024."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET = re.compile(r"charset\s*+=\s*+[\"']?\s*+([^\s\"';,]++)", re.IGNORECASE)
_FALLBACK = "cp1252"
# Python's codecs know fewer characters than the WHATWG's of the same name.
_LARGER = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
}
_MORE_LABELS = dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac-cyrillic")
# What Common Crawl's detector can find. Another one knows more, and takes French for Hungarian.
_GUESSED = frozenset(
    (
        *("big5hkscs", "gb18030", "euc_jp", "cp932", "cp949"),
        *("cp1251", "koi8-r", "iso8859-5", "cp866"),
        *("cp1253", "iso8859-7", "cp1255", "iso8859-8", "utf-16-le", "utf-16-be"),
    )
)


def decoded(body: bytes, content_type: str = "") -> str:
    """Return the text of a page; what is no character of its charset becomes U+FFFD.

    Parameters
    ----------
    body
        Bytes of the page, codings undone.
    content_type
        Content-Type header of the answer.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    declared = _declared(content_type) or _declared_in_meta(body)
    if declared:
        return body.decode(declared, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode(_guess(body), "replace")


def _declared(content_type: str) -> str | None:
    """Return the codec that a Content-Type names, if it is one of the web."""
    found = _CHARSET.search(content_type)
    return _codec(found[1]) if found else None


def _declared_in_meta(body: bytes) -> str | None:
    """Return the codec that the first ``<meta>`` of them all names that names one.

    A page whose ``<meta>`` could be read is in no UTF-16, whatever that says.
    """
    for label in _labels_in_meta(body[:_LOOK_BYTES].decode("latin-1")):
        codec = _codec(label)
        if codec:
            return "utf-8" if codec.startswith("utf-16") else codec
    return None


def _labels_in_meta(text: str) -> Iterator[str]:
    for _, attributes in tags(text, ("meta",)):
        if label := attributes.get("charset"):
            yield label
        elif attributes.get("http-equiv", "").lower() == "content-type":
            found = _CHARSET.search(attributes.get("content", ""))
            if found:
                yield found[1]


def _codec(label: str) -> str | None:
    ascii_label = label.encode("ascii", "ignore").decode()
    known = map_encoding_to_html5(ascii_label, fallback_utf8=False)
    codec = known or _MORE_LABELS.get(ascii_label.strip().lower())
    return _LARGER.get(codec, codec) if codec else None


def _guess(body: bytes) -> str:
    found = detect_encoding(body, max_len=_LOOK_BYTES, html5_compatible=False) or ""
    codec = _codec(found) or found
    return codec if codec in _GUESSED else _FALLBACK
