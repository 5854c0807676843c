"""What a run has scored, as a pool: the lists of a bucket group of a wave are a unit."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.curate.pools.pool import BATCH_ROWS, VECTOR_ROWS, Batch, Vectors, fingerprint_of
from cah_dask.errors import InputError
from cah_dask.groups import INDEX_FOLDER, group_name_of
from cah_dask.schema import MODALITIES, similarity_of
from cah_dask.storage import open_part, read_part, read_receipt

SCORED = "scored"
"""The folder of a run that holds what is scored."""


class RunPool:
    """The scored samples of a run folder, compacted or not."""

    kind = "run"
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = _parts(path)
        if not self._parts:
            raise InputError(f"no sample of {path} is scored yet; run it first")
        self.units = sorted(self._parts)

    @cached_property
    def _counts(self) -> dict[str, Counts]:
        """What receipts say of the rows of each part."""
        parts = [part for unit in self.units for part in self._parts[unit]]
        return {part: read_receipt(self.path / part).counts for part in parts}

    @cached_property
    def _schema(self) -> pa.Schema:
        with open_part(self.path / self._parts[self.units[0]][0]) as part:
            return part.schema

    @property
    def columns(self) -> Sequence[str]:
        """The columns of a scored part; vectors are none.

        Of one encoder, its similarity is there by the name that a release gives it, too.
        """
        return [*self._stored, *self._alias]

    @property
    def _stored(self) -> list[str]:
        return [name for name in self._schema.names if _array(name) is None]

    @cached_property
    def _alias(self) -> dict[str, str]:
        found = [name for name in self._stored if name.startswith(similarity_of(""))]
        return {"similarity": found[0]} if len(found) == 1 else {}

    @property
    def vectors(self) -> Mapping[str, int]:
        """Length of the vectors."""
        return {
            array: field.type.byte_width // 2
            for field in self._schema
            if (array := _array(field.name)) is not None
        }

    @property
    def most_rows(self) -> int:
        """Its rows."""
        return sum(counts.kept for counts in self._counts.values())

    @property
    def fingerprint(self) -> str:
        """Of the names of its parts, and of their counts, which hold histograms of similarities."""
        found = sorted(self._counts.items())
        return fingerprint_of((part, msgspec.json.encode(counts)) for part, counts in found)

    def stamp(self, number: int) -> str:
        """Return a hash of the names of the parts of a group."""
        return fingerprint_of((part, 0) for part in self._parts[self.units[number]])

    def batches(
        self, number: int, columns: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Yield the rows of the parts of a group."""
        size = VECTOR_ROWS if vectors else BATCH_ROWS
        stored = {name: _column(name) for name in vectors}
        theirs = {name: self._alias.get(name, name) for name in columns}
        for part in self._parts[self.units[number]]:
            wanted = sorted({*theirs.values(), *stored.values()})
            read = read_part(self.path / part, columns=wanted)
            for start in range(0, len(read), size):
                piece = read.slice(start, size)
                rows = np.arange(start, start + len(piece))
                found = {name: _unpacked(piece[column]) for name, column in stored.items()}
                table = pa.table({name: piece[column] for name, column in theirs.items()})
                yield Batch(part, rows, table, found)


def _array(column: str) -> str | None:
    """Return the array whose vectors a column holds, None if it holds others."""
    modality, slash, encoder = column.partition("/")
    return f"{encoder}/{modality}" if slash and modality in MODALITIES else None


def _column(array: str) -> str:
    encoder, _, modality = array.rpartition("/")
    return f"{modality}/{encoder}"


def _unpacked(column: pa.ChunkedArray) -> Vectors:
    data = column.combine_chunks()
    vectors = np.frombuffer(data.buffers()[1], "<f2").reshape(-1, data.type.byte_width // 2)
    return vectors[data.offset : data.offset + len(data)]


def _parts(run_dir: Path) -> dict[str, list[str]]:
    """Return the paths of all scored parts by their group, each as it was published."""
    found: dict[str, set[str]] = defaultdict(set)
    indexed = {
        f"{path.parent.name}/{path.stem}": path
        for path in (run_dir / INDEX_FOLDER).glob("w*/*.parquet")
    }
    for name, path in indexed.items():
        index = read_part(path, columns=["folder", "unit"])
        units = index.filter(pc.equal(index["folder"], SCORED))["unit"].to_pylist()
        found[name] = {f"{SCORED}/{unit}.parquet" for unit in units}
    for path in (run_dir / SCORED).glob("w*/*.parquet"):
        name = f"{path.parent.name}/{path.stem}"
        if (group := group_name_of(name)) is not None and group not in indexed:
            found[group].add(f"{SCORED}/{name}.parquet")
    return {group: sorted(parts) for group, parts in found.items() if parts}
