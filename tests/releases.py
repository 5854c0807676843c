"""Releases without a run: pairs of which each value is that of one pair only."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import zarr

from cah_dask.counts import Counts
from cah_dask.release.layout import Layout, deal, fingerprint, read_layout
from cah_dask.release.pack import create_release, pack_shard
from cah_dask.schema import SELECTED, scored, uid
from cah_dask.storage import Receipt, write_part
from tests.encoders import released_encoder

DIM, SHARD, CHUNK = 8, 8, 4
HOSTS = 7


def pairs(numbers: Sequence[int]) -> dict[str, list[Any]]:
    """Return columns of scored samples; those of a number are always the same."""
    found: dict[str, list[Any]] = {
        "url": [f"https://h{n % HOSTS}.example/picture-{n:04d}.jpg" for n in numbers],
        "text": [f"A picture of thing {n:04d}" for n in numbers],
        "split": [("en", "multi", "nolang")[n % 3] for n in numbers],
        "lang": [("en", "de", "und")[n % 3] for n in numbers],
        "license": [None] * len(numbers),
        "final_url": [f"https://cdn{n % HOSTS}.example/{n:04d}" for n in numbers],
        "record_offset": list(numbers),
    }
    for name in ("sha256", "md5"):
        found[name] = [hashlib.new(name, b"picture %d" % n).hexdigest() for n in numbers]
    found["uid"] = [uid(t, url) for t, url in zip(found["text"], found["url"], strict=True)]
    for modality in ("image", "text"):
        vectors = [_vector(n, modality) for n in numbers]
        found[f"{modality}/clip"] = [each.astype("<f2").tobytes() for each in vectors]
    found["similarity_clip"] = [
        np.float32(_vector(n, "image") @ _vector(n, "text")) for n in numbers
    ]
    return found


def _vector(number: int, modality: str) -> np.ndarray:
    seed = [number, len(modality)]
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def make(
    folder: Path,
    numbers: Sequence[int],
    config: str = "hash",
    columns: Mapping[str, list[Any]] | None = None,
) -> Path:
    """Pack a release of some pairs, in parts of eight; `columns` replaces some of theirs."""
    made = pairs(numbers) | dict(columns or {})
    n_rows = len(numbers)
    fill = {pa.string(): "x", pa.int64(): 0, pa.int32(): 0, pa.float32(): 0.0, pa.bool_(): False}
    schema = scored({"clip": DIM})
    arrays = [pa.array(made.get(f.name, [fill.get(f.type)] * n_rows), f.type) for f in schema]
    table = pa.table(arrays, schema=schema)
    receipt = Receipt(stage="embed", unit="u", config="c", counts=Counts(n_rows, n_rows))
    write_part(folder / "scored.parquet", schema, [table], receipt)
    rows = pa.array(range(n_rows), pa.int32())
    chosen = pa.table([pa.repeat("scored.parquet", n_rows), rows, table["uid"]], schema=SELECTED)
    write_part(folder / "selected.parquet", SELECTED, [chosen] if n_rows else [], receipt)
    dealt = deal([("selected.parquet", n_rows)], SHARD)
    layout = Layout(
        n_rows,
        (released_encoder("clip", DIM),),
        "clip",
        config,
        SHARD,
        CHUNK,
        fingerprint(dealt, sum(numbers)),
        run="a run",
    )
    release = folder / "release"
    create_release(release, layout)
    for number, slices in enumerate(dealt):
        pack_shard(folder, release, number, slices)
    for name in ("README.md", "report.html"):
        (release / name).touch()
    return release


def layout_of(release: Path) -> Layout:
    """Return the layout of a release, which is there."""
    layout = read_layout(release)
    assert layout is not None
    return layout


def rows(release: Path) -> pa.Table:
    """Return all pairs of a release in their order."""
    return ds.dataset(release / "pairs").to_table().sort_by("row")


def vectors(release: Path) -> dict[str, np.ndarray]:
    """Return all arrays of a release, by their paths in the Zarr."""
    root = zarr.open_group(release / "embeddings.zarr", mode="r")
    found = {}
    for name, modality, _ in layout_of(release).arrays:
        array = root[f"{name}/{modality}"]
        assert isinstance(array, zarr.Array)
        found[f"{name}/{modality}"] = np.asarray(array[:])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
