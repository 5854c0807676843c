"""Large lists as sorted arrays in files, which all processes of a node map and none holds.

A run writes them once, before its first task. The name of their folder tells what they are made of,
so they are never older than the lists that they stand for.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.hashlists import HashLists
from cah_dask.blocklists.phrases import Phrases
from cah_dask.errors import DamageError
from cah_dask.storage import SideFile, require_same, side_file, staged, write_atomic

_INDEX = "index.json"
_PHASHES = "phash"
_EXCLUDED = ("uids", "urls", "hosts", "image_md5s")


class _Index(msgspec.Struct, frozen=True):
    """What lies in a folder; written last."""

    arrays: tuple[SideFile, ...]
    phrases: dict[int, frozenset[str]] = {}


def folder_name(contents: Iterable[str]) -> str:
    """Return the name of the folder of lists that hold these things, in whatever order."""
    return hashlib.sha256(msgspec.json.encode(sorted(contents))).hexdigest()[:16]


def is_written(folder: Path) -> bool:
    """Tell whether lists were written to a folder."""
    return (folder / _INDEX).is_file()


def write_exclusion(folder: Path, exclusion: Exclusion) -> None:
    """Write what `map_exclusion` reads."""
    arrays = {name: getattr(exclusion, name) for name in _EXCLUDED}
    _write(folder, arrays, exclusion.phrases.by_length)


def map_exclusion(folder: Path) -> Exclusion:
    """Return an exclusion whose keys stay on the disk.

    Raises
    ------
    DamageError
        If a file is not there, or not what was written.
    """
    arrays, phrases = _map(folder)
    return Exclusion(**arrays, phrases=Phrases(phrases))


def write_hash_lists(folder: Path, lists: HashLists) -> None:
    """Write what `map_hash_lists` reads."""
    _write(folder, {**lists.keys, _PHASHES: lists.phashes})


def map_hash_lists(folder: Path) -> HashLists:
    """Return hash lists whose digests stay on the disk; for errors see `map_exclusion`."""
    arrays, _ = _map(folder)
    phashes = arrays.pop(_PHASHES)
    return HashLists(arrays, phashes)


def _write(
    folder: Path,
    arrays: dict[str, npt.NDArray[Any]],
    phrases: dict[int, frozenset[str]] | None = None,
) -> None:
    files = []
    for name, values in arrays.items():
        path = folder / f"{name}.npy"
        with staged(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        files.append(side_file(path))
    write_atomic(folder / _INDEX, msgspec.json.encode(_Index(tuple(files), phrases or {})))


def _map(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[int, frozenset[str]]]:
    try:
        index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamageError(folder / _INDEX, str(error)) from error
    for file in index.arrays:
        require_same(folder / file.name, file)
    arrays = {
        Path(file.name).stem: np.load(folder / file.name, mmap_mode="r") for file in index.arrays
    }
    return arrays, index.phrases
