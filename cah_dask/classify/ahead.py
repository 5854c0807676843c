"""Something is made ready while something else is at work."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2
"""Things that are made before they are asked for: what is held in memory."""


def ahead(
    things: Iterable[T], waited: Callable[[float], None] = lambda _: None
) -> Generator[T, None, None]:
    """Yield the same things, made by a thread ahead of the caller.

    Parameters
    ----------
    waited
        Is told the seconds for which the caller had to wait for one.
    """
    source = iter(things)
    end = object()
    with ThreadPoolExecutor(1, "ahead") as reader:
        coming = deque(reader.submit(next, source, end) for _ in range(AHEAD))
        try:
            while True:
                started = time.perf_counter()
                thing = coming.popleft().result()
                if thing is end:
                    return
                coming.append(reader.submit(next, source, end))
                waited(time.perf_counter() - started)
                yield thing  # type: ignore[misc]  # not the end
        finally:
            reader.shutdown(cancel_futures=True)
