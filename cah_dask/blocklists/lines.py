"""Texts that people write: one value a line, gzipped or not, with comments.

One rule for all of them: empty lines count for nothing, nor does what stands behind a ``#`` that
begins a line or follows a blank. What cannot be understood is an error that tells its line.
"""

import contextlib
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from cah_dask.errors import InputError
from cah_dask.urls import Url, absolute

T = TypeVar("T")

BATCH = 100_000
"""Values that are held as Python objects at a time."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*|\[[0-9a-f:.]+\]", re.ASCII)
"""A host as urls spell it. Their parsers let more pass, such as commas, quotes and brackets."""


class Line(NamedTuple):
    """One line that says something."""

    number: int
    """From 1, as editors count."""
    value: str

    def read_by(self, read: Callable[[str], T]) -> T:
        """Return what a function makes of the value; its ValueError gets the number."""
        try:
            return read(self.value)
        except ValueError as error:
            raise ValueError(f"line {self.number}: {error}") from error


def read_lines(path: Path, errors: str = "strict") -> Iterator[Line]:
    """Read a list; `errors` says what happens to bytes that are no UTF-8, as for `open`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors=errors) as file:
        for number, line in enumerate(file, 1):
            value = (_COMMENT.sub("", line) if "#" in line else line).strip()
            if value:
                yield Line(number, value)


def read_batches(path: Path, read: Callable[[str], T]) -> Iterator[list[T]]:
    """Yield what a function makes of the lines of a list, `BATCH` at a time.

    Raises
    ------
    InputError
        If the list cannot be read, or the function raises ValueError for one of its lines.
    """
    with readable(path):
        values = (line.read_by(read) for line in read_lines(path))
        while batch := list(islice(values, BATCH)):
            yield batch


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what is wrong with a list into an InputError with its path."""
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"list {path} cannot be read: {error}") from error


def host_named(value: str) -> str:
    """Return the host that a line of a list of hosts means, as urls spell it.

    Accepted are names, ``.name`` and ``*.name`` (all mean the name and those below it), and urls,
    which mean their host.

    Raises
    ------
    ValueError
        If it is anything else, such as two names, a network or an address of mail.
    """
    url = absolute(value) if "://" in value else _of_name(value)
    if url is None or not _HOST.fullmatch(url.host):
        raise ValueError(f"{value!r} is no host name")
    return url.host


def _of_name(value: str) -> Url | None:
    """Return the url of a name without a scheme; parsers of urls would drop blanks inside."""
    name = value.removeprefix("*").removeprefix(".")
    url = absolute(f"http://{name}")
    is_more = "@" in name or len(name.split()) > 1 or (url is not None and url.path != "/")
    return None if is_more else url


def url_named(value: str) -> str:
    """Return the url that a line of a list of urls means, as `resolve` spells it.

    Raises
    ------
    ValueError
        If it is no http(s) url.
    """
    url = absolute(value)
    if url is None:
        raise ValueError(f"{value!r} is no http(s) url")
    return url.href
