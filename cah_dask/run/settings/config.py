"""One configuration for a run: the options of all stages."""

from typing import Annotated

import msgspec

from cah_dask.candidates.dedup import DedupOptions
from cah_dask.candidates.extract import ExtractOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.select import SelectOptions
from cah_dask.release.layout import PackOptions
from cah_dask.release.summary import ReportOptions
from cah_dask.run.slurm.options import JobOptions, SlurmOptions


class PoolOptions(JobOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Worker processes of one kind: on this machine, or in Slurm jobs when a partition is named."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """Worker processes on this machine, one task each (`gpu`: one on the model, and another that is
    read or written); unused with a partition. Default: its processors for `cpu`, its GPUs (at least
    one) for `gpu`."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    """Threads that a task may use inside its worker."""


class PoolsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pools of a run: cpu does extract, dedup, download and pack; gpu does embed."""

    cpu: PoolOptions = PoolOptions()
    """Workers that parse, download and pack."""
    gpu: PoolOptions = PoolOptions(threads=4)
    """Workers that hold the model; without a GPU they run it on the processor."""
    io: PoolOptions | None = None
    """Workers that download, where nodes with a way to the internet are not those that compute.
    Default: the cpu pool downloads."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a run is told."""

    run_dir: str
    """Run folder: all that the run reads again or publishes. Run the same command to resume."""
    inputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """WAT or WARC archives: files, globs, http(s) urls, `s3://bucket/key`, or `wat.paths(.gz)` and
    `warc.paths(.gz)` lists of them."""
    archives_per_wave: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 300
    """Archives that are extracted and deduplicated together; the next wave is extracted while this
    one downloads."""
    keep_images: bool = True
    """Keep the image shards after their images are embedded."""
    staged_gb: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    """Downloads pause while more than this many GB (1e9 bytes) of images wait to be embedded."""
    compact: bool = False
    """Bring the parts of a wave together once they are embedded, in a few files for 16 buckets:
    for file systems that count files. Nothing that is published depends on it."""
    quota_files: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Files that the file system of the run folder takes: `cah plan` and `cah doctor` refuse a run
    that would have more at any time. Default: as many as it has room for."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Attempts at one task before it is given up and named at the end of the run."""
    max_lost_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the archives that a release may lack because their server refused them or did not
    answer. Each time the same command runs it asks for them again. Of pictures out of archives:
    share of the urls of a list whose archive may be out of reach."""
    performance_report: str | None = None
    """File that Dask's performance report goes to, such as `dask.html`: what all workers did when.
    Each driver writes one; those that follow get a number, `dask-2.html`."""
    lists_sha256: dict[str, str] = {}
    """SHA-256 of each file of `dedup.exclude` and `download.hash_lists`, and of the subset of
    `extract.table`. Filled in at the start, so that a run cannot go on with other lists."""
    extract: ExtractOptions = ExtractOptions()
    """Archives to candidates."""
    dedup: DedupOptions = DedupOptions()
    """Candidates to fetch lists."""
    download: DownloadOptions = DownloadOptions()
    """Fetch lists to images."""
    decode: DecodeOptions = DecodeOptions()
    """What a picture must be, and how it is stored."""
    embed: EmbedOptions = EmbedOptions()
    """Images and texts to similarities."""
    select: SelectOptions = SelectOptions()
    """Similarities to the pairs of a release."""
    pack: PackOptions = PackOptions()
    """Sizes of the published files."""
    report: ReportOptions = ReportOptions()
    """What a report says beside the facts of the run."""
    pools: PoolsOptions = PoolsOptions()
    """Where tasks run."""
    slurm: SlurmOptions = SlurmOptions()
    """How to deal with Slurm, when a pool names a partition."""
    site: str | None = None
    """Site file whose values lie beneath this file's, such as configs/sites/lumi.yaml; its path is
    seen from this file's folder, or from where the command runs."""
