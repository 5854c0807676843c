"""The newest pairs of a run: those that are kept, and those just below the threshold."""

import base64
import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from cah_dask.errors import CahError
from cah_dask.images.picture.decode import open_rgb
from cah_dask.images.shards import ShardReader
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.watch.figures import PairFigures
from cah_dask.run.watch.view import Facts
from cah_dask.schema import similarity_of
from cah_dask.storage import read_part, read_receipt

PAIRS_SHOWN = 12
"""Of each kind."""

THUMBNAIL_PX = 112
_EACH = 4
"""Pairs of each kind that one list may give, so that several lists are seen."""


def newest_pairs(known: Facts, lists: Iterable[str]) -> list[PairFigures]:
    """Read pairs of some lists, the last ones first, and make thumbnails of them.

    Parameters
    ----------
    lists
        Names of embedded lists, the newest last.

    Returns
    -------
    list
        At most `PAIRS_SHOWN` that are kept and as many that are nearest below the threshold of
        their split; none where rules drop pairs. Lists that are gone meanwhile are passed over.
    """
    found: list[PairFigures] = []
    for name in reversed(list(lists)) if known.shows_pairs else ():
        with contextlib.suppress(CahError, OSError):
            found += _pairs_of(known, name)
    kept = [pair for pair in found if pair.is_kept][:PAIRS_SHOWN]
    return kept + [pair for pair in found if not pair.is_kept][:PAIRS_SHOWN]


def _pairs_of(known: Facts, name: str) -> list[PairFigures]:
    """Return some pairs of one list."""
    similarity = similarity_of(known.encoder)
    part = known.folder.path / EMBED.folder / f"{name}.parquet"
    table = read_part(part, columns=["url", "text", "split", similarity, "image_row"])
    found = table[similarity].to_numpy()
    floors = [known.thresholds.get(split, np.nan) for split in table["split"].to_pylist()]
    above = found - np.array(floors, np.float32)
    kept = np.flatnonzero(above >= 0)
    below = np.flatnonzero(above < 0)
    spread = kept[:: max(1, len(kept) // _EACH)][:_EACH]
    nearest = below[np.argsort(-above[below], kind="stable")][:_EACH]
    rows = table.take(pa.array([*spread, *nearest]))
    images = _thumbnails(known, name, rows["image_row"].to_pylist())
    return [
        PairFigures(
            url=row["url"],
            text=row["text"],
            split=row["split"],
            similarity=round(row[similarity], 4),
            is_kept=number < len(spread),
            thumbnail=image,
        )
        for number, (row, image) in enumerate(zip(rows.to_pylist(), images, strict=True))
    ]


def _thumbnails(known: Facts, name: str, rows: Sequence[int]) -> list[str]:
    """Return data urls of images of a list; empty ones if its shard is gone."""
    part: Path = known.folder.path / DOWNLOAD.folder / f"{name}.parquet"
    try:
        (side,) = read_receipt(part).side
        with ShardReader(part.with_name(side.name)) as shard:
            return [_thumbnail(image) for image in shard.read(rows)]
    except (CahError, OSError):
        return [""] * len(rows)


def _thumbnail(data: bytes) -> str:
    image = open_rgb(data)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
