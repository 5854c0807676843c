"""An encoder without a model, for tests that are not about models."""

import hashlib
from collections.abc import Sequence

import numpy as np

from cah_dask.pairs.models import Embeddings


class HashEncoder:
    """Gives equal bytes equal unit vectors and unequal ones nearly orthogonal vectors.

    An image whose bytes are the UTF-8 of a text therefore matches that text with similarity 1.
    """

    name = "hash"
    weights_sha256 = "f" * 64
    dim = 64

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_images(self, images: Sequence[bytes]) -> Embeddings:
        self.batches.append(len(images))
        return np.stack([self._vector(image) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        self.batches.append(len(texts))
        return np.stack([self._vector(text.encode()) for text in texts])

    def _vector(self, data: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)
