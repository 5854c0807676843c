"""Signals that tell a run to stop, minded from its first line to its last."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

GRACE_S = {signal.SIGINT: 60.0, signal.SIGTERM: 20.0, signal.SIGUSR2: 200.0}
"""Seconds that running tasks get to commit after a signal told the run to stop: a person waits;
scancel kills after 30 s; slurm/launch.sh asks for USR2 300 s before the end of the job."""


STOPPED = 75
"""Exit code of a process that a signal stopped: the same command goes on (EX_TEMPFAIL)."""


def end_at_once() -> None:
    """Let signals end this process at once, in order: for where nothing is begun, or all is done.

    An exception would be lost where Python drops those of callbacks, as often while it imports.
    """
    for kind in GRACE_S:
        signal.signal(kind, _end)


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    with contextlib.suppress(OSError):
        os.write(2, b"stopped; run the same command again\n")
    os._exit(STOPPED)


def ignore() -> None:
    """Let signals change nothing any more."""
    for kind in GRACE_S:
        signal.signal(kind, signal.SIG_IGN)


class Stopped(BaseException):
    """A signal came where nothing is under way that it should wait for."""

    def __init__(self, kind: signal.Signals) -> None:
        super().__init__(kind.name)
        self.kind = kind


class Signals:
    """While entered, stop signals reach a listener, or raise `Stopped` where there is none."""

    def __init__(self) -> None:
        self._listener: Callable[[signal.Signals], None] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._last: signal.Signals | None = None

    def __enter__(self) -> Self:
        self._before = {kind: signal.signal(kind, self._on_signal) for kind in GRACE_S}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        kind = signal.Signals(number)
        if self._listener is None:
            self._last = kind
            raise Stopped(kind)
        self._listener(kind)

    @contextlib.contextmanager
    def heard_by(self, listener: Callable[[signal.Signals], None]) -> Iterator[None]:
        """Let a listener hear the signals; it is called between any two lines of the program.

        Raises
        ------
        Stopped
            If one came before, and Python dropped what `_on_signal` raised in a callback.
        """
        if self._last is not None:
            raise Stopped(self._last)
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None


class StoppedByHand(Signals):
    """Signals of a job in a thread, which get none: another thread stops it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was changed."""

    def stop(self) -> None:
        """Stop the job as an interrupt would."""
        self._last = signal.SIGINT
        if self._listener is not None:
            self._listener(signal.SIGINT)
