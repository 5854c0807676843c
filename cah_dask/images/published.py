"""What images were when they were published: the SHA-256 that tables give, and what became of them.

A url is fetched once, but may have come in several rows with other hashes: the download keeps what
any of them asks for, and each row is compared again with what was received.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Status
from cah_dask.schema import PUBLISHED_SHA256

Expectations: TypeAlias = Mapping[str, frozenset[str]]
"""By url, the SHA-256 (hex) that its image may have; a url that may give any is not there."""


def expectations(samples: pa.Table) -> Expectations:
    """Return what a fetch list (`schema.SAMPLES`) expects of its urls."""
    hashes = samples[PUBLISHED_SHA256.name]
    if hashes.null_count == len(samples):
        return {}
    wanted: defaultdict[str, set[str | None]] = defaultdict(set)
    for url, sha256 in zip(samples["url"].to_pylist(), hashes.to_pylist(), strict=True):
        wanted[url].add(None if sha256 is None else sha256.hex())
    return {
        url: frozenset(known)
        for url, each in wanted.items()
        if len(known := {sha256 for sha256 in each if sha256}) == len(each)
    }


def with_changed(outcomes: pa.Table, samples: pa.Table) -> pa.Table:
    """Return outcomes in which images that are not what their sample asks for are `changed`.

    Parameters
    ----------
    outcomes
        One row for each of `samples` (`schema.SAMPLES`).
    """
    wanted = samples[PUBLISHED_SHA256.name].to_pylist()
    received = outcomes["sha256"].to_pylist()
    differs = np.array(
        [a is not None and a.hex() != b for a, b in zip(wanted, received, strict=True)], bool
    )
    if not differs.any():
        return outcomes
    is_changed = pc.and_(pc.equal(outcomes["status"], Status.OK.value), pa.array(differs))
    status = pc.if_else(is_changed, Status.CHANGED.value, outcomes["status"])
    at = outcomes.column_names.index("status")
    return outcomes.set_column(at, outcomes.schema.field(at), status)
