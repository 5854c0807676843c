"""A run with one more stage: how long the texts are. A row, a function, and a start."""

import sys
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from cah_dask.counts import Counts
from cah_dask.run import pipeline
from cah_dask.run.before import preflight
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.progress import Progress
from cah_dask.run.signals import Signals
from cah_dask.run.stages import EMBED, RUN, Kind, Stage
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.storage import Receipt, read_part, write_part

LENGTHS = Stage(
    name="lengths",
    kind=Kind.LIST,
    folder="lengths",
    pool="cpu",
    task="tests.run.sample_stage:measure_texts",
    rows="scored samples",
    after="embed",
    sees="embed",
)
STAGES = (*RUN[:-1], LENGTHS, RUN[-1])


def measure_texts(job: CrawlTask) -> Receipt:
    """Write how long the texts of one list are."""
    texts = read_part(job.part_of(EMBED), columns=["text"])["text"].to_pylist()
    table = pa.table({"length": pa.array(map(len, texts), pa.int32())})
    receipt = job.receipt(Counts(len(texts), len(texts)), 0.0)
    return write_part(job.part, table.schema, [table], receipt)


def main(config: Path) -> int:
    """Carry out the run; return 0 if there is a release."""
    prepared = preflight.prepare(config)
    folder = RunFolder(Path(prepared.config.run_dir), stages=STAGES)
    with (
        Signals() as signals,
        folder.driving(prepared.loaded, list(prepared.archives)),
        Progress(Console(stderr=True)) as view,
    ):
        ending = pipeline.run(prepared.config, folder, view, signals, prepared.archives)
    return int(ending is not pipeline.Ending.PUBLISHED)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
