"""Parquet files as a pool: DataComp's metadata with their vectors in ``.npz``, or any other."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.curate.pools import npz
from cah_dask.curate.pools.names import renamed
from cah_dask.curate.pools.pool import BATCH_ROWS, VECTOR_ROWS, Batch, fingerprint_of
from cah_dask.errors import InputError

_SUFFIX = ".parquet"
_ARRAYS = {
    f"{encoder}/{modality}": f"{encoder}_{short}"
    for encoder in ("b32", "l14")
    for modality, short in (("image", "img"), ("text", "txt"))
}
"""Arrays of DataComp's ``.npz`` files by our names."""


class TablePool:
    """A folder of parquet files, or one such file; vectors lie beside them, row by row.

    Parameters
    ----------
    given
        Names of columns in the files, by ours, where they are not known ones.
    """

    def __init__(self, path: Path, given: Mapping[str, str]) -> None:
        self.path = path if path.is_dir() else path.parent
        self._given = given
        there = sorted(path.rglob(f"*{_SUFFIX}*")) if path.is_dir() else [path]
        files = [each for each in there if _is_table(each)]
        if not files:
            raise InputError(f"{path} holds no {_SUFFIX} file")
        self.units = [each.relative_to(self.path).as_posix() for each in files]
        self.notes = [
            f"{each.name} is left out: its name does not end in {_SUFFIX}, or begins with a dot"
            for each in there
            if not _is_table(each)
        ]

    @property
    def kind(self) -> str:
        """What it is."""
        return "DataComp metadata" if self.vectors else "parquet files"

    @cached_property
    def _footers(self) -> list[pq.FileMetaData]:
        return [_footer(self.path / unit) for unit in self.units]

    @cached_property
    def _names(self) -> dict[str, str]:
        return self._names_of(0)

    def _names_of(self, number: int) -> dict[str, str]:
        columns = _footer(self.path / self.units[number]).schema.to_arrow_schema().names
        return renamed(columns, self._given, str(self.path / self.units[number]))

    @property
    def columns(self) -> Sequence[str]:
        """The columns, by our names."""
        return list(self._names)

    @cached_property
    def vectors(self) -> Mapping[str, int]:
        """Length of the vectors."""
        first = (self.path / self.units[0]).with_suffix(".npz")
        found = npz.shapes(first) if first.exists() else {}
        return {
            ours: found[name][1]
            for ours, name in _ARRAYS.items()
            if name in found and len(found[name]) == 2
        }

    @property
    def most_rows(self) -> int:
        """Rows of all files."""
        return sum(footer.num_rows for footer in self._footers)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes, rows and the statistics in the footers, and the CRC-32s of vectors."""
        return fingerprint_of(
            (unit, repr((size_of(self.path / unit), footer.to_dict(), self._crcs(unit))).encode())
            for unit, footer in zip(self.units, self._footers, strict=True)
        )

    def _crcs(self, unit: str) -> Mapping[str, int]:
        """Return what tells the vectors of a file from others; nothing if they cannot be read."""
        if not self.vectors:
            return {}
        try:
            return npz.checksums((self.path / unit).with_suffix(".npz"))
        except InputError:
            return {}

    def batches(
        self, number: int, columns: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Yield the rows of a file."""
        unit = self.units[number]
        path = self.path / unit
        names = _names_in(path, self._given, columns)
        size = VECTOR_ROWS if vectors else BATCH_ROWS
        start = 0
        with (
            _readable(path),
            pq.ParquetFile(path) as file,
            _arrays(path, vectors, file.metadata.num_rows) as arrays,
        ):
            for batch in file.iter_batches(size, columns=list(names.values()), use_threads=False):
                table = pa.table({ours: batch.column(name) for ours, name in names.items()})
                rows = np.arange(start, start + len(batch))
                start += len(batch)
                found = {name: each.take(len(batch)) for name, each in arrays.items()}
                yield Batch(unit, rows, table, found)


def _is_table(path: Path) -> bool:
    return path.suffix == _SUFFIX and not path.name.startswith((".", "_")) and path.is_file()


def size_of(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


def _footer(path: Path) -> pq.FileMetaData:
    with _readable(path):
        return pq.read_metadata(path)


def _names_in(path: Path, given: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    names = renamed(_footer(path).schema.to_arrow_schema().names, given, str(path))
    if missing := [name for name in columns if name not in names]:
        raise InputError(f"{path} has no column {missing[0]}; it has {', '.join(names)}")
    return {name: names[name] for name in columns}


@contextlib.contextmanager
def _arrays(path: Path, names: Sequence[str], n_rows: int) -> Iterator[dict[str, npz.Rows]]:
    """Open arrays, which have a row for each of the table."""
    file = path.with_suffix(".npz")
    with contextlib.ExitStack() as stack:
        opened = {}
        for name in names:
            rows = stack.enter_context(npz.open_rows(file, _ARRAYS[name]))
            if rows.shape[0] != n_rows:
                raise InputError(
                    f"{file}: {_ARRAYS[name]} has {rows.shape[0]:,} rows, its table has {n_rows:,}"
                )
            opened[name] = rows
        yield opened


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read as parquet: {error}") from error
