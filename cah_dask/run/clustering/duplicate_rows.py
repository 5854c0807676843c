"""Ranks, fates and pairs of rows as tables, and back."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.curate.uid_ranges import as_keys, as_table
from cah_dask.curate.vectors.near_duplicates import RANKED, Fate, Pairs, Ranked, joined
from cah_dask.keys import KEY, Keys
from cah_dask.run.clustering.rows import UID
from cah_dask.schema import UID_BYTES

FATES = pa.schema(
    [
        pa.field("fate", pa.uint8(), nullable=False),
        pa.field("stays", pa.binary(UID_BYTES), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
    ]
)
"""A row for each vector of a cluster, in the order of its ranks: of one that goes, the uid of a row
that stays, and their cosine."""
DUPLICATES = pa.schema(
    [
        UID,
        pa.field("stays", pa.binary(UID_BYTES), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
    ]
)
"""Rows of the pool that go."""
GONE = np.dtype([*KEY.descr, ("stays", KEY), ("cosine", "<f4")])
Gone = npt.NDArray[np.void]


def ranked_columns(rows: Ranked) -> dict[str, pa.Array]:
    """Return ranks as columns."""
    return {
        "uid": as_table(rows)["uid"].combine_chunks(),
        "similarity": pa.array(rows["similarity"]),
        "place": pa.array(rows["place"]),
    }


def ranked_of(table: pa.Table, prefix: str = "") -> Ranked:
    """Return what `ranked_columns` made columns of, their names after a prefix."""
    rows = np.empty(len(table), RANKED)
    uids = keys_of(table[f"{prefix}uid"])
    rows["f0"], rows["f1"] = uids["f0"], uids["f1"]
    for name in ("similarity", "place"):
        rows[name] = table[f"{prefix}{name}"].to_numpy()
    return rows


def keys_of(column: pa.ChunkedArray) -> Keys:
    """Return a column of uids as keys."""
    return as_keys(pa.table({"uid": column}))


def pair_table(pairs: Pairs) -> pa.Table:
    """Return pairs as a table."""
    better = ranked_columns(pairs.better)
    return pa.table(
        {
            **ranked_columns(pairs.rows),
            **{f"better_{name}": column for name, column in better.items()},
            "is_staying": pairs.is_staying,
            "cosine": pairs.cosines,
        }
    )


def pairs_of(table: pa.Table) -> Pairs:
    """Return a table of pairs as pairs, in the order of the places of their rows."""
    is_staying = np.asarray(table["is_staying"].to_numpy(), bool)
    return Pairs(
        ranked_of(table), ranked_of(table, "better_"), is_staying, table["cosine"].to_numpy()
    )


NO_PAIRS = pair_table(joined([]))


def gone_of(rows: pa.Table, fates: pa.Table, late: Pairs) -> Gone:
    """Return the rows of a cluster that go.

    A row with the same vector as another has the fate of the first of them, which is decided; where
    that stays, the others go because of it, but for those of the same uid.

    Parameters
    ----------
    rows
        All of them, with `twin`: the first one with the same vector.
    fates
        Of the first ones.
    late
        What was settled at last, in the order of their places.
    """
    uids, twin = keys_of(rows["uid"]), rows["twin"].to_numpy()
    first = np.flatnonzero(twin == np.arange(len(twin)))
    goes = fates["fate"].to_numpy() == Fate.GOES
    stays, cosines = keys_of(fates["stays"]), fates["cosine"].to_numpy().copy()
    places = rows["place"].to_numpy()[first]
    at = np.minimum(np.searchsorted(late.rows["place"], places), max(0, len(late.rows) - 1))
    if len(late.rows):
        is_late = late.rows["place"][at] == places
        goes |= is_late
        for half in ("f0", "f1"):
            stays[half][is_late] = late.better[half][at[is_late]]
        cosines[is_late] = late.cosines[at[is_late]]
    of = np.searchsorted(first, twin)
    found = np.empty(len(uids), GONE)
    found["f0"], found["f1"] = uids["f0"], uids["f1"]
    is_decided = goes[of]
    found["stays"] = np.where(is_decided, stays[of], uids[twin])
    found["cosine"] = np.where(is_decided, cosines[of], np.float32(1))
    goes_too: Gone = found[is_decided | (uids != uids[twin])]
    return goes_too


def gone_table(gone: Gone) -> pa.Table:
    """Return rows that go as a table."""
    columns = [as_table(gone)["uid"], as_table(gone["stays"])["uid"], gone["cosine"]]
    return pa.table(columns, schema=DUPLICATES)
