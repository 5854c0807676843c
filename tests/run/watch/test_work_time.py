"""The time in which tasks ran, whatever the order in which it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.run.watch.work_time import GAP_S, WorkTime

DAY_S = 86_400
TASKS = st.tuples(st.integers(0, 9 * DAY_S), st.integers(0, 900))


def work_time(*tasks: tuple[float, float], spans: int = 64) -> WorkTime:
    made = WorkTime(spans)
    for begin, end in tasks:
        made.add(begin, end)
    return made


@given(st.lists(TASKS, min_size=1, max_size=40), st.randoms())
def test_the_order_does_not_matter_and_no_task_is_missed(found, chance):
    tasks = [(begin, begin + seconds) for begin, seconds in found]
    work = work_time(*tasks)
    other = work_time(*chance.sample(tasks, len(tasks)))
    assert other.between(0, 10 * DAY_S) == work.between(0, 10 * DAY_S)
    for begin, end in tasks:
        assert work.between(begin, end) == end - begin
    seconds = work.between(0, 10 * DAY_S)
    assert work.between(work.back(seconds / 2, 10 * DAY_S), 10 * DAY_S) == pytest.approx(
        seconds / 2
    )


def test_a_standstill_does_not_count_and_a_short_pause_does():
    work = work_time((0, 100), (100 + GAP_S, 300), (DAY_S, DAY_S + 100))
    assert work.between(0, DAY_S + 100) == 400
    assert work.back(100, DAY_S + 100) == DAY_S
    assert work.back(150, DAY_S + 100) == 250


def test_a_task_that_ran_all_the_time_leaves_no_standstill():
    work = work_time((0, 100), (DAY_S, DAY_S + 100), (50, DAY_S + 200))
    assert work.between(0, DAY_S + 200) == DAY_S + 200


def test_after_the_last_task_work_goes_on_no_longer_than_the_longest_task_took():
    work = work_time((0, 500), (500, 600))
    assert work.between(0, 700) == 700
    assert work.between(0, DAY_S) == 600 + 500


def test_beyond_its_bound_the_nearest_become_one():
    work = work_time((0, 10), (1000, 1010), (9000, 9010), spans=2)
    assert work.between(0, 9010) == 1010 + 10
