"""Vectors in ``.npz`` files, piece by piece: a member may be larger than memory."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from cah_dask.curate.pools.pool import Vectors
from cah_dask.errors import InputError


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a file.

    Raises
    ------
    InputError
        If it is not there, or no ``.npz`` file.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        found = {}
        for member in archive.namelist():
            with archive.open(member) as stream:
                found[member.removesuffix(".npy")] = _header(cast("BinaryIO", stream))[0]
        return found


def checksums(table: Path) -> list[tuple[str, int]]:
    """Return name and CRC-32 of each array beside a table, as the directory of its ``.npz`` says.

    Nothing, if there is none or it cannot be read.
    """
    path = table.with_suffix(".npz")
    with contextlib.suppress(InputError), _readable(path), zipfile.ZipFile(path) as archive:
        return [(member.filename, member.CRC) for member in archive.infolist()]
    return []


class Rows:
    """The vectors of an open array ``(n, dim)``, read one after the other."""

    def __init__(self, path: Path, name: str, stream: BinaryIO) -> None:
        self._path = path
        self._name = name
        self._stream = stream
        self.shape, is_fortran, self._dtype = _header(stream)
        if len(self.shape) != 2 or is_fortran or self._dtype.kind != "f":
            raise InputError(
                f"{path}: {name} holds {self._dtype} {self.shape}, not vectors in C order"
            )

    def take(self, n: int) -> Vectors:
        """Return the next `n` vectors."""
        dim = self.shape[1]
        wanted = n * dim * self._dtype.itemsize
        data = self._stream.read(wanted)
        if len(data) < wanted:
            raise InputError(f"{self._path}: {self._name} ends early")
        return np.frombuffer(data, self._dtype).reshape(-1, dim)


@contextlib.contextmanager
def open_rows(path: Path, name: str) -> Iterator[Rows]:
    """Open an array.

    Raises
    ------
    InputError
        If it is not there, is damaged, or holds no floating-point vectors; also from `Rows.take`.
    """
    with _readable(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        yield Rows(path, name, cast("BinaryIO", stream))


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(stream)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there, which holds the vectors of its table") from error
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as .npz: {error}") from error
