"""How long the parts of an embed task take."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image

from cah_dask.pairs.encoders.towers import Embeddings, Encoder, Model, Pixels, Texts

MODEL = "model"
INPUT = "input"
"""What is timed: the model at work, and its waiting for pictures."""


class Timings:
    """Adds up seconds by what they were for."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, what: str, seconds: float) -> None:
        """Add seconds to those of `what`."""
        self._seconds[what] += seconds

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        yield
        self.add(what, time.perf_counter() - started)

    @property
    def milliseconds(self) -> dict[str, int]:
        """All that was added, by what it was for."""
        return {what: round(1000 * seconds) for what, seconds in sorted(self._seconds.items())}


def timed(encoder: Encoder, timings: Timings) -> Encoder:
    """Return an encoder that does the same, and adds the time of its models to `timings`."""
    texts = {split: _Timed(tower, timings) for split, tower in encoder.texts.items()}
    return replace(encoder, image=_Timed(encoder.image, timings), texts=texts)


class _Timed:
    """A tower of images, of texts, or both."""

    def __init__(self, tower: object, timings: Timings) -> None:
        self._tower: Model = tower  # type: ignore[assignment]  # what it lacks is not called
        self._timings = timings
        self.dim = self._tower.dim

    def preprocess(self, image: Image.Image) -> Pixels:
        return self._tower.preprocess(image)

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        with self._timings.measure(MODEL):
            return self._tower.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        with self._timings.measure(MODEL):
            return self._tower.encode_texts(texts)
