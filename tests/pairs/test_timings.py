"""What the parts of an embed task take."""

import time

from cah_dask.pairs.timings import INPUT, MODEL, Timings, timed
from tests.encoders import HashTowers, hash_encoder


class Slow(HashTowers):
    """Takes 20 ms of work for each call."""

    def encode_texts(self, texts):
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass
        return super().encode_texts(texts)


def test_a_timed_encoder_does_the_same_and_says_how_long_its_models_took():
    timings, encoder = Timings(), hash_encoder(Slow())
    watched = timed(encoder, timings)
    assert (watched.name, watched.dim) == (encoder.name, encoder.dim)
    for _ in range(2):
        vectors = watched.texts["multi"].encode_texts(["a", "b"]).vectors
    assert (vectors == encoder.texts["multi"].encode_texts(["a", "b"]).vectors).all()
    assert timings.milliseconds[MODEL] >= 40


def test_seconds_of_one_kind_add_up_to_whole_milliseconds():
    timings = Timings()
    for seconds in (0.1004, 0.2, 0.0009):
        timings.add(INPUT, seconds)
    assert timings.milliseconds == {INPUT: 301}
