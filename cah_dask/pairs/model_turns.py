"""Several lists at once in a worker: its models serve one list, and then the next.

A list has the models from its first batch to its last text, not for a batch at a time. So one is
read and its first pictures are decoded, another is written, while the models are at work on a
third; and of one list only are there vectors that grow.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from cah_dask.pairs.encoders.towers import Embeddings, Encoder, Pixels, Texts
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.scorers import Scorers
from cah_dask.pairs.timings import INPUT, MODEL, TURN, WORKER, Stopwatch, Timings


class ModelTurns:
    """Whose turn it is at the models of a process; `Turn` is the use that one list makes of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopwatch = Stopwatch()

    @contextlib.contextmanager
    def turn(self) -> Iterator["Turn"]:
        """Yield the turn of a list, which ends with the block if it has not ended before."""
        with self._stopwatch.at_work():
            turn = Turn(self._lock, self._stopwatch)
            try:
                yield turn
            finally:
                turn.end()


class Turn:
    """The use that one list makes of the models, in one thread."""

    def __init__(self, lock: threading.Lock, stopwatch: Stopwatch) -> None:
        self._lock = lock
        self._stopwatch = stopwatch
        self._timings = Timings()
        self._has_models = False

    @contextlib.contextmanager
    def model(self) -> Iterator[None]:
        """Have the models, from now on and until `end`, and count the block as their work."""
        if not self._has_models:
            with self._timings.measure(TURN):
                self._lock.acquire()
            self._has_models = True
        with self._timings.measure(MODEL):
            yield

    def waited(self, seconds: float) -> None:
        """Learn how long pictures were waited for: by the models, if it was their turn."""
        if self._has_models:
            self._timings.add(INPUT, seconds)

    def end(self) -> None:
        """Let the next list have the models."""
        if self._has_models:
            self._has_models = False
            self._lock.release()

    def milliseconds(self) -> dict[str, int]:
        """Return the timings for the receipt of the list; to be asked once, at its end."""
        self._timings.add(WORKER, self._stopwatch.take())
        return self._timings.milliseconds


def taking_turns(encoder: Encoder, turn: Turn) -> Encoder:
    """Return an encoder that does the same, when it is the turn of its list."""
    texts = {split: _InTurn(tower, turn) for split, tower in encoder.texts.items()}
    return replace(encoder, image=_InTurn(encoder.image, turn), texts=texts)


def scoring_in_turn(scorers: Scorers, turn: Turn) -> Scorers:
    """Return scorers that do the same, when it is the turn of their list."""
    pictures = {name: _InTurn(scorer, turn) for name, scorer in scorers.pictures.items()}
    return replace(scorers, pictures=pictures)


class _InTurn:
    """A tower of images, of texts, or both; or what scores pictures."""

    def __init__(self, model: Any, turn: Turn) -> None:
        self._model = model
        self._turn = turn
        self.dim = getattr(model, "dim", 0)  # a scorer has none

    def preprocess(self, image: Image.Image) -> Pixels:
        pixels: Pixels = self._model.preprocess(image)
        return pixels

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        with self._turn.model():
            vectors: Embeddings = self._model.encode_images(images)
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        with self._turn.model():
            found: Texts = self._model.encode_texts(texts)
        return found

    def score(self, images: Sequence[Pixels]) -> Scores:
        with self._turn.model():
            scores: Scores = self._model.score(images)
        return scores
