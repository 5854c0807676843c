"""Archives -> candidates parts -> the fetch lists of each bucket: extract, dedup."""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.candidates.dedup import Bucket, dedup_bucket
from cah_dask.candidates.extract import extract_archive
from cah_dask.candidates.host_quotas import NO_QUOTAS, HostQuotas
from cah_dask.candidates.late_texts import LateTexts, late_lists
from cah_dask.candidates.seen import (
    fetched_keys,
    held_waves,
    kept_keys,
    read_keys,
    waves_to_read,
    write_keys,
)
from cah_dask.counts import Counts
from cah_dask.errors import ShardError
from cah_dask.images.options import DownloadOptions
from cah_dask.keys import KeyFile, Keys, Run
from cah_dask.run.settings.pinned_lists import read_exclusion, subset_of
from cah_dask.run.stages import DEDUP, EXTRACT
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES, SAMPLES
from cah_dask.storage import Receipt, SideFile, read_receipt, write_part


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
