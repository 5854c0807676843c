"""What a run would submit and write, before it does: job scripts, tasks, files, bytes."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from cah_dask.candidates.extract import ExtractOptions, links_per_byte
from cah_dask.candidates.tables import is_table
from cah_dask.errors import ConfigError
from cah_dask.groups import n_groups
from cah_dask.run.cluster.access import Access
from cah_dask.run.cluster.jobs import PoolJob, job_options
from cah_dask.run.cluster.settings import dask_settings
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.pace import slow_hosts
from cah_dask.run.pools import Pool, pools
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import (
    COMPACT,
    DEDUP,
    DOWNLOAD,
    EMBED,
    EXTRACT,
    PACK,
    RUN,
    SELECT,
    Kind,
    Stage,
)
from cah_dask.words import counted

LINKS_PER_ARCHIVE = 105_800
"""Usable links of a WAT or its WARC: mean of 9,186 WATs at crawling@home. Yours may differ by
half."""
ROW_BYTES = 200
"""A row of a CSV or TSV of urls and captions, roughly."""
LOOKED_AT = 3
"""Local archives, the largest ones, of which the first `LOOKED_AT_BYTES` are read."""
LOOKED_AT_BYTES = 2 << 20
LIST_HOSTS_URLS = 2_000
"""A list with fewer urls has few hosts: at the default second between requests to a host it takes
about as long as one with five times as many."""
CANDIDATE_BYTES = 70
"""A row of a candidates part: 20 MB for 300,000 rows of a WAT (cc2dataset)."""
SAMPLE_BYTES, OUTCOME_BYTES, PAIR_BYTES = 90, 135, 205
"""A row of a fetch list, of an outcomes part with its requests, and of a scored part without its
vectors: measured on the 3,000 images of the demo."""
KEY_BYTES = 40
"""A row of both files of `seen/`: 16 bytes of the pair, 24 of its url."""
SELECTED_BYTES = 20
"""A row of a selected part: a uid and a row number."""
IMAGE_SHARE = 0.68
"""Links that still gave an image: LAION-400M in February 2024 (img2dataset issue 400)."""
IMAGE_BYTES = 35_000
"""An image, as downloaded and resized by DataComp: 450 TB for 12.8 billion."""


OPEN_WAVES = 2
"""Waves whose lists are not compacted yet, at the most: simulated, one where no bucket is slower
than others for long, and as many downloads at once as half of the buckets."""


class Expected(msgspec.Struct, frozen=True):
    """What one stage will leave behind."""

    stage: str
    tasks: int
    files: int
    n_bytes: float


class Inodes(msgspec.Struct, frozen=True):
    """Files and folders of a run."""

    peak: int
    """At any time, at the most."""
    end: int


def count_links(archives: Sequence[str], options: ExtractOptions) -> int:
    """Estimate the candidates of all archives: of local ones from their bytes."""
    local = {name: Path(name).stat().st_size for name in archives if Path(name).is_file()}
    held = sorted((name for name in local if not is_table(name)), key=lambda name: -local[name])
    looked_at = held[:LOOKED_AT]
    rates = [links_per_byte(name, options, LOOKED_AT_BYTES) for name in looked_at]
    rate = sum(rates) / len(rates) if rates else 0.0
    found = rate * sum(local[name] for name in held)
    for name in local.keys() - held:
        is_parquet = Path(name).suffix == ".parquet"
        found += pq.read_metadata(name).num_rows if is_parquet else local[name] / ROW_BYTES
    return math.ceil(found) + (len(archives) - len(local)) * LINKS_PER_ARCHIVE


def advice(config: Config, n_archives: int, links: int) -> str:
    """Return what would make a small run faster, or "" if nothing would."""
    waves = _waves(config, n_archives)
    urls, buckets = links / waves, config.dedup.buckets
    waits_for_hosts = config.download.source == "web"
    if not waits_for_hosts or buckets == 1 or urls / buckets >= LIST_HOSTS_URLS:
        return ""
    fewer = 2 ** max(0, round(math.log2(max(1.0, urls / config.dedup.list_urls))))
    return (
        f"{urls:,.0f} links a wave in {buckets} buckets are lists of {urls / buckets:,.0f}, whose "
        f"few hosts keep a worker waiting: set dedup.buckets to about {min(fewer, buckets)} before "
        "the first run, or more pools.io.workers"
    )


def expected(config: Config, n_archives: int, links: int) -> list[Expected]:
    """Estimate the tasks, files and bytes of every stage from the number of archives and links.

    A stage of which nothing was measured yet is estimated from what others measured on the web; a
    tenth of the archives, run first, tells more.
    """
    images = links * IMAGE_SHARE
    pair = 4 * sum(each.dim or 0 for each in config.embed.encoders.values()) + PAIR_BYTES
    units = _units(config, n_archives, links)
    n_bytes = {
        EXTRACT: links * CANDIDATE_BYTES,
        DEDUP: links * (SAMPLE_BYTES + KEY_BYTES),
        DOWNLOAD: links * OUTCOME_BYTES + images * IMAGE_BYTES,
        EMBED: images * pair,
        SELECT: images * SELECTED_BYTES,
        COMPACT: 0,  # it takes the place of others
        PACK: images * pair,
    }
    return [
        Expected(
            stage.name, units[stage.kind], _files(stage, config) * units[stage.kind], n_bytes[stage]
        )
        for stage in RUN
        if stage != COMPACT or config.compact
    ]


def _units(config: Config, n_archives: int, links: int) -> dict[Kind, int]:
    """Estimate how many units there are of each kind."""
    waves = _waves(config, n_archives)
    buckets = config.dedup.buckets
    filled = min(buckets, math.ceil(links / waves))
    lists = math.ceil(links / waves / buckets / config.dedup.list_urls)
    return {
        Kind.ARCHIVE: n_archives,
        Kind.BUCKET: waves * buckets,
        Kind.LIST: waves * filled * lists,
        Kind.GROUP: waves * n_groups(buckets),
        Kind.SHARD: math.ceil(links * IMAGE_SHARE / config.pack.rows_per_shard),
    }


def _waves(config: Config, n_archives: int) -> int:
    return math.ceil(n_archives / config.archives_per_wave)


def _files(stage: Stage, config: Config) -> int:
    """Return how many files a unit leaves: of pack, a shard of two arrays for each encoder."""
    return 1 + 2 * max(1, len(config.embed.encoders)) if stage == PACK else stage.files


def inodes(config: Config, n_archives: int, links: int) -> Inodes:
    """Estimate how many files and folders a run has at once, and at its end."""
    units = _units(config, n_archives, links)
    waves, buckets, lists = _waves(config, n_archives), config.dedup.buckets, units[Kind.LIST]
    folders = buckets + waves * sum(bool(stage.folder) for stage in RUN)
    seen = 2 * buckets * waves.bit_count()  # see `candidates.seen`
    end = units[Kind.ARCHIVE] + seen + buckets + units[Kind.GROUP] + folders  # robots, selected
    of_lists = units[Kind.BUCKET] + lists * (DOWNLOAD.files - 1 + EMBED.files)
    end += COMPACT.files * units[Kind.GROUP] if config.compact else of_lists
    open_share = min(1.0, OPEN_WAVES / max(1, waves))
    if config.select.top_fraction:
        open_share = 1.0  # compact comes after select, which waits for all samples
    not_yet = math.ceil(open_share * of_lists) if config.compact else 0
    list_bytes = max(1.0, links * IMAGE_SHARE * IMAGE_BYTES / max(1, lists))
    waiting = min(lists, buckets + math.ceil(config.staged_gb * 1e9 / list_bytes))
    if config.keep_images:
        end, waiting = end + lists, 0
    release = _files(PACK, config) * units[Kind.SHARD]  # begun when all else is done
    return Inodes(end + max(release, not_yet + waiting), end + release)


def over_quota(config: Config, n_archives: int, links: int) -> str:
    """Say by how much a run exceeds `quota_files` and what would help; "" if it does not."""
    peak, quota = inodes(config, n_archives, links).peak, config.quota_files
    if quota is None or peak <= quota:
        return ""
    changes = {"compact": True, "keep_images": False}
    ways = []
    for n in (1, 2):
        for some in itertools.combinations(changes, n):
            changed = msgspec.structs.replace(config, **{key: changes[key] for key in some})
            fewer = inodes(changed, n_archives, links).peak
            if fewer <= quota:
                text = " and ".join(f"{key}: {str(changes[key]).lower()}" for key in some)
                ways.append(f"with {text} {fewer:,}")
    advice = ways[0] if ways else "take fewer archives, or larger dedup.list_urls"
    return f"a run of about {peak:,} files at once exceeds quota_files, {quota:,}: {advice}"


def short_of_memory(config: Config, pool: Pool) -> str:
    """Say which stage of a pool takes more memory than a process of it gets; "" if none does.

    A stage takes what it took in this run so far, or else what is known of units of the default
    size.
    """
    folder = RunFolder(Path(config.run_dir))
    seen = folder.summary().stages if folder.has_begun else {}
    peaks = {name: stage.peak_mb for name, stage in seen.items()}
    needed, name = max((peaks.get(s.name) or s.memory_mb, s.name) for s in pool.stages)
    if pool.process_mb is None or needed <= pool.process_mb:
        return ""
    return (
        f"pool {pool.name}: a process has {pool.process_mb:,.0f} MB (memory / processes), and "
        f"{name} takes {needed:,} MB; give more memory or fewer processes"
    )


def job_script(pool: Pool, config: Config) -> str:
    """Return the script of the first job of a Slurm pool, but for the scheduler's address."""
    run_dir = Path(config.run_dir)
    secrets = RunFolder(run_dir.resolve()).secrets
    access = Access(secrets / "cert.pem", secrets / "key.pem", "")
    with dask_settings():
        options = job_options(f"{pool.name}-1", pool, config.slurm, run_dir, access)
        return str(PoolJob("tls://the-driver", launcher=None, **options).job_script())


def describe(config: Config, archives: Sequence[str]) -> Iterator[str]:
    """Yield the lines that `cah plan` prints.

    Raises
    ------
    ConfigError
        After the last one, if the run would have more files than `quota_files`.
    """
    n_archives, links = len(archives), count_links(archives, config.extract)
    found = pools(config.pools, config.slurm.launch)
    yield from _pool_lines(found)
    yield from filter(None, (short_of_memory(config, pool) for pool in found))
    yield ""
    yield f"{counted(n_archives, 'archive')}, about {counted(links, 'link')} (estimated):"
    yield f"{'stage':<10}{'tasks':>12}{'files':>12}{'GB':>12}"
    total = expected(config, n_archives, links)
    for step in total:
        gb = step.n_bytes / 1e9
        yield f"{step.stage:<10}{step.tasks:>12,}{step.files:>12,}{gb:>12,.1f}"
    files, gb = sum(step.files for step in total), sum(step.n_bytes for step in total) / 1e9
    yield f"{'together':<10}{'':>12}{files:>12,}{gb:>12,.1f}"
    files_at = inodes(config, n_archives, links)
    quota = f" (quota_files: {config.quota_files:,})" if config.quota_files else ""
    yield f"files at once: {files_at.peak:,} at most{quota}, {files_at.end:,} at the end"
    if hint := advice(config, n_archives, links):
        yield hint
    folder = RunFolder(Path(config.run_dir))
    if folder.has_begun:
        yield from slow_hosts(folder.summary().counts(DEDUP.name), config.download.hosts)
    if not config.keep_images:
        yield f"images are dropped once embedded: at most {config.staged_gb:,.0f} GB of them wait"
    for pool in found:
        if pool.job is not None:
            yield f"\n# the script of each job of pool {pool.name}"
            yield job_script(pool, config)
    if fault := over_quota(config, n_archives, links):
        raise ConfigError(fault)


def _pool_lines(found: tuple[Pool, ...]) -> Iterator[str]:
    for pool in found:
        stages = ", ".join(stage.name for stage in pool.stages)
        if pool.job is None:
            where = f"{counted(pool.workers, 'worker')} on the driver's machine"
        else:
            where = (
                f"up to {pool.max_jobs} jobs in {pool.job.partition or 'the allocation'}, "
                f"{pool.processes} workers each, {pool.job.time or 'no'} time limit"
            )
        at_once = f"{pool.tasks_at_once} tasks at once, " if pool.tasks_at_once > 1 else ""
        yield f"pool {pool.name}: {where}, {at_once}{pool.threads} threads a task; {stages}"
