"""Which parts and image shards there are, as one look into the folders of all stages shows it.

A number stands for each name (`journal.key`), so millions of files take 8 bytes each, image shards
16 more.
"""

import os
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cah_dask.run.folder.journal import key

PART = ".parquet"
SHARD = ".h5"


def files_under(folder: Path) -> Iterator[str]:
    """Yield the paths of all files in a folder and those below it, relative to it.

    Only names are asked for: on a parallel file system a size or time costs a request a file.
    """
    below = [""]
    while below:
        prefix = below.pop()
        try:
            entries = os.scandir(folder / prefix)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(f"{prefix}{entry.name}/")
                else:
                    yield prefix + entry.name


class Listing:
    """The files of some stages."""

    def __init__(
        self, files: Iterable[tuple[str, Iterable[str]]], also: "Listing | None" = None
    ) -> None:
        """Read it from the names of stages, each once or more, and of what is in their folders.

        The parts of `also` are there, too.
        """
        all_keys: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        for stage, known in also.keys.items() if also else ():
            all_keys[stage].frombytes(known.tobytes())
        stems, shards = array("q"), array("q")
        for stage, names in files:
            keys = all_keys[stage]
            for name in names:
                number = key(stage, name.removesuffix(PART))
                keys.append(number)
                if name.endswith(SHARD):
                    stems.append(key(stage, name.rpartition("-")[0]))
                    shards.append(number)
        by_stem = np.argsort(np.frombuffer(stems, np.int64), kind="stable")
        self._stems = np.frombuffer(stems, np.int64)[by_stem].data
        self._shards = np.frombuffer(shards, np.int64)[by_stem].data
        self.keys: dict[str, npt.NDArray[np.int64]] = {
            stage: np.sort(np.frombuffer(keys, np.int64)) for stage, keys in all_keys.items()
        }
        """Those of each stage, ascending; see `journal.key`."""
        self._views = {stage: keys.data for stage, keys in self.keys.items()}

    def has(self, stage: str, name: str) -> bool:
        """Tell whether a stage has a part of that name, or any other file (with its suffix)."""
        keys, wanted = self._views.get(stage, ()), key(stage, name)
        at = bisect_left(keys, wanted)
        return at < len(keys) and keys[at] == wanted

    def shards(self, stage: str, name: str) -> set[int]:
        """Return the numbers of the image shards of a list, whichever attempt they are of."""
        stem, found = key(stage, name), set()
        at = bisect_left(self._stems, stem)
        while at < len(self._stems) and self._stems[at] == stem:
            found.add(self._shards[at])
            at += 1
        return found

    def lacks(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which of some units have no part here."""
        return ~np.isin(keys, np.concatenate([*self.keys.values(), np.empty(0, np.int64)]))

    def forget(self, stage: str) -> None:
        """Forget all parts of a stage, as they are deleted."""
        self.keys.pop(stage, None)
        self._views.pop(stage, None)
