"""The newest pairs of a run: those that are kept, and those just below the threshold."""

import contextlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from cah_dask.errors import CahError
from cah_dask.images.picture.thumbnail import data_url
from cah_dask.images.shards import ShardReader
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import PairFigures
from cah_dask.run.watch.view import Facts
from cah_dask.schema import similarity_of
from cah_dask.storage import read_part, read_receipt

PAIRS_SHOWN = 12
"""Of each kind."""

_SHOWN = ("url", "text", "split", "image_row", "image_wave", "image_list")
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
    table = read_part(part, columns=[*_SHOWN, similarity])
    found = table[similarity].to_numpy()
    floors = [known.thresholds.get(split, np.nan) for split in table["split"].to_pylist()]
    above = found - np.array(floors, np.float32)
    kept = np.flatnonzero(above >= 0)
    below = np.flatnonzero(above < 0)
    spread = kept[:: max(1, len(kept) // _EACH)][:_EACH]
    nearest = below[np.argsort(-above[below], kind="stable")][:_EACH]
    rows = table.take(pa.array([*spread, *nearest]))
    images = _thumbnails(known, name, rows)
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


def _thumbnails(known: Facts, name: str, rows: pa.Table) -> list[str]:
    """Return data urls of the images of some rows of a list; empty ones if they are gone.

    Late texts have images of other lists of the bucket.
    """
    found = dict.fromkeys(range(len(rows)), "")
    places: dict[tuple[int, int], list[int]] = {}
    for row, place in enumerate(rows.select(["image_wave", "image_list"]).to_pylist()):
        places.setdefault((place["image_wave"], place["image_list"]), []).append(row)
    bucket = int(name.partition("/b")[2].partition("-")[0])
    numbers = rows["image_row"].to_pylist()
    for (wave, number), members in places.items():
        part = known.folder.path / Unit(DOWNLOAD, wave, bucket, number).part
        with contextlib.suppress(CahError, OSError):
            (side,) = read_receipt(part).side
            with ShardReader(part.with_name(side.name)) as shard:
                images = shard.read([numbers[row] for row in members])
            found |= dict(zip(members, map(data_url, images), strict=True))
    return list(found.values())
