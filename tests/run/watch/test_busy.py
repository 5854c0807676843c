"""The share of the last 10 minutes in which workers had a task: by time, not by looks."""

import pytest

from cah_dask.run.watch.busy import BusyTime
from cah_dask.run.watch.history import RECENT_S


def looked(*looks: tuple[float, dict[str, float]]) -> BusyTime:
    made = BusyTime()
    for at, busy in looks:
        made.look(at, busy)
    return made


def test_until_the_next_look_a_pool_is_as_it_was():
    found = looked((0, {"gpu": 1.0}), (90, {"gpu": 0.0}), (99, {"gpu": 0.0}))
    assert found.share("gpu", 100) == pytest.approx(0.9)
    assert found.share("io", 100) is None


@pytest.mark.parametrize("every_s", [1.0, 7.0, 60.0])
def test_what_is_older_than_ten_minutes_does_not_count_however_often_it_was_looked(every_s: float):
    times = [every_s * n for n in range(int(3600 / every_s))]
    found = BusyTime()
    for at in times:
        found.look(at, {"gpu": float(at < 2400)})
        since = max(0.0, at - RECENT_S)
        if at:
            truth = max(0.0, min(at, 2400) - since) / (at - since)
            assert found.share("gpu", at) == pytest.approx(truth, abs=every_s / RECENT_S)
    assert found.share("gpu", at) == 0.0


def test_a_time_for_which_a_pool_was_left_out_does_not_count():
    found = looked((0, {"gpu": 1.0}), (10, {}), (500, {"gpu": 0.0}))
    assert found.share("gpu", 510) == pytest.approx(0.5)
    found.look(511, {})
    assert found.share("gpu", 511 + RECENT_S) is None


def test_what_it_holds_is_bounded():
    found = looked(*((float(n), {"gpu": 0.5}) for n in range(10_000)))
    assert len(found._looks) <= RECENT_S + 1
