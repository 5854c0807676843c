"""What lies between the stages of classify, and what comes out of them, as columns."""

from collections.abc import Sequence

import pyarrow as pa

from cah_dask.schema import score_of

RECORD_FIELDS = [
    pa.field("url", pa.string(), nullable=False),
    pa.field("date", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("digest", pa.string(), nullable=False),
    pa.field("mime", pa.string(), nullable=False),
    pa.field("status", pa.int16()),
]
"""What is known of each record: `offset` is where it begins in its archive."""

PAYLOAD = pa.field("payload", pa.binary())

READ = pa.schema([*RECORD_FIELDS, pa.field("arrays", pa.binary(), nullable=False), PAYLOAD])
"""``read/``: the records of an archive that `read` made items of, in their order.

``arrays`` is what `arrays.packed` made of them, empty where there is no model; ``payload`` the item
as bytes, null unless it is asked for.
"""

VECTOR = "vector"
KEPT = "kept"


def scored(names: Sequence[str], dim: int) -> pa.Schema:
    """Return the schema of ``scored/``: the records that have scores, in their order.

    Vectors are little-endian float16 as fixed-size binary, null where none is wanted.
    """
    vectors = [pa.field(VECTOR, pa.binary(2 * dim))] if dim else []
    return pa.schema([*RECORD_FIELDS, *_scores(names), *vectors, PAYLOAD])


def _scores(names: Sequence[str]) -> list[pa.Field]:
    kept = pa.field(KEPT, pa.bool_(), nullable=False)
    return [kept, *(pa.field(score_of(name), pa.float32(), nullable=False) for name in names)]


def output(names: Sequence[str], *, with_kept: bool, with_payload: bool) -> pa.Schema:
    """Return the schema of the output, whose row `row` is that of the vectors."""
    scores = _scores(names)
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            *RECORD_FIELDS[:2],
            pa.field("archive", pa.string(), nullable=False),
            *RECORD_FIELDS[2:],
            *(scores if with_kept else scores[1:]),
            *([PAYLOAD] if with_payload else []),
        ]
    )
