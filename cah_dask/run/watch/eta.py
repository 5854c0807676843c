"""When a run is done."""

from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.watch.figures import StageFigures


def left_s(stages: dict[str, StageFigures]) -> float | None:
    """Estimate the seconds until the last list is embedded.

    Stages work side by side, so the slowest sets the pace: the longest time of any stage for what
    it has left. Lists of buckets that are not deduplicated yet are taken to be as many as those
    before had. Extract and dedup wait for the stages behind them and then do much at once, so
    theirs is the rate over all their time; that of download and embed is the one of the second
    half, as workers come and go.

    Returns
    -------
    float or None
        None until a list is embedded; 0 once all are. What comes after, select and pack, reads no
        more than the similarities and vectors and is not in it.
    """
    dedup, embed = stages.get(DEDUP.name), stages.get(EMBED.name)
    if dedup is None or embed is None or not dedup.done or not embed.done:
        return None
    growth = dedup.known / dedup.done
    times = []
    for name in (EXTRACT.name, DEDUP.name, DOWNLOAD.name, EMBED.name):
        stage = stages[name]
        is_list = name in (DOWNLOAD.name, EMBED.name)
        left = stage.known * (growth if is_list else 1.0) - stage.done
        rate = (stage.tasks_per_s if is_list else 0.0) or stage.mean_tasks_per_s
        if left > 0:
            times.append(left / rate if stage.done and rate else float("inf"))
    longest = max(times, default=0.0)
    return None if longest == float("inf") else longest
