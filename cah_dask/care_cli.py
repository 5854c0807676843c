"""Care for releases: `cah verify | redact | join | diff`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cah_dask.errors import ConfigError
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
from cah_dask.terminal import answer, fail, say, tell
from cah_dask.words import counted, printable

if TYPE_CHECKING:
    from cah_dask.release.manifest import Step
    from cah_dask.run.care.diff import Difference

care_app = typer.Typer()


class Key(StrEnum):
    """What rows of a table and pairs are the same by."""

    UID = "uid"
    URL = "url"


Release = Annotated[Path, typer.Argument(help="Folder of a release.")]
To = Annotated[Path, typer.Option(help="Folder of the new release.")]
Uids = Annotated[Path | None, typer.Option(help="List of uids, 32 hex digits a line.")]
Urls = Annotated[
    Path | None, typer.Option(help="List of urls of images, before or after redirects.")
]
Hosts = Annotated[Path | None, typer.Option(help="List of hosts; each stands for those below it.")]
Hashes = Annotated[Path | None, typer.Option(help="List of sha256 or md5 of images, hex.")]


@care_app.command(epilog=EXIT_CODES)
def redact(
    release: Release,
    to: To,
    uids: Uids = None,
    urls: Urls = None,
    hosts: Hosts = None,
    hashes: Hashes = None,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Make a new release without the rows that lists name. Run the same command again to resume.

    The new release does not tell what is gone, only how much. The old one stays as it is.
    """
    from cah_dask.run.care import redact as job

    paths = given_lists(uids, urls, hosts, hashes)
    given = job.RedactJob(release, to, paths, scratch or beside(to, "redact"))
    ended = carry_out(given, config, overrides or ())
    require_all(ended)
    step = given.derivation.step
    _print_step(step)
    for kind, n in ((kind, each["unmatched"]) for kind, each in step.rule["lists"].items()):
        if n:
            tell(f"{paths[kind]}: {counted(n, 'entry', 'entries')} named no row")
    tell(news(to, is_new=not given.derivation.is_there))
    if scratch is None:
        given.folder.forget_others()
    given.folder.forget()


@care_app.command(epilog=EXIT_CODES)
def join(
    release: Release,
    table: Annotated[
        Path, typer.Argument(help="Parquet or CSV file, or a folder of them, all read as one.")
    ],
    to: To,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME[=THEIRS]", help="A column that is wanted of it."),
    ] = None,
    on: Annotated[Key, typer.Option(help="What its rows and pairs are the same by.")] = Key.UID,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Make a new release with columns of a table. Run the same command again to resume.

    A pair that the table does not know has null. A row of which there is no pair is counted.
    """
    from cah_dask.curate.care.tables import Tables
    from cah_dask.run.care import join as job
    from cah_dask.run.care.join_tasks import MATCH

    wanted = dict(_column(each) for each in columns or ())
    given = job.JoinJob(release, Tables(table, on.value, wanted), to, scratch or beside(to, "join"))
    ended = carry_out(given, config, overrides or ())
    require_all(ended)
    rows, step = ended.counts[MATCH.name], given.derivation.step
    tell(f"{step.rule['joined']:,} of {counted(step.counts.seen, 'pair')} have a row in {table}")
    if rows.seen > rows.kept:
        tell(f"{counted(rows.seen - rows.kept, 'row')} of {table}: there is no such pair")
    tell(news(to, is_new=not given.derivation.is_there))
    given.folder.forget()


def _column(given: str) -> tuple[str, str]:
    """Return the name that a column shall have, and that it has in the table."""
    name, equals, theirs = given.partition("=")
    if not name or (equals and not theirs):
        raise ConfigError(f"--column {given}: expected NAME or NAME=THEIRS")
    return name, theirs or name


@care_app.command(epilog=EXIT_CODES)
def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="Folder of a release.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Folder of another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Tell what two releases do not share. Exit code 1 if there is anything.

    Pairs are the same by their uid; all their values and vectors are compared, but for `row`.
    """
    import msgspec

    from cah_dask.run.care import diff as job

    given = job.DiffJob(one, other, scratch or beside(one, "diff"))
    ended = carry_out(given, config, overrides or ())
    require_all(ended)
    found = job.difference_of(given, ended)
    given.folder.forget()
    if as_json:
        tell(msgspec.json.encode(found).decode())
    else:
        _print_difference(found)
    sys.exit(0 if found.is_none else 1)


def _print_difference(found: "Difference") -> None:
    """Print what two releases do not share."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("pairs", no_wrap=True)
    for name in ("A", "B"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("all", *(f"{n:,}" for n in found.rows))
    table.add_row("equal", *[f"{found.equal:,}"] * 2)
    table.add_row("changed", *[f"{found.changed:,}"] * 2)
    table.add_row("only there", f"{found.only_in_a:,}", f"{found.only_in_b:,}")
    answer.print(table)
    for name, n in found.changed_columns.items():
        tell(f"changed in {name}: {n:,}")
    for which, names in (("A", found.columns_only_in_a), ("B", found.columns_only_in_b)):
        if names:
            tell(f"columns of {which} only: {', '.join(names)}")
    for reason in found.reasons:
        tell(reason)


@care_app.command(epilog=EXIT_CODES)
def verify(
    release: Release,
    uids: Uids = None,
    urls: Urls = None,
    hosts: Hosts = None,
    hashes: Hashes = None,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Check every byte and every row of a release. Run the same command again to resume.

    With lists, such as those of `cah redact`, also that no row is named by them.
    """
    from cah_dask.run import verify as job

    lists = given_lists(uids, urls, hosts, hashes)
    given = job.VerifyJob(release, scratch or beside(release, "verify"), lists)
    ended = carry_out(given, config, overrides or ())
    verdict = job.verdict_of(given, ended)
    if ended.is_complete:
        if lists and scratch is None:
            given.folder.forget_others()
        given.folder.forget()
    for fault in verdict.faults:
        tell(fault)
    require_all(ended)
    if verdict.faults:
        fail(f"{release} is not sound: {counted(len(verdict.faults), 'fault')}", 5)
    say(f"sound: {verdict.rows:,} pairs, every byte and every row")
    if lists:
        say(f"none of them is named by the lists of {' and '.join(lists)}")


def given_lists(
    uids: Path | None, urls: Path | None, hosts: Path | None, hashes: Path | None
) -> dict[str, Path]:
    """Return the lists that were given, by their kind."""
    given = {"uids": uids, "urls": urls, "hosts": hosts, "hashes": hashes}
    return {kind: path for kind, path in given.items() if path is not None}


def _print_step(step: "Step") -> None:
    """Print what became of the rows of a source."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rows", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    counts = step.counts
    for name, n in (("seen", counts.seen), *counts.rejected.items(), ("kept", counts.kept)):
        table.add_row(printable(name), f"{n:,}")
    answer.print(table)
