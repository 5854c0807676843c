"""Applying a filter to batches: which rows are kept, and how many each rule rejects."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cah_dask.counts import Counts
from cah_dask.curate.filters.cells import EMPTY_CELL, complete
from cah_dask.curate.filters.file import Filter
from cah_dask.curate.filters.node import Test, Tools
from cah_dask.curate.pools.pool import Batch, Pool
from cah_dask.errors import ConfigError

ALONE = "alone"
"""The notes, by rule, of how many rows each keeps of all."""


def strict_columns(filter_: Filter) -> list[str]:
    """Return the columns that a filter needs a value of in each row, in a fixed order."""
    return sorted({column for leaf in filter_.leaves() for column in leaf.columns})


def columns(filter_: Filter) -> list[str]:
    """Return the columns that a filter looks at, and the uid, in a fixed order."""
    sparse = {column for leaf in filter_.leaves() for column in leaf.sparse_columns}
    return sorted({"uid", *strict_columns(filter_), *sparse})


def vectors(filter_: Filter) -> list[str]:
    """Return the arrays that a filter looks at, in a fixed order."""
    return sorted({name for leaf in filter_.leaves() for name in leaf.vectors})


def require_columns(filter_: Filter, pool: Pool) -> None:
    """Check that a pool has what a filter looks at.

    Raises
    ------
    ConfigError
        In one line, for the first that is missing.
    """
    for kind, wanted, there in (
        ("column", columns(filter_), pool.columns),
        ("vectors", vectors(filter_), list(pool.vectors)),
    ):
        if missing := [name for name in wanted if name not in there]:
            raise ConfigError(
                f"{pool.path} has no {kind} {missing[0]}; it has {', '.join(there) or 'none'}"
            )


def tests(filter_: Filter, tools: Tools) -> list[tuple[str, Test]]:
    """Load what the rules of a filter need, and return the test of each, in order."""
    return [(rule.name, rule.node.test(tools)) for rule in filter_.rules]


class Rules:
    """A filter at work on some rows; counts what it was shown.

    Parameters
    ----------
    tests
        As `tests` returned them.
    is_trial
        Whether each rule is asked for all rows, for `Counts.notes`.
    """

    def __init__(
        self, filter_: Filter, tests: Sequence[tuple[str, Test]], *, is_trial: bool = False
    ) -> None:
        self._tests = tests
        self._strict = strict_columns(filter_)
        self._drops_nulls = filter_.nulls == "drop"
        self._is_trial = is_trial
        self._seen = self._kept = 0
        self._rejected: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()

    def keep(self, batch: Batch) -> Batch:
        """Return the rows that are kept; see `complete` for errors."""
        self._seen += len(batch)
        whole = complete(batch, self._strict, drops=self._drops_nulls)
        self._rejected[EMPTY_CELL] += len(batch) - len(whole)
        batch = whole
        if self._is_trial:
            batch = self._tried(batch)
        else:
            for name, test in self._tests:
                if not len(batch):
                    break
                found = test(batch)
                self._rejected[name] += int((~found).sum())
                batch = batch.where(found)
        self._kept += len(batch)
        return batch

    def _tried(self, batch: Batch) -> Batch:
        is_kept = np.ones(len(batch), bool)
        for name, test in self._tests:
            found = test(batch)
            self._alone[f"{ALONE}/{name}"] += int(found.sum())
            self._rejected[name] += int((is_kept & ~found).sum())
            is_kept &= found
        return batch.where(is_kept)

    @property
    def counts(self) -> Counts:
        """What became of all rows."""
        rejected = {name: n for name, n in sorted(self._rejected.items()) if n}
        return Counts(self._seen, self._kept, rejected, dict(sorted(self._alone.items())))
