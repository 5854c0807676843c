"""How far a list is while it is at work: a small file for people, on which nothing depends."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cah_dask.images.outcomes import Ledger
from cah_dask.images.web.repeater import Repeater
from cah_dask.urls import host_of

EVERY_S = 5.0
"""Seconds between two looks."""

HOSTS = 3
"""Hosts that are named: those with the most urls without an outcome."""


class ListProgress(msgspec.Struct, frozen=True):
    """A list at one moment."""

    urls: int
    done: int
    """Urls that have an outcome."""
    n_bytes: int
    """Bytes received so far, in bodies."""
    seconds: float
    """Since it began."""
    hosts: dict[str, int]
    """Urls of the hosts with the most of them that are to be asked, for the first time or again."""
    again: int = 0
    """Urls that failed and are to be asked again."""


@contextlib.contextmanager
def progress_written(
    path: Path | None, ledger: Ledger, n_bytes: Callable[[], int], *, every_s: float = EVERY_S
) -> Iterator[None]:
    """Write down how far a list is, again and again while the block lasts; then the file goes.

    A file that cannot be written is not: whatever is wrong shows where it matters.
    """
    if path is None:
        yield
        return
    started = time.monotonic()
    unfinished = path.with_suffix(".unfinished")

    def write() -> None:
        left = ledger.left()
        now = ListProgress(
            urls=len(ledger),
            done=len(ledger) - len(left),
            n_bytes=n_bytes(),
            seconds=time.monotonic() - started,
            hosts=dict(Counter(map(host_of, left)).most_common(HOSTS)),
            again=min(ledger.n_tried_again, len(left)),
        )
        with contextlib.suppress(OSError):
            unfinished.write_bytes(msgspec.json.encode(now))
            unfinished.replace(path)

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Repeater(write, every_s):
            yield
    finally:
        for each in (unfinished, path):
            with contextlib.suppress(OSError):
                each.unlink()


def read_progress(path: Path) -> ListProgress | None:
    """Return what a file says; None if it is gone, or torn."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ListProgress)
    return None
