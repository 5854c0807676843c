"""What drives `cah classify`, and what comes of it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from cah_dask.archives.sources import public_names
from cah_dask.classify.identity import Digests, digests
from cah_dask.classify.notes import from_notes
from cah_dask.classify.outcomes import FAULTS
from cah_dask.classify.reading import BAD_RECORD
from cah_dask.classify.rows import VECTOR
from cah_dask.classify.scoring import ROWS
from cah_dask.classify.verdict import Load, verdict
from cah_dask.counts import Counts, CountsSum
from cah_dask.errors import ConfigError, RunError
from cah_dask.pairs.timings import INPUT, MODEL, WORKER
from cah_dask.release.layout import Slice, deal, fingerprint, rows_of
from cah_dask.run.classifying import output
from cah_dask.run.classifying.config import ClassifyConfig
from cah_dask.run.classifying.marks import forget_all
from cah_dask.run.classifying.output import Layout, read_layout
from cah_dask.run.classifying.output_folder import OutputFolder
from cah_dask.run.classifying.report import ERRORS_SHOWN, Source, Summary, write_documents
from cah_dask.run.classifying.tasks import (
    CLASSIFY,
    PACK,
    READ,
    READING,
    SCORE,
    ClassifyTask,
)
from cah_dask.run.folder.existing import WithRelease
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.pools import Pool, pools
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Committed, Step, Stepwise, numbered
from cah_dask.run.streaming import Streaming
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.schema import score_of
from cah_dask.storage import Receipt, fsync, open_part, read_receipt, sweep
from cah_dask.words import counted

REMARK_S = 60.0
"""Seconds between two lines about the bottleneck."""


class OutputParts(WithRelease):
    """The parts of the job and of its output."""

    def path_of(self, unit: Unit) -> Path:
        """Return where the unit's part is, if it is there."""
        if unit.stage == PACK:
            return output.part_path(self._unfinished_release, unit.number)
        return super().path_of(unit)


@dataclass
class ClassifyJob(Job):
    """Archives, what is made of them, and where that goes."""

    config: ClassifyConfig
    archives: Sequence[str]
    """Where they are, in their order."""
    clock: Callable[[], float] = time.monotonic
    is_there: bool = False
    """Whether exactly this output was there before."""
    _load: Load = field(default_factory=Load)
    _remarked: float | None = None
    _dealt: list[list[Slice]] = field(default_factory=list)
    _layout: Layout | None = None

    def __post_init__(self) -> None:
        """Look at what is there."""
        found = read_layout(self.to)
        if not os.path.lexists(self.to):
            return
        if found is None or found.job != self.name:
            what = "holds no output of `cah classify`" if found is None else "is of another job"
            raise ConfigError(
                f"{self.to} {what} (other archives, settings or hooks); set `to` to a new folder"
            )
        if not output.is_whole(self.to, found):
            raise ConfigError(f"{self.to} has lost files; move it away and run again")
        self.is_there = True

    @property
    def to(self) -> Path:
        """Where the output goes."""
        return Path(self.config.to)

    @property
    def unfinished(self) -> Path:
        """The output while it is written."""
        return self.to.with_name(f"{self.to.name}.partial")

    @property
    def max_attempts(self) -> int:
        """Attempts at a unit before it is given up."""
        return self.config.max_attempts

    @cached_property
    def places(self) -> dict[str, str]:
        """Where each archive is, by the name that it has in public."""
        return {name: place for place, name in public_names(self.archives).items()}

    @cached_property
    def _hooks(self) -> Digests:
        return digests(self.config.options)

    @cached_property
    def name(self) -> str:
        """What other archives, settings or hooks do not have."""
        return name_of(list(self.places), self.config.known_by(self._hooks))

    @cached_property
    def folder(self) -> OutputFolder:
        """Where it keeps what is done."""
        to = self.to.resolve()
        beside = to.with_name(f"{to.name}.classify")
        return OutputFolder(Path(self.config.scratch or beside) / self.name, CLASSIFY, beside)

    @property
    def _last(self) -> Stage:
        """The stage whose parts the output is made of."""
        return SCORE if self.config.model else READ

    @property
    def _units(self) -> list[Unit]:
        last = self._last
        return [Unit(last, number=n, archive=name) for n, name in enumerate(self.places)]

    def existing(self) -> OutputParts:
        """Return what tells which units are done; what scored archives left is deleted."""
        forget_all(self.folder.path)
        found = OutputParts(self.folder, self.unfinished)
        for unit in self._units if self._last == SCORE else ():
            staged = msgspec.structs.replace(unit, stage=READ)
            if found.has(unit) and found.has(staged):
                found.path_of(staged).unlink(missing_ok=True)
        return found

    def plan(self, committed: Committed) -> Stepwise:
        """Return its units."""
        pack: Step = self._begin_pack
        if self._last == READ:
            return Stepwise((READ, PACK), [self._units, pack], committed)
        room = self.config.staged_gb * 1e9
        names = list(self.places)
        return Streaming(READ, SCORE, names, [(PACK, pack)], committed, room=room, left_by=_left_by)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> ClassifyTask:
        """Return what a worker is told about a unit."""
        task = ClassifyTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            is_last_attempt=is_last_attempt,
            options=self.config.options,
            hooks=self._hooks,
            place=self._place(unit),
            device=self.config.device,
            threads=self.config.pools.gpu.threads,
        )
        if unit.stage != PACK:
            return task
        return msgspec.structs.replace(
            task,
            output=str(self.unfinished.resolve()),
            layout=self._layout,
            slices=tuple(self._dealt[unit.number]),
        )

    def _place(self, unit: Unit) -> str:
        place = self.places.get(unit.archive, "")
        return place if not place or "://" in place else str(Path(place).absolute())

    def remark(self, unit: Unit, done: Done) -> str:
        """Say now and then which pool is the bottleneck."""
        if unit.stage != SCORE:
            return ""
        self._load += load_of(done.receipt)
        now = self.clock()
        if self._remarked is None:
            self._remarked = now
        if now - self._remarked < REMARK_S:
            return ""
        self._remarked = now
        return self.verdict(self._load)

    def verdict(self, load: Load) -> str:
        """Say which pool is the bottleneck, as far as that is measured."""
        made = pools(self.config.pools, self.config.slurm.launch, (READ, SCORE))
        of = {stage: pool for pool in made for stage in pool.stages}
        said = verdict(load, _workers(of[READ]), _workers(of[SCORE]))
        return f"{said}; {load.busy}" if said else ""

    def receipts(self) -> Iterator[Receipt]:
        """Yield the receipt of each archive, in their order."""
        return (read_receipt(self.folder.path / unit.part) for unit in self._units)

    def summary(self) -> Summary:
        """Return what became of all records, once all archives are done."""
        read, scored, load = CountsSum(), CountsSum(), Load()
        errors: list[str] = []
        for receipt in self.receipts():
            if self._last == SCORE:
                read.add(_left_by(receipt))
                load += load_of(receipt)
            scored.add(receipt.counts)
            errors += receipt.errors[: ERRORS_SHOWN - len(errors)]
        counts = {SCORE.name: scored.total} if self._last == SCORE else {}
        first = read.total if counts else scored.total
        return Summary(
            archives=len(self.places),
            counts={READ.name: first, **counts},
            notes=scored.total.notes,
            errors=tuple(errors),
            verdict=self.verdict(load) if counts else "",
        )

    def _begin_pack(self) -> list[Unit]:
        """Begin the output, once all archives are done; return its units.

        Raises
        ------
        RunError
            If hooks or model fail for all that they were given.
        """
        kept = []
        for unit, receipt in zip(self._units, self.receipts(), strict=True):
            counts = receipt.counts
            kept.append((unit.part, counts.notes.get(ROWS, counts.kept)))
        _require_some(self.summary())
        self._dealt = deal(kept, self.config.pack.rows_per_shard)
        names, dim = self._columns()
        layout = Layout(
            job=self.name,
            rows=rows_of(self._dealt),
            names=names,
            dim=dim,
            sizes=self.config.pack,
            with_rejected=self.config.rejected and self._last == SCORE,
            with_payload=self.config.payload != "none",
            slices_sha256=fingerprint(self._dealt),
        )
        self._layout = layout
        found = read_layout(self.unfinished)
        if found != layout:
            if found is None and self.unfinished.exists() and any(self.unfinished.iterdir()):
                raise RunError(f"{self.unfinished} is in the way; move it elsewhere")
            shutil.rmtree(self.unfinished, ignore_errors=True)
        sweep(self.unfinished)
        output.create(self.unfinished, layout)
        return [numbered(PACK, number) for number in range(layout.shards)]

    def _columns(self) -> tuple[tuple[str, ...], int]:
        """Return the names of the scores, and the length of the vectors."""
        with open_part(self.folder.path / self._units[0].part) as part:
            schema = part.schema
        prefix = score_of("")
        names = tuple(n.removeprefix(prefix) for n in schema.names if n.startswith(prefix))
        dim = schema.field(VECTOR).type.byte_width // 2 if VECTOR in schema.names else 0
        return names, dim

    def publish(self) -> None:
        """Check the output, add report and data card, and give it its name."""
        if self._layout is None or read_layout(self.unfinished) != self._layout:
            raise RunError(f"{self.unfinished} was replaced meanwhile; run the same command again")
        output.verify(self.unfinished, self._layout)
        parts = {name: unit.part for name, unit in zip(self.places, self._units, strict=True)}
        source = Source(self.folder.path, parts, self.places, self.config, self._hooks)
        write_documents(self.unfinished, source, self._layout, self.summary())
        try:
            self.unfinished.replace(self.to)
        except OSError as error:
            if not os.path.lexists(self.to):
                raise
            raise RunError(
                f"{self.to} came to be while the job was at work; move it away and run the same "
                "command again, which only publishes"
            ) from error
        fsync(self.to.parent)


def load_of(receipt: Receipt) -> Load:
    """Return what the receipt of a scored archive says of the time that it took."""
    timings = receipt.timings
    times = (timings.get(name, 0) / 1000 for name in (READING, MODEL, INPUT, WORKER))
    return Load(1, receipt.counts.seen, *times)


def _left_by(receipt: Receipt) -> Counts:
    return from_notes(receipt.counts)


def _workers(pool: Pool) -> int:
    return pool.max_jobs * pool.processes if pool.job is not None else pool.workers


def _require_some(summary: Summary) -> None:
    """Raise RunError if nothing was read, or all that was came to a fault."""
    read = summary.counts[READ.name]
    if read.seen == read.rejected.get(BAD_RECORD, 0):
        why = f": {summary.errors[0]}" if summary.errors else ""
        raise RunError(
            f"{counted(summary.archives, 'archive')} without a single response or the like, so "
            f"nothing is published{why}; give WARC archives of pages and pictures"
        )
    rejected: dict[str, int] = {}
    for counts in summary.counts.values():
        rejected |= counts.rejected
    n_faults = sum(n for reason, n in rejected.items() if reason in FAULTS)
    last = list(summary.counts.values())[-1]
    n_sound = last.kept + rejected.get("below", 0) + rejected.get("not_wanted", 0)
    if n_faults and not n_sound:
        raise RunError(
            f"hooks or model fail for all of {n_faults} records, so nothing is published; "
            f"the first: {summary.errors[0]}"
        )
