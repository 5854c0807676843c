"""Two lists at once in a worker: the models serve one, and then the next."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cah_dask.pairs.model_turns import ModelTurns, Turn, scoring_in_turn, taking_turns
from cah_dask.pairs.scores.scorers import Scorers
from cah_dask.pairs.timings import INPUT, MODEL, TURN, WORKER
from tests.encoders import HashTowers, hash_encoder
from tests.runs import wait_for


class Slow(HashTowers):
    """Takes 20 ms of work for each call."""

    def encode_texts(self, texts):
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass
        return super().encode_texts(texts)


class Mean:
    """Scores a picture by its mean."""

    def preprocess(self, image):
        return image

    def score(self, images):
        return np.array([image.mean() for image in images], np.float32)


@pytest.fixture
def turns() -> ModelTurns:
    return ModelTurns()


@pytest.fixture
def turn(turns: ModelTurns) -> Iterator[Turn]:
    with turns.turn() as turn:
        yield turn


def test_an_encoder_does_the_same_in_its_turn_and_says_how_long_its_models_took(turn: Turn):
    encoder = hash_encoder(Slow())
    watched = taking_turns(encoder, turn)
    assert (watched.name, watched.dim) == (encoder.name, encoder.dim)
    for _ in range(2):
        vectors = watched.texts["multi"].encode_texts(["a", "b"]).vectors
    assert (vectors == encoder.texts["multi"].encode_texts(["a", "b"]).vectors).all()
    timings = turn.milliseconds()
    assert set(timings) == {MODEL, TURN, WORKER}
    assert 40 <= timings[MODEL] <= timings[WORKER] + 1


def test_scorers_do_the_same_in_their_turn(turn: Turn):
    watched = scoring_in_turn(Scorers({"mean": Mean()}), turn)
    assert watched.pictures["mean"].score([np.full(2, 1), np.full(2, 3)]).tolist() == [1, 3]
    assert MODEL in turn.milliseconds()


def test_pictures_that_are_waited_for_before_the_turn_begins_do_not_hold_up_the_models(turn: Turn):
    turn.waited(5)
    with turn.model():
        turn.waited(0.25)
    assert turn.milliseconds()[INPUT] == 250


def test_a_list_waits_until_another_one_has_left_the_models(turns: ModelTurns):
    order: list[str] = []
    has_begun = threading.Event()

    def embed(name: str, turn: Turn) -> None:
        has_begun.set()
        for _ in range(3):
            with turn.model():
                order.append(name)

    with turns.turn() as first, turns.turn() as second:
        embed("first", first)
        has_begun.clear()
        other = threading.Thread(target=embed, args=("second", second))
        other.start()
        assert has_begun.wait(10)
        assert not wait_for(lambda: "second" in order, 0.05)
        embed("first", first)
        first.end()
        other.join()
        second.end()
        assert order == ["first"] * 6 + ["second"] * 3
        assert second.milliseconds()[TURN] > 0


def test_a_list_that_fails_leaves_the_models(turns: ModelTurns):
    with pytest.raises(ValueError, match="damaged"), turns.turn() as first, first.model():
        raise ValueError("damaged")
    with turns.turn() as second, second.model():
        pass
    assert second.milliseconds()[TURN] == 0
