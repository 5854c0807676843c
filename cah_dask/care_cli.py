"""Care for releases: `cah redact | join | diff`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cah_dask.jobs_cli import Machine, Overrides, Scratch, carry_out, require_all
from cah_dask.terminal import answer, tell
from cah_dask.words import counted, printable

if TYPE_CHECKING:
    from cah_dask.release.manifest import Step

care_app = typer.Typer()

Release = Annotated[Path, typer.Argument(help="Folder of a release.")]
To = Annotated[Path, typer.Option(help="Folder of the new release.")]
Uids = Annotated[Path | None, typer.Option(help="List of uids, 32 hex digits a line.")]
Urls = Annotated[
    Path | None, typer.Option(help="List of urls of images, before or after redirects.")
]
Hosts = Annotated[Path | None, typer.Option(help="List of hosts; each stands for those below it.")]
Hashes = Annotated[Path | None, typer.Option(help="List of sha256 or md5 of images, hex.")]


@care_app.command()
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

    paths = _lists(uids, urls, hosts, hashes)
    given = job.RedactJob(release, to, paths, scratch or _beside(to, "redact"))
    ended = carry_out(given.folder, config, overrides or (), partial(job.redact, given))
    require_all(ended)
    step = given.derivation.step
    _print_step(step)
    for kind, n in ((kind, each["unmatched"]) for kind, each in step.rule["lists"].items()):
        if n:
            tell(f"{paths[kind]}: {counted(n, 'entry', 'entries')} named no row")
    _end(to, is_new=not given.derivation.is_there)
    given.folder.forget()


def _lists(
    uids: Path | None, urls: Path | None, hosts: Path | None, hashes: Path | None
) -> dict[str, Path]:
    given = {"uids": uids, "urls": urls, "hosts": hosts, "hashes": hashes}
    return {kind: path for kind, path in given.items() if path is not None}


def _beside(to: Path, job: str) -> Path:
    return to.resolve().with_name(f"{to.resolve().name}.{job}")


def _end(to: Path, *, is_new: bool) -> None:
    tell(f"{to}: {'written' if is_new else 'whole, nothing was to be done'}")


def _print_step(step: "Step") -> None:
    """Print what became of the rows of a source."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rows", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    counts = step.counts
    for name, n in (("seen", counts.seen), *counts.rejected.items(), ("kept", counts.kept)):
        table.add_row(printable(name), f"{n:,}")
    answer.print(table)
