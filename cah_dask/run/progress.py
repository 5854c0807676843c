"""What a person sees of a run: a live table on a terminal, plain lines anywhere else."""

import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.driver import Units
from cah_dask.run.journal import Commit
from cah_dask.run.stages import Stage
from cah_dask.words import printable

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines; a batch log wants few of them."""

_RATE_WINDOW_S = 60.0


class Progress:
    """A `session.View` on a rich console; a context manager, so that the terminal is restored."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._units: Units | None = None
        self._recent: deque[tuple[float, str, int]] = deque()
        self._last_line = -PLAIN_INTERVAL_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._table, refresh_per_second=2
            )
            self._live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._units is not None:
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def start(self, units: Units, dashboard: Dashboard) -> None:
        """Learn that the scheduler is up and where its dashboard is.

        Its link holds a token: a terminal is private, a batch log may be read by others.
        """
        self._units = units
        if self._console.is_terminal:
            self._console.print(f"dashboard: {dashboard.link}", soft_wrap=True, highlight=False)
        line = f"dashboard from elsewhere: {dashboard.tunnel} (then see dashboard.txt)"
        self._console.print(line, soft_wrap=True, highlight=False)

    def update(self, commit: Commit) -> None:
        """Learn of a commit."""
        now = self._clock()
        self._recent.append((now, commit.stage, commit.receipt.counts.seen))
        while self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()
        if self._live is None and now - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = now
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def say(self, message: str) -> None:
        """Show a line of news."""
        self._console.print(printable(message), soft_wrap=True, markup=False, highlight=False)

    def warn(self, message: str) -> None:
        """Show something that a person may want to act on."""
        self._console.print(
            f"warning: {printable(message)}", soft_wrap=True, markup=False, highlight=False
        )

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("stage", "tasks", "rows", "kept", "rows/s", "left", "rejected"):
            is_text = name in ("stage", "rejected")
            table.add_column(name, justify="left" if is_text else "right", no_wrap=is_text)
        if self._units is None:
            table.add_row("starting workers")
            return table
        for stage in self._units.stages:
            counts = self._units.counts[stage]
            table.add_row(
                stage.name,
                f"{self._units.done[stage]}/{self._units.known[stage]}",
                f"{counts.seen:,}",
                f"{counts.kept:,}",
                f"{self._rate(stage):,.0f}",
                self._left(stage),
                ", ".join(f"{k} {n:,}" for k, n in Counter(counts.rejected).most_common(4)),
            )
        return table

    def _line(self) -> str:
        units = self._units
        if units is None:
            return "starting workers"
        parts = [
            f"{stage} {units.done[stage]}/{units.known[stage]} tasks, "
            f"{units.counts[stage].kept:,} of {units.counts[stage].seen:,} rows"
            for stage in units.stages
            if units.done[stage]
        ]
        return "; ".join(parts) or "no task is finished yet"

    def _rate(self, stage: Stage) -> float:
        """Return rows per second of a stage over the last minute."""
        if not self._recent:
            return 0.0
        span = max(1.0, self._clock() - self._recent[0][0])
        return sum(rows for _, kind, rows in self._recent if kind == stage.name) / span

    def _left(self, stage: Stage) -> str:
        """Estimate the time left for the tasks known so far, from those of the last minute."""
        if self._units is None:
            return ""
        tasks = self._units.known[stage] - self._units.done[stage]
        recent = sum(1 for _, kind, _ in self._recent if kind == stage.name)
        if not tasks or not recent:
            return ""
        seconds = tasks * max(1.0, self._clock() - self._recent[0][0]) / recent
        return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds:.0f} s"
