"""Subsets: files of uids that say which rows of tables are wanted, as DataComp publishes them."""

from pathlib import Path

import numpy as np

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.errors import InputError
from cah_dask.keys import KEY, Keys

_HELD = 1 << 20  # uids that are looked at together


def read_subset(path: Path) -> Keys:
    """Return the uids of a file, sorted; those of an ``.npy`` stay on the disk.

    Raises
    ------
    InputError
        If it is not there, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"subset {path} does not exist")
    if path.suffix != ".npy":
        return load_exclusion([f"uid:{path}"]).uids
    try:
        keys: Keys = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"subset {path} is no .npy file: {error}") from error
    if keys.dtype != KEY or keys.ndim != 1:
        raise InputError(
            f"subset {path} holds {keys.dtype} {keys.shape}; expected two uint64 a row (u8,u8)"
        )
    return keys


def check_subset(path: Path) -> None:
    """Look at all uids of a file.

    Raises
    ------
    InputError
        If `read_subset` raises it, or an ``.npy`` is not sorted: uids are searched by halves.
    """
    keys = read_subset(path)
    for start in range(0, len(keys), _HELD):
        piece = np.array(keys[start : start + _HELD + 1])
        high, low = piece["f0"], piece["f1"]
        falls = (high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))
        if falls.any():
            row = start + int(falls.argmax()) + 1
            raise InputError(
                f"subset {path} is not sorted: row {row} is less than the one before; write "
                "np.sort(np.load(FILE)) and name that"
            )
