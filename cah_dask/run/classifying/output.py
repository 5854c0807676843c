"""The output of classify: parquet parts and Zarr shards with the same rows, whole or absent."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.classify import rows
from cah_dask.classify.rows import KEPT, VECTOR
from cah_dask.counts import Counts
from cah_dask.errors import CahError, RunError
from cah_dask.pairs.vectors import unpacked
from cah_dask.release.layout import PackOptions, Slice
from cah_dask.release.pack import rebatched
from cah_dask.release.vectors import Array, ShardWriter, metadata_files
from cah_dask.storage import (
    Receipt,
    SideFile,
    open_part,
    read_receipt,
    require_same,
    side_file,
    staged,
    write_atomic,
    write_part,
)

LAYOUT = "layout.json"
RECORDS = "records"
VECTORS = "vectors.zarr"
_ARRAY = "vectors"
_GROUP_ROWS = 8192
_GROUP_BYTES = 64 << 20


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an output will hold, known before its first byte is written."""

    job: str
    """What tells it from outputs of other archives, settings or hooks."""
    rows: int
    names: tuple[str, ...]
    """Of the scores."""
    dim: int
    """Of the vectors; 0 if there are none."""
    sizes: PackOptions
    with_rejected: bool
    with_payload: bool
    slices_sha256: str
    """Of which rows of which archives it is made."""

    @property
    def shards(self) -> int:
        """Number of parts; an empty output has one."""
        return max(1, -(-self.rows // self.sizes.rows_per_shard))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the parts."""
        with_kept = self.with_rejected
        return rows.output(self.names, with_kept=with_kept, with_payload=self.with_payload)

    @property
    def metadata(self) -> dict[str, bytes]:
        """The metadata files of the vectors, by their names; none if there are no vectors."""
        if not self.dim:
            return {}
        order = "row i of the array is row i of records/part-*.parquet, in order"
        arrays = [Array(_ARRAY, self.dim)]
        return metadata_files(self.sizes, self.rows, arrays, {"row_order": order})


def read_layout(folder: Path) -> Layout | None:
    """Return the layout of the output in a folder, or None where there is none that is whole."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode((folder / LAYOUT).read_bytes(), type=Layout)
    return None


def part_path(folder: Path, number: int) -> Path:
    """Return the path of one part of the output in a folder."""
    return folder / RECORDS / f"part-{number:05d}.parquet"


def create(folder: Path, layout: Layout) -> None:
    """Create an empty output; what is there already of the same one stays."""
    for name, data in layout.metadata.items():
        write_atomic(folder / VECTORS / name, data)
    write_atomic(folder / LAYOUT, msgspec.json.format(msgspec.json.encode(layout)))


def write_shard(
    run_dir: Path, folder: Path, number: int, slices: Sequence[Slice], layout: Layout
) -> Receipt:
    """Write one part of the output and the Zarr shard with the same rows; it holds no time.

    Parameters
    ----------
    run_dir
        The folder that the parts of the slices are relative to.
    """

    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        for each in slices:
            yield from _rows(run_dir, each, columns, layout)

    n_rows = sum(each.stop - each.start for each in slices)
    receipt = Receipt(
        stage="pack",
        unit=f"part-{number:05d}",
        config=layout.job,
        counts=Counts(n_rows, n_rows),
        side=_write_vectors(read, folder, number, layout) if layout.dim and n_rows else (),
    )
    groups = _numbered(read, number * layout.sizes.rows_per_shard, layout)
    return write_part(part_path(folder, number), layout.schema, groups, receipt)


def _write_vectors(
    read: Callable[[Sequence[str]], Iterator[pa.Table]], folder: Path, number: int, layout: Layout
) -> tuple[SideFile, ...]:
    name = f"{VECTORS}/{_ARRAY}/c.{number}.0"
    with staged(folder / name) as path, path.open("wb") as file:
        writer = ShardWriter(file, layout.sizes, layout.dim)
        for chunk in rebatched(read([VECTOR]), layout.sizes.rows_per_chunk):
            writer.add(unpacked(chunk[VECTOR]))
        writer.finish()
    return (side_file(folder / name, name),)


def _numbered(
    read: Callable[[Sequence[str]], Iterator[pa.Table]], start: int, layout: Layout
) -> Iterator[pa.Table]:
    """Yield the row groups."""
    schema = layout.schema
    columns = [name for name in schema.names if name != "row"]
    for table in _grouped(read(columns)):
        made = {"row": pa.array(range(start, start + len(table)), pa.int64())}
        start += len(table)
        arrays = [made[n] if n in made else table[n] for n in schema.names]
        # in one piece: where pages end depends on pieces
        yield pa.table(arrays, schema=schema).combine_chunks()


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables until they are of a good size for a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        n_bytes = sum(each.nbytes for each in waiting)
        if n_bytes >= _GROUP_BYTES or sum(map(len, waiting)) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _rows(
    run_dir: Path, chosen: Slice, columns: Sequence[str], layout: Layout
) -> Iterator[pa.Table]:
    """Yield some columns of rows of one archive, those that belong to the output alone counted."""
    with open_part(run_dir / chosen.part) as part:
        (archive,) = part.receipt.inputs
        has_scores = KEPT in part.schema.names
        wanted = [name for name in columns if name != "archive"]
        asked = [*dict.fromkeys([*wanted, *([KEPT] if has_scores else [])])]
        first = 0
        for group in range(part.n_row_groups):
            table = part.read([group], asked)
            if has_scores and not layout.with_rejected:
                table = table.filter(table[KEPT])
            start, stop = max(0, chosen.start - first), max(0, chosen.stop - first)
            first += len(table)
            table = table.slice(start, max(0, min(stop, len(table)) - start))
            if len(table):
                table = table.append_column("archive", pa.repeat(archive, len(table)))
                yield table.select(list(columns))


def verify(folder: Path, layout: Layout) -> None:
    """Check that an output is whole and that every byte of it is what was written.

    Raises
    ------
    RunError
        Naming the first thing that is missing or damaged.
    """
    total = 0
    for number in range(layout.shards):
        with open_part(part_path(folder, number)) as part:
            part.require_sound()
            receipt = part.receipt
        for side in receipt.side:
            require_same(folder / side.name, side)
        total += receipt.counts.kept
    if total != layout.rows:
        raise RunError(f"{folder} holds {total} rows, {layout.rows} were promised")


def is_whole(folder: Path, layout: Layout) -> bool:
    """Tell whether no file of an output is missing or of another size, by a glance."""
    try:
        for number in range(layout.shards):
            for side in read_receipt(part_path(folder, number)).side:
                if (folder / side.name).stat().st_size != side.n_bytes:
                    return False
        metadata = layout.metadata.items()
        return all((folder / VECTORS / name).read_bytes() == data for name, data in metadata)
    except (OSError, CahError):
        return False
