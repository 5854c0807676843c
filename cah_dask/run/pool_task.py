"""What all jobs over a pool tell their workers, and how these read it."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.pools.pool import Batch, Pool
from cah_dask.errors import RunError
from cah_dask.run.task import Task


class PoolTask(Task, frozen=True, kw_only=True):
    """One unit of a job over a pool."""

    pool: str
    columns: dict[str, str]
    """Names of columns in the pool, by ours."""
    stamp: str
    """What the unit of the pool is to the driver (`Pool.stamp`); empty if the unit is another."""
    units: int
    """Of the pool."""

    @property
    def opened(self) -> Pool:
        """The pool."""
        return _pool(self.config_hash, self.pool, tuple(sorted(self.columns.items())))

    def read(
        self, number: int, columns: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Yield the batches of a unit of the pool.

        Raises
        ------
        RunError
            If it is not the pool that the driver saw.
        InputError
            If it is not what it promised.
        """
        if self.stamp and self.opened.stamp(self.unit.number) != self.stamp:
            raise RunError(
                f"{self.pool} has changed since the job began; run the same command again"
            )
        yield from self.opened.batches(number, columns, vectors)


@cache
def _pool(_: str, path: str, columns: tuple[tuple[str, str], ...]) -> Pool:
    """Open a pool once per worker and job."""
    return open_pool(Path(path), dict(columns))
