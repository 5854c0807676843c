"""The job of `cah redact`: a new release without the rows that lists name."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.care.lists import (
    COLUMNS,
    KINDS,
    Lists,
    Pinned,
    load_lists,
    load_pinned,
    pinned,
)
from cah_dask.curate.uid_ranges import as_table
from cah_dask.errors import ConfigError, InputError
from cah_dask.keys import from_digests
from cah_dask.pairs.select import SELECTION
from cah_dask.release.layout import Layout, layout_of_release, part_path
from cah_dask.release.manifest import Step
from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED, UID_BYTES
from cah_dask.storage import (
    Receipt,
    open_part,
    require_same,
    side_file,
    staged,
    write_part,
)

CHOOSE = Stage(
    name="choose",
    kind=Kind.SHARD,
    folder="chosen",
    pool="cpu",
    task="cah_dask.run.care.redact:choose_task",
    rows="pairs",
    files=2,
)
REDACT = (CHOOSE, PACK)
"""The job of `cah redact`."""

HITS_FOLDER = "hits"
"""Beside the chosen rows: the numbers of the entries that named a row of a part."""


class ChooseTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one part."""

    release: str
    lists: Pinned


def choose_task(task: ChooseTask) -> Receipt:
    """Leave the rows of one part that no list names."""
    started = time.perf_counter()
    lists = load_pinned(task.lists)
    path = part_path(Path(task.release), task.unit.number)
    name = path.relative_to(task.release).as_posix()
    groups, counts, start = [], Counts(), 0
    hits = {kind: [np.empty(0, np.int64)] for kind in lists.entries}
    with open_part(path) as part:
        for number in range(part.n_row_groups):
            rows = part.read([number], COLUMNS)
            found = lists.found_in(rows)
            for kind, entries in found.entries.items():
                hits[kind].append(entries)
            kept = np.flatnonzero(found.kind < 0)
            groups.append(_selected(name, rows["uid"], kept, start))
            n_of = np.bincount(found.kind[found.kind >= 0], minlength=len(KINDS))
            rejected = {f"{kind}_listed": int(n) for kind, n in zip(KINDS, n_of, strict=True) if n}
            counts += Counts(len(rows), len(kept), rejected)
            start += len(rows)
    groups = [group for group in groups if len(group)]
    counts = msgspec.structs.replace(counts, notes={SELECTION: _checksum(groups)})
    side = Path(task.run_dir) / HITS_FOLDER / f"{task.unit.name}.npz"
    arrays = {kind: np.unique(np.concatenate(each)) for kind, each in hits.items()}
    with staged(side) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy 2.0 has no other way
    receipt = task.receipt(counts, started, side=(side_file(side),))
    return write_part(task.part, SELECTED, groups, receipt)


def _selected(
    name: str, uids: pa.ChunkedArray, kept: np.ndarray[tuple[int], np.dtype[np.int64]], start: int
) -> pa.Table:
    keys = from_digests(bytes.fromhex("".join(uids.take(pa.array(kept)).to_pylist())))
    rows = pa.array((start + kept).astype(np.int32))
    return pa.table([pa.repeat(name, len(kept)), rows, as_table(keys)["uid"]], schema=SELECTED)


def _checksum(kept: Sequence[pa.Table]) -> int:
    """Return the sum of the uids' first 32 bits: it does not tell what was between them."""
    uids = b"".join(uid for rows in kept for uid in rows["uid"].to_pylist())
    return int(np.frombuffer(uids, "<u4")[:: UID_BYTES // 4].sum(dtype=np.uint64))


@dataclass(frozen=True)
class RedactJob(Job):
    """A release, what must go, and where the new release goes."""

    release: Path
    to: Path
    paths: Mapping[str, Path]
    """Lists by their kind, one of `KINDS`."""
    scratch: Path
    """The folder within which it keeps what is done."""

    def __post_init__(self) -> None:
        """Look at all that can be wrong before anything is written."""
        if not self.paths:
            raise ConfigError("name what must go, by --uids, --urls, --hosts or --hashes")
        if not sum(self.lists.sizes.values()):
            raise InputError(f"no entry in {', '.join(map(str, self.paths.values()))}")
        self.derivation  # noqa: B018  # it looks at source and target

    @cached_property
    def lists(self) -> Lists:
        """What must go."""
        return load_lists(self.paths)

    @cached_property
    def layout(self) -> Layout:
        """Of the release."""
        return layout_of_release(self.release)

    @cached_property
    def pinned(self) -> Pinned:
        """What must go, as tasks are told."""
        return pinned(self.paths)

    @cached_property
    def name(self) -> str:
        """What another release or list does not have; it is nowhere in the new release."""
        lists = sorted((kind, digest) for kind, (_, digest) in self.pinned.items())
        return name_of(self.layout.fingerprint, lists)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, REDACT)

    @cached_property
    def derivation(self) -> Derivation:
        """The new release."""
        self.layout  # noqa: B018  # a run folder cannot be redacted
        return Derivation(self.release, self.to, self.folder, redacts=True)

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        return Stagewise({CHOOSE: self.layout.shards, PACK: self.begin}, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> ChooseTask:
        """Return what a worker is told about a part."""
        return ChooseTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            is_last_attempt=is_last_attempt,
            release=str(self.release.resolve()),
            lists=self.pinned,
        )

    def begin(self) -> int:
        """Begin the new release, once all parts are looked at; return its shards."""
        parts = [Unit(CHOOSE, number=number).part for number in range(self.layout.shards)]
        return self.derivation.begin(parts, self.step)

    def step(self, counts: Counts) -> Step:
        """Return what the manifest says: numbers, and nothing that tells what is gone."""
        sizes, unmatched = self.lists.sizes, self.unmatched
        lists = {
            kind: {"entries": sizes[kind], "unmatched": unmatched[kind]} for kind in sorted(sizes)
        }
        return Step(
            how="redact",
            of="release",
            fingerprint=self.layout.fingerprint,
            rule={"lists": lists},
            counts=msgspec.structs.replace(counts, notes={}),
        )

    @property
    def unmatched(self) -> dict[str, int]:
        """How many entries of each kind name no row, once all parts are looked at."""
        named = {kind: np.zeros(size, bool) for kind, size in self.lists.sizes.items()}
        for number in range(self.layout.shards):
            unit = Unit(CHOOSE, number=number)
            with open_part(self.folder.path / unit.part) as part:
                (side,) = part.receipt.side
            path = self.folder.path / HITS_FOLDER / side.name
            require_same(path, side)
            with np.load(path) as hits:
                for kind, entries in hits.items():
                    named[kind][entries] = True
        return {kind: int((~each).sum()) for kind, each in named.items()}
