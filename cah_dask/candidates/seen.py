"""What earlier waves of a bucket kept: sorted keys in files that can be made again.

Two files for each bucket and wave lie beside its fetch lists: the keys of all rows kept, and those
of the urls that its lists fetch. The part of the fetch lists holds the same rows, so a file that is
lost or damaged costs nobody a download.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.candidates.keys import Keys, from_digests, of_texts, unique
from cah_dask.candidates.late import own_groups
from cah_dask.errors import DamageError
from cah_dask.storage import SideFile, open_part, require_same, side_file, staged


def write_keys(path: Path, keys: Keys, name: str) -> SideFile:
    """Write sorted keys; describe the file, called `name`, for the receipt of the fetch lists."""
    with staged(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, keys)
    return side_file(path, name)


def read_keys(path: Path, side: SideFile, rebuild: Callable[[], Keys]) -> Keys:
    """Return the keys of a file, which is rebuilt if it is not what `side` says.

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
    keys: Keys = np.load(path, mmap_mode="r")
    return keys


def kept_keys(lists: Path, key: Literal["uid", "url"]) -> Keys:
    """Return the keys of all rows that a wave kept, given the part of its fetch lists."""
    rows = _own_rows(lists, [key])
    return unique(_keys(rows, key))


def fetched_keys(lists: Path, wave: int) -> Keys:
    """Return the keys of the urls that the fetch lists of a wave fetch, given their part."""
    rows = _own_rows(lists, ["url", "image_wave"])
    return unique(_keys(rows.filter(pc.equal(rows["image_wave"], wave)), "url"))


def _own_rows(lists: Path, columns: list[str]) -> pa.Table:
    with open_part(lists) as part:
        return part.read(own_groups(part), columns)


def _keys(rows: pa.Table, key: Literal["uid", "url"]) -> Keys:
    values = rows[key].to_pylist()
    return from_digests(b"".join(values)) if key == "uid" else of_texts(values)
