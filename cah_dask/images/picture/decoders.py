"""Processes that hash and decode, because a fault in a C library must cost one image.

What a decoder is to work on lies in its inbox, a file in memory; its standard input tells the
length, and it answers on its standard output, with a length before each answer. It holds no other
file, no socket and little memory, and ends when its input does, so none outlives the task that
started it. One that crashes or hangs is replaced, and its image tried once more.

Own code, as pools of processes (pebble, concurrent.futures) copy an image through a pipe and a
pickle each way, which costs more than hashing it.
"""

import asyncio
import contextlib
import hashlib
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, replace
from io import FileIO
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from cah_dask.counts import Status
from cah_dask.errors import RetryableError
from cah_dask.images.picture.decode import DecodeOptions, Picture, decode

_LENGTH_BYTES = 4
_MEMORY_BYTES = 3 << 29  # address space: enough for any picture that DecodeOptions allow by default
_READ_BYTES = 1 << 20
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": f"{64 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}
"""glibc keeps what is freed for the next picture, up to 64 MB: each cost 195 page faults before."""
_READY = b"\n"
_UNCHANGED = b""
"""What an answer holds in place of a picture to be stored as received."""
_TRIES = 2
_STARTS = 3
_START_S = 120.0  # a cold start of Python from a busy parallel file system


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """What one received file is: its hashes, and a picture if the status is ok."""

    status: Status
    sha256: str
    md5: str
    sha1: str | None
    picture: Picture | None = None


class Task(msgspec.Struct, frozen=True, array_like=True):
    """What a decoder does with every file."""

    options: DecodeOptions
    with_sha1: bool = False


def judge(data: bytes, task: Task) -> Verdict:
    """Hash and decode one file."""
    result = decode(data, task.options)
    if isinstance(result, Picture):
        return _verdict(data, task, Status.OK, result)
    return _verdict(data, task, result)


def _verdict(
    data: bytes | bytearray, task: Task, status: Status, picture: Picture | None = None
) -> Verdict:
    sha256 = hashlib.sha256(data).hexdigest()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest() if task.with_sha1 else None
    return Verdict(status, sha256, md5, sha1, picture)


@dataclass(slots=True)
class _Decoder:
    process: Process
    requests: asyncio.StreamWriter
    answers: asyncio.StreamReader
    inbox: FileIO
    """Written over and over, as new memory costs more than what it holds."""
    owes_answer: bool = False
    """Set while it works on an image, and for good if nobody waits for the answer any more."""

    def is_usable(self) -> bool:
        """Tell whether it lives, and its next answer will belong to the next image."""
        is_alive = self.process.returncode is None and not self.answers.at_eof()
        return is_alive and not self.owes_answer


class Decoders:
    """A fixed number of decoder processes; an async context manager.

    Parameters
    ----------
    task
        What to keep and how, and which hashes to take.
    processes
        How many images are decoded at the same time.
    timeout_s
        Seconds one image may take before its decoder is replaced.
    """

    def __init__(self, task: Task, *, processes: int, timeout_s: float) -> None:
        self._task = task
        self._processes = processes
        self._timeout_s = timeout_s
        self._idle: asyncio.LifoQueue[_Decoder] = asyncio.LifoQueue()

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._processes):
                self._idle.put_nowait(await _start(self._task))
        except BaseException:
            await self._stop_all()
            raise
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop_all()

    async def judge(self, data: bytes | bytearray) -> Verdict:
        """Return the verdict on one file; a crash or a hang of two decoders in a row is one, too.

        One that dies may have been killed, as out-of-memory killers do; the image is not to blame
        before it has done the same to another one.

        Raises
        ------
        RetryableError
            If a new decoder does not start, or there is no memory for the file.
        """
        decoder = await self._idle.get()
        try:
            for _ in range(_TRIES):
                if not decoder.is_usable():  # killed while idle, or its last image was cancelled
                    decoder = await self._replaced(decoder)
                with contextlib.suppress(TimeoutError, OSError, EOFError):
                    async with asyncio.timeout(self._timeout_s):
                        return await _ask(decoder, data)
                decoder = await self._replaced(decoder)
            return _verdict(data, self._task, Status.DECODE_CRASH)
        finally:
            self._idle.put_nowait(decoder)

    async def _replaced(self, decoder: _Decoder) -> _Decoder:
        await _stop(decoder)
        return await _start(self._task)

    async def _stop_all(self) -> None:
        while not self._idle.empty():
            await _stop(self._idle.get_nowait())


async def _start(task: Task) -> _Decoder:
    """Start a decoder; one that dies before it is ready may have been killed, as later ones."""
    for _ in range(_STARTS - 1):
        with contextlib.suppress(RetryableError):
            return await _start_once(task)
    return await _start_once(task)


async def _start_once(task: Task) -> _Decoder:
    """Start a decoder, and wait until it is ready so that no image is blamed if it never is."""
    inbox = FileIO(os.memfd_create("inbox"), "w")
    command = (sys.executable, "-m", "cah_dask.images.picture.decoders", str(inbox.fileno()))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            limit=_READ_BYTES,
            env=os.environ | _ALLOCATION,
            pass_fds=[inbox.fileno()],
        )
    except BaseException:
        inbox.close()
        raise
    if process.stdin is None or process.stdout is None:
        raise RetryableError(f"no pipe to a decoder: {' '.join(command)}")
    decoder = _Decoder(process, process.stdin, process.stdout, inbox)
    try:
        async with asyncio.timeout(_START_S):
            _send(decoder, msgspec.msgpack.encode(task))
            await decoder.answers.readexactly(len(_READY))
    except BaseException as error:
        await _stop(decoder)
        if isinstance(error, TimeoutError | OSError | EOFError):
            raise RetryableError(f"a decoder does not start: {' '.join(command)}") from error
        raise
    return decoder


async def _ask(decoder: _Decoder, data: bytes | bytearray) -> Verdict:
    decoder.owes_answer = True
    _send(decoder, data)
    length = int.from_bytes(await decoder.answers.readexactly(_LENGTH_BYTES))
    verdict = msgspec.msgpack.decode(await decoder.answers.readexactly(length), type=Verdict)
    decoder.owes_answer = False
    return _restored(verdict, data)


def _send(decoder: _Decoder, data: bytes | bytearray) -> None:
    try:
        n_bytes = os.pwrite(decoder.inbox.fileno(), data, 0)
    except OSError as error:
        raise RetryableError(f"no memory for an image of {len(data)} bytes: {error}") from error
    if n_bytes < len(data):
        raise RetryableError(f"no memory for an image of {len(data)} bytes")
    decoder.requests.write(len(data).to_bytes(_LENGTH_BYTES))


async def _stop(decoder: _Decoder) -> None:
    """Kill the process and wait until its pipes are closed."""
    decoder.requests.close()
    decoder.inbox.close()
    with contextlib.suppress(ProcessLookupError):
        decoder.process.kill()
    await decoder.answers.read()
    await decoder.process.wait()


def main() -> None:
    """Serve as a decoder until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver; our input will end
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)


def _serve(inbox: int, requests: BinaryIO, answers: BinaryIO) -> None:
    task = msgspec.msgpack.decode(_receive(inbox, requests), type=Task)
    answers.write(_READY)
    answers.flush()
    while True:
        data = _receive(inbox, requests)
        frame = msgspec.msgpack.encode(_shortened(judge(data, task), data))
        answers.write(len(frame).to_bytes(_LENGTH_BYTES) + frame)
        answers.flush()


def _shortened(verdict: Verdict, data: bytes) -> Verdict:
    """Leave out a picture that is to be stored as received; whoever asked has it."""
    picture = verdict.picture
    if picture is None or picture.data is not data:
        return verdict
    return msgspec.structs.replace(verdict, picture=replace(picture, data=_UNCHANGED))


def _restored(verdict: Verdict, data: bytes | bytearray) -> Verdict:
    """Undo `_shortened`."""
    picture = verdict.picture
    if picture is None or picture.data != _UNCHANGED:
        return verdict
    return msgspec.structs.replace(verdict, picture=replace(picture, data=bytes(data)))


def _receive(inbox: int, requests: BinaryIO) -> bytes:
    """Return what is in the inbox once its length is told.

    Raises
    ------
    EOFError
        If it never is, because whoever started this process has closed the pipe or is gone.
    """
    length = requests.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        raise EOFError
    return os.pread(inbox, int.from_bytes(length), 0)


if __name__ == "__main__":
    main()
