"""Where and when the next attempt at a unit may be, without workers."""

from hypothesis import given
from hypothesis import strategies as st

from cah_dask.run.attempts import BACKOFF_S, FAILURES, Attempts
from cah_dask.run.stages import EXTRACT
from cah_dask.run.unit import Unit

UNITS = [Unit(EXTRACT, archive=f"{n}.warc.wat.gz") for n in range(40)]


def test_a_unit_waits_longer_after_each_failure_and_goes_elsewhere():
    attempts, now = Attempts(4), 0.0
    for number, worker in enumerate(["cpu-0", "cpu-1", "cpu-2"], start=1):
        assert attempts.begin(UNITS[0]) == number
        attempts.failed(UNITS[0], "cpu", worker)
        attempts.postpone(UNITS[0], now)
        wait = BACKOFF_S * 2 ** (number - 1)
        assert attempts.due(now + wait - 0.01) == []
        assert [attempts.are_waiting, attempts.due(now + wait)] == [True, [UNITS[0]]]
        assert not attempts.are_waiting
        now += wait
    assert attempts.avoid(UNITS[0], "cpu") == {"cpu-0", "cpu-1", "cpu-2"}
    assert attempts.avoid(UNITS[1], "cpu") == set()
    assert not attempts.is_last(UNITS[0])
    attempts.begin(UNITS[0])
    assert attempts.is_last(UNITS[0])


def test_a_worker_that_only_fails_is_avoided_once_others_succeed():
    attempts = Attempts(3)
    for unit in UNITS[:FAILURES]:
        attempts.failed(unit, "cpu", "cpu-0")
    assert attempts.in_disgrace("cpu") == set(), "all may be in the same trouble"
    attempts.succeeded(UNITS[9], "gpu", "gpu-0")
    assert attempts.in_disgrace("cpu") == set(), "another pool says nothing"
    attempts.succeeded(UNITS[9], "cpu", "cpu-1")
    assert attempts.in_disgrace("cpu") == {"cpu-0"}
    assert attempts.avoid(UNITS[8], "cpu") == {"cpu-0"}
    attempts.succeeded(UNITS[8], "cpu", "cpu-0")
    assert attempts.in_disgrace("cpu") == set()


@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(2, 6))
def test_with_some_blind_workers_every_unit_is_done_in_the_end(random, n_blind, n_sound):
    """A simulation: whoever is free takes a unit, blind workers are free ten times as often."""
    workers = [f"cpu-{n}" for n in range(n_blind + n_sound)]
    blind = set(workers[:n_blind])
    attempts, now = Attempts(n_blind + 1), 0.0
    todo, done, given_up = list(UNITS), set(), []
    while todo or attempts.are_waiting:
        now += 0.1
        todo += attempts.due(now)
        if not todo:
            continue
        unit = todo.pop(random.randrange(len(todo)))
        attempts.begin(unit)
        avoided = attempts.avoid(unit, "cpu")
        may = [worker for worker in workers if worker not in avoided] or workers
        worker = random.choices(may, [10 if w in blind else 1 for w in may])[0]
        if worker not in blind:
            attempts.succeeded(unit, "cpu", worker)
            done.add(unit)
            continue
        attempts.failed(unit, "cpu", worker)
        if attempts.is_last(unit):
            given_up.append(unit)
        else:
            attempts.postpone(unit, now)
    assert not given_up
    assert done == set(UNITS)
