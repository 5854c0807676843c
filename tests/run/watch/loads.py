"""Figures of runs that never were: of any load, for tests of what is said about them."""

from datetime import UTC, datetime
from typing import Any

from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, Stage
from cah_dask.run.watch.figures import (
    AT_WORK,
    Figures,
    HostFigures,
    ModelFigures,
    PoolFigures,
    StagedFigures,
    StageFigures,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def stage(of: Stage, **changes: Any) -> StageFigures:
    """Return a stage with half of its tasks done."""
    values: dict[str, Any] = {
        "name": of.name, "rows": of.rows, "known": 100, "done": 50, "running": 4, "waiting": 46,
        "failed": 0, "seen": 5000, "kept": 4000, "rejected": {"x": 1000}, "rows_per_s": 10.0,
        "tasks_per_s": 0.1, "mean_tasks_per_s": 0.1, "task_s": 9.0, "tail_s": 8.0, "left_s": 500.0,
    }  # fmt: skip
    return StageFigures(**(values | changes))


def pool(name: str, *stages: Stage, busy: float | None, **changes: Any) -> PoolFigures:
    """Return a pool of Slurm that has all four jobs it may have."""
    values: dict[str, Any] = {
        "name": name, "stages": tuple(each.name for each in stages), "is_slurm": True, "most": 4,
        "wanted": 4, "pending": 0, "reasons": {}, "running": 4, "workers": 4, "busy": busy,
    }  # fmt: skip
    return PoolFigures(**(values | changes))


def load(
    *, cpu: float | None = 0.5, io: float | None = 0.5, gpu: float | None = 0.8, **changes: Any
) -> Figures:
    """Return a run whose pools are busy for such shares of their time."""
    values: dict[str, Any] = {
        "at": NOW,
        "run": "run",
        "state": AT_WORK,
        "started": NOW,
        "last_commit": NOW,
        "verdict": [],
        "left_s": None,
        "stages": [stage(each) for each in (EXTRACT, DEDUP, DOWNLOAD, EMBED)],
        "pools": [
            pool("gpu", EMBED, busy=gpu),
            pool("io", DOWNLOAD, busy=io),
            pool("cpu", EXTRACT, DEDUP, busy=cpu),
        ],
        "staged": StagedFigures(n_bytes=10**9, bound=500 * 10**9),
        "model": ModelFigures(at_work=0.9, waiting_for_pictures=0.05, waiting_for_turn=0.02),
        "recent_outcomes": {"ok": 900, "http_404": 100},
        "moments": [],
        "histograms": [],
        "hosts": [],
        "recent_hosts": [],
        "pairs": [],
        "workers_given_up": [],
        "can_start": {"download": 40, "embed": 46},
    }
    return Figures(**(values | changes))


def host(name: str, **outcomes: int) -> HostFigures:
    """Return a host all of whose urls but the ok ones had trouble."""
    trouble = sum(outcomes.values()) - outcomes.get("ok", 0)
    return HostFigures(host=name, trouble=trouble, outcomes=outcomes)
