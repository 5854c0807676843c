"""What was read of an archive, as notes of what was scored."""

from cah_dask.counts import Counts

_SEEN = "read/seen"
_REJECTED = "read/rejected/"


def as_notes(read: Counts) -> dict[str, int]:
    """Return what was read as notes of what was scored, which outlives it."""
    lost = {f"{_REJECTED}{reason}": n for reason, n in read.rejected.items()}
    return {_SEEN: read.seen, **lost, **read.notes}


def from_notes(scored: Counts) -> Counts:
    """Return what was read, from the counts of what was scored."""
    lost = {
        name.removeprefix(_REJECTED): n
        for name, n in scored.notes.items()
        if name.startswith(_REJECTED)
    }
    return Counts(scored.notes.get(_SEEN, 0), scored.seen, lost)
