"""A model of one's own: how colourful a picture is."""

from collections.abc import Mapping, Sequence

import numpy as np

from cah_dask.classify.hooks import Scored


class Colourful:
    """Scores a picture by the distance of its most and least intense channel, 0 to 1."""

    names = ("colour",)
    dim = 0

    def __init__(self, *, device: str, threads: int) -> None:
        """Need neither: it is numpy."""

    def __call__(self, batch: Sequence[Mapping[str, np.ndarray]]) -> Scored:
        """Return one score for each picture, uint8 of shape (height, width, 3)."""
        spans = [np.ptp(item["data"].astype(np.float32), axis=2).mean() / 255 for item in batch]
        return Scored(np.array(spans, np.float32).reshape(-1, 1))
