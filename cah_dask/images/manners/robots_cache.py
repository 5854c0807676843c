"""What robots.txt said, kept from one list of a bucket to the next ones.

It is a cache: where the file is missing, damaged or old, hosts are asked again and nothing else
happens.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.errors import RetryableError, RunError
from cah_dask.images.web.fetch import ROBOTS_BYTES
from cah_dask.schema import ROBOTS
from cah_dask.storage import staged

logger = logging.getLogger(__name__)

KEEP = timedelta(hours=24)
"""How long an answer is believed (RFC 9309 2.4)."""

LIMIT_BYTES = 64 << 20
"""Bytes of text that one file may hold; the oldest entries make room. A list of 10,000 hosts takes
about 10 MB, unless its hosts mean harm."""

_ENTRY_BYTES = 300
"""What an entry takes besides its text."""


@dataclass(frozen=True, slots=True)
class _Entry:
    fetched_at: datetime
    lines: str


class RobotsFile:
    """The robots.txt of the origins of one bucket; a context manager, read and then replaced.

    A place is an origin, or the url of a robots.txt that has moved away from its usual path; see
    `schema.ROBOTS`.

    It is replaced however the list ends: what was learned is true, and another attempt at the list
    need not ask again. Of two attempts at once the last one's file stays.

    Parameters
    ----------
    path
        Where earlier lists left it, or nothing; None keeps nothing beyond this list.
    clock
        Returns the time of day.
    """

    def __init__(
        self,
        path: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._has_news = False

    def __enter__(self) -> Self:
        if self._path is not None:
            entries = _read(self._path)
            self._entries = {p: entry for p, entry in entries.items() if self._is_believed(entry)}
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._path is not None and self._has_news:
            _write(self._path, dict(self._worth_keeping()))

    def get(self, place: str) -> str | None:
        """Return the lines that a place has for us, empty if it allows all; None if unknown."""
        entry = self._entries.get(place)
        return entry.lines if entry is not None and self._is_believed(entry) else None

    def put(self, place: str, lines: str) -> None:
        """Remember what a place has just said."""
        self._entries[place] = _Entry(self._clock(), lines)
        self._has_news = True

    def repeat(self, of: str, places: Iterable[str]) -> None:
        """Remember that some places say what another one said, as long as that is believed."""
        self._entries.update(dict.fromkeys(places, self._entries[of]))
        self._has_news = True

    def _is_believed(self, entry: _Entry) -> bool:
        return abs(self._clock() - entry.fetched_at) < KEEP  # clocks of two nodes may differ

    def _worth_keeping(self) -> Iterator[tuple[str, _Entry]]:
        """Yield the newest entries, as many as there is room for, none longer than is read."""
        room = LIMIT_BYTES
        newest = sorted(self._entries.items(), key=lambda item: item[1].fetched_at, reverse=True)
        for place, entry in newest:
            n_bytes = len(entry.lines.encode())
            if n_bytes > ROBOTS_BYTES or not self._is_believed(entry):
                continue
            room -= n_bytes + len(place) + _ENTRY_BYTES
            if room < 0:
                return
            yield place, entry


def _read(path: Path) -> dict[str, _Entry]:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        if not table.schema.equals(ROBOTS):
            raise ValueError(f"its columns are {table.schema.names}")
        rows = table.to_pylist()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, ArithmeticError, pa.ArrowException) as error:
        logger.warning("%s cannot be read (%s): hosts are asked for robots.txt again", path, error)
        return {}
    return {row["place"]: _Entry(row["fetched_at"], row["rules"]) for row in rows}


def _write(path: Path, entries: dict[str, _Entry]) -> None:
    rows = [
        {"place": place, "fetched_at": entry.fetched_at, "rules": entry.lines}
        for place, entry in sorted(entries.items())
    ]
    table = pa.Table.from_pylist(rows, schema=ROBOTS)
    try:
        with staged(path) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
    except (OSError, RetryableError, RunError) as error:
        logger.warning("%s cannot be written (%s): hosts will be asked again", path, error)
