"""One answer for many askers: a function that runs once per key, however many wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Remembers what an async function returned for each key.

    Parameters
    ----------
    function
        Must report failures as values: it runs in a task of its own.
    """

    def __init__(self, function: Callable[[str], Awaitable[T]]) -> None:
        self._function = function
        self._tasks: dict[str, asyncio.Task[T]] = {}

    def known(self, key: str) -> T | None:
        """Return the value if it is there and need not be waited for."""
        task = self._tasks.get(key)
        return task.result() if task is not None and task.done() else None

    async def get(self, key: str) -> T:
        """Return the value; one who stops waiting leaves the others undisturbed."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(self._run(key))
        return task.result() if task.done() else await asyncio.shield(task)

    def forget(self, key: str) -> None:
        """Have the next asker run the function again."""
        self._tasks.pop(key, None)

    async def _run(self, key: str) -> T:
        return await self._function(key)
