"""What a person sees of a job: a live view on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeAlias

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.watch.figures import Figures, JobFigures
from cah_dask.run.watch.terminal import clock, line, view
from cah_dask.words import printable

LIVE_INTERVAL_S = 1.0
PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines; a batch log wants few of them."""

Source: TypeAlias = Callable[[], Figures | JobFigures]


class Progress:
    """A `session.View` on a rich console; a context manager, so that the terminal is restored."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._source: Source | None = None
        self._figures: Figures | JobFigures | None = None
        self._due = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._view, refresh_per_second=2
            )
            self._live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._source is not None:
            self._show(self._source)
        if self._live is not None:
            self._live.stop()

    def start(self, dashboard: Dashboard) -> None:
        """Learn that the scheduler is up and where its dashboard is.

        Its link holds a token: a terminal is private, a batch log may be read by others.
        """
        if self._console.is_terminal:
            self._print(f"dashboard: {dashboard.link}")
        self._print(f"dashboard from elsewhere: {dashboard.tunnel} (then see dashboard.txt)")

    def look(self, figures: Source, *, at_once: bool = False) -> None:
        """Show the figures if it is time to, or `at_once`; the last are asked for in the end."""
        self._source = figures
        now = self._clock()
        if at_once or now >= self._due:
            self._due = now + (LIVE_INTERVAL_S if self._live else PLAIN_INTERVAL_S)
            self._show(figures)

    def say(self, message: str) -> None:
        """Show a line of news."""
        self._print(message)

    def warn(self, message: str) -> None:
        """Show something that a person may want to act on."""
        self._print(f"warning: {message}")

    def _show(self, figures: Source) -> None:
        """Take what the thread of the live view draws, which may have to wait for the terminal."""
        self._figures = figures()
        if self._live is None:
            self._put(line(self._figures))

    def _print(self, message: str) -> None:
        """Print a line, with the time where lines are all there is."""
        self._put(message if self._console.is_terminal else f"{clock(datetime.now(UTC))} {message}")

    def _put(self, text: str) -> None:
        self._console.print(printable(text), soft_wrap=True, markup=False, highlight=False)

    def _view(self) -> RenderableType:
        if self._figures is None:
            return Text("starting workers")
        return view(self._figures, self._console.width)
