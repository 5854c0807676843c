"""Which rows are dropped by their scores, and under which reason they are counted."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.options import Limit, Rules


def reason(rule: str) -> str:
    """Return what the rows that a rule drops are counted under."""
    return f"rule_{rule}"


def apply_rules(
    rules: Rules, scores: Mapping[str, Scores], n_rows: int
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Find the rows that rules drop; each is counted once, for the first rule by name.

    Parameters
    ----------
    scores
        ``(n_rows,)`` float32 by name.

    Returns
    -------
    tuple
        Whether a row is kept, and how many were dropped by reason.
    """
    is_kept = np.ones(n_rows, bool)
    dropped: dict[str, int] = {}
    for rule, limits in sorted(rules.items()):
        is_meant = np.ones(n_rows, bool)
        for name, limit in limits.items():
            is_meant &= ~_is_within(scores[name], limit)
        if count := int((is_kept & is_meant).sum()):
            dropped[reason(rule)] = count
        is_kept &= ~is_meant
    return is_kept, dropped


def _is_within(scores: Scores, limit: Limit) -> npt.NDArray[np.bool_]:
    """Tell whether a score is none that a limit is about, in float32; NaN never is."""
    outside = np.zeros(len(scores), bool)
    if limit.above is not None:
        outside |= scores > np.float32(limit.above)
    if limit.below is not None:
        outside |= scores < np.float32(limit.below)
    return ~(outside | np.isnan(scores))


def scores_of(rules: Rules) -> list[str]:
    """Return the names of the scores that rules are about, each once."""
    return list(dict.fromkeys(name for limits in rules.values() for name in limits))


def require_known(rules: Rules, scores: Sequence[str]) -> None:
    """Check that rules are about scores that there are.

    Raises
    ------
    ConfigError
        In one line, for the first that is not.
    """
    for rule, limits in rules.items():
        for name, limit in limits.items():
            if name not in scores:
                known = f"known: {', '.join(scores)}" if scores else "this run has no scores"
                raise ConfigError(f"select.drop.{rule} is about the score {name}; {known}")
            if limit == Limit():
                raise ConfigError(f"select.drop.{rule}.{name} needs above or below")
