"""The predicate that depends on the whole pool: `top_fraction`, resolved by counting.

Scores are counted by the float16 number nearest to each, of which there are 65,536. Rounding keeps
their order, so the bin of a rank is known after one look at all scores. Published scores are
float16 numbers themselves; where others fall into that bin, a second look finds the right one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.curate.filters.cells import complete
from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.filters.numbers import numbers
from cah_dask.curate.pools.pool import Batch, Mask
from cah_dask.errors import ConfigError, InputError

ALL = ""
"""The group that all rows are of where no column says."""
NONE_KEPT = float("inf")
"""The threshold of a group without rows."""

TALLY = pa.schema(
    [
        pa.field("node", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("is_exact", pa.bool_(), nullable=False),
    ]
)
"""How many scores of a unit are, or round to, each value."""


class TopFraction(Predicate, frozen=True, kw_only=True):
    """Whether a score is among the highest of the pool; all that equal the lowest of them are.

    The rule of DataComp: of n scores in descending order the threshold is that at place
    ``int(n * fraction)``, counted from 0.
    """

    fraction: float | dict[str, float]
    """Above 0 and below 1; of several groups each its own, then the others keep nothing."""
    column: str = "similarity"
    by: str | None = None
    """The column whose values are groups, such as `split` or `lang`. Default: one group."""

    @property
    def key(self) -> str:
        """What tells it from other nodes of its kind."""
        return msgspec.json.encode(self, order="sorted").decode()

    @property
    def columns(self) -> list[str]:
        """Scores and groups."""
        return [self.column] if self.by is None else [self.column, self.by]

    def require_valid(self) -> None:
        """Check the fractions."""
        if isinstance(self.fraction, dict):
            if self.by is None:
                raise ConfigError("fraction: by groups needs `by`, the column that tells them")
            given = list(self.fraction.values())
        else:
            given = [self.fraction]
        if not all(0 < each < 1 for each in given):
            raise ConfigError("fraction: expected a number above 0 and below 1")

    def groups(self, batch: Batch) -> Iterator[tuple[str, Mask]]:
        """Yield the groups of a batch, each with its rows."""
        if self.by is None:
            yield ALL, np.ones(len(batch), bool)
            return
        cells = batch.table[self.by].combine_chunks().cast(pa.string()).dictionary_encode()
        indices = cells.indices.to_numpy()
        for at, name in enumerate(cells.dictionary.to_pylist()):
            yield name, indices == at

    def rank(self, group: str, n: int) -> int | None:
        """Return the place of the threshold among `n` scores; None for a group that keeps none."""
        fraction = self.fraction
        if isinstance(fraction, dict):
            if group not in fraction:
                return None
            fraction = fraction[group]
        return int(n * fraction)

    def test(self, tools: Tools) -> Test:
        """Return the comparison with what was resolved."""
        thresholds = tools.thresholds[self.key]

        def test(batch: Batch) -> Mask:
            values = numbers(batch, self.column).astype(np.float32)
            mask = np.zeros(len(batch), bool)
            for group, rows in self.groups(batch):
                mask |= rows & (values >= np.float32(thresholds.get(group, NONE_KEPT)))
            return mask

        return test


class Tally:
    """Counts the scores of a unit for some nodes, by the nearest float16 number.

    Parameters
    ----------
    drops_nulls
        Whether rows without a score or group are left out rather than a fault; see `complete`.
    """

    def __init__(self, nodes: Iterable[TopFraction], *, drops_nulls: bool = False) -> None:
        self._nodes = list(nodes)
        self._drops = drops_nulls
        self._found: dict[tuple[str, str], npt.NDArray[np.int64]] = {}

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch."""
        for node in self._nodes:
            whole = complete(batch, node.columns, drops=self._drops)
            values = numbers(whole, node.column).astype(np.float32)
            near = rounded(values)
            bits, is_exact = near.view(np.uint16), near == values
            for group, rows in node.groups(whole):
                if len(self._found) >= MOST_GROUPS and (node.key, group) not in self._found:
                    raise InputError(
                        f"top_fraction by {node.by}: more than {MOST_GROUPS} groups; choose a "
                        "column of fewer values"
                    )
                found = self._found.setdefault((node.key, group), np.zeros((2, _BINS), np.int64))
                found[0] += np.bincount(bits[rows & is_exact], minlength=_BINS)
                found[1] += np.bincount(bits[rows & ~is_exact], minlength=_BINS)

    @property
    def table(self) -> pa.Table:
        """What was counted, as `TALLY`."""
        pieces = [TALLY.empty_table()]
        for (key, group), found in sorted(self._found.items()):
            for counts, is_exact in zip(found, (True, False), strict=True):
                bits = np.flatnonzero(counts)
                values = bits.astype(np.uint16).view(np.float16).astype(np.float32)
                pieces.append(_tally(key, group, values, counts[bits], is_exact=is_exact))
        return pa.concat_tables(pieces)


class NearTally:
    """Counts one by one the scores of a unit that round to given numbers: a second look.

    Parameters
    ----------
    near
        By the key of a node and by group: `Resolution.open`.
    """

    def __init__(
        self,
        nodes: Iterable[TopFraction],
        near: Mapping[str, Mapping[str, float]],
        *,
        drops_nulls: bool = False,
    ) -> None:
        self._nodes = list(nodes)
        self._drops = drops_nulls
        self._near = near
        self._found: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = defaultdict(list)

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch."""
        for node in self._nodes:
            near = self._near.get(node.key, {})
            whole = complete(batch, node.columns, drops=self._drops)
            values = numbers(whole, node.column).astype(np.float32)
            for group, rows in node.groups(whole) if near else ():
                if group in near:
                    is_near = rows & (rounded(values) == np.float32(near[group]))
                    self._found[node.key, group].append(values[is_near])

    @property
    def table(self) -> pa.Table:
        """What was counted, as `TALLY`."""
        pieces = [TALLY.empty_table()]
        for (key, group), found in sorted(self._found.items()):
            values, counts = np.unique(np.concatenate(found), return_counts=True)
            pieces.append(_tally(key, group, values, counts, is_exact=True))
        return pa.concat_tables(pieces)


_BINS = 1 << 16
MOST_GROUPS = 256
"""Of all nodes together: a megabyte each while a unit is counted."""


def rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return the nearest float16 numbers; of those beyond its range infinity."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def _tally(
    key: str,
    group: str,
    values: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    *,
    is_exact: bool,
) -> pa.Table:
    n = len(values)
    columns = [pa.repeat(key, n), pa.repeat(group, n), pa.array(values, pa.float32())]
    return pa.table([*columns, pa.array(counts), pa.repeat(is_exact, n)], schema=TALLY)


class Resolution:
    """The thresholds of some nodes from the tallies of all units."""

    def __init__(self, nodes: Iterable[TopFraction]) -> None:
        self._nodes = {node.key: node for node in nodes}
        self._bins: dict[tuple[str, str], dict[float, list[int]]] = defaultdict(
            lambda: defaultdict(lambda: [0, 0])
        )
        self.thresholds: dict[str, dict[str, float]] = {key: {} for key in self._nodes}
        self.open: dict[str, dict[str, float]] = {key: {} for key in self._nodes}
        """The values near thresholds that only a second look can tell."""

    def add(self, tally: pa.Table) -> None:
        """Learn of a unit's scores."""
        for key, group, value, n, is_exact in zip(
            *(tally[name].to_pylist() for name in TALLY.names), strict=True
        ):
            counts = self._bins[key, group][value]
            counts[0] += n
            counts[1] += n if is_exact else 0

    def settle(self) -> None:
        """Find the thresholds, as far as one look tells them."""
        for (key, group), bins in self._bins.items():
            rank = self._nodes[key].rank(group, sum(n for n, _ in bins.values()))
            if rank is None:
                continue
            for value in sorted(bins, reverse=True):
                n, n_exact = bins[value]
                if rank < n:
                    found = self.thresholds if n == n_exact else self.open
                    found[key][group] = value
                    break
                rank -= n

    def settle_open(self, tallies: Iterable[pa.Table]) -> None:
        """Find those that were left open, from a second look at all units."""
        second = Resolution(self._nodes.values())
        for tally in tallies:
            second.add(tally)
        for key, groups in self.open.items():
            for group, near in groups.items():
                rank = self._rank_within(key, group, near)
                values = sorted(second._bins[key, group].items(), reverse=True)
                for value, (n, _) in values:
                    if rank < n:
                        self.thresholds[key][group] = value
                        break
                    rank -= n

    def _rank_within(self, key: str, group: str, near: float) -> int:
        bins = self._bins[key, group]
        rank = self._nodes[key].rank(group, sum(n for n, _ in bins.values())) or 0
        return rank - sum(n for value, (n, _) in bins.items() if value > near)
