"""The command line: `cah run | status | verify | ...`. No logic, no torch, no dask at import."""

import os
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cah_dask import __version__, terminal
from cah_dask.calibrate_cli import calibrate
from cah_dask.care_cli import care_app
from cah_dask.classify_cli import classify_app
from cah_dask.errors import CahError, ConfigError, InputError
from cah_dask.filter_cli import filter_app
from cah_dask.import_cli import import_app
from cah_dask.index_cli import index_app
from cah_dask.init_cli import init_app
from cah_dask.jobs_cli import EXIT_CODES, Overrides, carry_run
from cah_dask.models_cli import models_app
from cah_dask.run.signals import Signals, Stopped
from cah_dask.terminal import answer, console, fail, say, tell
from cah_dask.vectors_cli import vectors_app
from cah_dask.watch_cli import watch_app
from cah_dask.words import counted, printable

if TYPE_CHECKING:
    from cah_dask.release.summary import FunnelStep
    from cah_dask.run.before.doctor import Visit
    from cah_dask.run.before.preflight import Prepared

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="From Common Crawl archives to published image-text pairs.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration without running it.")
app.add_typer(config_app, name="config")
app.add_typer(models_app, name="models")
app.add_typer(import_app, name="import")
app.add_typer(filter_app)
app.add_typer(index_app)
app.add_typer(classify_app)
app.add_typer(care_app)
app.add_typer(vectors_app)
app.add_typer(watch_app)
app.add_typer(init_app)


ConfigPath = Annotated[Path, typer.Argument(help="YAML file, such as configs/mine.yaml.")]
RunPath = Annotated[Path, typer.Argument(help="Run folder.")]


@app.command(epilog=EXIT_CODES)
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder of the release, instead of `release` in the run folder."),
    ] = None,
) -> None:
    """Carry a run to its end, from wherever it stands. Run the same command again to resume.

    With other `select` or `pack` settings a finished run makes another release, without the web and
    without a model; `--to` keeps both.
    """
    from cah_dask.release.summary import funnel
    from cah_dask.run import pipeline, requeue
    from cah_dask.run.before import preflight, slurm_limits
    from cah_dask.run.folder.run_folder import RunFolder
    from cah_dask.run.progress import Progress
    from cah_dask.run.watch.terminal import clock

    started = datetime.now(UTC)
    with Signals() as signals:
        prepared = preflight.prepare(config, overrides or (), may_select_only=True)
        _warn(prepared)
        slurm_limits.check_allocation(prepared.config, os.environ)
        folder = RunFolder(Path(prepared.config.run_dir), release=to)
        ending = carry_run(prepared, folder, Progress(console), signals)
    match ending:
        case pipeline.Ending.PUBLISHED:
            summary = folder.summary()
            _print_funnel(funnel(summary), console)
            if not summary.counts("pack").kept:
                say("warning: no pair was kept; the rejects above say why")
            if summary.finished and summary.finished < started:
                say(f"complete since {clock(summary.finished)}; nothing was to be done")
            console.print(f"release: {folder.release}", soft_wrap=True, highlight=False)
        case pipeline.Ending.INCOMPLETE:
            fail(f"some tasks were given up, see {folder.log_file}; run again to retry them", 6)
        case pipeline.Ending.STOPPED:
            fail("stopped; what is committed stays: run the same command again to resume", 75)
        case pipeline.Ending.OUT_OF_TIME:
            requeue.go_on(folder, prepared.config.slurm, started, sys.argv[2:], console.print)
            fail("stopped before the end of the job's walltime; what is committed stays", 75)


app.command()(calibrate)


@app.command()
def plan(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print what a run would submit and write: pools, tasks, files, bytes, job scripts."""
    from cah_dask.run.before import estimate, preflight, slurm_limits

    prepared = preflight.prepare(config, overrides or (), asks_slurm=False)
    _warn(prepared)
    for line in estimate.describe(
        prepared.config, [place or name for name, place in prepared.archives.items()]
    ):
        print(line)
    slurm_limits.check_with_slurm(prepared.config)


@app.command()
def doctor(
    config: ConfigPath,
    overrides: Overrides = None,
    wait: Annotated[float, typer.Option(help="Seconds that its jobs may wait and take.")] = 600,
    url: Annotated[str, typer.Option(help="What nodes that download ask for.")] = "",
    pool: Annotated[
        str | None, typer.Option(help="Look only at this node, for the tasks of one pool.")
    ] = None,
    report: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Look at this machine and, by a job of a minute, at a node of each Slurm pool.

    Where jobs may not submit jobs, ask in an allocation: `srun -n1 cah doctor CONFIG --pool gpu`.
    """
    from cah_dask.run.before import doctor
    from cah_dask.run.pools import check_pools
    from cah_dask.run.settings import loading

    found = loading.load(config, overrides or ()).config
    check_pools(found)
    if pool is not None:
        visits = iter([doctor.visit_here(found, pool, url)])
    else:
        command = doctor.arguments(config, overrides or (), url)
        visits = doctor.examine(found, command, wait, url)
    if report is not None:
        doctor.write_report(next(visits), report)
        return
    is_well = True
    with Signals():  # its jobs end with it
        for visit in visits:
            is_well &= _print_visit(visit)
    sys.exit(0 if is_well else 5)


@app.command()
def status(
    folder: RunPath,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all figures as JSON (docs/watch.md).")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show them again and again, until Ctrl-C.")
    ] = False,
) -> None:
    """Show how far a run is, from its folder alone; the run need not be alive."""
    from cah_dask.run.folder.run_folder import RunFolder
    from cah_dask.run.indexing.job import index_state
    from cah_dask.run.pace import slow_hosts
    from cah_dask.run.watch import terminal
    from cah_dask.run.watch.from_files import FromFiles

    run_folder = RunFolder(folder)
    if as_json or watch:
        terminal.show(run_folder, answer, as_json=as_json, again=watch)
        return
    source = FromFiles(run_folder)
    figures = source.figures(wait_s=terminal.WAIT_S)
    _print_funnel(figures.funnel(), answer)
    for line in terminal.words(figures):
        tell(line)
    driver = (figures.is_driven and run_folder.driver_elsewhere) or run_folder.driver
    tell(f"driver: {driver}; last commit: {terminal.clock(figures.last_commit)}")
    for line in index_state(run_folder.index_dir):
        tell(line)
    for line in source.release(figures):
        tell(line)
    for fault in run_folder.odd_optouts():
        tell(f"ignored: {fault}")
    for line in slow_hosts(source.deduped, run_folder.config().download.hosts):
        tell(line)
    for line in source.faults():
        tell(f"lost: {line}")


@app.command()
def report(
    folder: RunPath,
    overrides: Overrides = None,
    to: Annotated[
        Path | None, typer.Option(help="Where the release is, if `cah run --to` put it elsewhere.")
    ] = None,
) -> None:
    """Write report and data card of a run anew and print where the report is.

    With other prices: --set report.prices.gpu=2.5
    """
    from cah_dask.run import publish
    from cah_dask.run.folder.run_folder import RunFolder

    run_folder = RunFolder(folder, release=to)
    print(publish.describe_again(run_folder, run_folder.release, overrides or ()))


@config_app.command("show")
def show(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the complete configuration, with the origin of each value."""
    from cah_dask.run.settings import loading, render

    print(render.render(loading.load(config, overrides or ())), end="")


@config_app.command("check")
def check(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check all that can be checked without running: keys, inputs, contact, model, weights."""
    from cah_dask.run.before import preflight

    prepared = preflight.prepare(config, overrides or ())
    _warn(prepared)
    archives = counted(len(prepared.archives), "archive")
    models = list(dict.fromkeys(prepared.config.embed.names.values()))
    print(f"ok: {archives}, model{'s' * (len(models) > 1)} {', '.join(models)}")


@config_app.command("explain")
def explain(
    key: Annotated[str, typer.Argument(help="An option or a group, such as download.hosts.")] = "",
) -> None:
    """Print options with default and meaning: all as Markdown, those of KEY as plain lines."""
    from cah_dask.run.settings import render

    if key:
        for name, default, text in render.explained(key):
            print(f"{name}: {default}\n{textwrap.indent(textwrap.fill(text, 96), '    ')}")
        return
    print("| key | default | meaning |\n|---|---|---|")
    for name, default, text in render.explain():
        print(f"| `{name}` | `{default}` | {text.replace('|', '&#124;')} |")


def _warn(prepared: "Prepared") -> None:
    for line in prepared.warnings:
        say(f"warning: {line}")


def _print_funnel(steps: "Sequence[FunnelStep]", console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "rows are", "seen", "kept", "rejected"):
        table.add_column(name, justify="right" if name in ("seen", "kept") else "left")
    for step in steps:
        rejected = ", ".join(f"{reason} {count:,}" for reason, count in step.rejected.items())
        table.add_row(step.stage, step.unit, f"{step.seen:,}", f"{step.kept:,}", rejected)
    console.print(table)


def _print_visit(visit: "Visit") -> bool:
    """Print what was found on a node; return whether nothing is broken."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    answer.print(visit.where, style="bold")
    for finding in visit.findings:
        mark = f"[{colours[finding.level]}]{finding.level:>6}[/]  "
        advice = f"\n        -> {finding.advice}" if finding.advice else ""
        text = escape(printable(finding.what) + printable(advice))
        answer.print(mark + text, soft_wrap=True, highlight=False)
    return all(finding.level != "fail" for finding in visit.findings)


def _print_version(value: bool) -> None:  # noqa: FBT001  # typer calls it so
    if value:
        print(f"cah_dask {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show answers and errors, nothing else.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the log of a job while it is written.")
    ] = False,
) -> None:
    """From Common Crawl archives to published image-text pairs."""
    del version  # its callback has done it
    if quiet:
        terminal.be_quiet()
    if verbose:
        terminal.be_verbose()


def main() -> None:
    """Run the command line; every error of ours is one line and an exit code."""
    try:
        app()
    except Stopped:
        fail("stopped; run the same command again", 75)
    except InputError as error:
        fail(f"error: {error}", 4)
    except ConfigError as error:
        fail(f"error: {error}", 3)
    except (CahError, OSError) as error:
        fail(f"error: {error}", 5)
