"""What the commands have in common that carry out a job on the workers of the pools."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cah_dask import terminal
from cah_dask.terminal import console, fail, say
from cah_dask.words import counted, printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cah_dask.run.before.preflight import Prepared
    from cah_dask.run.folder.run_folder import RunFolder
    from cah_dask.run.jobs import Ended, Job
    from cah_dask.run.pipeline import Ending
    from cah_dask.run.session import View
    from cah_dask.run.settings.config import Config
    from cah_dask.run.signals import Signals


EXIT_CODES = """
Exit codes: 0 done · 1 what was compared differs · 2 wrong usage · 3 wrong configuration, nothing
was written · 4 an input is missing or of the wrong kind, nothing was written · 5 the run stopped on
an error that a person must look at · 6 some tasks were given up, nothing was published · 75 stopped
before its end, run the same command again to resume
"""

Machine = Annotated[
    Path | None, typer.Option(help="YAML file whose pools do the work; else this machine does.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key, such as pools.cpu.workers=4."
    ),
]
Scratch = Annotated[
    Path | None, typer.Option(help="Where it keeps what is done. Default: beside the output.")
]


def carry_out(
    job: "Job", config: Path | None, overrides: Sequence[str], *, option: str = "--scratch"
) -> "Ended":
    """Carry a job out, its folder held; where it is stopped, say so and leave with exit code 75.

    Parameters
    ----------
    config
        Of the pools that do it; None for this machine.
    option
        What says where it keeps what is done.
    """
    from cah_dask.run.settings import loading

    return carry_out_on(loading.load_machine(config, overrides), job, option=option)


def carry_out_on(machine: "Config", job: "Job", *, option: str = "--scratch") -> "Ended":
    """Carry a job out on the pools of a configuration, of which nothing else counts.

    Parameters
    ----------
    option
        What says where the job keeps what is done, for messages.
    """
    from cah_dask.run import jobs, pipeline, requeue
    from cah_dask.run.before import slurm_limits
    from cah_dask.run.pools import check_pools
    from cah_dask.run.progress import Progress
    from cah_dask.run.signals import Signals

    check_pools(machine)
    slurm_limits.check_allocation(machine, os.environ)
    started = datetime.now(UTC)
    with (
        Signals() as signals,
        job.folder.held(say, option=option),
        log_to(job.folder.log_file),
        Progress(console) as view,
    ):
        ended = jobs.carry_out(job, (machine.pools, machine.slurm), view, signals)
    if ended.stopped_by is not None:
        if pipeline.ending_of(ended.stopped_by) is pipeline.Ending.OUT_OF_TIME:
            requeue.go_on(job.folder, machine.slurm, started, sys.argv[1:], console.print)
        fail("stopped; what is done stays: run the same command again to resume", 75)
    return ended


def carry_run(
    prepared: "Prepared",
    folder: "RunFolder",
    progress: "AbstractContextManager[View]",
    signals: "Signals",
) -> "Ending":
    """Carry a run that is checked to its end, or as far as it gets; return how it ended."""
    from cah_dask.run import pipeline
    from cah_dask.run.settings.identity import run_id
    from cah_dask.run.signals import Stopped

    archives = list(prepared.archives)
    folder.require_place_for_release(run_id(prepared.config, archives))
    try:
        with (
            folder.driving(prepared.loaded, archives, say),
            log_to(folder.log_file),
            progress as view,
        ):
            return pipeline.run(
                prepared.config,
                folder,
                view,
                signals,
                prepared.archives,
                prepared.require_for,
                sources=prepared.sources,
            )
    except Stopped as stopped:
        return pipeline.ending_of(stopped.kind)


def require_all(ended: "Ended") -> None:
    """Leave with exit code 6 if some of a job could not be done."""
    if ended.given_up:
        fail(f"{counted(ended.given_up, 'unit')} could not be done; run again", 6)


WHOLE = "whole, nothing was to be done"


def beside(to: Path, job: str) -> Path:
    """Return where a job keeps what is done unless --scratch says: beside its output."""
    return to.resolve().with_name(f"{to.resolve().name}.{job}")


def news(to: Path, *, is_new: bool) -> str:
    """Return a line that says whether anything was to be done."""
    return f"{to}: {'written' if is_new else WHOLE}"


class _LogFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # of logging
        return printable(super().formatMessage(record))


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send our log, and Dask's warnings instead of its chatter on the terminal, to a file.

    With `--verbose` they are shown on the terminal, too.
    """
    logging.raiseExceptions = False  # a full disk is said once, by the error that ends the run
    handlers: list[logging.Handler] = [logging.FileHandler(path)]
    if terminal.is_verbose:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    loggers = {
        logging.getLogger("cah_dask"): logging.INFO,
        logging.getLogger("distributed"): logging.WARNING,
        logging.getLogger("distributed.client"): logging.WARNING,  # it has a handler of its own
    }
    for logger, level in loggers.items():
        logger.setLevel(level)
        logger.handlers.clear()
        logger.propagate = False
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            for logger in loggers:
                logger.removeHandler(handler)
            handler.close()
