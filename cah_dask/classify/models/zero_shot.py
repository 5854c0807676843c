"""Pictures against prompts: which of some labels a CLIP finds a picture to be nearest to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from cah_dask.classify.hooks import Arrays, Scored
from cah_dask.classify.models.arguments import converted, the_picture
from cah_dask.errors import ConfigError, RecordError
from cah_dask.pairs import catalogue
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.models import image_side, locate
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.resolve import resolve
from cah_dask.pairs.scores.files import locate as locate_file
from cah_dask.pairs.scores.numbers import softmax
from cah_dask.pairs.scores.options import PromptsOptions
from cah_dask.pairs.scores.prompts import SHELF, as_prompts, read_prompts

By: TypeAlias = Literal["softmax", "cosine"]
"""`softmax`: of the cosines with all prompts times `scale`, summed over those of the label; the
scores of a picture sum to 1. `cosine`: that with the nearest prompt of the label, -1 to 1."""


class ZeroShot:
    """Scores pictures by a model of open_clip, one score for each label.

    It takes one array of uint8 `(height, width, 3)`, as `readers.image.Pictures` gives.

    Parameters
    ----------
    model
        As `embed.model`: `ARCHITECTURE/TAG`, a folder, a preset of one encoder, `tiny`.
    prompts
        Label -> English prompts; or the name of a set of the package, or a YAML file of one.
    by
        See `By`.
    scale
        The model's own logit scale; 100 is CLIP's.
    vectors
        Whether the image vectors are given, too.
    precision
        As `embed.precision`.

    Raises
    ------
    ConfigError
        If the model cannot be loaded, or the prompts are no set of two labels or more.
    """

    def __init__(
        self,
        *,
        model: str,
        prompts: Mapping[str, Sequence[str]] | str,
        by: By = "softmax",
        scale: float = 100.0,
        vectors: bool = False,
        device: str = "auto",
        threads: int = 1,
        precision: str = "fp32",
    ) -> None:
        labelled = _prompts(prompts)
        if by not in get_args(By):
            raise ConfigError(f"ZeroShot has by {by!r}; known: {', '.join(get_args(By))}")
        given = {"model": model, "device": device, "precision": precision}
        options = converted("ZeroShot", given, EmbedOptions)
        _require_one(options)
        (encoder,) = load_encoders(options, threads=threads)
        self.names = list(labelled)
        self.dim = encoder.dim if vectors else 0
        self._image = encoder.image
        self._side = _side(options)
        self._by, self._scale = by, scale
        sentences = [prompt for each in labelled.values() for prompt in each]
        self._prompts = encoder.texts["en"].encode_texts(sentences).vectors
        sizes = [len(each) for each in labelled.values()]
        self._starts = np.cumsum([0, *sizes[:-1]])

    @staticmethod
    def files(*, model: str, prompts: Mapping[str, Sequence[str]] | str, **_: Any) -> list[Path]:
        """Return the files that decide the scores.

        Raises
        ------
        ConfigError
            If one of them is missing.
        """
        _prompts(prompts)
        options = EmbedOptions(model=model)
        _require_one(options)
        names = resolve(options).models
        files = [path for name in names for path in locate(name).files.values()]
        return files if isinstance(prompts, Mapping) else [*files, _prompts_path(prompts)]

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        """Return `(n, labels)` scores, and the unit vectors of the pictures if they are wanted.

        Raises
        ------
        RecordError
            If an item is no picture, or one that is smaller than the model takes.
        """
        if not batch:
            return Scored(np.empty((0, len(self.names)), np.float32), self._wanted(0, None))
        pictures = [self._image.preprocess(self._picture(arrays)) for arrays in batch]
        vectors = self._image.encode_images(pictures)
        cosines = vectors @ self._prompts.T
        if self._by == "softmax":
            shares = softmax(self._scale * cosines)
            scores = np.add.reduceat(shares, self._starts, axis=1)
        else:
            scores = np.maximum.reduceat(cosines, self._starts, axis=1)
        return Scored(scores.astype(np.float32), self._wanted(len(batch), vectors))

    def _wanted(self, n: int, vectors: Any) -> Any:
        if not self.dim:
            return None
        return np.empty((n, self.dim), np.float32) if vectors is None else vectors

    def _picture(self, arrays: Arrays) -> Image.Image:
        picture = the_picture(arrays)
        if min(picture.size) < self._side:
            raise RecordError(
                f"a picture has {min(picture.size)} pixels a side, the model takes {self._side}; "
                f"give read the argument side: {self._side}"
            )
        return picture


def _require_one(options: EmbedOptions) -> None:
    preset = catalogue.of(options)
    if preset is not None and len(preset.encoders) > 1:
        raise ConfigError(
            f"ZeroShot has model {options.model}, which is several encoders "
            f"({', '.join(preset.encoders)}); name a model of one"
        )


def _prompts(prompts: Mapping[str, Sequence[str]] | str) -> dict[str, list[str]]:
    if isinstance(prompts, str):
        return read_prompts(_prompts_path(prompts))
    return as_prompts("ZeroShot: prompts", prompts)


def _prompts_path(prompts: str) -> Path:
    options = PromptsOptions(file=prompts, label="")
    return locate_file("ZeroShot: prompts", options, SHELF).absolute()


def _side(options: EmbedOptions) -> int:
    """Return the pixels of a side that the image tower looks at."""
    (encoder,) = resolve(options).encoders.values()
    return image_side(locate(encoder.image))
