"""What becomes of a record: the reasons in `Counts.rejected`, and notes beside them."""

from enum import StrEnum

from cah_dask.schema import Counts


class Outcome(StrEnum):
    """Why a record that the filter of the config let through went no further."""

    # of the cpu pool
    NOT_WANTED = "not_wanted"
    HOOK_ERROR = "hook_error"
    HOOK_TIMEOUT = "hook_timeout"
    HOOK_CRASH = "hook_crash"
    BAD_ITEM = "bad_item"
    # of the gpu pool
    MODEL_ERROR = "model_error"
    BAD_SCORE = "bad_score"
    KEEP_ERROR = "keep_error"
    BELOW = "below"


FAULTS = frozenset({*Outcome}) - {Outcome.NOT_WANTED, Outcome.BELOW}
"""Those that tell of a fault of a hook."""

STOPS_AT = 16
"""Records of one archive, all of which met a fault, that tell of a fault of the hook itself."""


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
