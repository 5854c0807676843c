"""The table of stages: whatever knows stages by name reads it here.

A job is a tuple of stages in the order of the data. A stage whose units are like those of the stage
it comes after, or that gathers the lists of a bucket or of a group of buckets, needs its row and a
function, nothing else; how archives become buckets and buckets become lists is the crawl's own
(`run.plan`).
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from cah_dask.groups import INDEX_FOLDER


class Kind(StrEnum):
    """What one unit of a stage works on."""

    ARCHIVE = "archive"
    BUCKET = "bucket of a wave"
    LIST = "fetch list"
    GROUP = "bucket group of a wave"
    SHARD = "shard of the release"


class Stage(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A step of a job."""

    name: str
    kind: Kind
    folder: str
    """Where its parts lie in the run folder; those of pack are in the release."""
    pool: str
    """Workers that do it; see `run.pools`."""
    task: str
    """The function that does a unit, ``module:name``, imported by the worker that calls it; it
    takes a `task.Task` and returns a `storage.Receipt`."""
    rows: str = ""
    """What its rows are, in words; a stage without is no step of the funnel."""
    after: str = ""
    """The stage whose finished units make its own possible, as their parts are read."""
    sees: str = ""
    """The stage whose kept rows are the rows that it must see, all of them, once it is done."""
    memory_mb: int = 0
    """Most memory that a worker was seen to take for a unit of the default size
    (docs/benchmarks.md); 0 where it depends on the model or was not measured."""
    files: int = 1
    """Files that a unit leaves behind if its first attempt succeeds."""
    is_compacted: bool = False
    """Whether `compact` brings its parts together."""

    def __str__(self) -> str:
        return self.name


EXTRACT = Stage(
    name="extract",
    kind=Kind.ARCHIVE,
    folder="candidates",
    pool="cpu",
    task="cah_dask.run.tasks.candidates:extract_task",
    rows="image links",
    memory_mb=260,
)
DEDUP = Stage(
    name="dedup",
    kind=Kind.BUCKET,
    folder="fetch",
    pool="cpu",
    task="cah_dask.run.tasks.candidates:dedup_task",
    rows="candidates",
    memory_mb=240,
    after="extract",
    sees="extract",
    files=3,  # and two of keys in seen/, until they are merged
    is_compacted=True,
)
DOWNLOAD = Stage(
    name="download",
    kind=Kind.LIST,
    folder="images",
    pool="io",
    task="cah_dask.run.tasks.images:download_task",
    rows="urls",
    after="dedup",
    files=3,  # and the image shard, and a log in requests/
    is_compacted=True,
)
EMBED = Stage(
    name="embed",
    kind=Kind.LIST,
    folder="scored",
    pool="gpu",
    task="cah_dask.run.tasks.pairs:embed_task",
    rows="samples",
    after="download",
    sees="dedup",
    is_compacted=True,
)
SELECT = Stage(
    name="select",
    kind=Kind.GROUP,
    folder="selected",
    pool="cpu",
    task="cah_dask.run.tasks.pairs:select_task",
    rows="scored samples",
    memory_mb=380,
    after="embed",
    sees="embed",
)
COMPACT = Stage(
    name="compact",
    kind=Kind.GROUP,
    folder=INDEX_FOLDER,
    pool="cpu",
    task="cah_dask.run.tasks.compaction:compact_task",
    memory_mb=380,
    after="select",
    files=5,  # and one each for lists, outcomes, requests and scored samples
)
PACK = Stage(
    name="pack",
    kind=Kind.SHARD,
    folder="",
    pool="cpu",
    task="cah_dask.run.tasks.release:pack_task",
    rows="pairs",
    memory_mb=400,
    after="select",
    files=3,  # and a Zarr shard of both arrays
)

RUN = (EXTRACT, DEDUP, DOWNLOAD, EMBED, SELECT, COMPACT, PACK)
"""The job of `cah run`; compact is left out unless the configuration asks for it."""


def following(stages: tuple[Stage, ...], name: str) -> Iterator[Stage]:
    """Yield the stages that read, directly or not, the parts of the stage called `name`."""
    names = {name}
    for stage in stages:
        if stage.after in names:
            names.add(stage.name)
            yield stage
