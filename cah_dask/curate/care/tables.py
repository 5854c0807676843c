"""Tables of people: parquet or CSV files with a key and columns that are wanted of them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from cah_dask.curate.pools.uids import keys_of
from cah_dask.errors import ConfigError, InputError
from cah_dask.keys import Keys, of_texts
from cah_dask.release.layout import COLUMN_TYPES, ReleasedColumn
from cah_dask.urls import normal

Key: TypeAlias = Literal["uid", "url"]
"""What rows of a table and pairs are the same by."""

BATCH_ROWS = 1 << 16
_CSV = (".csv", ".csv.gz")
_SUFFIXES = (".parquet", *_CSV)


@dataclass(frozen=True)
class Tables:
    """A table in one or several files.

    Parameters
    ----------
    path
        A file, or a folder of which all files of these kinds are read.
    on
        The column that says which pair a row is about.
    columns
        What is wanted: names in the table, by the names that they shall have.
    """

    path: Path
    on: Key
    columns: Mapping[str, str]

    @cached_property
    def files(self) -> list[Path]:
        """All files, in the order of their names.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.path.is_dir():
            found = sorted(each for each in self.path.rglob("*") if self._is_table(each))
        else:
            found = [self.path] if self.path.is_file() and self._is_table(self.path) else []
        if not found:
            raise InputError(f"{self.path} is no table: expected {', '.join(_SUFFIXES)}")
        return found

    def _is_table(self, file: Path) -> bool:
        is_hidden = any(name.startswith((".", "_")) for name in Path(self.name_of(file)).parts)
        return file.name.endswith(_SUFFIXES) and not is_hidden and file.is_file()

    def name_of(self, file: Path) -> str:
        """Return what no other file of the table is called, its path within the folder."""
        return file.relative_to(self.path).as_posix() if file != self.path else file.name

    @cached_property
    def released(self) -> tuple[ReleasedColumn, ...]:
        """The columns that are wanted, as a release has them; types are those of the first file.

        Raises
        ------
        ConfigError
            If there is no such column, or a release cannot have it.
        """
        schema = _schema(self.files[0], self.on)
        for name in (self.on, *self.columns.values()):
            if name not in schema.names:
                raise ConfigError(
                    f"{self.files[0]} has no column {name}; it has {', '.join(schema.names)}"
                )
        return tuple(
            ReleasedColumn(ours, self._type_name(theirs, schema.field(theirs).type))
            for ours, theirs in self.columns.items()
        )

    def _type_name(self, name: str, kind: pa.DataType) -> str:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or kind == pa.null():
            kind = pa.string()
        if str(kind) not in COLUMN_TYPES:
            raise ConfigError(
                f"{self.files[0]}: column {name} is {kind}; a release takes "
                f"{', '.join(COLUMN_TYPES)}"
            )
        return str(kind)


@dataclass(frozen=True)
class TableFile:
    """A file of a table; parameters are those of `Tables`.

    Parameters
    ----------
    released
        The columns that are wanted, as a release has them.
    """

    path: Path
    on: Key
    columns: Mapping[str, str]
    released: Sequence[ReleasedColumn]

    @property
    def schema(self) -> pa.Schema:
        """Of the wanted columns, by the names that they shall have."""
        return pa.schema([column.field for column in self.released])

    def n_rows(self) -> int:
        """Return how many rows it has; see `batches` for errors."""
        if self.path.suffix == ".parquet":
            with _readable(self.path):
                return int(pq.read_metadata(self.path).num_rows)
        return sum(len(keys) for keys, _ in self.batches())

    def batches(self) -> Iterator[tuple[Keys, pa.Table]]:
        """Yield key and wanted columns of its rows, some at a time.

        The key of a url is the md5 of how `urls.resolve` spells it.

        Raises
        ------
        InputError
            If it cannot be read, has other columns than the first file, or a key is none.
        """
        with _readable(self.path):
            for batch in self._read():
                columns = [
                    batch[theirs].cast(field.type)
                    for theirs, field in zip(self.columns.values(), self.schema, strict=True)
                ]
                keys = pair_keys(batch[self.on], self.on, str(self.path))
                yield keys, pa.table(columns, schema=self.schema)

    def _read(self) -> Iterator[pa.Table]:
        names = list(dict.fromkeys([self.on, *self.columns.values()]))
        if self.path.suffix == ".parquet":
            with pq.ParquetFile(self.path) as opened:
                _require(self.path, opened.schema_arrow.names, names)
                for batch in opened.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                    yield pa.Table.from_batches([batch])
            return
        types = dict(zip(self.columns.values(), self.schema.types, strict=True))
        types[self.on] = pa.string()
        _require(self.path, _schema(self.path, self.on).names, names)
        options = csv.ConvertOptions(column_types=types, include_columns=names)
        with csv.open_csv(self.path, convert_options=options) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])


def _schema(file: Path, on: Key) -> pa.Schema:
    with _readable(file):
        if file.suffix == ".parquet":
            return pq.read_schema(file)
        types = csv.ConvertOptions(column_types={on: pa.string()})
        with csv.open_csv(file, convert_options=types) as reader:
            return reader.schema


def pair_keys(column: pa.ChunkedArray, on: Key, where: str) -> Keys:
    """Return the key of each row.

    Raises
    ------
    InputError
        If there is one without; `where` names the file in the message.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if on == "uid":
        return keys_of(column, where)
    if not pa.types.is_string(column.type):
        raise InputError(f"{where}: column url is {column.type}, not text")
    if column.null_count:
        raise InputError(f"{where}: a row has no url")
    return of_texts(map(normal, column.to_pylist()))


def _require(file: Path, found: Sequence[str], names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{file} has no column {missing[0]}; it has {', '.join(found)}")


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read: {reason}") from error
