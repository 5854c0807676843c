"""The process in which `read` and `prepare` of a user run, because they may crash or hang.

It gets batches of records through a mailbox and answers each with what became of its records. In
other memory that it shares with who started it, it says which record it is at, and since when. It
ends when whoever started it does. Only itself answers, none of the processes that a hook forks.
"""

import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from cah_dask.archives.responses import Response
from cah_dask.classify.arrays import packed
from cah_dask.classify.hooks import Item, Prepare, Read
from cah_dask.classify.identity import Digests, require_same
from cah_dask.classify.loading import prepare_of, read_of, told
from cah_dask.classify.mailbox import Mailbox
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.outcomes import Outcome
from cah_dask.errors import ConfigError

AT = struct.Struct("<qq")
"""What is shared: the place of a record in its batch, -1 for none, and when it was begun, ns."""

NOBODY = -1

_READY = b""

_DATA = 5
"""Which number of statm counts the pages that RLIMIT_DATA limits."""

_PR_SET_PDEATHSIG = 1


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What became of one record."""

    outcome: str
    """Empty if it is an item now; else why not."""
    arrays: bytes = b""
    payload: bytes = b""
    """The item as bytes, if it was asked for."""
    message: str = ""
    """What a hook that failed said."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Records to work on."""

    number: int
    records: list[Response]


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """What became of each record of a batch."""

    number: int
    """Of the batch."""
    answers: list[Answer]


class Order(msgspec.Struct, frozen=True):
    """What the process is told at its start."""

    options: ClassifyOptions
    expected: Digests
    """What the files of the hooks hold."""
    shows: bool = False
    """Whether it makes what a report shows, not what a model takes."""


class HookTimeout(BaseException):
    """A hook takes too long; no Exception, so that hooks do not take it for one of theirs."""


class Hooks:
    """`read` and `prepare`, which cost the record that they fail for.

    Parameters
    ----------
    prepare
        None if there is no model that takes arrays.
    with_payload
        Whether items are wanted as bytes, too.
    """

    def __init__(
        self,
        read: Read,
        prepare: Prepare | None,
        *,
        timeout_s: float,
        with_payload: bool,
        shows: bool,
    ) -> None:
        self._read = read
        self._prepare = prepare
        self._timeout_s = timeout_s
        self._with_payload = with_payload
        self._shows = shows

    def answer(self, record: Response) -> Answer:
        """Return what becomes of a record."""
        try:
            signal.setitimer(signal.ITIMER_REAL, self._timeout_s)
            try:
                return self._answer(record)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except HookTimeout:
            message = f"takes more than {self._timeout_s:g} s"
            return Answer(Outcome.HOOK_TIMEOUT, message=message)

    def _answer(self, record: Response) -> Answer:
        found, fault = _called(self._item, "read", record)
        if fault:
            return Answer(Outcome.HOOK_ERROR, message=fault)
        item, payload = found
        if item is None:
            return Answer(Outcome.NOT_WANTED)
        if self._shows:
            from cah_dask.classify.shown import shown  # noqa: PLC0415  # Pillow is slow to start

            return Answer("", payload=shown(item, record.body))
        return Answer("", payload=payload) if self._prepare is None else self._made(item, payload)

    def _item(self, record: Response) -> tuple[Item | None, bytes]:
        item = self._read(record)
        return item, payload_of(item, record.body) if self._with_payload else b""

    def _made(self, item: Item, payload: bytes) -> Answer:
        arrays, fault = _called(self._prepare, "prepare", item)
        if fault:
            return Answer(Outcome.HOOK_ERROR, message=fault)
        data, fault = _called(packed, "prepare", arrays)
        return Answer(Outcome.BAD_ITEM, message=fault) if fault else Answer("", data, payload)


def _called(hook: Any, name: str, given: Any) -> tuple[Any, str]:
    """Return what a hook returns, and what went wrong if it raises."""
    try:
        return hook(given), ""
    except HookTimeout:
        raise
    except BaseException as error:  # noqa: BLE001  # whatever it does; Rust's panics, exit()
        return None, f"{name}: {told(error)}"


def payload_of(item: Any, body: bytes) -> bytes:
    """Return what is stored of an item: its own `payload` if it has one, else the item itself.

    A text becomes UTF-8, bytes stay as they are; of anything else the body of its record is stored.
    """
    item = getattr(item, "payload", item)
    if isinstance(item, str):
        return item.encode("utf-8", "replace")
    return bytes(item) if isinstance(item, bytes) else body


def main() -> None:
    """Serve until whoever started this process is gone."""
    *fds, parent = map(int, sys.argv[1:])
    for fd in fds:  # who started it waits for their end, which programs must not hold up
        os.set_inheritable(fd, False)  # noqa: FBT003
    socket, memory, shared = fds
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver; our input will end
    signal.signal(signal.SIGALRM, _on_alarm)
    place = mmap.mmap(shared, AT.size)
    try:
        _serve(Mailbox(memory, socket), place)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _on_alarm(_: int, __: FrameType | None) -> None:
    raise HookTimeout


def _serve(mailbox: Mailbox, place: mmap.mmap) -> None:
    order = msgspec.msgpack.decode(mailbox.receive(), type=Order)
    options, pid = order.options, os.getpid()
    try:
        if order.expected:
            require_same(options, order.expected, ("read", "prepare"))
        hooks = Hooks(
            read_of(options),
            prepare_of(options) if options.model else None,
            timeout_s=options.hook_timeout_s,
            with_payload=options.payload != "none",
            shows=order.shows,
        )
    except ConfigError as error:
        _end_if_forked(pid)
        mailbox.send(str(error).encode("utf-8", "backslashreplace"))
        return
    _end_if_forked(pid)
    _limit_memory(options.hook_memory_gb)
    mailbox.send(_READY)
    decoder = msgspec.msgpack.Decoder(Batch)
    while True:
        batch = decoder.decode(mailbox.receive())
        answers = Answers(batch.number, _answers(batch.records, hooks, place))
        mailbox.send(msgspec.msgpack.encode(answers))


def _answers(records: Sequence[Response], hooks: Hooks, place: mmap.mmap) -> list[Answer]:
    answers, pid = [], os.getpid()
    for number, record in enumerate(records):
        AT.pack_into(place, 0, number, time.monotonic_ns())
        answers.append(hooks.answer(record))
        _end_if_forked(pid)
    AT.pack_into(place, 0, NOBODY, time.monotonic_ns())
    return answers


def _limit_memory(gigabytes: float) -> None:
    """Limit what this process may take of memory beyond what it has."""
    n_pages = int(Path("/proc/self/statm").read_text().split()[_DATA])
    n_bytes = n_pages * mmap.PAGESIZE + int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))


def _end_if_forked(pid: int) -> None:
    """End a copy that a hook made of this process."""
    if os.getpid() != pid:
        os._exit(1)


if __name__ == "__main__":
    main()
