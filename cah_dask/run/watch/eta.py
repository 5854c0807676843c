"""When a run is done."""

from collections.abc import Mapping, Sequence

import numpy as np

from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.watch.figures import StageFigures

_IN_ORDER = (EXTRACT.name, DEDUP.name, DOWNLOAD.name, EMBED.name)


def left_s(stages: Mapping[str, StageFigures], blocked: Mapping[str, int]) -> float | None:
    """Estimate the seconds until the last list is embedded.

    Stages work side by side, so the slowest sets the pace: the longest time of any stage for what
    it has left, and for its last task in the stages behind it. Lists of buckets that are not
    deduplicated yet are taken to be as many as those before had. Extract and dedup wait for the
    stages behind them and then do much at once, so theirs is the rate over all their time; that of
    download and embed is the one of the second half, as workers come and go.

    Parameters
    ----------
    blocked
        By stage, tasks that will not be done, as they or what they need is given up.

    Returns
    -------
    float or None
        None until a list is embedded; 0 once all are that can be. What comes after, select and
        pack, reads no more than the similarities and vectors and is not in it.
    """
    dedup, embed = stages.get(DEDUP.name), stages.get(EMBED.name)
    if dedup is None or embed is None or not dedup.done or not embed.done:
        return None
    growth = (dedup.known - blocked.get(DEDUP.name, 0)) / dedup.done
    longest = behind = 0.0
    for stage in (stages[name] for name in reversed(_IN_ORDER)):
        is_list = stage.name in (DOWNLOAD.name, EMBED.name)
        known = stage.known * (growth if is_list else 1.0)
        left = known - stage.done - blocked.get(stage.name, 0)
        rate = (stage.tasks_per_s if is_list else 0.0) or stage.mean_tasks_per_s
        if left > 0 and not (stage.done and rate):
            return None
        if left > 0:
            not_begun = max(0.0, left - rate * stage.task_s)
            longest = max(longest, not_begun / rate + stage.tail_s + behind)
        behind += stage.task_s
    return longest


def tail_s(seconds: Sequence[float], at_work: float) -> float:
    """Estimate when the last one of some tasks ends that are at work and began at any time.

    Parameters
    ----------
    seconds
        How long tasks like them took.
    at_work
        How many they are, 1 or more.

    Returns
    -------
    float
        Seconds from now, as likely too many as too few; 0 without any. Of a task that is met at
        work, long ones are met the more often, the rest is longer than t with a probability of
        sum(max(0, seconds - t)) / sum(seconds).
    """
    times = np.concatenate([[0.0], np.sort(seconds)])
    from_here = np.cumsum(times[::-1])[::-1]
    beyond = from_here - times * np.arange(len(times), 0, -1)
    is_longer = 1 - 0.5 ** (1 / at_work)
    return float(np.interp(beyond[0] * is_longer, beyond[::-1], times[::-1]))
