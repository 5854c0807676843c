"""What a person sees of a run: a live table on a terminal, plain lines anywhere else."""

import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.driver import Units
from cah_dask.run.folder.journal import Commit
from cah_dask.run.stages import Stage
from cah_dask.run.watch.stage_table import stage_table
from cah_dask.words import printable, span

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines; a batch log wants few of them."""

_RATE_WINDOW_S = 60.0
_TIME = "%Y-%m-%d %H:%M:%S"


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
            self._print(self._line())

    def start(self, units: Units, dashboard: Dashboard) -> None:
        """Learn that the scheduler is up and where its dashboard is.

        Its link holds a token: a terminal is private, a batch log may be read by others.
        """
        self._units = units
        if self._console.is_terminal:
            self._print(f"dashboard: {dashboard.link}")
        self._print(f"dashboard from elsewhere: {dashboard.tunnel} (then see dashboard.txt)")

    def update(self, commit: Commit) -> None:
        """Learn of a commit."""
        now = self._clock()
        self._recent.append((now, commit.stage, commit.receipt.counts.seen))
        while self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()
        if self._live is None and now - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = now
            self._print(self._line())

    def say(self, message: str) -> None:
        """Show a line of news."""
        self._print(message)

    def warn(self, message: str) -> None:
        """Show something that a person may want to act on."""
        self._print(f"warning: {message}")

    def _print(self, message: str) -> None:
        """Print a line, with the time where lines are all there is."""
        time = "" if self._console.is_terminal else f"{datetime.now(UTC).astimezone():{_TIME}} "
        line = printable(f"{time}{message}")
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _table(self) -> RenderableType:
        """Return what is known of each stage."""
        if self._units is None:
            return Text("starting workers")
        cells = [self._cells(self._units, stage) for stage in self._units.stages]
        return stage_table(cells, self._console.width)

    def _cells(self, units: Units, stage: Stage) -> dict[str, str]:
        counts = units.counts[stage]
        return {
            "stage": stage.name,
            "tasks": f"{units.done[stage]}/{units.known[stage]}",
            "rows": f"{counts.seen:,}",
            "kept": f"{counts.kept:,}",
            "rows/s": f"{self._rate(stage):,.0f}",
            "left": self._left(stage),
            "rejected": ", ".join(f"{k} {n:,}" for k, n in Counter(counts.rejected).most_common(4)),
        }

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
        return span(tasks * max(1.0, self._clock() - self._recent[0][0]) / recent)
