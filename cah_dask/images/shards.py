"""Image shards: one HDF5 file of encoded images, packed end to end.

``bytes`` holds all images without a gap, contiguous on disk (a random read costs one seek),
``offsets`` (int64, one more than images) says where each begins, ``crc32`` guards each one.
HDF5 must know the size of a contiguous dataset beforehand, so the writer collects images in a
spool (an unnamed file beside the shard) and lays them out when it closes.
"""

import os
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import h5py
import numpy as np
import numpy.typing as npt

from cah_dask.errors import DamageError, RetryableError, RunError
from cah_dask.storage import disk_errors

FORMAT = "cah_dask image shard 1"
_COPY_BYTES = 4 << 20
_HEADER_BYTES = 1 << 20  # more than the rest of a shard of 10,000 images takes
_LOCKING = "best-effort"  # DVS, some NFS and GPFS mounts have no locks


class ShardWriter:
    """Writes one shard; a context manager, for one thread.

    Parameters
    ----------
    path
        A temporary name: whoever calls publishes the file once the writer has closed. On an error
        inside the ``with`` block nothing is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: list[int] = []
        self._checksums: list[int] = []
        self._order: Sequence[int] | None = None

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._spool = tempfile.TemporaryFile(dir=self._path.parent)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with disk_errors(self._path), self._spool:
            if error is None:
                self._write()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, data: bytes) -> int:
        """Append one encoded image and return its row."""
        with disk_errors(self._path):
            self._spool.write(data)
        self._sizes.append(len(data))
        self._checksums.append(zlib.crc32(data))
        return len(self._sizes) - 1

    def arrange(self, rows: Sequence[int]) -> None:
        """Lay the images out in another order: row i of the shard is the image that was `rows[i]`.

        Raises
        ------
        ValueError
            If `rows` is no permutation of the rows added so far.
        """
        if sorted(rows) != list(range(len(self))):
            raise ValueError(f"not an order of {len(self)} rows: {len(rows)} were given")
        self._order = rows

    def _write(self) -> None:
        order = np.arange(len(self)) if self._order is None else np.asarray(self._order, np.int64)
        sizes = np.asarray(self._sizes, np.int64)
        starts, offsets = _offsets(sizes), _offsets(sizes[order])
        self._require_room(int(offsets[-1]))
        with h5py.File(self._path, "w", locking=_LOCKING) as file:
            file.attrs["format"] = FORMAT
            file["offsets"] = offsets
            file["crc32"] = np.asarray(self._checksums, np.uint32)[order]
            packed = file.create_dataset("bytes", (int(offsets[-1]),), np.uint8, dcpl=_allocated())
            begins_at = packed.id.get_offset()
        if begins_at is not None:  # it is not empty
            with self._path.open("rb+") as target:
                target.seek(begins_at)
                self._copy(target, starts[order], sizes[order])

    def _require_room(self, n_bytes: int) -> None:
        """Find out if a file may be so large: HDF5 takes a refusal by the system for a crash."""
        with self._path.open("wb") as target:
            target.truncate(n_bytes + _HEADER_BYTES)

    def _copy(
        self, target: BinaryIO, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> None:
        """Move the spool into the file, image by image, a few megabytes at a time.

        HDF5 only makes room for them: when a disk is full while it writes, its process may end.
        """
        self._spool.flush()
        buffer = np.empty(max(_COPY_BYTES, int(sizes.max(initial=0))), np.uint8)
        filled = 0
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            if filled + size > len(buffer):
                target.write(buffer[:filled].data)
                filled = 0
            room = buffer[filled : filled + size].data
            if os.preadv(self._spool.fileno(), [room], start) < size:
                raise RunError(f"{self._path}: its spool cannot be read to the end")
            filled += size
        target.write(buffer[:filled].data)


def _allocated() -> h5py.h5p.PropDCID:
    """Return the properties of a dataset whose place in the file is fixed when it is created."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def _offsets(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


class ShardReader:
    """Reads a published shard; a context manager, for one thread.

    Raises
    ------
    RunError
        If the file is missing, damaged, or no image shard.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._file = h5py.File(self._path, "r", locking=_LOCKING)
        except OSError as error:
            raise RunError(f"{self._path} is not a readable image shard: {error}") from error
        try:
            self._open()
        except (KeyError, OSError) as error:
            self._file.close()
            raise RunError(f"{self._path} is not an image shard: {error}") from error
        return self

    def _open(self) -> None:
        if self._file.attrs.get("format") != FORMAT:
            raise KeyError(f"its format is {self._file.attrs.get('format')!r}, not {FORMAT!r}")
        self._offsets = self._file["offsets"][:]
        self._checksums = self._file["crc32"][:]
        self._bytes = self._file["bytes"]

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._checksums)

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """Return the encoded images of some rows, in the order asked.

        Raises
        ------
        DamageError
            If an image is damaged; the message names the file and the row.
        RetryableError
            If it cannot be read from here and now.
        IndexError
            If there is no such row.
        """
        return [self._read(row) for row in rows]

    def _read(self, row: int) -> bytes:
        if not 0 <= row < len(self):
            raise IndexError(f"{self._path} has {len(self)} rows, no row {row}")
        try:
            data = bytes(self._bytes[self._offsets[row] : self._offsets[row + 1]])
        except OSError as error:
            raise RetryableError(f"{self._path}: row {row} cannot be read: {error}") from error
        if zlib.crc32(data) != self._checksums[row]:
            raise DamageError(self._path, f"the checksum of row {row} differs")
        return data
