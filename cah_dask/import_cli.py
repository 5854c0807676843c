"""The command line of imports: `cah import datacomp`."""

from pathlib import Path
from typing import Annotated

import typer

from cah_dask.jobs_cli import (
    EXIT_CODES,
    Machine,
    Overrides,
    Scratch,
    beside,
    carry_out,
    news,
    require_all,
)
from cah_dask.terminal import say, tell
from cah_dask.words import counted

import_app = typer.Typer(no_args_is_help=True, help="Make releases of what others published.")


@import_app.callback()
def _options() -> None:
    """Make releases of what others published."""


@import_app.command(epilog=EXIT_CODES)
def datacomp(
    metadata: Annotated[
        Path, typer.Argument(help="Folder of CommonPool's or DataComp-1B's metadata, with npz.")
    ],
    to: Annotated[Path, typer.Option(help="Folder of the release.")],
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave bad rows out and count them.")
    ] = False,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Turn DataComp's metadata into a release. Run the same command again to resume.

    All rows and vectors are looked at before anything is written.
    """
    from cah_dask.curate.datacomp_look import FOREIGN_UIDS, REASONS
    from cah_dask.run import importing

    job = importing.ImportJob(metadata, to, scratch or beside(to, "import"), leave_out)
    for note in job.pool.notes:
        say(f"note: {note}")
    try:
        ended = carry_out(job, config, overrides or ())
    finally:
        for fault in job.faults:
            tell(fault)
    require_all(ended)
    counts = job.derivation.step.counts
    for reason, n in counts.rejected.items():
        tell(f"left out: {counted(n, 'row')} with {REASONS[reason]}")
    if n := counts.notes[FOREIGN_UIDS]:
        say(f"warning: {counted(n, 'row')} with a uid that is not the md5 of text and url")
    done = news(to, is_new=not job.derivation.is_there)
    tell(f"{done}, {counted(counts.kept, 'row')}")
    job.folder.forget()
