"""Late texts: captions that a wave found of urls that earlier waves fetched.

The images of one wave's late texts lie in nearly all earlier lists of the bucket. Were they brought
together wave by wave, each list would be read once for every wave after it. So a wave only holds
its late texts, in row groups at the end of its part, and the last wave makes lists of those of all
waves, in the order of the lists that have their images: each of these is read about once.

::

    row groups of a part of dedup: lists to fetch | lists of late texts | late texts held
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from cah_dask.candidates.gather import HELD_ROWS, GatheredLists
from cah_dask.keys import Index
from cah_dask.storage import Part, open_part

IMAGE_LISTS = 64
"""So many lists have the images of one list of late texts: 2 GB of vectors to be read at most, in
some ten seconds, however few late texts each has."""


class LateTexts:
    """The late texts that some parts of a bucket hold, `SAMPLES`; read anew at each iteration.

    Parameters
    ----------
    parts
        Those of earlier waves, in their order.
    own
        The tables of this wave, which has no part yet.
    """

    def __init__(self, parts: Sequence[Path], own: Sequence[pa.Table]) -> None:
        self._parts = parts
        self._own = own

    def __iter__(self) -> Iterator[pa.Table]:
        for path in self._parts:
            with open_part(path) as part:
                texts = part.read(held_groups(part))
            yield texts
        yield from self._own


def late_lists(
    texts: Iterable[pa.Table], list_rows: int, *, held_rows: int = HELD_ROWS
) -> Sequence[pa.Table]:
    """Make lists of late texts in the order of the lists that have their images.

    Parameters
    ----------
    texts
        `SAMPLES`; read once, and again for every `held_rows` rows.
    list_rows
        Rows of one list at the most; their images lie in `IMAGE_LISTS` lists at the most.
    """
    places = [(np.empty(0, int), np.empty(0, int))]
    places += [(table["image_wave"].to_numpy(), table["image_list"].to_numpy()) for table in texts]
    wave, number = map(np.concatenate, zip(*places, strict=True))
    order = np.lexsort((number, wave))
    bounds = _bounds(wave[order], number[order], list_rows)
    return GatheredLists(texts, order, bounds, held_rows=held_rows)


def _bounds(wave: Index, number: Index, list_rows: int) -> list[int]:
    """Return where each list of late texts begins, and where the last one ends."""
    is_first = np.ones(len(wave), bool)
    is_first[1:] = (np.diff(wave) != 0) | (np.diff(number) != 0)
    ends = [*np.flatnonzero(is_first)[::IMAGE_LISTS].tolist(), len(wave)]
    return [at for pair in pairwise(ends) for at in range(*pair, list_rows)] + [len(wave)]


def held_groups(part: Part) -> range:
    """Return the row groups of a part of dedup that hold late texts for the last wave."""
    notes = part.receipt.counts.notes
    return range(notes["lists"] + notes["late_lists"], part.n_row_groups)


def own_groups(part: Part) -> list[int]:
    """Return the row groups of a part of dedup with the rows that its own wave kept."""
    return [*range(part.receipt.counts.notes["lists"]), *held_groups(part)]
