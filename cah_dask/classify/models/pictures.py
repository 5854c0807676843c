"""The scores of `embed.scores` for pictures of archives: opennsfw, ONNX files, classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cah_dask.classify.hooks import Arrays, Scored
from cah_dask.classify.models.arguments import converted, the_picture
from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.options import PictureOptions
from cah_dask.pairs.scores.pictures import load_picture_scorer, picture_files

_NAME = "PictureScores: scores"


class PictureScores:
    """Scores pictures, uint8 `(height, width, 3)`, by models that `embed.scores` takes.

    Parameters
    ----------
    scores
        Name of a score -> `pairs.scores.options.PictureOptions`, as in `{nsfw: {model: opennsfw}}`.

    Raises
    ------
    ConfigError
        If there is none, or a model is missing or cannot be loaded.
    """

    dim = 0

    def __init__(
        self, *, scores: Mapping[str, Any], device: str = "auto", threads: int = 1
    ) -> None:
        self._scorers = {
            name: load_picture_scorer(f"{_NAME}.{name}", each, device=device, threads=threads)
            for name, each in _options(scores).items()
        }
        self.names = list(self._scorers)

    @staticmethod
    def files(*, scores: Mapping[str, Any], **_: Any) -> list[Path]:
        """Return the files of the models; raise ConfigError if one is missing."""
        found = (picture_files(f"{_NAME}.{k}", each) for k, each in _options(scores).items())
        return [path.absolute() for paths in found for path in paths]

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        """Return `(n, scores)`.

        Raises
        ------
        RecordError
            If an item is no picture.
        """
        scores = np.empty((len(batch), len(self.names)), np.float32)
        pictures = [the_picture(arrays) for arrays in batch]
        for column, scorer in enumerate(self._scorers.values()):
            if pictures:
                scores[:, column] = scorer.score([scorer.preprocess(each) for each in pictures])
        return Scored(scores)


def _options(scores: Mapping[str, Any]) -> dict[str, PictureOptions]:
    if not scores:
        raise ConfigError(f"{_NAME} names none; name one or more")
    return {
        name: converted(f"{_NAME}.{name}", each, PictureOptions) for name, each in scores.items()
    }
