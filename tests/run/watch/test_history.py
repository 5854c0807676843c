"""Rates and outcomes, from commits alone."""

from datetime import timedelta
from typing import Any

import pytest

from cah_dask.counts import Counts
from cah_dask.run.folder.journal import Commit
from cah_dask.run.stages import DOWNLOAD, EMBED, RUN, Stage
from cah_dask.run.watch.history import History
from cah_dask.storage import Receipt
from tests.run.watch.loads import NOW


def commit(stage: Stage, ago_s: float, *, seconds: float = 5.0, **receipt: Any) -> Commit:
    counts = receipt.pop("counts", Counts(seen=100, kept=90, rejected={"http_404": 10}))
    made = Receipt(stage=stage.name, unit="u", config="", counts=counts, **receipt)
    at = NOW - timedelta(seconds=ago_s)
    return Commit(at, stage.name, f"w00000/b00000-l{int(ago_s):05d}", "n/io-1", seconds, made)


@pytest.mark.parametrize(
    ("times", "rows_per_s"),
    [
        ([float(n) for n in range(60)], 100.0),  # a task each second: the last minute is enough
        ([60.0 * n for n in range(60)], 100 / 60),  # one a minute: ten are
        ([300.0 * n for n in range(12)], 12 * 100 / 3600),  # all there is
        ([], 0.0),
    ],
)
def test_a_rate_is_that_of_the_shortest_window_with_enough_tasks(times, rows_per_s: float):
    history = History(RUN)
    for ago in reversed(times):
        history.add(commit(DOWNLOAD, ago, seconds=300.0))
    rows = history.rows_per_s("download", NOW)
    assert rows == pytest.approx(rows_per_s, rel=0.02, abs=0.2)
    assert history.tasks_per_s("download", NOW) == pytest.approx(rows / 100)


@pytest.mark.parametrize("n_before", [100, 4])
@pytest.mark.parametrize("standstill_s", [0.0, 900.0, 86_400.0])
def test_a_standstill_between_two_drivers_makes_no_task_slower(n_before: int, standstill_s: float):
    history = History(RUN)
    for n in range(n_before + 4):
        stood_still = standstill_s if n >= 4 else 0.0
        history.add(commit(DOWNLOAD, 30.0 * n + stood_still, seconds=30.0))
    assert history.tasks_per_s("download", NOW) == pytest.approx(1 / 30, rel=0.1)


def test_of_a_run_that_stopped_rows_come_no_more_and_what_it_takes_is_still_told():
    history = History(RUN)
    for n in range(20):
        history.add(commit(DOWNLOAD, 86_400.0 + 30.0 * n, seconds=30.0))
    assert history.rows_per_s("download", NOW) == 0
    assert history.tasks_per_s("download", NOW) == pytest.approx(1 / 30, rel=0.1)


def test_commits_without_number_leave_bounded_state_and_true_rates():
    history = History(RUN)
    for n in range(20_000):
        history.add(commit(DOWNLOAD, (20_000 - n) / 100))
    assert history.tasks_per_s("download", NOW) == pytest.approx(100, rel=0.02)
    assert len(history.moments()) <= 120
    assert sum(sum(each.outcomes.values()) for each in history.moments()) == 2_000_000


def test_recent_outcomes_forget_what_is_older_than_ten_minutes():
    history = History(RUN)
    history.add(commit(DOWNLOAD, 700, counts=Counts(seen=5, kept=0, rejected={"dns_error": 5})))
    history.add(commit(DOWNLOAD, 30))
    assert history.recent_outcomes(NOW) == {"ok": 90, "http_404": 10}


def test_the_shares_of_the_models_are_those_of_the_time_of_their_workers():
    history = History(RUN)
    for _ in range(3):
        timings = {"model": 600, "input": 300, "turn": 100, "worker": 1000}
        history.add(commit(EMBED, 10, timings=timings))
    model = history.model()
    assert (model.at_work, model.waiting_for_pictures, model.waiting_for_turn) == (0.6, 0.3, 0.1)
    assert list(history.embedded) == ["w00000/b00000-l00010"] * 3


def test_hosts_have_the_trouble_that_receipts_tell_of():
    history = History(RUN)
    history.add(commit(DOWNLOAD, 9, hosts={"a.test": {"ok": 5, "timeout": 2, "http_404": 4}}))
    history.add(commit(DOWNLOAD, 8, hosts={"a.test": {"http_403": 1}, "b.test": {"dns_error": 9}}))
    assert [(host.host, host.trouble) for host in history.hosts()] == [("b.test", 9), ("a.test", 3)]


@pytest.mark.parametrize("told_first", ["remembered", "fresh"])
def test_what_earlier_drivers_wrote_pushes_out_nothing_of_this_one(told_first: str):
    fresh = [
        commit(
            stage,
            50.0 - n,
            seconds=25.0,
            timings={"model": 1, "worker": 1},
            hosts={"new.test": {"timeout": 1}},
        )
        for n in range(40)
        for stage in (DOWNLOAD, EMBED)
    ]
    remembered = [
        commit(stage, 90_000.0 - n, timings={"input": 1, "worker": 1})
        for n in range(600)
        for stage in (DOWNLOAD, EMBED)
    ]
    history, alone = History(RUN), History(RUN)
    for each in [*remembered[:2], *fresh]:  # a run that began then
        alone.add(each)
    in_order = [*remembered, *fresh] if told_first == "remembered" else [*fresh, *remembered]
    for each in in_order:
        history.add(each)
    assert history.rows_per_s("download", NOW) == alone.rows_per_s("download", NOW)
    assert history.tasks_per_s("download", NOW) == alone.tasks_per_s("download", NOW)
    assert (
        history.recent_outcomes(NOW) == alone.recent_outcomes(NOW) == {"ok": 3600, "http_404": 400}
    )
    assert history.recent_hosts(NOW) == alone.recent_hosts(NOW)
    assert history.embedded == alone.embedded
    assert history.model() == alone.model()


def test_recent_hosts_are_those_of_the_last_ten_minutes():
    history = History(RUN)
    history.add(commit(DOWNLOAD, 700, hosts={"old.test": {"timeout": 900}}))
    history.add(commit(DOWNLOAD, 90, hosts={"a.test": {"ok": 5, "timeout": 2}}))
    history.add(commit(DOWNLOAD, 80, hosts={"a.test": {"timeout": 1}, "b.test": {"http_403": 4}}))
    assert [(host.host, host.trouble, host.outcomes) for host in history.recent_hosts(NOW)] == [
        ("b.test", 4, {"http_403": 4}),
        ("a.test", 3, {"ok": 5, "timeout": 3}),
    ]


@pytest.mark.parametrize("n_after", [4, 30])
@pytest.mark.parametrize("pause_s", [60.0, 900.0, 8 * 3600.0, 4 * 86_400.0])
def test_a_pause_in_the_midst_of_lists_makes_no_task_slower(pause_s: float, n_after: int):
    """A list ends each minute, and four are at work when the pause begins."""
    history = History(RUN)
    for n in range(n_after):
        waited = pause_s if n >= n_after - 4 else 0.0  # the earliest ones after it
        timings = {"paused": round(1000 * waited)} if waited else {}
        history.add(commit(DOWNLOAD, 60.0 * n, seconds=240.0 + waited, timings=timings))
    for n in range(60):
        history.add(commit(DOWNLOAD, 60.0 * (n_after + n) + pause_s, seconds=240.0))
    assert history.task_seconds("download") == [240.0] * (60 + n_after)
    for rate in history.steady_rates("download", NOW):
        assert rate == pytest.approx(1 / 60, rel=0.1)
    assert history.tasks_per_s("download", NOW) == pytest.approx(1 / 60, rel=0.25)
