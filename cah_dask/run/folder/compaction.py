"""Compaction: the parts of a bucket group become row groups of one file for each stage, and back.

The index (`schema.COMPACTED`) is the commit. Until it is there the parts count that have files of
their own; from then on those are deleted, by whoever made the index and by each driver that starts.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.errors import DamageError, RetryableError
from cah_dask.groups import INDEX_FOLDER, group_name_of
from cah_dask.run.folder.listing import PART, files_under
from cah_dask.run.stages import RUN
from cah_dask.schema import COMPACTED, REQUESTS
from cah_dask.storage import Receipt, open_part, read_part, write_part

logger = logging.getLogger(__name__)

REQUESTS_FOLDER = "requests"
"""Where each attempt at a fetch list leaves its requests, whether its part counts or not."""

FOLDERS = (*(stage.folder for stage in RUN if stage.is_compacted), REQUESTS_FOLDER)
"""Whose parts are brought together."""

Row = dict[str, object]
"""A row of `schema.COMPACTED`."""


def part_path(run_dir: Path, folder: str, name: str) -> Path:
    """Return where a part has a file of its own, or a whole group has one."""
    return run_dir / folder / f"{name}{PART}"


def compact(
    run_dir: Path, group: str, units: Mapping[str, Sequence[str]], receipt: Receipt
) -> Receipt:
    """Bring the parts of a group together; their own files stay until `drop_own_files`.

    Parameters
    ----------
    units
        Names of the parts by the folder they lie in, in canonical order.
    receipt
        Of all files; in that of the index a row is a part.
    """
    rows: list[Row] = []
    for folder, names in units.items():
        if names:
            rows += _write_group(run_dir, folder, group, names, receipt)
    table = pa.Table.from_pylist(rows, schema=COMPACTED)
    receipt = msgspec.structs.replace(receipt, counts=Counts(len(rows), len(rows)))
    return write_part(part_path(run_dir, INDEX_FOLDER, group), COMPACTED, [table], receipt)


def _write_group(
    run_dir: Path, folder: str, group: str, names: Sequence[str], receipt: Receipt
) -> list[Row]:
    """Write the file of a group in one folder; return the rows of the index."""
    rows: list[Row] = []

    def tables() -> Iterator[pa.Table]:
        n_before = 0
        for name in names:
            try:
                with open_part(part_path(run_dir, folder, name)) as part:
                    found = [part.read([number]) for number in range(part.n_row_groups)]
                    encoded = msgspec.json.encode(part.receipt)
            except DamageError as error:
                if folder != REQUESTS_FOLDER:
                    raise
                logger.warning("%s; this log stays where it is", error)
                continue
            yield from found
            values = (folder, name, n_before, len(found), encoded)
            rows.append(dict(zip(COMPACTED.names, values, strict=True)))
            n_before += len(found)

    schema = REQUESTS
    if folder != REQUESTS_FOLDER:
        with open_part(part_path(run_dir, folder, names[0])) as first:
            schema = first.schema
    target = part_path(run_dir, folder, group)
    write_part(target, schema, tables(), receipt, replace=True, statistics=False)
    return rows


def groups(run_dir: Path) -> Iterator[str]:
    """Yield the names of all groups that are compacted."""
    for name in files_under(run_dir / INDEX_FOLDER):
        if name.endswith(PART):
            yield name.removesuffix(PART)


def parts(run_dir: Path, group: str) -> dict[str, list[str]]:
    """Return the names of the parts of a compacted group, by the folder they belong to.

    Raises
    ------
    DamageError
        If its index is damaged, or a file of it is not there.
    """
    found = _indexed(run_dir, group)
    for folder in found:
        if not (path := part_path(run_dir, folder, group)).exists():
            raise DamageError(path, "it is not there")
    return found


def _indexed(run_dir: Path, group: str) -> dict[str, list[str]]:
    rows = read_part(part_path(run_dir, INDEX_FOLDER, group), columns=["folder", "unit"])
    found: defaultdict[str, list[str]] = defaultdict(list)
    for folder, name in zip(rows["folder"].to_pylist(), rows["unit"].to_pylist(), strict=True):
        found[folder].append(name)
    return dict(found)


def own_files(run_dir: Path, folder: str, is_compacted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the files in a folder, but delete those that nobody needs.

    They are left of parts that are compacted since, as `is_compacted` tells of a name, and of
    groups that were not finished.
    """
    for name in files_under(run_dir / folder):
        unit = name.removesuffix(PART)
        is_group = group_name_of(unit) == unit
        if is_compacted(unit) or (is_group and not part_path(run_dir, INDEX_FOLDER, unit).exists()):
            (run_dir / folder / name).unlink(missing_ok=True)
        else:
            yield name


def drop_own_files(run_dir: Path, group: str) -> None:
    """Delete the files of the parts of a compacted group.

    Raises
    ------
    RetryableError
        If a driver that started meanwhile took a file of the group for one of an attempt that was
        cut off: the parts that have files of their own count again.
    DamageError
        If a file of the group is lost, and files of parts of it are, too.
    """
    found = _indexed(run_dir, group)
    for folder, names in found.items():
        if (path := part_path(run_dir, folder, group)).exists():
            continue
        if not all(part_path(run_dir, folder, name).exists() for name in names):
            raise DamageError(path, "it is not there")
        part_path(run_dir, INDEX_FOLDER, group).unlink(missing_ok=True)
        raise RetryableError(f"{path} was deleted while its group was compacted")
    for folder, names in found.items():
        for name in names:
            part_path(run_dir, folder, name).unlink(missing_ok=True)


def take_apart(run_dir: Path, group: str) -> list[tuple[str, str]] | None:
    """Give each part of a group a file of its own again; the files of the group stay.

    Returns
    -------
    list
        Folder and name of each part that is lost or damaged; None if the index is: then all are.
    """
    try:
        found = _indexed(run_dir, group)
    except DamageError:
        return None
    return [
        (folder, name)
        for folder, names in found.items()
        for name in names
        if not _is_taken_out(run_dir, folder, name)
    ]


def _is_taken_out(run_dir: Path, folder: str, name: str) -> bool:
    """Give a part a file of its own if it has none; tell whether that is as it was written."""
    path = part_path(run_dir, folder, name)
    group = group_name_of(name) or name
    if path.exists():
        return True
    if not part_path(run_dir, folder, group).exists():
        return False
    try:
        with open_part(path) as part:
            tables = (part.read([number]) for number in range(part.n_row_groups))
            write_part(path, part.schema, tables, part.receipt, replace=True)
    except DamageError:
        return False
    return True
