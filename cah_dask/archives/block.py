"""One record as it lies in an archive: its WARC fields, and its content, which is read once."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from fastwarc.warc import HeaderMap

from cah_dask.archives.members import content_length
from cah_dask.errors import CahError, RecordError

_EMPTY_LINES = (b"\r\n", b"\n")


class CutError(CahError):
    """A block is not as long as it says: what its own gzip member holds is asked for."""


class LostRecordError(RecordError):
    """What was at an offset is cut or damaged, or lies behind the end of the archive."""


class Stream(Protocol):
    """What the content of a record is read from, to its end or beyond."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its beginning."""


class Block:
    """One record as it lies in an archive; its content is read once."""

    __slots__ = ("_fields", "_stream", "kind", "n_bytes", "n_left", "offset")

    def __init__(
        self,
        offset: int,
        kind: str,
        n_bytes: int,
        fields: Mapping[str, str] | HeaderMap,
        stream: Stream,
    ) -> None:
        self.offset = offset
        """Where its gzip member begins; in an uncompressed archive, where it does itself."""
        self.kind = kind
        """Its WARC-Type in lower case."""
        self.n_bytes = self.n_left = n_bytes
        """How long it says it is, and what of that was not read yet."""
        self._fields = fields
        self._stream = stream

    def fields(self) -> Mapping[str, str]:
        """Return its WARC fields by lower-case names.

        Raises
        ------
        CutError
            They cannot be told from its content.
        """
        fields = self._fields
        return _readable(fields) if isinstance(fields, HeaderMap) else fields

    def url(self) -> str:
        """Return its WARC-Target-URI."""
        return bare_url(self._fields.get("warc-target-uri"))

    def read(self, most: int) -> bytes:
        """Return its next bytes, up to `most`.

        Raises
        ------
        CutError
            It has fewer than it says.
        """
        n_bytes = min(most, self.n_left)
        try:
            data = self._stream.read(n_bytes) if n_bytes > 0 else b""
        except OSError:
            data = b""
        if len(data) < n_bytes:
            raise CutError("it is cut")
        self.n_left -= n_bytes
        return data

    def read_head(self, most: int) -> tuple[bytes, bool]:
        """Return its next lines up to an empty one, and whether there is one within `most` bytes.

        Raises
        ------
        CutError
            It has fewer than it says.
        """
        lines, n_left, n_stop = [], self.n_left, max(0, self.n_left - most)
        readline, is_whole = self._stream.readline, False
        try:
            while n_left > n_stop and not is_whole:
                line = readline(n_left - n_stop)
                lines.append(line)
                n_left -= len(line)
                if len(line) < 3:
                    is_whole = line in _EMPTY_LINES
                    if not line:
                        raise CutError("it is cut")
        except OSError:
            raise CutError("it is cut") from None
        self.n_left = n_left
        return b"".join(lines), is_whole


def bare_url(value: str | None) -> str:
    """Return the url of a WARC field; older writers put it in angle brackets."""
    return (value or "").strip().removeprefix("<").removesuffix(">")


def _readable(headers: HeaderMap) -> dict[str, str]:
    """Return the WARC fields of a record by lower-case names, of each name the first one.

    Raises
    ------
    CutError
        FastWARC took a whole record with bare line ends for a field.
    """
    if "\n" in "".join(headers.values()):
        raise CutError("its head is unreadable")
    items: Sequence[tuple[str, str]] = headers.items()
    return {name.lower(): value.strip() for name, value in reversed(items)}


def readable_kind(headers: HeaderMap, kind: str) -> str:
    """Return a WARC-Type, which FastWARC knows in one spelling only; "" if it is unreadable."""
    if "\n" in "".join(headers.values()):
        return ""
    return kind or (headers.get("WARC-Type") or "").strip().lower()


def hides_length(headers: HeaderMap) -> bool:
    """Tell whether a record that FastWARC takes for an empty one does not say that it is.

    Its Content-Length is written in another case than usual, or is no number.
    """
    if "\n" in "".join(headers.values()):
        return False
    return content_length(_readable(headers)) != 0


def kind_of(fields: Mapping[str, str]) -> str:
    """Return a WARC-Type in lower case, "" if there is none."""
    return fields.get("warc-type", "").lower()


def is_panic(error: BaseException) -> bool:
    """Tell a fault of FastWARC's native code, which is no Exception, from an order to stop."""
    return type(error).__name__ == "PanicException"
