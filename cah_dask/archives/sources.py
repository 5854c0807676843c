"""Archives: where they are, and whether they can be read.

An archive is named by a path, an http(s) url or s3://bucket/key; the name is its identity in a run.
"""

import glob
import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cah_dask.archives.kind import look
from cah_dask.archives.remote import is_remote, open_archive
from cah_dask.archives.s3 import check_name, is_s3, list_objects
from cah_dask.errors import CahError, InputError, RetryableError, ShardError

COMMON_CRAWL = "https://data.commoncrawl.org/"
"""Public address of Common Crawl's files; prefixed to the lines of its own lists."""
COMMON_CRAWL_S3 = "s3://commoncrawl/"
"""The same files within AWS; prefixed to the lines of lists that lie there."""

_CHECKED_BYTES = 64 << 20
_CRAWL_PREFIXES = ("crawl-data/", "cc-index/", "contrib/")
_LIST_SUFFIXES = (".paths", ".paths.gz")


def list_archives(inputs: Sequence[str]) -> list[str]:
    """Return the names of all archives that the inputs stand for, in order, each once.

    Parameters
    ----------
    inputs
        Files, globs (sorted), http(s) urls, ``s3://bucket/key`` with globs, and lists ``*.paths``
        or ``*.paths.gz`` of these, local or remote. Lines of Common Crawl's lists
        (``crawl-data/...``) become urls at `COMMON_CRAWL`, or objects at `COMMON_CRAWL_S3` if the
        list is one; other relative lines are looked for beside their list. ``#`` starts a comment
        line.

    Raises
    ------
    InputError
        A file is missing, a glob matches nothing or cannot be listed, a list is empty or
        unreadable, a url has credentials in it.
    """
    found = [archive for entry in inputs for archive in _expand(entry)]
    if not found:
        raise InputError(
            "no inputs; give WAT or WARC files, globs, http(s) urls, s3://bucket/key or a list "
            "(wat.paths.gz, warc.paths.gz)"
        )
    for archive in found:
        if not archive.isprintable() and "\udc80" <= max(archive) <= "\udcff":
            raise InputError(f"{archive!r}: the name is no UTF-8; give the file another one")
    return list(dict.fromkeys(found))


def public_names(archives: Sequence[str]) -> dict[str, str]:
    """Return what each archive is called in what is published, without what is only ours.

    A file of Common Crawl by its path there (``crawl-data/...``), one of another server by host and
    path, a local one by its file name, and by as many of its folders as it takes to tell it from
    the others. Urls that differ in nothing but their query are told apart by a hash of it.

    Returns
    -------
    dict
        Name of each archive, in the order of `archives`; no two are equal.
    """
    remote = [archive for archive in archives if is_remote(archive)]
    times = Counter(map(_public_url, remote))
    names = {
        url: name if times[name := _public_url(url)] == 1 else f"{name}#{_short_hash(url)}"
        for url in remote
    }
    paths = {a: PurePosixPath(a).parts for a in archives if not is_remote(a)}
    depth = 1
    while paths:
        tails = {archive: "/".join(parts[-depth:]) for archive, parts in paths.items()}
        times = Counter(tails.values())
        for archive, tail in tails.items():
            if times[tail] == 1 or depth >= len(paths[archive]):
                names[archive] = tail
                del paths[archive]
        depth += 1
    return {archive: names[archive] for archive in archives}


def located(archives: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Find archives again that may lie elsewhere now.

    Parameters
    ----------
    archives
        Where there are any now.
    names
        What `public_names` called them once.

    Returns
    -------
    places, strangers
        Where each archive is that was found, by its name, and those that have none.
    """
    known = set(names)
    places: dict[str, str] = {}
    strangers = []
    for archive in archives:
        name = next((name for name in _possible_names(archive) if name in known), None)
        if name is None or name in places:
            strangers.append(archive)
        else:
            places[name] = archive
    return places, strangers


def _possible_names(archive: str) -> Iterator[str]:
    """Yield what `public_names` may have called an archive among others, the longest first."""
    if is_remote(archive):
        yield f"{_public_url(archive)}#{_short_hash(archive)}"
        yield _public_url(archive)
        return
    parts = PurePosixPath(archive).parts
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _short_hash(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    name = f"{host}{parts.path}"
    if is_s3(url):
        return name.removeprefix(COMMON_CRAWL_S3.removeprefix("s3://"))
    return name.removeprefix(COMMON_CRAWL.removeprefix("https://"))


def _expand(entry: str) -> Iterator[str]:
    _require_no_credentials(entry)
    if entry.endswith(_LIST_SUFFIXES):
        for line in _list_lines(entry):
            archive = _locate(line, entry)
            if is_remote(entry) and not is_remote(archive):
                raise InputError(f"{entry} names {line!r}, which is no url and not beside it")
            yield from _expand_plain(archive)
    else:
        yield from _expand_plain(entry)


def _require_no_credentials(entry: str) -> None:
    """Raise InputError for a url that holds a secret, which is not repeated."""
    if is_s3(entry):
        check_name(entry)
    elif is_remote(entry) and "@" in re.split(r"[/?#]", entry, maxsplit=3)[2]:
        raise InputError(
            "an http url with credentials, which would be written down with it; leave them out"
        )


def _expand_plain(entry: str) -> Iterator[str]:
    _require_no_credentials(entry)
    if is_s3(entry):
        yield from _expand_s3(entry)
    elif is_remote(entry):
        yield entry
    elif Path(entry).is_dir():
        raise InputError(f"{entry} is a folder; name its files, such as {entry}/*.warc.wat.gz")
    elif Path(entry).exists():
        yield entry
    elif "://" in entry:
        raise InputError(
            f"{entry}: unknown scheme; accepted are paths, http(s) urls and s3://bucket/key"
        )
    elif glob.has_magic(entry):
        matches = sorted(glob.glob(entry, recursive=True))  # noqa: PTH207  # keeps the name as given
        if not matches:
            raise InputError(f"{entry} matches no file")
        yield from matches
    else:
        raise InputError(f"{entry} does not exist")


def _expand_s3(entry: str) -> Iterator[str]:
    if not glob.has_magic(entry):
        yield entry
        return
    matches = list_objects(entry)
    if not matches:
        raise InputError(f"{entry} matches no object")
    yield from matches


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
        is_inside = list_name.startswith(COMMON_CRAWL_S3)
        return (COMMON_CRAWL_S3 if is_inside else COMMON_CRAWL) + line
    if is_remote(line) or "://" in line or Path(line).is_absolute():
        return line
    folder, slash, _ = list_name.rpartition("/")
    return f"{folder}{slash}{line}"


def check_archive(archive: str) -> None:
    """Look at the beginning of a local archive; a remote one is taken on trust.

    One without pages passes if it has records, such as the last one of a crawl that is cut by size.

    Raises
    ------
    InputError
        It cannot be read, or holds no records, or texts (WET) in place of pages.
    """
    if is_remote(archive):
        return
    try:
        kind, errors = look(archive, within=_CHECKED_BYTES)
    except (ShardError, RetryableError) as error:
        raise InputError(
            f"{error}; expected a WAT or WARC archive (.warc.wat.gz or .warc.gz)"
        ) from error
    if kind is None:
        why = f" ({errors[0]})" if errors else ""
        raise InputError(
            f"{archive} holds neither WAT records nor responses{why}; "
            "give .warc.wat.gz or .warc.gz files"
        )
