"""The work of a run over time and by pool: nothing is lost, whatever its length."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.counts import Counts
from cah_dask.release.pool_time import PoolTime, PoolTimes
from cah_dask.release.summary import ReportOptions, StageSummary, Summary
from cah_dask.release.timeline import BUCKETS, TimelineSum, ends_of
from cah_dask.release.work import PoolWork, work_by_pool

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def task(stage: str, start_s: float, seconds: float) -> tuple[str, datetime, float]:
    return stage, START + timedelta(seconds=start_s + seconds), seconds


def test_a_timeline_says_how_many_tasks_were_at_work():
    sums = TimelineSum()
    for each in (task("embed", 0, 2), task("embed", 1, 1), task("dedup", 3, 0.5)):
        sums.add(*each)
    found = sums.total
    assert found is not None
    assert found.width_s == 1
    assert found.at_work["embed"][:4] == pytest.approx([1, 2, 0, 0])
    assert found.at_work["dedup"][:4] == pytest.approx([0, 0, 0, 0.5])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["extract", "embed"]),
            st.floats(0, 1e7).map(lambda x: round(x, 3)),
            st.floats(0, 1e5).map(lambda x: round(x, 3)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_a_timeline_stays_small_and_loses_no_second(tasks: list[tuple[str, float, float]]):
    sums = TimelineSum()
    for each in tasks:
        sums.add(*task(*each))
    found = sums.total
    assert found is not None
    assert found.length <= BUCKETS
    spent = found.width_s * sum(map(sum, found.at_work.values()))
    assert spent == pytest.approx(sum(seconds for *_, seconds in tasks), abs=1e-2)
    begins, ends = ends_of(found)
    assert begins <= min(START + timedelta(seconds=start) for _, start, _ in tasks)
    assert ends >= max(START + timedelta(seconds=start + s) for _, start, s in tasks)


def test_no_task_makes_no_timeline():
    assert TimelineSum().total is None


STAGES = {
    "extract": StageSummary(1, Counts(), 7200.0, "rows", pools={"cpu": 7200.0}),
    "download": StageSummary(1, Counts(), 3600.0, "rows", pools={"io": 3600.0}),
    "embed": StageSummary(
        2, Counts(), 9000.0, "rows", timings={"worker": 5_400_000}, pools={"gpu": 9000.0}
    ),
}
HELD = PoolTimes(
    START - timedelta(minutes=5),
    {
        "cpu": PoolTime(looked_s=7200, held_s=14_400),
        "gpu": PoolTime(looked_s=7200, held_s=21_600, jobs_s=5400, pending_s=900, gpus_s=43_200),
    },
)


def priced(summary: Summary, held: PoolTimes | None) -> dict[str, PoolWork]:
    """Return the work of each pool of a run that held its workers so long."""
    options = ReportOptions(prices={"cpu": 0.5, "gpu": 2.0})
    found = msgspec.structs.replace(
        summary, stages=STAGES, options=options, held=held, started=START
    )
    return {each.pool: each for each in work_by_pool(found)}


def test_without_a_record_work_and_cost_are_those_of_the_pool_that_did_it(summary: Summary):
    found = priced(summary, None)
    assert found["gpu"].worked == 1.5  # of two lists at once
    assert found["gpu"].cost == 3.0
    assert found["cpu"].cost == 1.0
    assert found["io"].worked == 1.0
    assert found["io"].cost is None
    assert {each.held for each in found.values()} == {None}


def test_what_was_held_is_what_is_paid(summary: Summary):
    found = priced(summary, HELD)
    cpu, gpu = found["cpu"], found["gpu"]
    assert (gpu.jobs, gpu.held, gpu.gpus, gpu.pending) == (1.5, 6.0, 12.0, 0.25)
    assert (gpu.worked, gpu.busy, gpu.cost) == (1.5, 0.25, 12.0)
    assert (cpu.jobs, cpu.held, cpu.gpus, cpu.pending) == (None, 4.0, None, None)
    assert (cpu.busy, cpu.cost) == (0.5, 2.0)
    assert found["io"].held is None


def test_work_is_that_of_the_pool_that_did_it_though_the_run_has_other_pools_now(
    summary: Summary,
):
    download = StageSummary(4, Counts(), 14_400.0, "rows", pools={"cpu": 3600.0, "io": 10_800.0})
    embed = msgspec.structs.replace(STAGES["embed"], pools={"cpu": 3000.0, "gpu": 6000.0})
    found = work_by_pool(
        msgspec.structs.replace(
            summary, stages={"download": download, "embed": embed}, pools={"download": "cpu"}
        )
    )
    worked = {each.pool: each.worked for each in found}
    assert worked == pytest.approx({"cpu": 1.5, "gpu": 1.0, "io": 3.0})


def test_a_record_that_began_after_the_run_is_none_of_the_whole_run(summary: Summary):
    late = msgspec.structs.replace(HELD, since=START + timedelta(seconds=1))
    assert priced(summary, late) == priced(summary, None)
