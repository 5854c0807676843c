"""Tables of the stages and pools of a job that are readable on a terminal of any width."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from cah_dask.run.watch.figures import PoolFigures, StageFigures
from cah_dask.words import printable, span


class _Column(NamedTuple):
    """A column of a table."""

    name: str
    min_width: int
    from_width: int = 0
    """Characters of a terminal that is wide enough for it."""
    is_text: bool = False
    gives_way: bool = False
    """Whether it may be cut off."""


_OF_STAGES = (
    _Column("stage", 8, is_text=True),
    _Column("tasks", 7),
    _Column("rows", 10, 48),
    _Column("kept", 10, 48),
    _Column("rows/s", 6, 64),
    _Column("left", 7, 40),
    _Column("rejected", 16, 90, is_text=True, gives_way=True),
)

_OF_POOLS = (
    _Column("pool", 8, is_text=True),
    _Column("workers", 7),
    _Column("busy", 5),
    _Column("jobs", 7, 40),
    _Column("pending in Slurm", 16, 64, is_text=True, gives_way=True),
)


def stage_table(stages: Iterable[StageFigures], width: int) -> Table:
    """Return as many columns as are readable side by side; only the reasons are ever cut off.

    Parameters
    ----------
    width
        Characters of the terminal.
    """
    return _table(_OF_STAGES, map(_stage, stages), width)


def pool_table(pools: Sequence[PoolFigures], width: int) -> Table:
    """Return the same of pools: jobs are those that run of those that there is work for."""
    columns = _OF_POOLS if any(pool.is_slurm for pool in pools) else _OF_POOLS[:-1]
    return _table(columns, map(_pool, pools), width)


def _stage(stage: StageFigures) -> dict[str, str]:
    return {
        "stage": stage.name,
        "tasks": f"{stage.done:,}/{stage.known:,}",
        "rows": f"{stage.seen:,}",
        "kept": f"{stage.kept:,}",
        "rows/s": f"{stage.rows_per_s:,.0f}",
        "left": span(stage.left_s),
        "rejected": ", ".join(f"{reason} {n:,}" for reason, n in stage.rejected.items()),
    }


def _pool(pool: PoolFigures) -> dict[str, str]:
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in pool.reasons.items())
    return {
        "pool": pool.name,
        "workers": f"{pool.workers:,}",
        "busy": "-" if pool.busy is None else f"{pool.busy:.0%}",
        "jobs": f"{pool.running:,}/{pool.wanted:,}",
        "pending in Slurm": reasons or f"{pool.pending:,}" if pool.is_slurm else "",
    }


def _table(columns: Sequence[_Column], rows: Iterable[Mapping[str, str]], width: int) -> Table:
    shown = [column for column in columns if column.from_width <= width]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in shown:
        table.add_column(
            column.name,
            justify="left" if column.is_text else "right",
            no_wrap=not column.gives_way,
            min_width=column.min_width,
        )
    for cells in rows:
        texts = (printable(cells[column.name]) for column in shown)
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
    return table
