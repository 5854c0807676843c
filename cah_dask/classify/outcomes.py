"""What becomes of a record: the reasons in `Counts.rejected`."""

from enum import StrEnum


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
