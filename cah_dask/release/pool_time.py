"""For how long a run held the workers of its pools: what it is charged for, busy or not."""

from datetime import datetime

import msgspec


class PoolTime(msgspec.Struct, frozen=True, kw_only=True):
    """What drivers saw of one pool, added up: seconds, and numbers of things times seconds."""

    looked_s: float = 0.0
    """In which a driver looked at the pool."""
    jobs_s: float = 0.0
    """Of Slurm jobs that ran."""
    pending_s: float = 0.0
    """Of jobs that waited in Slurm."""
    held_s: float = 0.0
    """Of worker processes: all those of jobs that ran, and those on the driver's own machine."""
    connected_s: float = 0.0
    """Of workers that were connected."""
    ready_s: dict[str, float] = {}
    """By stage: of tasks that a free worker could have taken."""

    def plus(self, seconds: float, seen: "PoolLook") -> "PoolTime":
        """Return the same with a time in which the pool was as one look saw it."""
        ready_s = {stage: seconds * number for stage, number in seen.ready.items()}
        return PoolTime(
            looked_s=self.looked_s + seconds,
            jobs_s=self.jobs_s + seconds * seen.jobs,
            pending_s=self.pending_s + seconds * seen.pending,
            held_s=self.held_s + seconds * seen.held,
            connected_s=self.connected_s + seconds * seen.connected,
            ready_s={
                stage: self.ready_s.get(stage, 0.0) + ready_s.get(stage, 0.0)
                for stage in (self.ready_s | ready_s)
            },
        )


class PoolLook(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver sees of one pool at one look."""

    jobs: int
    pending: int
    held: int
    """Worker processes that are paid for."""
    connected: int
    ready: dict[str, int]


class PoolTimes(msgspec.Struct, frozen=True):
    """The pools of a run by their name."""

    since: datetime
    """When the first of its drivers began to look."""
    pools: dict[str, PoolTime] = {}
