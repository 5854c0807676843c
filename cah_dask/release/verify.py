"""Whether a release is whole, and every byte of it what was written."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cah_dask.counts import Counts
from cah_dask.errors import CahError, DamageError, RetryableError, RunError
from cah_dask.release.layout import EMBEDDINGS, LAYOUT, Layout, part_path, read_layout
from cah_dask.release.vectors import zarr_metadata
from cah_dask.storage import Receipt, open_part, read_receipt, require_same


def is_whole(folder: Path, layout: Layout) -> bool:
    """Tell whether no file of a release is missing or of another size; quick, for a glance.

    The bytes of vectors and rows are not looked at: those of a crawl would take hours.
    """
    try:
        for number in range(layout.shards):
            for side in read_receipt(part_path(folder, number)).side:
                if (folder / side.name).stat().st_size != side.n_bytes:
                    return False
        metadata = zarr_metadata(layout).items()
        return all((folder / EMBEDDINGS / name).read_bytes() == data for name, data in metadata)
    except (OSError, CahError):
        return False


def verify_release(folder: Path) -> Counts:
    """Check that a release is whole and that every byte of it is what was written.

    Returns
    -------
    Counts
        Of all parts together.

    Raises
    ------
    RunError
        Naming the first thing that is missing, short or damaged. Zarr itself reads a lost shard as
        fill values without an error.
    """
    layout = read_layout(folder)
    if layout is None:
        raise RunError(f"{folder} holds no release: {LAYOUT} is missing or damaged")
    for name, data in zarr_metadata(layout).items():
        path = folder / EMBEDDINGS / name
        if not path.is_file() or path.read_bytes() != data:
            raise DamageError(path, "it is not what the layout asks for")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python to other threads
        receipts = pool.map(partial(_sound_receipt, folder), range(layout.shards))
        total = sum((receipt.counts for receipt in receipts), Counts())
    if total.kept != layout.rows:
        raise RunError(f"{folder} holds {total.kept} rows, {layout.rows} were promised")
    return total


def drop_unsound(folder: Path, layout: Layout) -> None:
    """Delete the parts of an unfinished release that are damaged or lack vectors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python to other threads
        for _ in pool.map(partial(_drop_if_unsound, folder), range(layout.shards)):
            pass


def _drop_if_unsound(folder: Path, number: int) -> None:
    part = part_path(folder, number)
    try:
        _sound_receipt(folder, number)
    except DamageError:
        part.unlink()
    except RetryableError:
        if part.exists():
            raise


def _sound_receipt(folder: Path, number: int) -> Receipt:
    """Return the receipt of a part of which, and of whose vectors, every byte was compared."""
    with open_part(part_path(folder, number)) as part:
        part.require_sound()
        receipt = part.receipt
    for side in receipt.side:
        require_same(folder / side.name, side)
    return receipt
