"""The runs below a folder, one a line: how far each is, and who drives it."""

import os
from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cah_dask.errors import CahError
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.folder.run_settings import CONFIG_FILE
from cah_dask.run.stages import EXTRACT, PACK
from cah_dask.run.watch.figures import Figures
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.words import printable, span

_COLUMNS = ("run", "archives", "pairs", "last commit", "left to embed", "state")


def runs_table(folder: Path) -> Table:
    """Return a table of the runs below a folder, damaged ones too; what lies in a run is none."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in ("archives", "pairs") else "left")
    for run in _below(folder):
        try:
            told = _told(run, FromFiles(run).figures())
        except (CahError, OSError) as error:
            told = "", "", "", "", f"damaged: {' '.join(str(error).splitlines())}"
        table.add_row(*(escape(printable(cell)) for cell in (str(run.path), *told)))
    return table


def _below(folder: Path) -> Iterator[RunFolder]:
    for path, folders, files in os.walk(folder):
        run = RunFolder(Path(path))
        if CONFIG_FILE in files and run.journal_file.exists():
            folders.clear()
            yield run
        folders.sort()


def _told(run: RunFolder, figures: Figures) -> tuple[str, str, str, str, str]:
    """Return how many archives and pairs a run has, its last commit, the time left, its state."""
    done = {stage.name: stage.done for stage in figures.stages}
    kept = {stage.name: stage.kept for stage in figures.stages}
    last, n_archives = figures.last_commit, len(run.archives())
    return (
        f"{min(done[EXTRACT.name], n_archives):,}/{n_archives:,}",  # one that came late is one
        f"{kept[PACK.name]:,}",
        f"{last:%Y-%m-%d %H:%M}" if last else "none yet",
        span(figures.left_s if figures.is_driven else None),
        _state(run, figures),
    )


def _state(run: RunFolder, figures: Figures) -> str:
    """Return the state of a run; nobody waits for a beat of a driver on another machine."""
    if figures.is_driven:
        return f"{figures.state}: {run.driver}"
    who = run.driver_elsewhere
    return f"perhaps at work: {who}" if who else figures.state
