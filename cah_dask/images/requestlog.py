"""Every request of one fetch list, for whoever must answer a complaint.

The log grows as an Arrow stream, which can be read up to where a killed process left it, and
becomes a parquet file when its list ends, however that ends.
"""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.images.answers import Answer
from cah_dask.schema import REQUESTS
from cah_dask.storage import disk_errors, staged

UNFINISHED = ".arrows"
"""Suffix of a log whose list is at work, or was killed."""

_FLUSH_ROWS = 1000
_FLUSH_S = 10.0


class RequestLog:
    """Writes down requests as they end; a context manager, for one thread.

    Parameters
    ----------
    path
        Where the parquet file will be; a name of its own for each attempt at a list.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_suffix(UNFINISHED)
        self._rows: list[tuple[object, ...]] = []
        self._flushed_at = time.monotonic()

    def __enter__(self) -> Self:
        with disk_errors(self._path), contextlib.ExitStack() as stack:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = stack.enter_context(self._unfinished.open("wb"))
            self._stream = stack.enter_context(pa.ipc.new_stream(self._file, REQUESTS))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with disk_errors(self._path):
            with self._stack:
                self._flush()
            with staged(self._path) as temporary:
                pq.write_table(read_log(self._unfinished), temporary, compression="zstd")
            self._unfinished.unlink()

    def note(self, url: str, address: str, answer: Answer, n_bytes: int) -> None:
        """Write down a request that has just ended, with the bytes received of its body."""
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
        is_due = time.monotonic() - self._flushed_at > _FLUSH_S
        if is_due or len(self._rows) == _FLUSH_ROWS:
            with disk_errors(self._path):
                self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(REQUESTS)
        arrays = [
            pa.array(column, part.type) for column, part in zip(columns, REQUESTS, strict=True)
        ]
        self._stream.write_batch(pa.record_batch(arrays, schema=REQUESTS))
        self._file.flush()
        self._rows.clear()
        self._flushed_at = time.monotonic()


def read_log(path: Path) -> pa.Table:
    """Return all requests of a log that a killed process may have left, as far as it got."""
    batches = []
    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError):
        for batch in pa.ipc.open_stream(file):
            batches.append(batch)  # noqa: PERF402  what came before a torn end counts
    return pa.Table.from_batches(batches, REQUESTS)
