"""The failed attempts of a job, a line each: what a person looks at when units are missing.

Nothing depends on it: a line that is torn or damaged is left out.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from cah_dask.run.folder.journal import Commit, Void
from cah_dask.run.settings.identity import is_of
from cah_dask.run.task import Failed
from cah_dask.run.unit import Unit
from cah_dask.storage import disk_errors

Entry: TypeAlias = Commit | Void

_DETAIL_CHARACTERS = 8_000
"""Of a trace; its end says what happened."""


class Then(StrEnum):
    """What followed from a failed attempt."""

    AGAIN = "again"
    GIVEN_UP = "given up"
    STOPPED = "stopped"
    """The job: a person must look."""


class Failure(msgspec.Struct, frozen=True):
    """One failed attempt at a unit."""

    at: datetime
    stage: str
    unit: str
    attempt: int
    """From 1 on, of this driver."""
    worker: str
    """Host and name; empty if the task was lost with its workers."""
    message: str
    detail: str
    """Trace of an unknown fault, or its end."""
    then: Then


def note(path: Path, unit: Unit, failed: Failed, attempt: int, then: Then) -> None:
    """Write down a failed attempt. Only the driver of the folder may."""
    failure = Failure(
        at=datetime.now(UTC),
        stage=unit.stage.name,
        unit=unit.name,
        attempt=attempt,
        worker=failed.worker,
        message=failed.message,
        detail=failed.detail[-_DETAIL_CHARACTERS:],
        then=then,
    )
    with disk_errors(path), path.open("ab") as file:
        file.write(msgspec.json.encode(failure) + b"\n")


def read(path: Path) -> Iterator[Failure]:
    """Yield all failed attempts, oldest first."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(line, type=Failure)


def undone(
    failures: Iterable[Failure],
    entries: Callable[[], Iterable[Entry]],
    variants: Mapping[str, str],
) -> list[Failure]:
    """Return the last failure of each unit that was given up or stopped the job, and is not done.

    Parameters
    ----------
    entries
        Gives the lines of the journal; asked for if there is any failure.
    variants
        Those that are asked about, as `identity.variants` has them: what failed while another
        release of the run was made is left out.
    """
    last = {
        (each.stage, each.unit): each
        for each in failures
        if each.then is not Then.AGAIN and is_of(variants, each.stage, each.unit)
    }
    for entry in entries() if last else ():
        failure = last.get((entry.stage, entry.unit))
        if failure and isinstance(entry, Commit) and entry.at >= failure.at:
            del last[entry.stage, entry.unit]
    return list(last.values())
