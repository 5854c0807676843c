"""Which pool is the bottleneck, of loads in every direction."""

import pytest

from cah_dask.classify.verdict import Load, verdict


def load(read_s: float, model_s: float, input_s: float = 0.0) -> Load:
    return Load(archives=10, items=1000, read_s=read_s, model_s=model_s, input_s=input_s)


@pytest.mark.parametrize(
    ("measured", "readers", "models", "said"),
    [
        (
            load(60, 10), 2, 1,
            "the model waits for records 67% of its time: reading is the bottleneck (33 items/s); "
            "with 2 cpu workers; about 6 would keep pace (pools.cpu)",
        ),
        (load(60, 10), 6, 1, "reading and the model keep pace with each other (100 items/s)"),
        (
            load(60, 10), 60, 1,
            "reading waits for the model 90% of its time: the model is the bottleneck "
            "(100 items/s); with 1 gpu worker; about 10 would keep pace (pools.gpu)",
        ),
        (load(10, 10.5), 1, 1, "reading and the model keep pace with each other (95 items/s)"),
        (
            load(10, 20, 60), 4, 2,
            "the model waits for its archive's items to be unpacked 60 of 80 s: their arrays are "
            "too large for it; have `prepare` make smaller ones",
        ),
        (Load(archives=2, items=10, read_s=1, model_s=9), 1, 1, ""),
        (Load(archives=20, items=0, read_s=1), 1, 1, ""),
    ],
)  # fmt: skip
def test_the_bottleneck_is_said_in_words(measured: Load, readers: int, models: int, said: str):
    assert verdict(measured, readers, models) == said


def test_following_the_advice_evens_them_out():
    measured = load(100, 7)
    assert "about 15 would" in verdict(measured, 1, 1)
    assert "keep pace with each other" in verdict(measured, 15, 1)


def test_how_busy_the_models_were():
    assert (Load(model_s=1, worker_s=4) + Load(model_s=2, worker_s=2)).busy == (
        "while gpu workers had archives, their models were at work 50% of the time"
    )
    assert Load().busy == ""
