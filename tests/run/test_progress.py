"""What a person sees of a job: a table as wide as the terminal, or lines with the time."""

import io
import re

import pytest
from rich.console import Console

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.progress import Progress
from cah_dask.run.stages import EXTRACT
from cah_dask.run.stagewise import Stagewise
from cah_dask.schema import Counts

HOSTILE = "a host says \x1b]0;owned\x07 [red]no[/red]"


def units() -> Stagewise:
    made = Stagewise({EXTRACT: 2000}, lambda _: None)
    made.counts[EXTRACT] = Counts(
        9_000_000, 1_000_000, {"no_text": 4_000_000, "duplicate": 3_000_000, "long_url": 1_000_000}
    )
    return made


@pytest.mark.parametrize("width", [20, 40, 64, 90, 200])
def test_the_table_fits_a_terminal_of_any_width(width: int):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    with Progress(console) as view:
        view.start(units(), Dashboard(1, "token", "here"))
    lines = text.getvalue().splitlines()
    (row,) = [line for line in lines if "extract" in line][-1:]
    assert "0/2000" in row
    assert len(row.rstrip()) <= width
    assert ("no_text" in row) == (width >= 90)
    assert ("9,000,000" in row) == (width >= 48)


def test_lines_have_their_time_and_nothing_that_a_terminal_obeys():
    text = io.StringIO()
    with Progress(Console(file=text)) as view:
        view.start(units(), Dashboard(1, "token", "here"))
        view.warn(HOSTILE)
    for line in text.getvalue().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)
    assert "\x1b" not in text.getvalue()
    assert "warning: a host says " in text.getvalue()
    assert "[red]no[/red]" in text.getvalue()
