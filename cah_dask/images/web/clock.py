"""An event loop whose clock stands still while the loop cannot run.

A process that is stopped for a while (a suspended job, a moved virtual machine), or that waits for
a file system, hears nothing of the web meanwhile. All deadlines and rates go by the clock of the
loop, so such time is nobody's fault: it is taken out before the loop looks what is due.
"""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_SPELL_S = 0.5  # longest wait in one go, so that a wait that was too long is seen
_SLACK_S = 0.5  # a loop that comes this late is merely busy


class _Selector(selectors.DefaultSelector):
    """Waits in short spells, and adds up the time that was lost."""

    def __init__(self) -> None:
        super().__init__()
        self._seen_at = time.monotonic()
        self._lost_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; may return without any before the time is over, as asyncio allows."""
        self._look(0.0)
        spell_s = _SPELL_S if timeout is None else min(max(timeout, 0.0), _SPELL_S)
        events = super().select(spell_s)
        self._look(spell_s)
        return events

    def _look(self, expected_s: float) -> None:
        now = time.monotonic()
        late_s = now - self._seen_at - expected_s
        if late_s > _SLACK_S:
            self._lost_s += late_s - _SLACK_S
        self._seen_at = now

    def time(self) -> float:
        """Return the monotonic time without what was lost, be it since the last wait."""
        now = min(time.monotonic(), self._seen_at + _SLACK_S)
        return now - self._lost_s


class SteadyLoop(asyncio.SelectorEventLoop):
    """An event loop that runs by the clock described above."""

    def __init__(self) -> None:
        selector = _Selector()
        self._clock = selector.time
        super().__init__(selector)

    def time(self) -> float:
        """Return the time by which everything in this loop is due."""
        return self._clock()


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a steady loop, also below a loop that runs (a notebook)."""
    return _run_apart(main) if _has_loop() else _run(main)


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=SteadyLoop) as runner:
        return runner.run(main)


def _run_apart(main: Coroutine[Any, Any, T]) -> T:
    """Run in a thread of its own; who interrupts the wait for it ends it, too."""
    tasks: SimpleQueue[asyncio.Task[T] | None] = SimpleQueue()

    async def noted() -> T:
        tasks.put(asyncio.current_task())
        return await main

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(_run, noted())
        try:
            return future.result()
        except KeyboardInterrupt:
            task = tasks.get()
            if task is not None:
                with contextlib.suppress(RuntimeError):  # its loop has ended
                    task.get_loop().call_soon_threadsafe(task.cancel)
            raise
