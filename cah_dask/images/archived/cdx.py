"""CDX files: lines that say which record of which archive answers a url.

Read are the classic ones (`` CDX N b a m s k r M S V g``, or without such a line those of 9, 11 or
14 fields) and CDXJ, as pywb writes it and Common Crawl publishes it (``cdx-00000.gz``). Keys may be
SURT or anything else: what counts is the url itself.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from cah_dask.archives.remote import open_archive
from cah_dask.errors import RetryableError
from cah_dask.images.archived.captures import RESOURCE_STATUS, Capture, seconds_of

_NAME = re.compile(r"\.cdxj?(?:\.gz)?$|(?:^|/)cdx-\d+\.gz$")
_LINE_BYTES: Final = 1 << 20
"""Longest line that is read."""
_ELEVEN = ["N", "b", "a", "m", "s", "k", "r", "M", "S", "V", "g"]
_LAYOUTS = {
    9: ["N", "b", "a", "m", "s", "k", "r", "V", "g"],
    11: _ELEVEN,
    14: [*_ELEVEN, "orig_length", "orig_offset", "orig_filename"],
}
_MAX_OFFSET: Final = 1 << 63
_REVISIT = "warc/revisit"
_NONE = ("", "-")


class _Json(msgspec.Struct):
    """What a line of CDXJ says, as far as it is of use."""

    url: str
    filename: str
    offset: int | str
    status: int | str | None = ""
    mime: str | None = ""
    digest: str | None = ""


def is_cdx(name: str) -> bool:
    """Tell whether a path or url is that of a CDX file, by its name."""
    return _NAME.search(name.partition("?")[0]) is not None


class CdxLines:
    """The captures that a CDX file names; an iterator, to be gone through once.

    Raises (while it is gone through)
    ---------------------------------
    RetryableError
        If the file cannot be read from here and now.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._letters: list[str] | None = None
        self.n_lines = self.n_bad = 0
        """Lines that name, or should name, a capture."""
        self.errors: list[str] = []
        """What could not be read."""

    def __iter__(self) -> Iterator[Capture]:
        try:
            with _opened(self._place) as file:
                yield from self._captures(file)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise RetryableError(f"{self._place} is out of reach from here: {error}") from error

    def _captures(self, file: BinaryIO) -> Iterator[Capture]:
        try:
            for line in _lines(file):
                if line.startswith(b"!") or self._is_header(line):
                    continue
                self.n_lines += 1
                capture = self._capture(line)
                if capture is None:
                    self.n_bad += 1
                else:
                    yield capture
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.errors.append(f"unreadable after {self.n_lines} lines: {error}")

    def _is_header(self, line: bytes) -> bool:
        """Tell whether a line says what the fields are; then remember it."""
        if line[1:5] != b"CDX " or line[:1].isalnum():
            return False
        self._letters = line[5:].decode("ascii", "replace").split()
        return True

    def _capture(self, line: bytes) -> Capture | None:
        text = line.decode("utf-8", "replace")
        head, brace, rest = text.partition(" {")
        try:
            if brace:
                return _of_json(head.split(), msgspec.json.decode("{" + rest, type=_Json))
            fields = text.split()
            letters = self._letters or _LAYOUTS[len(fields)]
            return _of_fields(dict(zip(letters, fields, strict=True)))
        except (KeyError, IndexError, ValueError, RecursionError, msgspec.DecodeError):
            return None


def _of_json(head: list[str], line: _Json) -> Capture | None:
    about = {
        "a": line.url, "b": head[-1], "g": line.filename, "V": str(line.offset),
        "s": str(line.status or ""), "m": line.mime or "", "k": line.digest or "",
    }  # fmt: skip
    return _of_fields(about)


def _of_fields(fields: Mapping[str, str]) -> Capture | None:
    """Return the capture that the fields of a line tell, by their letters.

    Raises
    ------
    KeyError, ValueError
        If there is none to be told.
    """
    offset = int(fields["V"] if "V" in fields else fields["v"])
    if not 0 <= offset < _MAX_OFFSET or fields["a"] in _NONE:
        return None
    if fields["g"] in _NONE or not fields["g"].isprintable():
        return None
    is_revisit = fields.get("m", "") == _REVISIT
    status = fields.get("s", "")
    return Capture(
        url=fields["a"],
        date=seconds_of(fields["b"]),
        status=0 if is_revisit else RESOURCE_STATUS if status in _NONE else _code(status),
        is_revisit=is_revisit,
        digest=fields.get("k", ""),
        archive=fields["g"],
        offset=offset,
    )


def _code(status: str) -> int:
    """Return an HTTP status code; 0 for a number that is none."""
    code = int(status)
    return code if 100 <= code <= 999 else 0


@contextmanager
def _opened(place: str) -> Iterator[BinaryIO]:
    with open_archive(place) as stream:
        if isinstance(stream, str):
            with Path(stream).open("rb") as file:
                yield _plain(file, place)
        else:
            yield _plain(stream, place)


def _plain(file: BinaryIO, place: str) -> BinaryIO:
    is_packed = place.partition("?")[0].endswith(".gz")
    return gzip.GzipFile(fileobj=file) if is_packed else file  # type: ignore[return-value]  # reads


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that hold anything; one that is too long without its end."""
    is_going_on = False
    while line := file.readline(_LINE_BYTES):
        if not is_going_on and line.strip():
            yield line.rstrip(b"\r\n")
        is_going_on = not line.endswith(b"\n")
