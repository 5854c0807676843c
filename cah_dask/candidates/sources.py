"""Archives: where they are, whether they can be read, and their WAT records one by one.

An archive is named by a path or an http(s) url; the name is its identity in a run.
"""

import contextlib
import glob
import gzip
import io
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from cah_dask.candidates.remote import RemoteFile
from cah_dask.errors import CahError, InputError, RetryableError, ShardError

COMMON_CRAWL = "https://data.commoncrawl.org/"
"""Public address of Common Crawl's files; prefixed to the lines of its own lists."""

Stream: TypeAlias = str | BinaryIO
"""What FastWARC reads: the path of a local file, or an open remote one."""

_CRAWL_PREFIXES = ("crawl-data/", "cc-index/", "contrib/")
_LIST_SUFFIXES = (".paths", ".paths.gz")
_CHECKED_RECORDS = 5
_BUFFER = 1 << 20


def list_archives(inputs: Sequence[str]) -> list[str]:
    """Return the names of all archives that the inputs stand for, in order, each once.

    Parameters
    ----------
    inputs
        Files, globs (sorted), http(s) urls, and lists ``*.paths`` or ``*.paths.gz`` of these, local
        or remote. Lines of Common Crawl's lists (``crawl-data/...``) become urls at `COMMON_CRAWL`;
        other relative lines are looked for beside their list. ``#`` starts a comment line.

    Raises
    ------
    InputError
        A file is missing, a glob matches nothing, a list is empty or unreadable.
    """
    found = [archive for entry in inputs for archive in _expand(entry)]
    if not found:
        raise InputError("no inputs; give WAT files, globs, http(s) urls or a wat.paths.gz list")
    return list(dict.fromkeys(found))


def is_remote(name: str) -> bool:
    """Tell whether a name is an http(s) url."""
    return name.startswith(("http://", "https://"))


def _expand(entry: str) -> Iterator[str]:
    if entry.endswith(_LIST_SUFFIXES):
        for line in _list_lines(entry):
            yield from _expand_plain(_locate(line, entry))
    else:
        yield from _expand_plain(entry)


def _expand_plain(entry: str) -> Iterator[str]:
    if is_remote(entry):
        yield entry
    elif Path(entry).is_dir():
        raise InputError(f"{entry} is a folder; name its files, such as {entry}/*.warc.wat.gz")
    elif Path(entry).exists():
        yield entry
    elif "://" in entry:
        raise InputError(f"{entry}: unknown scheme; accepted are paths and http(s) urls")
    elif glob.has_magic(entry):
        matches = sorted(glob.glob(entry, recursive=True))  # noqa: PTH207  # keeps the name as given
        if not matches:
            raise InputError(f"{entry} matches no file")
        yield from matches
    else:
        raise InputError(f"{entry} does not exist")


def _list_lines(name: str) -> list[str]:
    try:
        with open_archive(name) as stream:
            data = Path(stream).read_bytes() if isinstance(stream, str) else stream.read()
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, CahError) as error:
        raise InputError(f"{name} is no readable list of archives: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise InputError(f"{name} is empty; it must name one archive per line")
    return entries


def _locate(line: str, list_name: str) -> str:
    if line.startswith(_CRAWL_PREFIXES):
        return COMMON_CRAWL + line
    if is_remote(line) or "://" in line or Path(line).is_absolute():
        return line
    folder, slash, _ = list_name.rpartition("/")
    return f"{folder}{slash}{line}"


def check_archive(archive: str) -> None:
    """Look at the first records of a local archive; a remote one is taken on trust.

    Raises
    ------
    InputError
        It cannot be read, or holds no WAT record where one must be.
    """
    if is_remote(archive):
        return
    try:
        with contextlib.closing(_records(archive, WarcRecordType.any_type)) as records:
            for _, record in zip(range(_CHECKED_RECORDS), records, strict=False):
                if _is_wat(record):
                    return
    except (ShardError, RetryableError) as error:
        raise InputError(f"{error}; expected a WAT archive (.warc.wat.gz)") from error
    raise InputError(f"{archive} holds no WAT records; give .warc.wat.gz files, not .warc.gz")


@contextlib.contextmanager
def open_archive(archive: str) -> Iterator[Stream]:
    """Yield what FastWARC reads: a local path as it is, an http(s) url as a stream that resumes.

    Raises
    ------
    ShardError
        The server refuses the file.
    RetryableError
        The server does not answer.
    """
    if not is_remote(archive):
        yield archive
        return
    with RemoteFile(archive) as raw, io.BufferedReader(raw, _BUFFER) as stream:
        yield stream


def read_records(archive: str) -> Iterator[tuple[WarcRecord, bytes]]:
    """Yield each WAT record with its JSON, in the order of the archive.

    Raises
    ------
    ShardError
        The archive cannot be read from here on: it is cut, damaged or no WARC. What was yielded
        before is good.
    RetryableError
        A local archive is out of reach from this machine, or the server of a remote one stopped
        answering.
    """
    for record in _records(archive, WarcRecordType.metadata):
        data = record.reader.read()
        if len(data) < record.content_length:
            raise ShardError(
                f"{archive} is cut: the record at byte {record.stream_pos} has {len(data)} of "
                f"{record.content_length} bytes"
            )
        if data.startswith(b"{"):
            yield record, data


def _records(archive: str, types: WarcRecordType) -> Generator[WarcRecord, None, None]:
    with open_archive(archive) as stream:
        position = 0
        try:
            records = ArchiveIterator(
                stream,
                record_types=types,
                parse_http=False,
                quirks_mode=True,  # bare LF line ends, as in archives that an editor has touched
                fsspec_args=False,
            )
            for record in records:
                position = record.stream_pos
                yield record
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise RetryableError(f"{archive} is out of reach from here: {error}") from error
        except OSError as error:
            raise ShardError(f"{archive} is unreadable after byte {position}: {error}") from error


def _is_wat(record: WarcRecord) -> bool:
    return (record.headers.get("Content-Type") or "").startswith("application/json")
