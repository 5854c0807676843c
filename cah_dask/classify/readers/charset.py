"""Bytes of a page -> its text, whatever its headers say."""

import re
from collections.abc import Iterator, Sequence

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_LABEL = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';/>]+)", re.IGNORECASE)
_META_BYTES = 1024
"""How far a page may declare its charset (HTML standard, "prescan a byte stream")."""
_GOOD_PER_BAD = 10
"""Letters beyond ASCII for each fault in what counts as UTF-8. Text of one byte a letter has more
faults than letters then; a page that was cut has one fault."""


def decoded(body: bytes, headers: Sequence[tuple[str, str]]) -> str:
    """Return a page as text; what cannot be decoded becomes U+FFFD.

    A byte order mark counts first. Bytes that are UTF-8, and more than ASCII, are UTF-8 even where
    another charset is declared: hardly any other text happens to be. Then what the header declares,
    then the page itself, then what the bytes look like.
    """
    for mark, charset in _MARKS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(charset, "replace")
    if not body.isascii():
        text = body.decode(errors="replace")
        beyond = len(text) - len(text.encode("ascii", "ignore"))
        if text.count("\ufffd") * _GOOD_PER_BAD <= beyond:
            return text
    best = next(_declared(body, headers), None) or detect_encoding(body) or "utf-8"
    return str(bytes_to_str(body, best, "replace", fallback_encodings=()))


def _declared(body: bytes, headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the declared charsets that may be true; UTF-8 and UTF-16 are known by their bytes."""
    types = [value for name, value in headers if name.lower() == "content-type"]
    for text in [*types, body[:_META_BYTES].decode("latin-1")]:
        label = _LABEL.search(text)
        charset: str | None = (
            map_encoding_to_html5(label[1], fallback_utf8=False) if label else None
        )
        if charset and (not charset.startswith("utf-") or b"\0" in body):
            yield charset
