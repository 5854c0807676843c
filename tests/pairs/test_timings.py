"""How long the parts of an embed task take."""

import contextlib

from cah_dask.pairs.timings import INPUT, Stopwatch, Timings


def test_seconds_of_one_kind_add_up_to_whole_milliseconds():
    timings = Timings()
    for seconds in (0.1004, 0.2, 0.0009):
        timings.add(INPUT, seconds)
    assert timings.milliseconds == {INPUT: 301}


def test_time_in_which_two_are_at_work_counts_once():
    times = iter(range(0, 80, 10))
    stopwatch = Stopwatch(lambda: next(times))
    first, second = stopwatch.at_work(), stopwatch.at_work()
    first.__enter__()  # at 0
    second.__enter__()  # at 10
    first.__exit__(None, None, None)  # at 20
    assert stopwatch.take() == 30  # at 30
    second.__exit__(None, None, None)  # at 40
    with contextlib.suppress(KeyError), stopwatch.at_work():  # at 50, after 10 s without work
        raise KeyError  # at 60
    assert stopwatch.take() == 20  # at 70


def test_what_was_taken_is_not_told_again():
    stopwatch = Stopwatch()
    with stopwatch.at_work():
        pass
    assert stopwatch.take() > 0
    assert stopwatch.take() == 0
