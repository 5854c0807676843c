"""Asks a process of hooks about batches of records, and replaces it when it dies or hangs."""

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self, cast

import msgspec

from cah_dask.archives.responses import Response
from cah_dask.classify.hook_output import KEPT_BYTES, HookOutput, lines_of
from cah_dask.classify.hook_process import AT, NOBODY, Answer, Answers, Batch, Order
from cah_dask.classify.identity import Digests
from cah_dask.classify.mailbox import Mailbox
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.outcomes import Outcome
from cah_dask.errors import RetryableError, RunError

NOTHING: Digests = {}

_TRIES = 2
"""A record is not to blame for a process that dies before it has done the same to another one."""
_STARTS = 5
_START_S = 300.0  # a cold import from a busy parallel file system
_WORDS = 300
_GRACE = 1.0
_LOOK_S = 1.0

_DECODER = msgspec.msgpack.Decoder(Answers)


class HookRunner:
    """`read` and `prepare` in a process of their own; a context manager.

    Ask with `send`, then `receive`; whoever asks may do something else in between.

    Parameters
    ----------
    expected
        What the files of the hooks hold; nothing if that does not matter.
    shows
        Whether it makes what a report shows, not what a model takes.
    """

    def __init__(
        self, options: ClassifyOptions, expected: Digests = NOTHING, *, shows: bool = False
    ) -> None:
        self._order = Order(options, dict(expected), shows)
        self._timeout_s = options.hook_timeout_s
        self._process: _Process | None = None
        self._printed = b""
        self._batch: Sequence[Response] = ()
        self._asked = Batch(0, [])
        self._asked_ns = 0

    def __enter__(self) -> Self:
        self._process = self._started()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def printed(self) -> list[str]:
        """The last lines that its processes printed that are gone."""
        return lines_of(self._printed)

    def send(self, batch: Sequence[Response]) -> None:
        """Have records worked on; `receive` tells what became of them."""
        self._batch = batch
        self._ask(batch)

    def receive(self) -> list[Answer]:
        """Return what became of each record of the batch that was sent.

        Raises
        ------
        RetryableError
            If the process does not start again.
        RunError
            If its hooks cannot be built on this node.
        """
        settled: dict[int, Answer] = {}
        tries: Counter[int] = Counter()
        n_deaths = 0
        left = list(range(len(self._batch)))
        while True:
            answers, at, hangs = self._answers()
            if answers is not None:
                settled.update(zip(left, answers, strict=True))
                return [settled[number] for number in range(len(self._batch))]
            if at == NOBODY:
                n_deaths += 1
                if n_deaths == _STARTS:
                    raise RetryableError(
                        f"the process of the hooks dies between records{self._last_words()}"
                    )
            else:
                culprit = left[at]
                tries[culprit] += 1
                if hangs or tries[culprit] == _TRIES:
                    settled[culprit] = _blamed(self._timeout_s, hangs=hangs)
                    left.remove(culprit)
            self._stop()
            self._process = self._started()
            self._ask([self._batch[number] for number in left])

    def _ask(self, batch: Sequence[Response]) -> None:
        self._asked = Batch(self._asked.number + 1, list(batch))
        self._asked_ns = time.monotonic_ns()
        if self._process is not None:
            with contextlib.suppress(OSError):  # it died: `receive` finds out
                self._process.mailbox.send(msgspec.msgpack.encode(self._asked))

    def _answers(self) -> tuple[list[Answer] | None, int, bool]:
        """Return the answers; or None, where the process was, and whether it hung."""
        process = self._process
        if process is None:
            return None, NOBODY, False
        with contextlib.suppress(EOFError, OSError, msgspec.DecodeError):
            while not process.poll(_LOOK_S):
                at, since = AT.unpack_from(process.place)
                if self._is_late(at, since):
                    return None, at, at != NOBODY
            found = _DECODER.decode(process.mailbox.receive())
            if (found.number, len(found.answers)) == (self._asked.number, len(self._asked.records)):
                return found.answers, NOBODY, False
        return None, AT.unpack_from(process.place)[0], False

    def _is_late(self, at: int, since_ns: int) -> bool:
        """Tell whether a record takes too long, or what is between records."""
        limit_s = _START_S if at == NOBODY else self._timeout_s * (1 + _GRACE) + _GRACE
        return time.monotonic_ns() - max(since_ns, self._asked_ns) > limit_s * 1e9

    def _started(self) -> "_Process":
        """Start a process; one that dies before it is ready may have been killed, as later ones."""
        for _ in range(_STARTS):
            process = _Process()
            try:
                process.mailbox.send(msgspec.msgpack.encode(self._order))
                if process.poll(_START_S):
                    refusal = process.mailbox.receive().decode()
                    if not refusal:
                        return process
                    self._printed = process.stop()
                    raise RunError(f"{os.uname().nodename}: {refusal}")
            except (EOFError, OSError):
                pass
            self._printed = process.stop()
        raise RetryableError(f"the process of the hooks does not start{self._last_words()}")

    def _last_words(self) -> str:
        last = [line.strip() for line in self.printed if line.strip()][-1:]
        return "".join(f"; the last that it printed: {line[:_WORDS]}" for line in last)

    def _stop(self) -> None:
        if self._process is not None:
            self._printed = (self._printed + self._process.stop())[-KEPT_BYTES:]
            self._process = None


def _blamed(timeout_s: float, *, hangs: bool) -> Answer:
    if hangs:
        message = f"takes more than {timeout_s:g} s, and could not be interrupted"
        return Answer(Outcome.HOOK_TIMEOUT, message=message)
    return Answer(Outcome.HOOK_CRASH, message="its process died")


class _Process:
    """A process, the way to it, and the memory in which it says where it is."""

    def __init__(self) -> None:
        shared, memory = os.memfd_create("place"), os.memfd_create("mailbox")
        ours, theirs = socket.socketpair()
        os.ftruncate(shared, AT.size)
        self.place = mmap.mmap(shared, AT.size)
        AT.pack_into(self.place, 0, NOBODY, 0)
        with theirs:
            fds = (theirs.fileno(), memory, shared)
            module = "cah_dask.classify.hook_process"
            words = (sys.executable, "-Pum", module, *map(str, fds), str(os.getpid()))
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                start_new_session=True,
            )
        self._output = HookOutput(cast("IO[bytes]", self._process.stdout))
        os.close(shared)
        self.mailbox = Mailbox(memory, ours.detach())

    def poll(self, seconds: float) -> bool:
        """Wait until it says something, and tell whether it is so in time.

        Raises
        ------
        EOFError
            If it is gone, even if something that it started is not.
        """
        until = time.monotonic() + seconds
        while not self.mailbox.poll(_LOOK_S):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT  # `stop` needs its number still
            if os.waitid(os.P_PID, self._process.pid, options) is not None:
                raise EOFError
            if time.monotonic() >= until:
                return False
        return True

    def stop(self) -> bytes:
        """Kill it and what it started; return the last that it printed once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.mailbox.close()
        self.place.close()
        return self._output.end()
