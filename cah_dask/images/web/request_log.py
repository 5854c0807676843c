"""Every request of one fetch list, for whoever must answer a complaint.

The log grows as an Arrow stream, which can be read up to where a killed process left it, and
becomes a part when its list ends, however that ends. A thread writes it every few seconds,
whether or not there are requests, and nobody waits for the disk.
"""

import contextlib
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.images.web.repeater import Repeater
from cah_dask.images.web.responses import Answer
from cah_dask.schema import REQUESTS
from cah_dask.storage import Receipt, disk_errors, write_part

UNFINISHED = ".arrows"
"""Suffix of a log whose list is at work, or was killed."""

_FLUSH_ROWS = 1000
_FLUSH_S = 10.0


class RequestLog:
    """Writes down requests as they end; a context manager, for one thread.

    Parameters
    ----------
    path
        Where the part will be; a name of its own for each attempt at a list.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_suffix(UNFINISHED)
        self._rows: deque[tuple[object, ...]] = deque()
        self._flusher = Repeater(self._flush, _FLUSH_S)

    def __enter__(self) -> Self:
        with disk_errors(self._path), contextlib.ExitStack() as stack:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = stack.enter_context(self._unfinished.open("wb"))
            self._stream = stack.enter_context(pa.ipc.new_stream(self._file, REQUESTS))
            stack.callback(self._finish)
            stack.enter_context(self._flusher)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with disk_errors(self._path):
            self._stack.close()
            requests = read_log(self._unfinished)
            counts = Counts(len(requests), len(requests))
            receipt = Receipt(stage="requests", unit=self._path.stem, config="", counts=counts)
            write_part(self._path, REQUESTS, [requests], receipt)
            self._unfinished.unlink()

    def note(self, url: str, address: str, answer: Answer, n_bytes: int) -> None:
        """Write down a request that has just ended, with the bytes received of its body.

        Raises
        ------
        RunError
            If what was noted before could not be written.
        """
        self._flusher.check()
        self._rows.append(
            (
                datetime.now(UTC),
                url,
                address,
                answer.status,
                answer.http_status,
                n_bytes,
                round(1000 * answer.seconds),
            )
        )
        if len(self._rows) >= _FLUSH_ROWS:
            self._flusher.wake()

    def _finish(self) -> None:
        self._flusher.check()
        self._flush()

    def _flush(self) -> None:
        rows = [self._rows.popleft() for _ in range(len(self._rows))]
        if not rows:
            return
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(column, part.type) for column, part in zip(columns, REQUESTS, strict=True)
        ]
        with disk_errors(self._path):
            self._stream.write_batch(pa.record_batch(arrays, schema=REQUESTS))
            self._file.flush()


def read_log(path: Path) -> pa.Table:
    """Return all requests of a log that a killed process may have left, as far as it got."""
    batches = []
    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError):
        for batch in pa.ipc.open_stream(file):
            batches.append(batch)  # noqa: PERF402  what came before a torn end counts
    return pa.Table.from_batches(batches, REQUESTS)
