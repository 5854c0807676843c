"""What runs on a worker of a crawl: read committed files, call a stage, commit one new part.

The functions here know files and receipts; the stages they call know neither.
"""

import contextlib
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.optouts import load_optouts
from cah_dask.candidates.dedup import NO_QUOTAS, Bucket, HostQuotas, dedup_bucket
from cah_dask.candidates.extract import extract_archive
from cah_dask.candidates.late_texts import LateTexts, late_lists
from cah_dask.candidates.seen import (
    fetched_keys,
    held_waves,
    kept_keys,
    read_keys,
    waves_to_read,
    write_keys,
)
from cah_dask.errors import DamageError, RetryableError, ShardError
from cah_dask.groups import buckets_of, group_name_of
from cah_dask.images.archived.download import download_archived
from cah_dask.images.archived.index import ArchiveIndex, opened_index
from cah_dask.images.download import Downloaded, download_list
from cah_dask.images.manners.loans import Loans
from cah_dask.images.options import DownloadOptions
from cah_dask.images.outcomes import troubled_hosts
from cah_dask.images.published import expectations
from cah_dask.images.shards import ShardReader
from cah_dask.keys import KeyFile, Keys, Run
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
from cah_dask.release.layout import Slice, read_layout
from cah_dask.release.pack import pack_shard
from cah_dask.run.cluster.lending import exchange_with_driver
from cah_dask.run.folder.compaction import REQUESTS_FOLDER, compact, drop_own_files
from cah_dask.run.folder.listing import PART
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.plan import Unit
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.pinned_lists import read_exclusion, read_hash_lists, subset_of
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, Stage
from cah_dask.run.task import Task
from cah_dask.schema import (
    CANDIDATES,
    OUTCOMES,
    PUBLISHED_SHA256,
    SAMPLES,
    Counts,
    Status,
    selected,
)
from cah_dask.storage import (
    TEMPORARY,
    Receipt,
    SideFile,
    read_part,
    read_receipt,
    require_same,
    side_file,
    staged,
    write_atomic,
    write_part,
)

logger = logging.getLogger(__name__)

_LOADING = threading.Lock()
"""Of two lists at once, one waits for the other to load the models."""
_TURNS = ModelTurns()
"""Whose turn it is at the models of this worker."""


class CrawlTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit of a crawl; its data lie in the run folder."""

    config: Config
    place: str = ""
    """Where the archive of the unit lies now."""
    inputs: tuple[str, ...] = ()
    late_waves: tuple[int, ...] = ()
    """Waves of the bucket whose late texts dedup makes lists of, the unit's own last."""
    release: str = ""
    """The unfinished release that pack writes to."""
    slices: tuple[Slice, ...] = ()
    lists_at_once: int = 1

    @property
    def folder(self) -> RunFolder:
        """The run folder as seen from this worker."""
        return RunFolder(Path(self.run_dir))

    def part_of(self, stage: Stage) -> Path:
        """Return the part of the same fetch list, or bucket, in another stage."""
        unit = self.unit
        return Path(self.run_dir) / Unit(stage, unit.wave, unit.bucket, unit.number).part


def extract_task(task: CrawlTask) -> Receipt:
    """Turn one archive into a candidates part; a lost archive leaves an empty one that says why."""
    started = time.perf_counter()
    unit, config = task.unit, task.config
    try:
        found = extract_archive(
            task.place,
            config.extract,
            buckets=config.dedup.buckets,
            name=unit.archive,
            allow_addresses=config.download.allow_addresses,
            subset=subset_of(config),
        )
        groups, counts, errors = found.groups, found.counts, found.errors
    except ShardError as error:
        groups, counts, errors = [], Counts(), (str(error),)
    errors = tuple(without_place(error, task.place, unit.archive) for error in errors)
    receipt = task.receipt(counts, started, inputs=(unit.archive,), errors=errors)
    return write_part(task.part, CANDIDATES, groups, receipt)


def without_place(error: str, place: str, name: str) -> str:
    """Return what is wrong with an archive as anybody may read it: by no path or url of ours."""
    return error.replace(place, name).removeprefix(f"{name}: ") if place else error


def dedup_task(task: CrawlTask) -> Receipt:
    """Deduplicate one bucket of one wave against itself and all earlier waves."""
    started = time.perf_counter()
    unit, options = task.unit, task.config.dedup
    folder = task.folder
    seen = _earlier(task, folder.seen_path, lambda part, _: kept_keys(part, options.key))
    fetched = _earlier(task, folder.fetched_path, fetched_keys)
    made = dedup_bucket(
        Bucket([Path(task.run_dir) / part for part in task.inputs], unit.bucket),
        itertools.chain.from_iterable(seen.values()),
        options,
        read_exclusion(task.config, task.folder.lists_dir),
        fetched=itertools.chain.from_iterable(fetched.values()),
        wave=unit.wave,
        quotas=_quotas(task.config.download),
    )
    side = (
        _write_keys(task, folder.seen_path(unit.bucket, unit.wave), made.keys, seen),
        _write_keys(task, folder.fetched_path(unit.bucket, unit.wave), made.urls, fetched),
    )
    late = _late_lists(task, made.late)
    notes = {**made.counts.notes, "lists": len(made.lists), "late_lists": len(late)}
    counts = msgspec.structs.replace(made.counts, notes=notes)
    wave = f"{EXTRACT.folder}/w{unit.wave:05d}"  # all its parts, in canonical order
    receipt = task.receipt(counts, started, inputs=(wave,), side=side)
    groups = itertools.chain(made.lists, late, made.late)
    published = write_part(task.part, SAMPLES, groups, receipt)
    _drop_merged(task, seen)
    return published


def _quotas(options: DownloadOptions) -> HostQuotas:
    """Return how many urls of a host a wave may have; archives are no hosts that could mind."""
    if options.source != "web":
        return NO_QUOTAS
    return HostQuotas(options.hosts.quota, options.hosts.quota_of)


def _late_lists(task: CrawlTask, own: Sequence[pa.Table]) -> Sequence[pa.Table]:
    """Return lists of the late texts of the waves that are to be brought together now, if any."""
    if not task.late_waves:
        return ()
    units = [Unit(DEDUP, wave, task.unit.bucket) for wave in task.late_waves[:-1]]
    texts = LateTexts([Path(task.run_dir) / unit.part for unit in units], own)
    return late_lists(texts, task.config.dedup.list_urls)


def _earlier(
    task: CrawlTask, path_of: Callable[[int, int], Path], keys_of: Callable[[Path, int], Keys]
) -> dict[int, KeyFile]:
    """Return what the earlier waves of a bucket kept, by the wave that left the file.

    `keys_of` makes the keys of one wave anew, given the part of its fetch lists.
    """
    bucket = task.unit.bucket

    def part(wave: int) -> Path:
        return Path(task.run_dir) / Unit(DEDUP, wave, bucket).part

    def rebuild(waves: range) -> list[Keys]:
        return [keys_of(part(wave), wave) for wave in waves]

    earlier = {}
    for wave in waves_to_read(task.unit.wave):
        path = path_of(bucket, wave)
        side = {side.name: side for side in read_receipt(part(wave)).side}
        earlier[wave] = read_keys(
            path, side[_name_of(task, path)], partial(rebuild, held_waves(wave))
        )
    return earlier


def _write_keys(task: CrawlTask, path: Path, own: Keys, earlier: Mapping[int, KeyFile]) -> SideFile:
    """Leave the keys of this wave, with those of the earlier ones that belong into its file."""
    waves = held_waves(task.unit.wave)
    runs: list[Run] = [keys for wave, keys in earlier.items() if wave in waves]
    return write_keys(path, [*runs, own], _name_of(task, path))


def _drop_merged(task: CrawlTask, earlier: Iterable[int]) -> None:
    """Delete files of earlier waves whose keys lie in this one's: no later wave reads them.

    Should this wave or one before it be made again, they are rebuilt.
    """
    folder, bucket = task.folder, task.unit.bucket
    for wave in set(earlier) & set(held_waves(task.unit.wave)):
        folder.seen_path(bucket, wave).unlink(missing_ok=True)
        folder.fetched_path(bucket, wave).unlink(missing_ok=True)


def _name_of(task: CrawlTask, path: Path) -> str:
    """Return how the receipts of dedup call a file of the run folder."""
    return path.relative_to(task.run_dir).as_posix()


def _not_asked(task: CrawlTask) -> Exclusion | None:
    """Return what must not be fetched, with the hosts that opted out since the run began."""
    exclusion = read_exclusion(task.config, task.folder.lists_dir)
    optouts = task.folder.optout_file
    if not optouts.exists():
        return exclusion
    exclusion = exclusion or Exclusion()
    added, faults = load_optouts(optouts)
    for fault in faults:
        logger.warning("%s; this line is ignored", fault)
    return replace(exclusion, optouts=added)


def download_task(task: CrawlTask) -> Receipt:
    """Fetch one list into an image shard; the outcomes part names the shard and comes last.

    Of several attempts the one that began last counts: an earlier one may be cut off from the
    network, and would report its own trouble as that of the web.

    Raises
    ------
    RetryableError
        If a later attempt has begun meanwhile; or if half of the list could not even be connected
        to, which speaks of this node's network, and there is another attempt to come; or if more
        urls are in archives that cannot be read than `max_lost_share` allows.
    """
    started = time.perf_counter()
    begun = task.part.with_name(f"{TEMPORARY}begun-{task.part.stem}")
    attempt = uuid.uuid4().hex
    write_atomic(begun, attempt.encode())
    samples = _fetch_list(task, columns=["url", PUBLISHED_SHA256.name])
    urls = list(dict.fromkeys(samples["url"].to_pylist()))
    shard = task.part.with_name(f"{task.part.stem}-{attempt[:8]}.h5")
    download = _downloader(task, attempt, shard.stem)
    with staged(shard) as unfinished:
        made = download(
            urls,
            unfinished,
            task.config.download,
            task.config.decode,
            exclusion=_not_asked(task),
            hash_lists=read_hash_lists(task.config, task.folder.lists_dir),
            published=expectations(samples),
        )
    if begun.exists() and begun.read_text() != attempt:
        shard.unlink()
        raise RetryableError("a later attempt at this list has begun")
    if trouble := _trouble(task, made):
        shard.unlink()
        raise RetryableError(trouble)
    receipt = task.receipt(
        made.counts,
        started,
        inputs=(_input(task),),
        errors=made.errors,
        side=(side_file(shard),),
        hosts=troubled_hosts(made.outcomes),
    )
    published = write_part(task.part, OUTCOMES, [made.outcomes], receipt)
    begun.unlink(missing_ok=True)
    if published.side != receipt.side:
        shard.unlink()  # another attempt was first, and its part names its own shard
    return published


def _downloader(task: CrawlTask, attempt: str, log: str) -> Callable[..., Downloaded]:
    """Return what takes a list from where its pictures are: the web, or archives."""
    folder, options = task.folder, task.config.download
    progress = folder.progress_path(task.unit.name)
    if options.source == "archives":
        path = Path(options.index) if options.index else folder.index_dir
        about = opened_index(path, options.index_id)
        place_of = cache(partial(about.place_of, root=options.archives_root))
        index = ArchiveIndex(path, about.buckets)
        return partial(download_archived, index=index, place_of=place_of, progress_file=progress)
    logs = Path(task.run_dir) / REQUESTS_FOLDER / task.part.parent.name
    return partial(
        download_list,
        pause_file=folder.pause_file,
        lists_at_once=task.lists_at_once,
        request_log=logs / f"{log}.parquet",
        robots_file=folder.robots_path(task.unit.bucket),
        loans=_loans(task, attempt),
        progress_file=progress,
    )


def _trouble(task: CrawlTask, made: Downloaded) -> str:
    """Return why a download must be tried again, from another node if there is one; else ""."""
    rejected, n_urls = made.counts.rejected, made.counts.seen
    n_unconnected = rejected.get(Status.CONNECT_ERROR, 0)
    if n_unconnected and 2 * n_unconnected >= n_urls and not task.is_last_attempt:
        return f"no route to {n_unconnected} of {n_urls} urls of a list"
    n_lost = rejected.get(Status.ARCHIVE_LOST, 0)
    may_be_lost = task.is_last_attempt and n_lost <= task.config.max_lost_share * n_urls
    if n_lost and not may_be_lost:
        return f"{n_lost} of {n_urls} urls of a list are lost: {made.errors[0]}"
    return ""


def _loans(task: CrawlTask, attempt: str) -> Loans | None:
    """Return the way to the other lists in flight; None if this one is always alone."""
    if task.lists_at_once == 1:
        return None
    buckets = task.config.dedup.buckets
    return Loans(exchange_with_driver(), attempt, bucket=task.unit.bucket, buckets=buckets)


def embed_task(task: CrawlTask) -> Receipt:
    """Embed one fetch list: similarities and vectors of all its samples that have an image.

    A worker may have two at once: while the models are at work on one, the next is read and its
    first pictures are decoded, or the one before is written.
    """
    started = time.perf_counter()
    encoders, scorers = _models(task.config)
    with _TURNS.turn() as turn:
        encoders = [taking_turns(encoder, turn) for encoder in encoders]
        made = _embed(task, encoders, scoring_in_turn(scorers, turn), turn)
        timings = turn.milliseconds()
        receipt = task.receipt(made.counts, started, inputs=(_input(task),), timings=timings)
        return write_part(task.part, made.table.schema, [made.table], receipt)


def _embed(task: CrawlTask, encoders: Sequence[Encoder], scorers: Scorers, turn: Turn) -> Embedded:
    """Read one fetch list and what the images need, and embed it."""
    options, scores = task.config.embed, task.config.embed.score_names
    samples = _fetch_list(task)
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
    parts = [unit.part for unit in _group(task) if unit.stage == EMBED]
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


def compact_task(task: CrawlTask) -> Receipt:
    """Bring the parts of one bucket group of one wave together, in a few files.

    Nothing in them tells when they were made: an attempt that follows a dead one leaves the same.
    """
    run_dir, group = Path(task.run_dir), task.unit.name
    units: dict[str, list[str]] = {}
    for unit in _group(task):
        units.setdefault(unit.stage.folder, []).append(unit.name)
    units[REQUESTS_FOLDER] = _logs(task)
    if not task.part.exists():  # looked at last: what is complete may be gone from where it was
        receipt = task.receipt(Counts(), 0.0, inputs=tuple(units))
        compact(run_dir, group, units, msgspec.structs.replace(receipt, seconds=None))
    drop_own_files(run_dir, group)
    return read_receipt(task.part)


def _group(task: CrawlTask) -> Iterator[Unit]:
    """Yield the units of the bucket group of a task: of each bucket dedup, then lists by stage."""
    wave = task.unit.wave
    for bucket in buckets_of(task.unit.number, task.config.dedup.buckets):
        dedup = Unit(DEDUP, wave, bucket)
        yield dedup
        notes = read_receipt(Path(task.run_dir) / dedup.part).counts.notes
        for stage, n_lists in (
            (DOWNLOAD, notes["lists"]),
            (EMBED, notes["lists"] + notes["late_lists"]),
        ):
            yield from (Unit(stage, wave, bucket, number) for number in range(n_lists))


def _logs(task: CrawlTask) -> list[str]:
    """Return the names of all logs of requests of the bucket group of a task."""
    folder = Path(task.run_dir) / REQUESTS_FOLDER
    wave, _, _ = task.unit.name.partition("/")
    names = sorted(f"{wave}/{path.stem}" for path in (folder / wave).glob(f"b*{PART}"))
    return [name for name in names if group_name_of(name) == task.unit.name]


def pack_task(task: CrawlTask) -> Receipt:
    """Write one shard of the release and the parquet part with the same rows.

    Raises
    ------
    RetryableError
        If another release is being made at that place now.
    """
    layout = read_layout(Path(task.release))
    if layout is None or layout.config != task.config_hash:
        raise RetryableError(f"{task.release} is not the release that this task belongs to")
    return pack_shard(Path(task.run_dir), Path(task.release), task.unit.number, task.slices)


def _fetch_list(task: CrawlTask, columns: list[str] | None = None) -> pa.Table:
    path = Path(task.run_dir) / _input(task)
    return read_part(path, row_group=task.unit.number, columns=columns)


def _input(task: CrawlTask) -> str:
    """Return the dedup part that holds the unit's fetch list."""
    return Unit(DEDUP, task.unit.wave, task.unit.bucket).part


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
