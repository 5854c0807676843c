"""A fetch list and its images -> scored samples -> which of them are pairs: embed, select."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.images.shards import ShardReader
from cah_dask.pairs.embed import (
    Embedded,
    embed_list,
    from_scored,
    from_shard,
    image_columns,
    with_vectors,
)
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.towers import Encoder
from cah_dask.pairs.model_turns import ModelTurns, Turn, scoring_in_turn, taking_turns
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.scores.judge import Judge, load_judge
from cah_dask.pairs.scores.scorers import Scorers, load_scorers
from cah_dask.pairs.select import SELECTION, SelectOptions, checksum, columns, select_list
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.schema import selected
from cah_dask.storage import Receipt, read_part, read_receipt, require_same, write_part

_LOADING = threading.Lock()
"""Of two lists at once, one waits for the other to load the models."""
_TURNS = ModelTurns()
"""Whose turn it is at the models of this worker."""


def embed_task(task: CrawlTask) -> Receipt:
    """Embed one fetch list: similarities and vectors of all its samples that have an image.

    A worker may have two at once: while the models are at work on one, the next is read and its
    first pictures are decoded, or the one before is written.
    """
    started = time.perf_counter()
    with _TURNS.turn() as turn:
        encoders, scorers = _models(task.config)
        encoders = [taking_turns(encoder, turn) for encoder in encoders]
        made = _embed(task, encoders, scoring_in_turn(scorers, turn), turn)
        timings = turn.milliseconds()
        receipt = task.receipt(made.counts, started, inputs=(task.lists_part,), timings=timings)
        return write_part(task.part, made.table.schema, [made.table], receipt)


def _embed(task: CrawlTask, encoders: Sequence[Encoder], scorers: Scorers, turn: Turn) -> Embedded:
    """Read one fetch list and what the images need, and embed it."""
    options, scores = task.config.embed, task.config.embed.score_names
    samples = task.fetch_list()
    with contextlib.ExitStack() as stack:
        if samples["image_wave"][0].as_py() == task.unit.wave:
            stack.enter_context(_blamed_on(task.part_of(DOWNLOAD)))
            outcomes, shard_path = _downloaded(task.part_of(DOWNLOAD))
            shard = stack.enter_context(ShardReader(shard_path))
            images = from_shard(
                shard,
                encoders,
                options.batch_size,
                scorers,
                threads=task.config.pools.gpu.threads,
                waited=turn.waited,
            )
        else:
            outcomes, embedded = _earlier_images(task, samples, image_columns(encoders, scores))
            images = from_scored(embedded, encoders, scores)
        return embed_list(samples, outcomes, images, encoders, scores, models_done=turn.end)


def _downloaded(part: Path) -> tuple[pa.Table, Path]:
    """Return the outcomes of a list and the path of its image shard, both as they were written."""
    (side,) = read_receipt(part).side
    shard = part.with_name(side.name)
    require_same(shard, side)
    return read_part(part), shard


@contextlib.contextmanager
def _blamed_on(part: Path) -> Iterator[None]:
    """Have damage of a side file be that of its part, which is made again together with it."""
    try:
        yield
    except DamageError as error:
        raise DamageError(part, str(error)) from error


def _earlier_images(
    task: CrawlTask, samples: pa.Table, columns: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Return outcomes, and columns of scored samples, of the urls of late texts.

    They come from the lists that fetched them.
    """
    bucket = task.unit.bucket
    wanted = pc.field("url").isin(pc.unique(samples["url"]))
    lists = samples.group_by(["image_wave", "image_list"]).aggregate([]).to_pylist()
    units = [Unit(DOWNLOAD, row["image_wave"], bucket, row["image_list"]) for row in lists]
    outcomes = [read_part(Path(task.run_dir) / unit.part).filter(wanted) for unit in units]
    embedded = [
        read_part(
            Path(task.run_dir) / msgspec.structs.replace(unit, stage=EMBED).part,
            columns=["url", *columns],
        ).filter(wanted)
        for unit in units
    ]
    vectors = pa.concat_tables(embedded)
    return with_vectors(pa.concat_tables(outcomes), vectors), vectors


def _models(config: Config) -> tuple[Sequence[Encoder], Scorers]:
    """Return all models of a run, which are loaded by the first task that asks."""
    with _LOADING:
        return _loaded(msgspec.json.encode(config.embed), config.pools.gpu.threads)


@cache
def _loaded(options: bytes, threads: int) -> tuple[Sequence[Encoder], Scorers]:
    """Load all models once per worker process; `options` is JSON because dicts have no hash."""
    embed = msgspec.json.decode(options, type=EmbedOptions)
    encoders = load_encoders(embed, threads=threads)
    return encoders, load_scorers(embed, encoders, threads=threads)


def select_task(task: CrawlTask) -> Receipt:
    """Select the pairs of one bucket group of one wave that a release will hold."""
    started = time.perf_counter()
    select = task.config.select
    encoder = select.encoder or ""  # preflight names it
    judge = _judge(msgspec.json.encode(select))
    parts = [unit.part for unit in task.group_units() if unit.stage == EMBED]
    groups, counts = [], Counts()
    for part in parts:
        scored = read_part(
            Path(task.run_dir) / part, columns=list({*columns(encoder), *judge.columns})
        )
        rows, found = select_list(part, scored, encoder, select.thresholds, judge)
        groups += [rows] if len(rows) else []
        counts += found
    notes = {**counts.notes, SELECTION: checksum(groups)}
    counts = msgspec.structs.replace(counts, notes=notes)
    receipt = task.receipt(counts, started, inputs=tuple(parts))
    return write_part(task.part, selected(judge.names), groups, receipt)


@cache
def _judge(options: bytes) -> Judge:
    """Read heads, word lists and rules once per worker process."""
    select = msgspec.json.decode(options, type=SelectOptions)
    return load_judge(select.heads, select.words, select.drop)
