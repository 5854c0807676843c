"""The command line of indexes: `cah index`."""

from pathlib import Path
from typing import Annotated

import typer

from cah_dask.jobs_cli import EXIT_CODES, Machine, Overrides, carry_out, news, require_all
from cah_dask.terminal import say, tell
from cah_dask.words import counted

index_app = typer.Typer()


@index_app.command("index", epilog=EXIT_CODES)
def index(
    archives: Annotated[
        list[str],
        typer.Argument(help="WARC archives and CDX files: paths, globs, http(s) urls, *.paths.gz."),
    ],
    to: Annotated[Path, typer.Option(help="Folder of the index.")],
    buckets: Annotated[
        int,
        typer.Option(min=1, max=65_536, help="Parts of the index; as `dedup.buckets` of runs."),
    ] = 256,
    config: Machine = None,
    overrides: Overrides = None,
) -> None:
    """Write down which record of which archive answers a url. Run it again to resume.

    A run takes its pictures from there with `download.source: archives` and `download.index`.
    """
    from cah_dask.run.indexing.job import IndexJob, sources_of

    job = IndexJob(sources_of(archives), to, buckets)
    if job.is_complete:
        job.renew()
        tell(news(to, is_new=False))
        return
    ended = carry_out(job, config, overrides or (), option="--to")
    for error in ended.errors:
        say(f"warning: {error}")
    require_all(ended)
    for reason, n in ended.counts["scan"].rejected.items():
        tell(f"left out: {counted(n, 'record')} ({reason})")
    tell(f"{news(to, is_new=True)}, {counted(ended.counts['sort'].kept, 'capture')}")
