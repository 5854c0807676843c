"""A function that is called again and again in a thread of its own, as it may wait for a disk."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Repeater:
    """Calls a function every so many seconds; a context manager.

    Parameters
    ----------
    function
        Is called by one thread, never twice at a time, and no more once it has failed.
    every_s
        Seconds from the end of one call to the next.
    """

    def __init__(self, function: Callable[[], object], every_s: float) -> None:
        self._function = function
        self._every_s = every_s
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._is_due = threading.Event()
        self._is_over = False
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        self._is_due.set()
        self._thread.join()

    def wake(self) -> None:
        """Have the next call come at once."""
        self._is_due.set()

    def check(self) -> None:
        """Raise what a call has raised."""
        if self._error is not None:
            raise self._error

    def _repeat(self) -> None:
        self._is_due.wait(self._every_s)
        while not self._is_over and self._error is None:
            self._is_due.clear()
            try:
                self._function()
            except Exception as error:  # noqa: BLE001  `check` raises it where it is heard
                self._error = error
            self._is_due.wait(self._every_s)
