"""Archives of pictures, indexed and taken from in this process."""

import gzip
from collections.abc import Sequence
from pathlib import Path

from cah_dask.images.archived.download import download_archived
from cah_dask.images.archived.index import ArchiveIndex, opened_index
from cah_dask.images.download import Downloaded
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.shards import ShardReader
from cah_dask.run.indexing.job import IndexJob, sources_of
from tests import jobs_here

DECODE = DecodeOptions()
OPTIONS = DownloadOptions(source="archives", decoders=1, max_bytes=1_000_000)


def make_index(to: Path, sources: Sequence[str], *, buckets: int = 4, **how) -> IndexJob:
    """Index archives and CDX files; `how` goes to `jobs_here.carry_out`."""
    job = IndexJob(sources_of(sources), to, buckets)
    jobs_here.carry_out(job, **how)
    return job


def take(
    urls: Sequence[str],
    index: IndexJob,
    shard: Path,
    options: DownloadOptions = OPTIONS,
    *,
    root: str = "",
    decode: DecodeOptions = DECODE,
    **limits,
) -> tuple[Downloaded, list[bytes]]:
    """Take a list out of what is indexed; return it with its images."""
    about = opened_index(index.to, index.about.id)
    made = download_archived(
        urls,
        shard,
        options,
        decode,
        index=ArchiveIndex(index.to, about.buckets),
        place_of=lambda archive: about.place_of(archive, root),
        **limits,
    )
    made.counts.require_balance("test")
    assert made.outcomes["url"].to_pylist() == list(urls)
    with ShardReader(shard) as reader:
        assert len(reader) == made.counts.kept
        return made, reader.read(range(len(reader)))


def write_gzip(path: Path, text: str) -> str:
    """Write a text as a gzip file; return its name."""
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return str(path)
