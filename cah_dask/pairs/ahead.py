"""Pictures made ready while the model is at work on earlier ones."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias

from PIL import Image

from cah_dask.images.picture.decode import open_rgb
from cah_dask.pairs.encoders.towers import Pixels

BATCHES_AHEAD = 2
"""Batches that are read and decoded before they are asked for: what is held in memory."""

Batch: TypeAlias = list[Future[list[Pixels]]]
"""The pictures of a batch, each as each of those that take it wants it."""


class Preprocessor(Protocol):
    """Whatever takes pictures: an image tower, or what scores them."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return an upright sRGB picture as the model takes it; called in threads."""


def preprocessed(
    batches: Iterable[Sequence[bytes]],
    takers: Sequence[Preprocessor],
    threads: int,
    waited: Callable[[float], None] = lambda _: None,
) -> Generator[list[list[Pixels]], None, None]:
    """Decode each picture once, and preprocess it for each taker, in threads ahead of the caller.

    What is ahead ends when the iterator does, or is closed.

    Parameters
    ----------
    batches
        Encoded pictures; read by one thread of its own.
    threads
        Threads that decode.
    waited
        Is told the seconds for which the caller had to wait for a batch.

    Yields
    ------
    list
        For each batch, in order: for each taker, in order: its pictures, in order.

    Raises
    ------
    Exception
        What reading or preprocessing a batch raised, when it is the turn of that batch.
    """
    source = iter(batches)

    def begin() -> Batch | None:
        batch = next(source, None)
        return None if batch is None else [decoders.submit(_ready, data, takers) for data in batch]

    reader = ThreadPoolExecutor(1, "read-ahead")
    decoders = ThreadPoolExecutor(threads, "decode-ahead")
    try:
        ahead = deque(reader.submit(begin) for _ in range(BATCHES_AHEAD))
        while True:
            started = time.perf_counter()
            pending = ahead.popleft().result()
            if pending is None:
                return
            pictures = [picture.result() for picture in pending]
            ahead.append(reader.submit(begin))
            waited(time.perf_counter() - started)
            yield [[picture[number] for picture in pictures] for number in range(len(takers))]
    finally:
        reader.shutdown(cancel_futures=True)
        decoders.shutdown(cancel_futures=True)


def _ready(data: bytes, takers: Sequence[Preprocessor]) -> list[Pixels]:
    picture = open_rgb(data)
    return [taker.preprocess(picture) for taker in takers]
