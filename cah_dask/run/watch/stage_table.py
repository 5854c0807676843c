"""A table of the stages of a run that is readable on a terminal of any width."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.table import Table
from rich.text import Text


class _Column(NamedTuple):
    """A column of the table."""

    name: str
    min_width: int
    from_width: int = 0
    """Characters of a terminal that is wide enough for it."""
    is_text: bool = False


_COLUMNS = (
    _Column("stage", 8, is_text=True),
    _Column("tasks", 7),
    _Column("rows", 10, 48),
    _Column("kept", 10, 48),
    _Column("rows/s", 6, 64),
    _Column("left", 7, 40),
    _Column("rejected", 16, 90, is_text=True),
)


def stage_table(stages: Iterable[Mapping[str, str]], width: int) -> Table:
    """Return as many columns as are readable side by side; only the reasons are ever cut off.

    Parameters
    ----------
    stages
        The cells of each stage, by name of the column.
    width
        Characters of the terminal.
    """
    columns = [column for column in _COLUMNS if column.from_width <= width]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.name,
            justify="left" if column.is_text else "right",
            no_wrap=column.name != "rejected",  # the one that gives way
            min_width=column.min_width,
        )
    for cells in stages:
        table.add_row(
            *(Text(cells[column.name], no_wrap=True, overflow="ellipsis") for column in columns)
        )
    return table
