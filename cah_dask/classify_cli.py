"""The command line of models of one's own: `cah classify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cah_dask.jobs_cli import Overrides, carry_out_on, news, require_all
from cah_dask.terminal import say, tell

if TYPE_CHECKING:
    from cah_dask.run.classifying.report import Summary

classify_app = typer.Typer()

_FAULTS_SHOWN = 5


@classify_app.command("classify")
def classify(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/classify.md.")],
    overrides: Overrides = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what the first records come to, here.")
    ] = False,
) -> None:
    """Give the records of WARC archives to a model of your own, and keep what it likes.

    Run the same command again to resume. Prints what became of the records, by reason, and which
    pool held up the other.
    """
    from cah_dask.archives.sources import list_archives
    from cah_dask.classify.loading import require_callable
    from cah_dask.run.classifying import config as classifying
    from cah_dask.run.classifying.job import ClassifyJob
    from cah_dask.run.classifying.trial import trial
    from cah_dask.run.settings.loading import load_as

    chosen = load_as(classifying.ClassifyConfig, config, overrides or ())
    classifying.check(chosen)
    require_callable(chosen.options)
    job = ClassifyJob(chosen, list_archives(chosen.inputs))
    if dry_run:
        for line in trial(job):
            tell(line)
        return
    if job.is_there:
        tell(news(job.to, is_new=False))
        if job.folder.path.exists():  # its driver was killed when all was done
            job.folder.forget()
        return
    require_all(carry_out_on(chosen.machine, job, option="scratch"))
    _print(job.summary())
    tell(news(job.to, is_new=True))
    job.folder.forget()


def _print(summary: "Summary") -> None:
    for stage, counts in summary.counts.items():
        lost = ", ".join(f"{reason} {number:,}" for reason, number in counts.rejected.items())
        tell(f"{stage}: {counts.seen:,} seen, {counts.kept:,} kept" + (f"; {lost}" if lost else ""))
    for error in summary.errors[:_FAULTS_SHOWN]:
        say(f"warning: {error}")
    if summary.verdict:
        tell(summary.verdict)
