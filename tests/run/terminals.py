"""A pseudo-terminal: what a program shows on it, at what width."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from typing import Self

from rich.cells import cell_len

from tests import runs

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program on a terminal of so many characters; a context manager that ends it."""

    def __init__(
        self, command: Sequence[str], width: int, env: Mapping[str, str] = os.environ
    ) -> None:
        self._mine, theirs = os.openpty()
        self._shown: list[bytes] = []
        self.resize(width)
        sized = ("COLUMNS", "LINES", "NO_COLOR")
        env = {name: value for name, value in env.items() if name not in sized}
        env |= {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        """Read all that it is sent, so that no program has to wait for its terminal."""
        with contextlib.suppress(OSError):  # its program ended
            while more := os.read(self._mine, 1 << 16):
                self._shown.append(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._mine)

    def resize(self, width: int, height: int = 60) -> None:
        """Give it another size."""
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    @property
    def raw(self) -> str:
        """All that it was sent so far."""
        return b"".join(self._shown).decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The lines of all frames, without what moves the cursor and colours."""
        return re.split(r"[\r\n]+", _CONTROL.sub("", self.raw))

    def wait_for(self, text: str, times: int = 1) -> bool:
        """Wait until it was shown a text so many times from now on."""
        before = self.raw.count(text)
        return runs.wait_for(lambda: self.raw.count(text) >= before + times)

    def frame(self, first: str) -> list[str]:
        """Return the lines of the last whole frame, which begins with a text."""
        lines = self.lines
        starts = [number for number, line in enumerate(lines) if line.startswith(first)]
        return [line.rstrip() for line in lines[starts[-2] : starts[-1]]]


def widest(lines: Sequence[str]) -> int:
    """Return how many cells of a terminal the longest line takes."""
    return max(map(cell_len, lines))
