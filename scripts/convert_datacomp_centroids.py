"""Convert DataComp's centroids and ImageNet vectors (torch files) to the .npy files of a filter.

::

    python scripts/convert_datacomp_centroids.py centroids.pt in1k_clip_vit_l14_?.pt --to DIR

writes ``DIR/centroids.npy``, float32, and ``DIR/targets.npy``: the centroids that are nearest to
any of the ImageNet vectors. Compare the SHA-256 of what you fetched first; DataComp's are in
`cah_dask/curate/texts/assets.py`. Needs torch. Nothing but arrays and tensors is taken out of a
file: no code of it runs.
"""

import argparse
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cah_dask.curate.vectors.centroids import Centroids, Vectors, centroids_of, targets_of
from cah_dask.errors import InputError
from cah_dask.storage import staged

_MAKER = np.empty(0).__reduce__()[0]
_ARRAYS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _MAKER,
    ("numpy._core.multiarray", "_reconstruct"): _MAKER,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Loads an array of numbers and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an array is made by."""
        if (module, name) not in _ARRAYS:
            raise InputError(f"it holds {module}.{name}, not only an array")
        return _ARRAYS[module, name]


def read_centroids(path: Path) -> Centroids:
    """Return the array in a torch file: its pickle is of a protocol that torch refuses."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(names[0]) as file:
            return centroids_of(np.asarray(_ArrayUnpickler(file).load()), str(path))


def read_examples(path: Path) -> Vectors:
    """Return the tensor ``image_features`` of a torch file."""
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    found: Vectors = loaded["image_features"].numpy()
    return found


def convert(centroids: Path, examples: list[Path], to: Path) -> None:
    """Write both files."""
    known = read_centroids(centroids)
    targets = targets_of(map(read_examples, examples), known)
    for name, array in (("centroids.npy", known.vectors), ("targets.npy", targets)):
        with staged(to / name) as path, path.open("wb") as file:
            np.save(file, array)


def main() -> None:
    """Convert what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("centroids", type=Path)
    parser.add_argument("examples", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    chosen = parser.parse_args()
    try:
        convert(chosen.centroids, chosen.examples, chosen.to)
    except (InputError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError) as error:
        sys.exit(f"error: {chosen.centroids} or an example cannot be read: {error}")


if __name__ == "__main__":
    main()
