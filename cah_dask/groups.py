"""Bucket groups: neighbouring buckets of one wave, whose parts are compacted into few files.

A file for each fetch list is the smallest commit and the smallest loss, but a snapshot of Common
Crawl has a million lists and file systems count files. So once all lists of a group are done, their
parts become row groups of one file for each stage, and an index says which are whose::

    images/w00003/b00016-l00000.parquet ... b00031-l00012.parquet  ->  images/w00003/g00001.parquet
    scored/w00003/b00016-l00000.parquet ...                        ->  scored/w00003/g00001.parquet
                                                  the index: compacted/w00003/g00001.parquet

`storage.open_part` finds a part by the path that it was written to, wherever its rows lie now.
"""

import re
from pathlib import Path

BUCKETS_PER_GROUP = 16
INDEX_FOLDER = "compacted"
"""Where the indices lie in a run folder."""
_NAME = re.compile(r"(?P<wave>w\d+)/(?:b(?P<bucket>\d+)(?:-.*)?|g(?P<group>\d+))")


def group_of(bucket: int) -> int:
    """Return the number of the group that a bucket belongs to."""
    return bucket // BUCKETS_PER_GROUP


def buckets_of(group: int, n_buckets: int) -> range:
    """Return the buckets of a group, of `n_buckets` in all."""
    start = group * BUCKETS_PER_GROUP
    return range(start, min(n_buckets, start + BUCKETS_PER_GROUP))


def n_groups(n_buckets: int) -> int:
    """Return how many groups there are in a wave."""
    return group_of(n_buckets - 1) + 1


def group_name(wave: int, group: int) -> str:
    """Return what a group is called, such as ``w00003/g00001``."""
    return f"w{wave:05d}/g{group:05d}"


def group_name_of(unit: str) -> str | None:
    """Return the group of a bucket, list or group by its name; None if it names something else."""
    found = _NAME.fullmatch(unit)
    if found is None or found["bucket"] is None:
        return found and unit
    return f"{found['wave']}/g{group_of(int(found['bucket'])):05d}"


def bucket_of(unit: str) -> int | None:
    """Return the bucket of a bucket or list by its name; None if it names something else."""
    found = _NAME.fullmatch(unit)
    return int(found["bucket"]) if found and found["bucket"] else None


def index_of(part: Path) -> Path | None:
    """Return where the index is that has a part once it is compacted; None if it never is.

    Parameters
    ----------
    part
        Its own path: ``RUN/<folder of its stage>/<wave>/<bucket or list>.parquet``.
    """
    group = group_name_of(f"{part.parent.name}/{part.stem}")
    return None if group is None else part.parents[2] / INDEX_FOLDER / f"{group}.parquet"
