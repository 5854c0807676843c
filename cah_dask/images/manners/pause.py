"""The PAUSE file, which holds a run back while it exists."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from cah_dask.images.web import clock
from cah_dask.images.web.repeater import Repeater

PAUSED = "paused"
"""Part of a receipt's `timings`: for how long a list was held back."""

_CHECK_S = 1.0


class Pause:
    """Whether the run is paused: as long as a file exists, looked at once a second.

    A context manager if there is a file to be looked at.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._watch = Repeater(self._look, _CHECK_S)
        self._is_set = False
        self.paused_s = 0.0
        """Seconds that the waiter has waited for the file to go."""

    def __enter__(self) -> Self:
        self._look()
        self._watch.__enter__()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.__exit__(error_type, error, traceback)

    def now(self) -> float:
        """Return the time of the loop, less what the run has waited for the file to go."""
        return clock.now() - self.paused_s

    async def wait(self) -> None:
        """Return when the run is not paused; for one waiter."""
        if self.is_set():
            started_at = clock.now()
            await self.over()
            self.paused_s += clock.now() - started_at

    async def over(self) -> None:
        """Return when the run is not paused, and let the clock of `now` be."""
        while self.is_set():  # noqa: ASYNC110  a file sends no event
            await asyncio.sleep(_CHECK_S)

    def is_set(self) -> bool:
        """Tell whether the file was there when it was last looked for."""
        self._watch.check()
        return self._is_set

    def _look(self) -> None:
        self._is_set = self._path is not None and self._path.exists()
