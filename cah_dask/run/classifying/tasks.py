"""What runs on a worker of `cah classify`: one archive, or one part of the output."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec

from cah_dask.classify.ahead import ahead
from cah_dask.classify.hooks import Keep, Model
from cah_dask.classify.identity import Digests, require_same
from cah_dask.classify.loading import keep_of, model_of
from cah_dask.classify.notes import as_notes
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.proof import Proof
from cah_dask.classify.reading import Reading
from cah_dask.classify.rows import READ as READ_ROWS
from cah_dask.classify.scoring import (
    EXIT_CODE,
    BrokenModelError,
    Scoring,
    limited,
    with_arrays,
)
from cah_dask.counts import Counts
from cah_dask.errors import AlarmError, ConfigError, RetryableError
from cah_dask.pairs.model_turns import ModelTurns, Turn
from cah_dask.release.layout import Slice
from cah_dask.run.classifying.marks import Mark
from cah_dask.run.classifying.output import Layout, read_layout, write_shard
from cah_dask.run.pools import visible_gpus
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.task import Task
from cah_dask.storage import Part, Receipt, open_part, read_receipt, write_part

_TASKS = "cah_dask.run.classifying.tasks"

READ = Stage(
    name="read",
    kind=Kind.ARCHIVE,
    folder="read",
    pool="cpu",
    task=f"{_TASKS}:read_task",
    rows="records",
)
SCORE = Stage(
    name="score",
    kind=Kind.ARCHIVE,
    folder="scored",
    pool="gpu",
    task=f"{_TASKS}:score_task",
    rows="items",
    after="read",
    sees="read",
)
PACK = Stage(
    name="pack",
    kind=Kind.SHARD,
    folder="",
    pool="cpu",
    task=f"{_TASKS}:pack_task",
    rows="rows",
    after="score",
)
CLASSIFY = (READ, SCORE, PACK)
"""The job of `cah classify`; without a model nothing is scored."""

READING = "read"
"""What is timed beside the timings of `pairs.timings`: reading the archive."""

HOOKS_LOG = "logs/hooks.log"
"""What `read` and `prepare` printed."""
_LOG_BYTES = 1 << 20
_PROOF_FOLDER = "sound"

_LOADING = threading.Lock()
_TURNS = ModelTurns()


class ClassifyTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    options: ClassifyOptions
    hooks: Digests
    """What the files of the hooks hold."""
    place: str = ""
    """Where the archive is."""
    device: str = "cpu"
    threads: int = 1
    output: str = ""
    """The unfinished output."""
    layout: Layout | None = None
    slices: tuple[Slice, ...] = ()

    @property
    def proof(self) -> Proof:
        """What the hooks of the stage did well."""
        return Proof(Path(self.run_dir) / _PROOF_FOLDER / self.unit.stage.name)


def read_task(task: ClassifyTask) -> Receipt:
    """Read one archive: what is to be scored of it, by `read` and `prepare`."""
    started = time.perf_counter()
    name = task.unit.archive
    reading = Reading(task.place, name, task.options, task.hooks, task.proof)

    def receipt() -> Receipt:
        errors = tuple(error.replace(task.place, name) for error in reading.errors)
        return task.receipt(reading.counts, started, inputs=(name,), errors=errors)

    try:
        return write_part(task.part, READ_ROWS, reading.groups(), receipt, statistics=False)
    finally:
        _log(task, reading.printed)


def _log(task: ClassifyTask, printed: Sequence[str]) -> None:
    """Write down what hooks printed, unless there is much of it."""
    path = Path(task.run_dir) / HOOKS_LOG
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as log:
            if log.tell() < _LOG_BYTES:
                log.write("".join(f"{task.unit.archive}: {line}\n" for line in printed))


def score_task(task: ClassifyTask) -> Receipt:
    """Score the items of one archive, which are deleted then.

    A worker may have two archives at once: while the model is at work on one, the next is read, or
    the one before is written.
    """
    staged = Path(task.run_dir) / msgspec.structs.replace(task.unit, stage=READ).part
    if task.part.exists():  # an attempt that was taken for dead
        staged.unlink(missing_ok=True)
        return read_receipt(task.part)
    mark = Mark(task)
    mark.require_few()
    model, keep = _loaded_model(task)
    try:
        with _TURNS.turn() as turn, open_part(staged) as part:
            made = _score(task, part, model, keep, turn, mark)
    except BrokenModelError as error:  # a new process may have one that works
        mark.tell(str(error))
        os._exit(EXIT_CODE)
    except AlarmError:  # nor is one that never worked to be tried again
        _built.cache_clear()
        raise
    finally:
        mark.remove()
    staged.unlink(missing_ok=True)
    return made


def _score(
    task: ClassifyTask, part: Part, model: Model, keep: Keep, turn: Turn, mark: Mark
) -> Receipt:
    started = time.perf_counter()
    options, name, read = task.options, task.unit.archive, part.receipt

    def tell() -> None:
        mark.tell(
            f"the model took more than model_timeout_s ({options.model_timeout_s:g} s) for a batch"
        )

    @contextlib.contextmanager
    def at_work() -> Iterator[None]:
        with turn.model():
            mark.set()
            with limited(options.model_timeout_s, tell):
                yield

    scoring = Scoring(model, keep, options, name, at_work, task.proof)

    def receipt() -> Receipt:
        mark.remove()
        turn.end()
        n_items, rejected = read.counts.kept, dict(sorted(scoring.rejected.items()))
        notes = {**as_notes(read.counts), **dict(sorted(scoring.notes.items()))}
        counts = Counts(n_items, n_items - sum(rejected.values()), rejected, notes)
        errors = (*read.errors, *(f"{name}: {message}" for message in scoring.messages))
        timings = turn.milliseconds() | {READING: round(1000 * (read.seconds or 0))}
        return task.receipt(counts, started, inputs=(name,), errors=errors, timings=timings)

    groups = (part.read([number]) for number in range(part.n_row_groups))
    with contextlib.closing(ahead(with_arrays(groups, options.batch_size), turn.waited)) as ready:
        return write_part(task.part, scoring.schema, scoring.groups(ready), receipt)


def _loaded_model(task: ClassifyTask) -> tuple[Model, Keep]:
    """Return model and `keep`, which are built by the first task that asks."""
    device = task.device
    if device == "auto":
        device = "cuda" if visible_gpus() else "cpu"
    with _LOADING:
        encoded = (msgspec.json.encode(task.options), msgspec.json.encode(task.hooks))
        return _built(*encoded, device, task.threads)


@cache
def _built(options: bytes, hooks: bytes, device: str, threads: int) -> tuple[Model, Keep]:
    """Build them once per worker process; the first two are JSON because dicts have no hash."""
    chosen = msgspec.json.decode(options, type=ClassifyOptions)
    require_same(chosen, msgspec.json.decode(hooks, type=Digests), ("model", "keep"))
    try:
        return model_of(chosen, device=device, threads=threads), keep_of(chosen)
    except ConfigError as error:
        raise ConfigError(f"on {os.uname().nodename}: {error}") from error


def pack_task(task: ClassifyTask) -> Receipt:
    """Write one part of the output and the Zarr shard with the same rows.

    Raises
    ------
    RetryableError
        If another output is being made at that place now.
    """
    output = Path(task.output)
    layout = task.layout
    if layout is None or read_layout(output) != layout:
        raise RetryableError(f"{output} is not the output that this task belongs to")
    return write_shard(Path(task.run_dir), output, task.unit.number, task.slices, layout)
