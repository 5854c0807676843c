"""Files that appear whole or not at all, and parquet parts that carry their own receipt.

A task writes to an attempt-unique temporary name beside its target, fsyncs, and publishes in one
step. A part that exists is done; one that does not is not. Several copies of a task may run at once
(Slurm requeues a node that was only cut off), so the first to publish wins, the others learn it.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.errors import RetryableError, RunError
from cah_dask.schema import Counts

TEMPORARY = ".tmp-"
"""Prefix of every unpublished file; `sweep` removes them when no task of the run is alive."""

RECEIPT_KEY = b"cah.receipt"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class SideFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that belongs to a part, beside it in the same folder."""

    name: str
    n_bytes: int
    sha256: str


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Proof that one task is complete; the footer of its part carries it as JSON.

    ``config`` is the hash of the settings that change results, ``inputs`` names what was read,
    ``errors`` says what was lost of the inputs, and ``seconds`` is None where a file must not
    depend on how fast it was made (the release).
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


def temporary(target: Path) -> Path:
    """Return an attempt-unique name in the folder of `target`."""
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk into a RunError that names what was to be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL or "No space left on device" in str(error):
            raise RunError(
                f"no space left on device while writing {path}; free some and run again"
            ) from error
        raise


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
        path.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes) -> None:
    """Replace `target` by `data` in one step."""
    with staged(target) as path:
        path.write_bytes(data)


def write_part(
    target: Path,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    receipt: Receipt,
    *,
    replace: bool = False,
) -> Receipt:
    """Write one parquet part with its receipt and publish it; return the receipt that counts.

    Parameters
    ----------
    target
        Final path. When another attempt has published it first, this attempt's file is dropped and
        the published receipt is returned (unless `replace`, for parts whose inputs have changed).
    groups
        Each table becomes one row group, in order.
    receipt
        Must balance; see `Counts.require_balance`.

    Raises
    ------
    RunError
        If the counts do not balance or the disk is full.
    """
    receipt.counts.require_balance(f"{receipt.stage} {receipt.unit}")
    with _temporary_beside(target) as path:
        with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(1, len(group)))
            writer.add_key_value_metadata({RECEIPT_KEY: msgspec.json.encode(receipt)})
        fsync(path)
        if replace:
            path.replace(target)
            won = True
        else:
            won = publish(path, target)
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
        path.replace(
            target
        )  # no hard links here (some BeeGFS): last wins, and parts name their own side files
    return True


def read_receipt(path: Path) -> Receipt:
    """Return the receipt in the footer of a part.

    Raises
    ------
    RunError
        If the file is no part of ours, or was damaged after it was published.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return msgspec.json.decode(metadata[RECEIPT_KEY], type=Receipt)
    except (KeyError, OSError, pa.ArrowInvalid, msgspec.DecodeError) as error:
        raise RunError(
            f"{path} is not a complete part of a run ({error}); delete it and run again"
        ) from error


def read_part(path: Path, *, row_group: int | None = None, **options: Any) -> pa.Table:
    """Return a part, or one of its row groups; `options` go to pyarrow.

    Raises
    ------
    RunError
        If the part is missing or was damaged after it was published.
    """
    try:
        if row_group is None:
            return pq.read_table(path, **options)
        with pq.ParquetFile(path) as file:
            return file.read_row_group(row_group, **options)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read ({error}); delete it and run again") from error


def side_file(path: Path, name: str | None = None) -> SideFile:
    """Describe a finished file, as it will be called `name`, for the receipt of its part."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SideFile(name or path.name, path.stat().st_size, digest)


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
