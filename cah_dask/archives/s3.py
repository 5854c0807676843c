"""Objects of an S3 store as files: `s3://bucket/key`, read as a stream or listed by a glob.

Who asks, and where, is said by the environment alone, in the variables of AWS's own tools
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL): no configuration, receipt or report can hold a secret. Without any, the store is
asked as everybody may.
"""

import functools
import glob
import io
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, FileType, S3FileSystem

from cah_dask.errors import InputError, RetryableError

SCHEME = "s3://"
TIMEOUT_S = 60.0
"""Longest silence of the store in seconds."""
READ_BYTES = 8 << 20
"""Bytes that are asked for at once by who reads an object from its beginning to its end, as each
request costs a round trip."""
ATTEMPTS = 9
"""Requests in a row that may fail, with longer and longer pauses between them."""

_HINT = "credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_ENDPOINT = "AWS_ENDPOINT_URL_S3"
_REGION = "us-east-1"  # that of Common Crawl, and what stores of others take
_NAME = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^/].*", re.DOTALL)
_OTHER_CREDENTIALS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


def is_s3(name: str) -> bool:
    """Tell whether a name is that of an object in an S3 store."""
    return name.startswith(SCHEME)


def check_name(name: str) -> None:
    """Make sure that a name has a bucket and a key, and no credentials.

    Raises
    ------
    InputError
        It has not; the message does not repeat what may be a secret.
    """
    if "@" in name.removeprefix(SCHEME).partition("/")[0]:
        raise InputError(
            "an s3 url with credentials; give s3://bucket/key, and AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the environment"
        )
    if not _NAME.fullmatch(name):
        raise InputError(f"{name} names no object; accepted is s3://bucket/key")


class S3File(io.RawIOBase):
    """The bytes of an object; each read is a request for a range.

    Raises (from the constructor and `readinto`)
    --------------------------------------------
    RetryableError
        There is no such object, it may not be read, it changed while it was read to its end, or the
        store is in trouble. What it does not give now it may give later: it is for the run to ask
        again, and to say what is lost.
    """

    def __init__(self, name: str) -> None:
        check_name(name)
        self._name = name
        self._position = 0
        try:
            self._file = _store().open_input_file(name.removeprefix(SCHEME))
            self._length: int = self._file.size()
            self._version: bytes | None = self._file.metadata().get("ETag")
        except OSError as error:
            raise RetryableError(f"{name}: {_reason(error)}") from error

    def readable(self) -> bool:
        """Say that this is a stream to read from."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which costs nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # a Buffer
        """Read some bytes into `buffer`; 0 at the end of the object, if it is still the same one.

        Who reads it to its end is told of a change so: pyarrow's ranges cannot name a version.
        """
        wanted = min(len(buffer), self._length - self._position)
        if wanted <= 0:
            self._require_same()
            return 0
        try:
            data: bytes = self._file.read_at(wanted, self._position)
        except OSError as error:
            raise RetryableError(f"{self._name}: {_reason(error)}") from error
        if not data:
            raise RetryableError(
                f"{self._name}: ended after {self._position} of {self._length} bytes"
            )
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _require_same(self) -> None:
        """Ask once for the version that the store has now."""
        if self._version is None:
            return
        version, self._version = self._version, None
        try:
            now = _store().open_input_file(self._name.removeprefix(SCHEME)).metadata().get("ETag")
        except OSError as error:
            raise RetryableError(f"{self._name}: {_reason(error)}") from error
        if now != version:
            raise RetryableError(f"{self._name}: changed while it was read")


def list_objects(pattern: str) -> list[str]:
    """Return the names of all objects that match a glob, sorted; ``**`` stands for any folders.

    Raises
    ------
    InputError
        The store does not list them.
    """
    check_name(pattern)
    bucket, *rest = pattern.removeprefix(SCHEME).split("/")
    try:
        found = set(_matches(_store(), bucket, rest))
    except OSError as error:
        raise InputError(f"{pattern} cannot be listed: {_reason(error)}") from error
    return [SCHEME + path for path in sorted(found)]


def _matches(store: S3FileSystem, folder: str, pattern: list[str]) -> Iterator[str]:
    """Yield the objects below a folder that match, name by name."""
    name, rest = pattern[0], pattern[1:]
    if not rest and not glob.has_magic(name):
        if store.get_file_info(f"{folder}/{name}").type == FileType.File:
            yield f"{folder}/{name}"
        return
    if not glob.has_magic(name):
        yield from _matches(store, f"{folder}/{name}", rest)
        return
    if name == "**" and rest:
        yield from _matches(store, folder, rest)
    for entry in store.get_file_info(FileSelector(folder, allow_not_found=True)):
        is_folder = entry.type == FileType.Directory
        if is_folder and name == "**":
            yield from _matches(store, entry.path, pattern)
        elif is_folder and rest and fnmatchcase(entry.base_name, name):
            yield from _matches(store, entry.path, rest)
        elif not is_folder and not rest and fnmatchcase(entry.base_name, name):
            yield entry.path


def _store() -> S3FileSystem:
    """Return the store that the environment names."""
    variables = (*_OTHER_CREDENTIALS, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    more = "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", _ENDPOINT
    return _connected(*((name, os.environ.get(name, "")) for name in (*variables, *more)))


@functools.lru_cache(maxsize=4)
def _connected(*variables: tuple[str, str]) -> S3FileSystem:
    """Return a store; one for all files of a process, as it holds a pool of connections."""
    values = dict(variables)
    # Outside of EC2 nobody answers where its machines ask who they are.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    credentials: dict[str, object] = {}
    if values["AWS_ACCESS_KEY_ID"] and values["AWS_SECRET_ACCESS_KEY"]:
        credentials["access_key"] = values["AWS_ACCESS_KEY_ID"]
        credentials["secret_key"] = values["AWS_SECRET_ACCESS_KEY"]
        credentials["session_token"] = values["AWS_SESSION_TOKEN"] or None
    elif not any(values[name] for name in _OTHER_CREDENTIALS):
        credentials["anonymous"] = True
    return S3FileSystem(
        **credentials,
        region=values["AWS_REGION"] or values["AWS_DEFAULT_REGION"] or _REGION,
        endpoint_override=values[_ENDPOINT] or values["AWS_ENDPOINT_URL"] or None,
        request_timeout=TIMEOUT_S,
        connect_timeout=TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def _reason(error: OSError) -> str:
    """Return what a store says, in one line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    text = " ".join(str(error).partition(" Detail:")[0].rpartition("AWS Error ")[2].split())
    return f"{text} ({_HINT})" if "ACCESS_DENIED" in text else text
