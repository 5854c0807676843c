"""What files hold that cross a border between stages: the uid, splits, and columns.

Every file between two stages is parquet with one of the Arrow schemas below.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import pyarrow as pa

Split: TypeAlias = Literal["en", "multi", "nolang"]
"""Language class of a text: English, another language, or none that the detector is sure of."""

SPLITS: tuple[Split, ...] = ("en", "multi", "nolang")

UID_BYTES = 16
"""Length of a uid in bytes; 32 hex characters in a release."""


def uid(text: str, url: str) -> bytes:
    """Return the 128-bit id of a (text, url) pair: the md5 of text, then url, in UTF-8.

    The formula of cc2dataset and DataComp, so that their uid lists fit our releases.
    """
    return hashlib.md5((text + url).encode(), usedforsecurity=False).digest()


CANDIDATE_FIELDS = [
    pa.field("uid", pa.binary(UID_BYTES), nullable=False),
    pa.field("url", pa.string(), nullable=False),
    pa.field("text", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("lang", pa.string(), nullable=False),
    pa.field("lang_confidence", pa.float32(), nullable=False),
    pa.field("lang_is_reliable", pa.bool_(), nullable=False),
    pa.field("text_is_filename", pa.bool_(), nullable=False),
    pa.field("license", pa.string()),
    pa.field("page_url", pa.string(), nullable=False),
    pa.field("archive", pa.string(), nullable=False),
    pa.field("record_offset", pa.int64(), nullable=False),
    pa.field("link_index", pa.int32(), nullable=False),
]

PUBLISHED_SHA256 = pa.field("published_sha256", pa.binary())

CANDIDATES = pa.schema(
    [pa.field("bucket", pa.int32(), nullable=False), *CANDIDATE_FIELDS, PUBLISHED_SHA256]
)
"""``candidates/``: what one archive held, ordered by (bucket, record_offset, link_index).

``published_sha256`` is what the image must have, if it came with a table that says so: 32 bytes.
"""

BUCKET = pa.schema([*CANDIDATE_FIELDS, PUBLISHED_SHA256])
"""One host bucket of `CANDIDATES`, without its number."""

_PLACE = [
    pa.field("image_wave", pa.int32(), nullable=False),
    pa.field("image_list", pa.int32(), nullable=False),
]
SAMPLE_FIELDS = [*CANDIDATE_FIELDS, *_PLACE]

SAMPLES = pa.schema([*BUCKET, *_PLACE])
"""``fetch/``: what dedup kept; one row group is one list, equal urls are neighbours.

Behind the lists late texts are held (see `candidates.late_texts`).

``image_wave`` and ``image_list`` say which list of the bucket fetches the url: a url is fetched
once, so a new text of a url that an earlier wave fetched points there.
"""

IMAGE_FIELDS = [
    pa.field("final_url", pa.string()),
    pa.field("mime", pa.string()),
    pa.field("n_bytes", pa.int64()),
    pa.field("original_width", pa.int32()),
    pa.field("original_height", pa.int32()),
    pa.field("sha256", pa.string()),
    pa.field("md5", pa.string()),
]

OUTCOMES = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("http_status", pa.int16()),
        *IMAGE_FIELDS,
        pa.field("phash", pa.string()),
        pa.field("attempts", pa.int16(), nullable=False),
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("fetch_ms", pa.int32(), nullable=False),
        pa.field("image_row", pa.int32()),
    ]
)
"""``images/*.parquet``: one row per url of a fetch list, with what became of it.

``image_row`` is the row in the image shard, null unless the status is ok.
``sha256`` and ``md5`` (hex) and ``n_bytes`` describe the bytes as received, before any re-encoding.
``phash`` (hex) describes what the picture looks like; null unless `decode.phash` asks for it.
"""


REQUESTS = pa.schema(
    [
        pa.field("ended_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("address", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("http_status", pa.int16()),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("request_ms", pa.int32(), nullable=False),
    ]
)
"""``requests/``: one row per request sent, robots.txt and each redirect included.

``address`` is the one that answered, or the first one of the host if none did. ``n_bytes`` counts
the body as far as it was received.
"""

ROBOTS = pa.schema(
    [
        pa.field("place", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("rules", pa.string(), nullable=False),
    ]
)
"""``robots/``: one row per robots.txt, or tdmrep.json, that a bucket's lists asked for.

``place`` is the origin, or the url of a robots.txt that has moved away from its usual path; those
of tdmrep.json begin with ``tdm`` and a blank. ``rules`` are the lines that concern us, empty where
everything is allowed.
"""

CAPTURES = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("host", pa.uint64(), nullable=False),
        pa.field("url", pa.uint64(), nullable=False),
        pa.field("date", pa.int64(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
        pa.field("is_revisit", pa.bool_(), nullable=False),
        pa.field("digest", pa.uint64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("archive", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
"""An index of archives: one row per record that answers a url; see `images.archived.captures`.

``host``, ``url`` and ``digest`` are hashes, ``date`` is in seconds since 1970 (UTC), ``offset``
says where the record begins in its archive.
"""

Modality: TypeAlias = Literal["image", "text"]

MODALITIES: tuple[Modality, ...] = ("image", "text")
"""What an encoder embeds."""


def similarity_of(encoder: str) -> str:
    """Return the column of the similarities that an encoder gives."""
    return f"similarity_{encoder}"


def vector_of(encoder: str, modality: Modality) -> str:
    """Return the column of the vectors that an encoder gives."""
    return f"{modality}/{encoder}"


def score_of(name: str) -> str:
    """Return the column of a score."""
    return f"score_{name}"


def _score_fields(names: Sequence[str]) -> list[pa.Field]:
    return [pa.field(score_of(name), pa.float32(), nullable=False) for name in names]


def scored(dims: Mapping[str, int], scores: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of ``scored/``: samples with an image, their similarities and vectors.

    Each encoder, given with the length of its vectors, has its own three columns, each score of
    pictures one. Vectors are little-endian float16, L2-normalised, as fixed-size binary.
    """
    return pa.schema(
        [
            *SAMPLE_FIELDS,
            *IMAGE_FIELDS,
            pa.field("image_row", pa.int32(), nullable=False),
            *(pa.field(similarity_of(name), pa.float32(), nullable=False) for name in dims),
            *_score_fields(scores),
            *(
                pa.field(vector_of(name, modality), pa.binary(2 * dim), nullable=False)
                for name, dim in dims.items()
                for modality in MODALITIES
            ),
        ]
    )


COMPACTED = pa.schema(
    [
        pa.field("folder", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("n_row_groups", pa.int32(), nullable=False),
        pa.field("receipt", pa.binary(), nullable=False),
    ]
)
"""``compacted/``: which parts of a bucket group lie in which row groups of ``<folder>/<group>``.

``unit`` is the name of the part in its folder, ``receipt`` what its footer said, as JSON.
"""

SELECTED = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("uid", pa.binary(UID_BYTES), nullable=False),
    ]
)
"""``selected/``: which rows of which scored parts a release holds, in their order.

``part`` is a path relative to the run folder (see `storage.open_part`), ``row`` counts from 0,
``uid`` is that of the row.
"""


def selected(scores: Sequence[str] = ()) -> pa.Schema:
    """Return `SELECTED` with a column for each score that select gives."""
    return pa.schema([*SELECTED, *_score_fields(scores)])


_SIMILARITY = pa.field("similarity", pa.float32(), nullable=False)

PAIRS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),
        *CANDIDATE_FIELDS[1:],
        *IMAGE_FIELDS,
        _SIMILARITY,
        pa.field("encoder", pa.string(), nullable=False),
    ]
)
"""``release/pairs/``: the kept pairs; ``row`` is the row in the Zarr arrays, ``uid`` is hex.

``similarity`` is that of the encoder that decided, ``encoder`` its name.
"""


def pairs(encoders: Sequence[str], scores: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of a release: `PAIRS`, a similarity of each of several encoders, scores."""
    columns = [_SIMILARITY.with_name(similarity_of(name)) for name in encoders]
    columns = columns if len(columns) > 1 else []
    return pa.schema([*PAIRS, *columns, *_score_fields(scores)])
