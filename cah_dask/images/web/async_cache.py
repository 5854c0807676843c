"""One answer for many askers: a function that runs once per key, however many wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Once(Generic[K, T]):
    """Remembers what an async function returned for each key.

    Parameters
    ----------
    function
        Must report failures as values: it runs in a task of its own.
    """

    def __init__(self, function: Callable[[K], Awaitable[T]]) -> None:
        self._function = function
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def get(self, key: K) -> T:
        """Return the value; one who stops waiting leaves the others undisturbed."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(self._run(key))
        return task.result() if task.done() else await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """Have the next asker run the function again."""
        self._tasks.pop(key, None)

    async def _run(self, key: K) -> T:
        return await self._function(key)
