"""Rows drawn by a hash of their uids: the same ones whoever draws, however they are stored."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.curate.pools.pool import Mask
from cah_dask.keys import Keys

Hashes: TypeAlias = npt.NDArray[np.uint64]


def uid_hashes(keys: Keys, seed: int) -> Hashes:
    """Return a hash of each uid; with another seed they are others."""
    return mixed(keys["f0"] ^ mixed(keys["f1"] ^ mixed(np.array([seed], np.uint64))))


def is_drawn(keys: Keys, share: float, seed: int) -> Mask:
    """Tell of each row whether it is drawn; a smaller share is part of a larger one."""
    if share >= 1:
        return np.ones(len(keys), bool)
    drawn: Mask = uid_hashes(keys, seed) < np.uint64(int(share * 2**64))
    return drawn


def mixed(values: Hashes) -> Hashes:
    """Return 64 bits of which each depends on all bits of a value: MurmurHash3's finaliser."""
    found = values.copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        found ^= found >> np.uint64(33)
        found *= np.uint64(factor)
    return found ^ (found >> np.uint64(33))
