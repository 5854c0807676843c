"""Pictures on their way into the shard, written by a thread: the download waits for no disk."""

from collections import deque
from types import TracebackType
from typing import Self

from cah_dask.images.shards import ShardWriter
from cah_dask.images.web.repeater import Repeater

_WRITE_S = 1.0
_WRITE_BYTES = 1 << 20  # to wake a thread costs as much as to write a small picture
_FULL_BYTES = 32 << 20


class Backlog:
    """Hands pictures to a shard writer in the order in which they come; a context manager."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._waiting: deque[bytes] = deque()
        self._thread = Repeater(self._write, _WRITE_S)
        self._n_added = len(writer)
        self._added_bytes = self._written_bytes = 0

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.__exit__(error_type, error, traceback)
        if error is None:
            self._thread.check()
            self._write()

    @property
    def is_full(self) -> bool:
        """Tell whether the disk is so far behind that whoever adds has to wait."""
        return self._behind_bytes > _FULL_BYTES

    @property
    def _behind_bytes(self) -> int:
        return self._added_bytes - self._written_bytes

    def add(self, data: bytes) -> int:
        """Append one encoded image and return the row that it will have.

        Raises
        ------
        RunError
            If an earlier one could not be written.
        """
        self._thread.check()
        self._waiting.append(data)
        self._added_bytes += len(data)
        if self._behind_bytes > _WRITE_BYTES:
            self._thread.wake()
        self._n_added += 1
        return self._n_added - 1

    def _write(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            self._writer.add(data)
            self._written_bytes += len(data)
