"""The command line of filters: `cah filter`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cah_dask.errors import ConfigError
from cah_dask.jobs_cli import Machine, Overrides, Scratch, beside, carry_out, news, require_all
from cah_dask.terminal import answer, say, tell
from cah_dask.words import printable

if TYPE_CHECKING:
    from cah_dask.counts import Counts
    from cah_dask.run.filtering.job import FilterJob
    from cah_dask.run.filtering.tasks import Output

filter_app = typer.Typer()


@filter_app.command("filter")
def filter_(
    pool: Annotated[
        Path, typer.Argument(help="Run folder, release, DataComp metadata, or parquet files.")
    ],
    rules: Annotated[
        str, typer.Argument(metavar="FILTER", help="YAML file, or a filter of the package.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="FILE.npy (subset), FILE.parquet (uids), or the folder of a release."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what each rule keeps and rejects.")
    ] = False,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="Another value of a parameter."),
    ] = None,
    assets: Annotated[
        list[str] | None,
        typer.Option("--asset", metavar="NAME=PATH", help="Where a file lies that it needs."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="OURS=THEIRS", help="What a column is called there."),
    ] = None,
    config: Machine = None,
    overrides: Overrides = None,
    scratch: Scratch = None,
) -> None:
    """Choose rows of a pool by a filter. Run the same command again to resume.

    Prints how many rows each rule rejects; with --dry-run also how many each keeps by itself.
    """
    from cah_dask.curate.filters.file import load_filter, located
    from cah_dask.curate.pools.opening import open_pool
    from cah_dask.run.filtering import outputs
    from cah_dask.run.filtering.job import FilterJob

    if dry_run == (to is not None):
        raise ConfigError("give --to, or --dry-run for nothing but numbers")
    found = open_pool(pool, _mapping(columns, "--column"))
    for note in found.notes:
        say(f"note: {note}")
    file = located(load_filter(rules, _mapping(parameters, "--param"), _mapping(assets, "--asset")))
    if to is None and config is not None and scratch is None:
        raise ConfigError("a dry run by --config needs --scratch, a folder that nodes share")
    with tempfile.TemporaryDirectory(prefix="cah-filter-") as place:
        where = Path(place) if to is None else beside(to, "filter")
        is_table = to is not None and to.suffix in outputs.SUFFIXES
        output: Output = "counts" if to is None else "uids" if is_table else "rows"
        names = _mapping(columns, "--column")
        job = FilterJob(found, file, output, to or Path(place), scratch or where, names)
        if to is not None and is_table and outputs.is_written(to, job):
            tell(news(to, is_new=False))
            return
        ended = carry_out(job, config, overrides or ())
        require_all(ended)
        _print(job, ended.counts["keep"], is_trial=dry_run)
        if to is not None:
            if is_table:
                outputs.write_uids(job, ended.counts["keep"], to)
            tell(news(to, is_new=job.derivation is None or not job.derivation.is_there))
        job.folder.forget()


@filter_app.command("filters")
def filters(
    name: Annotated[str, typer.Argument(help="A filter of the package: print its file.")] = "",
) -> None:
    """Print the filters of the package, and the predicates that filter files may have."""
    from cah_dask.curate.filters import file

    if name:
        file.read_file(name)  # or say in a line what is wrong with it
        print(file.path_of(name).read_text(encoding="utf-8"), end="")
        return
    for each in file.shipped():
        tell(f"{each}: {file.read_file(each).about}")
    tell("")
    for each, kind in file.PREDICATES.items():
        about = (kind.__doc__ or "").splitlines()[0]
        tell(f"{each} {{{', '.join(kind.__struct_encode_fields__)}}}: {about}")


def _print(job: "FilterJob", counts: "Counts", *, is_trial: bool) -> None:
    """Print what became of the rows, rule by rule, in the order in which they are asked."""
    from cah_dask.curate.filters import rules
    from cah_dask.curate.filters.cells import EMPTY_CELL
    from cah_dask.curate.filters.file import made_from

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rule", no_wrap=True)
    for name in ("seen", "rejected", "kept", *(["kept alone"] if is_trial else [])):
        table.add_column(name, justify="right", no_wrap=True)
    left = counts.seen
    names = [EMPTY_CELL, *(rule.name for rule in made_from(job.file).rules)]
    for name in names:
        rejected = counts.rejected.get(name, 0)
        if name == EMPTY_CELL and not rejected:
            continue
        alone = counts.notes.get(f"{rules.ALONE}/{name}", 0)
        cells = [f"{left:,}", f"{rejected:,}", f"{left - rejected:,}"]
        table.add_row(printable(name), *cells, *([f"{alone:,}"] if is_trial else []))
        left -= rejected
    table.add_row("all", f"{counts.seen:,}", f"{counts.seen - left:,}", f"{left:,}")
    answer.print(table)
    for node in made_from(job.file).whole:
        for group, value in sorted(job.thresholds[node.key].items()):
            of = f" of {group}" if group else ""
            tell(f"top_fraction of {node.column}{of}: at least {value!r}")


def _mapping(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise ConfigError(f"{option} {each}: expected NAME=VALUE")
        found[name] = value
    return found
