"""What a process of hooks prints: taken at once, so that it never waits; the last is kept."""

import os
import threading
from typing import IO

from cah_dask.words import printable

KEPT_BYTES = 4000

_PIECE_BYTES = 1 << 16
_END_S = 1.0  # a program that it started may live on


class HookOutput:
    """The last that a process prints.

    Parameters
    ----------
    stream
        Where it can be read; closed at its end.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._last = b""
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def end(self) -> bytes:
        """Return the last that a process printed that is gone."""
        self._thread.join(_END_S)
        return self._last

    def _take(self) -> None:
        with self._stream:
            while piece := os.read(self._stream.fileno(), _PIECE_BYTES):
                self._last = (self._last + piece)[-KEPT_BYTES:]


def lines_of(printed: bytes) -> list[str]:
    """Return what was printed as lines that may be shown on a terminal."""
    return printable(printed.decode("utf-8", "replace")).splitlines()
