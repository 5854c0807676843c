"""The figures of a run or another job on a terminal, or as lines for programs."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.signals import Signals, Stopped
from cah_dask.run.watch.figures import (
    PACKED,
    PUBLISHED,
    Figures,
    JobFigures,
    ListsFigures,
    StageFigures,
)
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.run.watch.tables import pool_table, stage_table
from cah_dask.words import counted, printable, span

EVERY_S = 5.0
"""Seconds between two looks at the files."""

WAIT_S = 10.0
"""Seconds that a driver on another machine has to show that it lives."""


def show(folder: RunFolder, console: Console, *, as_json: bool, again: bool) -> None:
    """Show the figures of a run once, or `again` and again until all is packed or Ctrl-C.

    Parameters
    ----------
    as_json
        A line of JSON, in ASCII, for each look.
    """
    source, rest = FromFiles(folder), threading.Event()
    is_live = again and console.is_terminal and not as_json
    with contextlib.suppress(Stopped), Signals(), _screen(console, is_live=is_live) as put:
        while True:
            figures = source.figures(wait_s=WAIT_S)
            if as_json:
                console.out(json.dumps(msgspec.to_builtins(figures)), highlight=False)
            elif again and not is_live:
                console.print(line(figures), soft_wrap=True, markup=False, highlight=False)
            else:
                put(view(figures, console.width))
            if not again or figures.state in (PACKED, PUBLISHED):
                return
            rest.wait(EVERY_S)


@contextlib.contextmanager
def _screen(console: Console, *, is_live: bool) -> Iterator[Callable[[RenderableType], None]]:
    """Yield what shows something, in the place of what was shown before if `is_live`."""
    if not is_live:
        yield console.print
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda shown: live.update(shown, refresh=True)


def view(figures: Figures | JobFigures, width: int) -> Group:
    """Return what fits a terminal of so many characters."""
    stages = stage_table(figures.stages, width)
    if isinstance(figures, JobFigures):
        return Group(stages)
    pools = [pool_table(figures.pools, width)] if figures.pools else []
    return Group(*(Text(printable(each)) for each in words(figures)), stages, *pools)


def words(figures: Figures) -> list[str]:
    """Return what is to be known beside the stages, a line each; the first has state and ETA."""
    first = f"{figures.run}: {figures.state}; left to embed: {span(figures.left_s)}"
    lists = [at_work(figures.at_work)] if figures.at_work.lists else []
    return [first, *figures.verdict, *lists]


def at_work(lists: ListsFigures) -> str:
    """Return how far the lists are that are being downloaded, and who holds them back."""
    hosts = ", ".join(f"{printable(host)} {left:,}" for host, left in lists.hosts.items())
    waits = "waits" if lists.again == 1 else "wait"
    again = (
        f"{lists.again:,} {waits} to be asked again (download.retry_delay_s, "
        "download.hosts.rest_s), "
        if lists.again
        else ""
    )
    return (
        f"in {counted(lists.lists, 'list')} at work: {lists.done:,} of {lists.urls:,} urls done, "
        f"{again}{lists.n_bytes / 1e6:,.1f} MB, {lists.bytes_per_s / 1e6:,.2f} MB/s"
        + (f"; most to go: {hosts}" if hosts else "")
    )


def line(figures: Figures | JobFigures) -> str:
    """Return what matters most in one line, with the time."""
    if isinstance(figures, JobFigures):
        what = "; ".join(map(_stage_words, figures.stages))
    else:
        tasks = [f"{stage.name} {stage.done:,}/{stage.known:,}" for stage in figures.stages]
        verdict = figures.verdict[0]
        state = "" if verdict.startswith(figures.state) else f"{figures.state}; "
        what = f"{', '.join(tasks)}; {state}left to embed: {span(figures.left_s)}; {verdict}"
    return printable(f"{clock(figures.at)} {what}")


def _stage_words(stage: StageFigures) -> str:
    left = f", left: {span(stage.left_s)}" if stage.left_s else ""
    return (
        f"{stage.name} {stage.done:,}/{stage.known:,} tasks, "
        f"{stage.kept:,} of {stage.seen:,} rows{left}"
    )


def clock(at: datetime | None) -> str:
    """Return a time for people, UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else "none yet"
