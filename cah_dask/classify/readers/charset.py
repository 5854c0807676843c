"""The text of a page whose charset is not what it says."""

from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from cah_dask.candidates import charset

_GOOD_PER_BAD = 10
"""Letters beyond ASCII for each fault in a text that is read rightly. Text of one byte a letter has
more faults than letters if it is read as UTF-8; a page that was cut has one fault."""


def decoded(body: bytes, content_type: str) -> str:
    """Return a page as text; what cannot be decoded becomes U+FFFD.

    Bytes that are UTF-8, and more than ASCII, are UTF-8 even where another charset is declared:
    hardly any other text happens to be. Others are what they say (`candidates.charset`) or, where
    that is full of faults, what they look like.
    """
    if not body.isascii() and _is_sound(text := body.decode("utf-8-sig", "replace")):
        return text
    text = charset.decoded(body, content_type)
    if _is_sound(text):
        return text
    return str(
        bytes_to_str(body, detect_encoding(body) or "utf-8", "replace", fallback_encodings=())
    )


def _is_sound(text: str) -> bool:
    n_beyond = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") * _GOOD_PER_BAD <= n_beyond
