"""Pictures made ready ahead: in order, once, within bounds, and nothing is left behind."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from cah_dask.pairs.ahead import BATCHES_AHEAD, preprocessed
from cah_dask.pairs.encoders.towers import Pixels
from tests.encoders import HashTowers, drawn

WORDS = [f"word {number}" for number in range(23)]


def batches(size: int = 4) -> list[list[bytes]]:
    return [
        [drawn(word) for word in WORDS[start : start + size]]
        for start in range(0, len(WORDS), size)
    ]


def spelled(pixels: Pixels) -> str:
    return pixels.tobytes().rstrip(b"\0").decode()


class Mirrored(HashTowers):
    def preprocess(self, image: Image.Image) -> Pixels:
        return np.asarray(image)[:, ::-1]


def threads_ahead() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "-ahead" in thread.name]


@pytest.mark.parametrize("threads", [1, 3])
def test_each_tower_gets_all_pictures_in_order(threads: int):
    found = list(preprocessed(batches(), [HashTowers(), Mirrored()], threads))
    assert [len(batch[0]) for batch in found] == [4, 4, 4, 4, 4, 3]
    assert [spelled(one) for plain, _ in found for one in plain] == WORDS
    assert [spelled(one[:, ::-1]) for _, mirrored in found for one in mirrored] == WORDS
    assert not threads_ahead()


def test_two_batches_are_read_ahead_and_no_more():
    n_read = 0

    def counted() -> Iterator[list[bytes]]:
        nonlocal n_read
        for batch in batches():
            n_read += 1
            yield batch

    for number, _ in enumerate(preprocessed(counted(), [HashTowers()], 1), start=1):
        assert n_read <= number + BATCHES_AHEAD


def test_a_picture_that_cannot_be_read_is_an_error_at_its_turn():
    spoilt = batches()
    spoilt[2][1] = b"no picture"
    made = preprocessed(spoilt, [HashTowers()], 2)
    assert len(next(made)[0]) == len(next(made)[0]) == 4
    with pytest.raises(OSError, match="cannot identify"):
        next(made)
    assert not threads_ahead()


def test_what_reading_raises_is_an_error_at_its_turn():
    def damaged() -> Iterator[list[bytes]]:
        yield batches()[0]
        raise KeyError("damaged")

    made = preprocessed(damaged(), [HashTowers()], 2)
    next(made)
    with pytest.raises(KeyError, match="damaged"):
        next(made)
    assert not threads_ahead()


def test_no_thread_is_left_when_the_caller_stops_early():
    made = preprocessed(batches(), [HashTowers()], 2)
    next(made)
    assert threads_ahead()
    made.close()
    assert not threads_ahead()


def test_the_caller_learns_how_long_it_waited():
    waits: list[float] = []
    list(preprocessed(batches(), [HashTowers()], 1, waits.append))
    assert len(waits) == 6
    assert min(waits) > 0
