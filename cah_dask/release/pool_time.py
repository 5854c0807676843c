"""For how long a run held the workers of its pools: what it is charged for, busy or not."""

from datetime import datetime

import msgspec


class Midst(msgspec.Struct, frozen=True):
    """What a driver sees of one pool while lists are embedded.

    That is from the first list that can be embedded to the last, without pauses of the downloads:
    before, after and in those, pools idle as there is nothing to do for them.
    """

    busy: float
    """Share of its workers that have a task."""
    ready: dict[str, int]
    """By stage, tasks that a free worker could take."""


class PoolLook(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver sees of one pool at one look."""

    jobs: int
    """Slurm jobs that run."""
    pending: int
    """Jobs that wait in Slurm."""
    held: int
    """Worker processes: all those of jobs that run, and those on the driver's own machine."""
    gpus: int = 0
    """GPUs of jobs that run, as far as `gres` names them, and those that processes here use."""
    connected: int
    """Workers that are connected."""
    midst: Midst | None = None
    """None also without workers."""


class PoolTime(msgspec.Struct, frozen=True, kw_only=True):
    """The looks at one pool over all drivers: seconds, and what was seen times seconds."""

    looked_s: float = 0.0
    jobs_s: float = 0.0
    pending_s: float = 0.0
    held_s: float = 0.0
    gpus_s: float = 0.0
    connected_s: float = 0.0
    midst_s: float = 0.0
    """Seconds that had a `Midst`."""
    midst_workers_s: float = 0.0
    """Connected workers in these."""
    busy_s: float = 0.0
    ready_s: dict[str, float] = {}

    def plus(self, seconds: float, seen: PoolLook) -> "PoolTime":
        """Return the same with a time in which the pool was as one look saw it."""
        midst = seen.midst
        busy, ready = (0.0, {}) if midst is None else (midst.busy, midst.ready)
        return PoolTime(
            looked_s=self.looked_s + seconds,
            jobs_s=self.jobs_s + seconds * seen.jobs,
            pending_s=self.pending_s + seconds * seen.pending,
            held_s=self.held_s + seconds * seen.held,
            gpus_s=self.gpus_s + seconds * seen.gpus,
            connected_s=self.connected_s + seconds * seen.connected,
            midst_s=self.midst_s + (seconds if midst is not None else 0.0),
            midst_workers_s=self.midst_workers_s
            + (seconds * seen.connected if midst is not None else 0.0),
            busy_s=self.busy_s + seconds * busy,
            ready_s={
                stage: self.ready_s.get(stage, 0.0) + seconds * ready.get(stage, 0)
                for stage in (self.ready_s | ready)
            },
        )


class PoolTimes(msgspec.Struct, frozen=True):
    """The pools of a run by their name."""

    since: datetime
    """When the first of its drivers began to look."""
    pools: dict[str, PoolTime] = {}
