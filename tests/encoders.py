"""An encoder without a model, for tests that are not about models."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cah_dask.pairs.encoders.towers import Embeddings, Encoder, Pixels, Texts
from cah_dask.pairs.options import EmbedOptions
from cah_dask.release.layout import ReleasedEncoder, ReleasedModel
from cah_dask.schema import SPLITS


class HashTowers:
    """Gives equal bytes equal unit vectors and unequal ones nearly orthogonal vectors.

    A picture `drawn` from a text therefore matches that text with similarity 1.
    """

    dim = 64

    def __init__(self, options: EmbedOptions | None = None) -> None:
        del options
        self.batches: list[int] = []

    def preprocess(self, image: Image.Image) -> Pixels:
        return np.asarray(image)

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        self.batches.append(len(images))
        return np.stack([self._vector(image.tobytes().rstrip(b"\0")) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        self.batches.append(len(texts))
        vectors = [np.empty((0, self.dim), np.float32)]
        vectors += [self._vector(text.encode())[None] for text in texts]
        return Texts(np.concatenate(vectors))

    def _vector(self, data: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


def hash_encoder(towers: HashTowers | None = None, name: str = "hash") -> Encoder:
    """Return an encoder of one or the same towers."""
    towers = towers or HashTowers()
    return Encoder(name, towers, dict.fromkeys(SPLITS, towers))


def drawn(text: str) -> bytes:
    """Return a picture that spells a text, as PNG."""
    data = text.encode()
    width = len(data) // 3 + 1
    file = io.BytesIO()
    Image.frombytes("RGB", (width, 1), data.ljust(3 * width, b"\0")).save(file, "PNG")
    return file.getvalue()


def released_encoder(name: str, dim: int) -> ReleasedEncoder:
    """Return an encoder as a layout names it."""
    return ReleasedEncoder(name, dim, ReleasedModel(name, {"weights": "0" * 64}), {})
