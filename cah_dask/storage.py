"""Files that appear whole or not at all, and parquet parts that carry their own receipt.

A task writes to an attempt-unique temporary name beside its target, fsyncs, and publishes in one
step. A part that exists is done; one that does not is not. Several copies of a task may run at once
(Slurm requeues a node that was only cut off), so the first to publish wins, the others learn it.

What is read again is compared with what was written: parts by their seal, side files by the
checksum in the receipt of their part.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cah_dask import seals
from cah_dask.counts import Counts
from cah_dask.errors import DamageError, RetryableError, RunError
from cah_dask.groups import group_name_of, index_of

TEMPORARY = ".tmp-"
"""Prefix of every unpublished file; `sweep` removes them when no task of the run is alive."""

RECEIPT_KEY = b"cah.receipt"
_NO_WRITING = {
    errno.ENOSPC: "no space left on device",
    errno.EDQUOT: "your quota is used up",
    errno.EFBIG: "files may not be so large here (ulimit -f)",
    errno.EROFS: "the file system is read-only now",
}
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class SideFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that belongs to a part, beside it in the same folder."""

    name: str
    n_bytes: int
    sha256: str


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Proof that one task is complete; the footer of its part carries it as JSON.

    ``config`` is the hash of the settings that change results, ``inputs`` names what was read,
    ``errors`` says what was lost of the inputs, and ``seconds`` is None where a file must not
    depend on how fast it was made (the release); ``timings`` are milliseconds of parts of them.
    ``hosts`` are those with the most trouble in a download, and what became of their urls.
    """

    stage: str
    unit: str
    config: str
    counts: Counts
    inputs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    side: tuple[SideFile, ...] = ()
    versions: dict[str, str] = {}
    seconds: float | None = None
    timings: dict[str, int] = {}
    hosts: dict[str, dict[str, int]] = {}


def temporary(target: Path) -> Path:
    """Return an attempt-unique name in the folder of `target`."""
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what no other attempt would mend, such as a full disk, into a RunError with the path."""
    try:
        yield
    except OSError as error:
        reason = _NO_WRITING.get(error.errno or _errno_in(str(error)), "")
        if not reason:
            raise
        raise RunError(f"{reason}, while writing {path}; mend that and run again") from error


def _errno_in(message: str) -> int:
    """Return the error that HDF5 and others only tell in words, 0 if it is another one."""
    return next((code for code in _NO_WRITING if os.strerror(code) in message), 0)


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success fsync it and put it in the place of `target`."""
    with _temporary_beside(target) as path:
        yield path
        fsync(path)
        path.replace(target)
        fsync(target.parent)


@contextlib.contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    path = temporary(target)
    try:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield path
    except FileNotFoundError as error:  # swept away by another driver of the run
        raise RetryableError(f"{path}: vanished while it was written") from error
    finally:
        with contextlib.suppress(OSError):  # the fault that led here says more
            path.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes) -> None:
    """Replace `target` by `data` in one step."""
    with staged(target) as path:
        path.write_bytes(data)


def write_part(
    target: Path,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    receipt: Receipt | Callable[[], Receipt],
    *,
    replace: bool = False,
    statistics: bool = True,
) -> Receipt:
    """Write one parquet part with its receipt and publish it; return the receipt that counts.

    Parameters
    ----------
    target
        Final path. When another attempt has published it first, this attempt's file is dropped and
        the published receipt is returned (unless `replace`, for parts whose inputs have changed);
        so it is when the part was published and compacted.
    groups
        Each table becomes one row group, in order.
    receipt
        Must balance; see `Counts.require_balance`. Where it is not known before all groups are
        made, what makes it then.
    statistics
        Whether readers can tell from the footer which row groups they need.

    Raises
    ------
    RunError
        If the counts do not balance or the disk is full.
    """
    if isinstance(receipt, Receipt):
        receipt.counts.require_balance(f"{receipt.stage} {receipt.unit}")
    with _temporary_beside(target) as path:
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(path, schema, write_statistics=statistics, **options) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(1, len(group)))
            if not isinstance(receipt, Receipt):
                receipt = receipt()
                receipt.counts.require_balance(f"{receipt.stage} {receipt.unit}")
            writer.add_key_value_metadata({RECEIPT_KEY: msgspec.json.encode(receipt)})
        seals.seal(path)
        fsync(path)
        if replace:
            path.replace(target)
            won = True
        else:
            won = _compacted(target) is None and publish(path, target)
        fsync(target.parent)
    return receipt if won else read_receipt(target)


def publish(path: Path, target: Path) -> bool:
    """Give `path` its final name unless that exists; return whether this attempt was the first."""
    try:
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # no hard links here (FAT, some BeeGFS): the last wins, and parts name their own side files
        path.replace(target)
    return True


class _Place(NamedTuple):
    """Where a compacted part is."""

    path: Path
    row_groups: range
    receipt: bytes


def _compacted(part: Path) -> _Place | None:
    """Return where a part is now that was compacted; None if it was not."""
    index = index_of(part)
    if index is None or not index.exists():
        return None
    folder, unit = part.parents[1], f"{part.parent.name}/{part.stem}"
    is_it = (pc.field("folder") == folder.name) & (pc.field("unit") == unit)
    for row in read_part(index).filter(is_it).to_pylist():
        stop = row["row_group"] + row["n_row_groups"]
        path = folder / f"{group_name_of(unit)}.parquet"
        return _Place(path, range(row["row_group"], stop), row["receipt"])
    return None


class Part:
    """A published part, open: its receipt, and its row groups, each checked when it is read.

    It may be the whole of a file or, once it is compacted, some row groups of one.
    """

    def __init__(self, path: Path, file: BinaryIO, place: _Place | None = None) -> None:
        self.path = path
        self._file = file
        self._groups = seals.row_groups(file, path)
        self._parquet = pq.ParquetFile(file)
        self.metadata = self._parquet.metadata
        """Of the file."""
        self._numbers = range(self.metadata.num_row_groups) if place is None else place.row_groups
        footer = self.metadata.metadata or {}
        self._receipt = footer.get(RECEIPT_KEY) if place is None else place.receipt

    @property
    def receipt(self) -> Receipt:
        """The receipt in the footer; see `read_receipt`."""
        return _decoded(self._receipt, self.path)

    @property
    def schema(self) -> pa.Schema:
        """What its tables look like."""
        return self._parquet.schema_arrow.remove_metadata()

    @property
    def n_row_groups(self) -> int:
        """How many row groups it has."""
        return len(self._numbers)

    def bounds(self, group: int, column: str) -> tuple[int, int]:
        """Return the least and the greatest number in a column of a row group.

        Only for parts that were written with statistics, and groups that are not empty.
        """
        at = self.schema.names.index(column)
        known = self.metadata.row_group(self._numbers[group]).column(at).statistics
        return known.min, known.max

    def read(
        self, groups: Sequence[int] | None = None, columns: list[str] | None = None
    ) -> pa.Table:
        """Return some row groups (by default all), and of them some columns (by default all)."""
        chosen = self._numbers if groups is None else [self._numbers[group] for group in groups]
        for number in chosen:
            seals.require_sound(self._file, self.path, self._groups[number])
        return self._parquet.read_row_groups(list(chosen), columns=columns, use_threads=False)

    def require_sound(self) -> None:
        """Raise DamageError unless every byte of the part is as it was written."""
        for number in self._numbers:
            seals.require_sound(self._file, self.path, self._groups[number])


def _decoded(receipt: bytes | None, path: Path) -> Receipt:
    try:
        decoded = msgspec.json.decode(receipt or b"", type=Receipt)
    except msgspec.DecodeError as error:
        raise DamageError(path, "it holds no receipt") from error
    decoded.counts.require_balance(f"the receipt of {path}")
    return decoded


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """Open a published part by the path that it was published under, compacted or not.

    Raises
    ------
    DamageError
        If it is no part of ours, or not what was published; also from `Part.read`.
    RetryableError
        If it cannot be read from here and now.
    """
    with _read_errors(path), _opened(path) as part:
        yield part


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RetryableError(f"{path} cannot be read from here: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Part]:
    """Open a file of its own or, if there is none, the one that it was compacted into."""
    place = None
    try:
        file = path.open("rb")
    except FileNotFoundError:
        place = _compacted(path)
        if place is None:
            raise
        file = place.path.open("rb")
    with file:
        yield Part(path if place is None else place.path, file, place)


def read_receipt(path: Path) -> Receipt:
    """Return the receipt of a part, which balances; see `open_part` for errors."""
    with _read_errors(path):
        if not path.exists() and (place := _compacted(path)):
            return _decoded(place.receipt, place.path)
    with open_part(path) as part:
        return part.receipt


def read_part(
    path: Path, *, row_group: int | None = None, columns: list[str] | None = None
) -> pa.Table:
    """Return a part, or one of its row groups; see `open_part` for errors."""
    with open_part(path) as part:
        return part.read(None if row_group is None else [row_group], columns)


def side_file(path: Path, name: str | None = None) -> SideFile:
    """Describe a finished file, as it will be called `name`, for the receipt of its part."""
    return SideFile(name or path.name, path.stat().st_size, file_sha256(path))


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same(path: Path, side: SideFile) -> None:
    """Raise DamageError unless a file is what the receipt of its part says."""
    try:
        size = path.stat().st_size
        if size != side.n_bytes:
            raise DamageError(path, f"it has {size} bytes, {side.n_bytes} were written")
        if file_sha256(path) != side.sha256:
            raise DamageError(path, "its bytes are not those written")
    except FileNotFoundError as error:
        raise DamageError(path, "it is not there") from error
    except OSError as error:
        raise RetryableError(f"{path} cannot be read from here: {error}") from error


def sweep(folder: Path) -> int:
    """Delete what dead attempts left under `folder`; return how many files and folders.

    Call only when no task of the run is alive.
    """
    stale = list(folder.rglob(f"{TEMPORARY}*"))
    for path in stale:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(stale)


def fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
