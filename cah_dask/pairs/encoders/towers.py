"""What a model must offer: an image tower, and text towers that speak its space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from cah_dask.schema import Split

Embeddings: TypeAlias = npt.NDArray[np.float32]
"""``(n, dim)`` float32, rows L2-normalised."""

Pixels: TypeAlias = npt.NDArray[Any]
"""One picture as its tower wants it; shape and type are the tower's own."""


class Texts(NamedTuple):
    """What a text tower made of some texts."""

    vectors: Embeddings
    n_cut: int = 0
    """How many of them were longer than its context, and were cut."""


class ImageTower(Protocol):
    """Embeds pictures; an embedding never depends on its batch."""

    dim: int
    """Length of a vector."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return an upright sRGB picture as the model takes it; called in threads."""

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Return one unit vector for each preprocessed picture."""


class TextTower(Protocol):
    """Embeds texts; an embedding never depends on what else is embedded."""

    dim: int
    """Length of a vector."""

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        """Return one unit vector for each text, however many there are."""


class Model(ImageTower, TextTower, Protocol):
    """Both towers in one, as CLIP has them."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """An image tower, and for each split the text tower that speaks its space."""

    name: str
    """As `embed.encoders` calls it."""
    image: ImageTower
    texts: Mapping[Split, TextTower]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.image.dim
