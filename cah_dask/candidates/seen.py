"""What earlier waves of a bucket kept: sorted keys in files that can be made again.

Each wave leaves two files for a bucket: the keys of the rows that were kept, and those of the urls
that are fetched, with their lists. So that few are to be read, every second file holds the keys of
2, 4, 8... waves: wave 7, the eighth, merges the files of waves 3, 5 and 6 with its own keys, after
which these are deleted. Wave w reads as many files as w has ones in binary; a key is written
1 + log2(waves) / 2 times.

::

    file of wave    0    1    2    3    4    5    6    7
    holds waves     0   0-1   2   0-3   4   4-5   6   0-7

The parts of the fetch lists hold the same rows, so a file that is lost or damaged costs nobody a
download.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.candidates.late_texts import own_groups
from cah_dask.errors import DamageError
from cah_dask.keys import (
    KeyFile,
    Keys,
    PlacedKeys,
    Run,
    from_digests,
    merged,
    of_texts,
    placed,
    unique,
)
from cah_dask.storage import SideFile, open_part, require_same, side_file, staged


def held_waves(wave: int) -> range:
    """Return the waves whose keys lie in the file of a wave."""
    return range((wave + 1) & wave, wave + 1)


def waves_to_read(wave: int) -> list[int]:
    """Return the waves whose files together hold the keys of all waves before, in order."""
    found: list[int] = []
    while wave:
        found.append(wave - 1)
        wave = held_waves(wave - 1).start
    return found[::-1]


def write_keys(path: Path, runs: Sequence[Run], name: str) -> SideFile:
    """Write sorted runs of keys as one; describe the file, called `name`, for the receipt."""
    header = {
        "descr": np.lib.format.dtype_to_descr(runs[0][:0].dtype),
        "fortran_order": False,
        "shape": (sum(map(len, runs)),),
    }
    with staged(path) as unfinished, unfinished.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for keys in merged(runs):
            file.write(keys.tobytes())
    return side_file(path, name)


def read_keys(path: Path, side: SideFile, rebuild: Callable[[], Sequence[Keys]]) -> KeyFile:
    """Return the keys of a file, which is rebuilt from runs if it is not what `side` says.

    Raises
    ------
    DamageError
        If what was rebuilt is not what was written either.
    """
    try:
        require_same(path, side)
    except DamageError:
        write_keys(path, rebuild(), side.name)
        require_same(path, side)
    return KeyFile(path)


def kept_keys(lists: Path, key: Literal["uid", "url"]) -> Keys:
    """Return the keys of all rows that a wave kept, given the part of its fetch lists."""
    rows = _own_rows(lists, [key])
    return unique(_keys(rows, key))


def fetched_keys(lists: Path, wave: int) -> PlacedKeys:
    """Return the keys of the urls that the fetch lists of a wave fetch, given their part."""
    rows = _own_rows(lists, ["url", "image_wave", "image_list"])
    rows = rows.filter(pc.equal(rows["image_wave"], wave))
    return unique(placed(_keys(rows, "url"), wave, rows["image_list"].to_numpy()))


def _own_rows(lists: Path, columns: list[str]) -> pa.Table:
    with open_part(lists) as part:
        return part.read(own_groups(part), columns)


def _keys(rows: pa.Table, key: Literal["uid", "url"]) -> Keys:
    values = rows[key].to_pylist()
    return from_digests(b"".join(values)) if key == "uid" else of_texts(values)
