"""What is decided about jobs, from the queue, the workers and the work there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.errors import RunError
from cah_dask.run.cluster.reconcile import Orders, Reconciler, job_of
from cah_dask.run.pools import pools
from cah_dask.run.settings.config import PoolOptions, PoolsOptions
from cah_dask.run.slurm.answers import Queued
from cah_dask.run.slurm.options import SlurmOptions

OPTIONS = SlurmOptions(poll_s=1, idle_s=100, no_show_s=50, drain_s=60, max_jobs=20)
GPU, CPU = pools(
    PoolsOptions(
        cpu=PoolOptions(partition="c", time="60", processes=2, max_jobs=3),
        gpu=PoolOptions(partition="g", time="60", max_jobs=2),
    )
)


def start(options: SlurmOptions = OPTIONS, **demand: int) -> tuple[Reconciler, list[str]]:
    """Return a reconciler all of whose submissions at time 0 were accepted, and their names."""
    found = Reconciler((GPU, CPU), options)
    found.demand.update(demand)
    names = []
    for name, pool in found.submissions(0):
        found.accepted(name, pool, f"id-{name}", 0.0)
        names.append(name)
    return found, names


def queue(*names: str, state: str = "R", left_s: float = 3000.0) -> list[Queued]:
    return [Queued(f"id-{name}", state, left_s, "", f"cah-x-{name}") for name in names]


def test_a_pool_gets_the_jobs_that_its_tasks_are_worth_and_no_more():
    _, names = start(cpu=3, gpu=1)
    assert sorted(names) == ["cpu-1", "cpu-2", "gpu-1"]
    _, names = start(cpu=1000)
    assert sorted(names) == ["cpu-1", "cpu-2", "cpu-3"]


def test_the_figures_of_a_pool_are_those_of_its_jobs():
    found, _ = start(cpu=4, gpu=9)
    queued = [
        *queue("cpu-1"),
        *(Queued(f"id-{name}", "PD", None, "Priority", f"cah-x-{name}") for name in ("cpu-2",)),
        *(Queued(f"id-gpu-{n}", "PD", None, "Resources", f"cah-x-gpu-{n}") for n in (1, 2)),
    ]
    found.look(queued, {"cpu-1": True}, 1.0)
    cpu, gpu = found.pool_figures(CPU, 2), found.pool_figures(GPU, 0)
    assert (cpu.wanted, cpu.most, cpu.running, cpu.pending, cpu.workers) == (2, 3, 1, 1, 2)
    assert (gpu.wanted, gpu.running, gpu.reasons) == (2, 0, {"Resources": 2})


def test_a_lost_job_is_replaced_under_a_new_name():
    found, _ = start(cpu=2)
    assert found.look([], {}, 1.0).gone == [], "what squeue shows may be older than the job"
    assert found.look([], {}, 3.0).gone == ["cpu-1"], "it was not shown twice in a row"
    assert [name for name, _ in found.submissions(3.0)] == ["cpu-2"]


def test_a_job_of_this_run_that_nobody_owns_is_cancelled():
    found, _ = start(cpu=2)
    stray = Queued("77", "PD", None, "", "cah-x-cpu-9")
    assert found.look([*queue("cpu-1"), stray], {"cpu-1": True}, 1.0) == Orders(strays=["77"])


def test_a_running_job_without_workers_is_cancelled_after_a_while():
    found, _ = start(cpu=2)
    assert found.look(queue("cpu-1"), {}, 10.0) == Orders()
    assert found.look(queue("cpu-1"), {}, 59.0) == Orders()
    assert found.look(queue("cpu-1"), {}, 61.0) == Orders(no_show=["cpu-1"])


def test_a_job_that_had_workers_in_between_starts_to_wait_anew():
    found, _ = start(cpu=2)
    found.look(queue("cpu-1"), {}, 10.0)
    found.look(queue("cpu-1"), {"cpu-1": True}, 59.0)
    assert found.look(queue("cpu-1"), {}, 61.0) == Orders()


def test_jobs_that_fail_at_once_come_slower_and_slower_until_a_worker_arrives():
    found, _ = start(cpu=100)
    now = 1.0
    for wait in (2, 4, 8):
        found.look(queue(*found.jobs), {}, now)
        found.look([], {}, now)
        found.look([], {}, now)
        assert found.false_start(CPU, now) == wait
        assert found.submissions(now + wait - 0.1) == []
        now += wait
        ((name, pool),) = found.submissions(now)
        found.accepted(name, pool, f"id-{name}", now)
    found.arrived(CPU)
    assert len(found.submissions(now)) == 2


def test_a_pool_whose_jobs_always_fail_at_once_stops_the_run():
    found, _ = start(cpu=100)
    now = 1.0
    for _ in range(OPTIONS.false_starts):
        now += found.false_start(CPU, now)
    with pytest.raises(RunError, match="9 times in a row jobs of pool cpu ended before they"):
        found.false_start(CPU, now)


def test_what_is_not_needed_is_kept_for_a_while_then_given_back_pending_first():
    found, _ = start(cpu=6)
    seen = [*queue("cpu-1", "cpu-2"), *queue("cpu-3", state="PD")]
    found.demand["cpu"] = 1
    for now in (1.0, 50.0, 100.0):
        assert found.look(seen, {"cpu-1": True, "cpu-2": False}, now) == Orders()
    orders = found.look(seen, {"cpu-1": True, "cpu-2": False}, 102.0)
    assert orders == Orders(cancel=["cpu-3"], retire=["cpu-2"])


def test_work_that_comes_back_in_time_keeps_the_jobs():
    found, _ = start(cpu=2)
    found.demand["cpu"] = 0
    found.look(queue("cpu-1"), {"cpu-1": False}, 1.0)
    found.demand["cpu"] = 1
    found.look(queue("cpu-1"), {"cpu-1": False}, 90.0)
    found.demand["cpu"] = 0
    assert found.look(queue("cpu-1"), {"cpu-1": False}, 110.0) == Orders()


def test_a_busy_job_is_never_given_back():
    found, _ = start(cpu=2)
    found.demand["cpu"] = 0
    for now in range(0, 1000, 10):
        assert found.look(queue("cpu-1"), {"cpu-1": True}, now) == Orders()


def test_a_job_that_ends_soon_gets_its_successor_before_it_is_gone():
    found, _ = start(cpu=2)
    found.look(queue("cpu-1", left_s=59), {"cpu-1": True}, 1.0)
    assert [name for name, _ in found.submissions(1.0)] == ["cpu-2"]


def test_a_refused_pool_is_tried_again_later_and_later_with_one_job_at_a_time():
    found = Reconciler((GPU, CPU), OPTIONS)
    found.demand["cpu"] = 6
    now, waits = 0.0, []
    for _ in range(12):
        chosen = found.submissions(now)
        assert len(chosen) == (3 if now == 0 else 1)
        waits.append(max(found.refused(pool, now) for _, pool in chosen))
        assert found.submissions(now + waits[-1] - 0.1) == []
        now += waits[-1]
    assert waits[:3] == [2, 4, 8]
    assert waits[-1] == 300


def test_an_idle_job_makes_room_at_once_for_a_pool_that_is_refused():
    found, _ = start(cpu=2)
    found.demand.update(cpu=0, gpu=1)
    found.refused(GPU, 1.0)
    assert found.look(queue("cpu-1"), {"cpu-1": False}, 2.0).retire == ["cpu-1"]


def test_no_more_jobs_are_submitted_in_a_minute_than_allowed():
    options = SlurmOptions(submits_per_minute=2, poll_s=1)
    found, names = start(options, cpu=6, gpu=2)
    assert len(names) == 2
    assert found.submissions(59.0) == []
    assert len(found.submissions(60.5)) == 2


def test_few_places_are_shared_between_the_pools():
    _, names = start(SlurmOptions(max_jobs=2), cpu=6, gpu=2)
    assert sorted(names) == ["cpu-1", "gpu-1"]


def test_a_worker_belongs_to_its_job_whatever_its_number():
    assert job_of("cpu-3") == job_of("cpu-3-0") == job_of("cpu-3-11") == "cpu-3"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.booleans()), max_size=60))
def test_limits_hold_and_names_never_return_whatever_happens(steps):
    found = Reconciler((GPU, CPU), SlurmOptions(max_jobs=4, poll_s=1, idle_s=2, no_show_s=5))
    names: set[str] = set()
    for now, (demand, lost, is_busy) in enumerate(steps):
        found.demand.update(cpu=demand, gpu=demand // 2)
        alive = [name for i, name in enumerate(found.jobs) if i != lost]
        found.look(queue(*alive), dict.fromkeys(alive, is_busy), float(now))
        for name, pool in found.submissions(float(now)):
            assert name not in names
            names.add(name)
            found.accepted(name, pool, f"id-{name}", now)
        assert len(found.jobs) <= 4
        assert sum(job.pool is CPU for job in found.jobs.values()) <= 3


def test_a_job_whose_worker_is_connected_is_there_whatever_the_queue_shows():
    found, _ = start(cpu=2)
    for now in range(1, 200):
        assert found.look([], {"cpu-1": True}, float(now)).gone == []
    assert found.look([], {}, 200.0).gone == []
    assert found.look([], {}, 201.0).gone == ["cpu-1"]


def test_a_queue_that_was_not_shown_whole_once_loses_no_job():
    found, _ = start(cpu=2, gpu=1)
    found.look(queue("cpu-1", "gpu-1", state="PD"), {}, 1.0)
    assert found.look(queue("gpu-1", state="PD"), {}, 2.0).gone == []
    assert found.look(queue("cpu-1", state="PD"), {}, 3.0).gone == []
    assert found.look([], {}, 4.0).gone == ["gpu-1"]


@given(st.randoms(use_true_random=False))
def test_there_are_never_more_jobs_than_may_be_however_little_the_queue_shows(rng):
    """Jobs start, end and have workers; of the queue any part is shown, and any part of it late."""
    found = Reconciler((GPU, CPU), OPTIONS)
    found.demand.update(cpu=1000, gpu=1000)
    running: dict[str, bool] = {}  # the jobs that there are, and whether they have workers
    for now in range(0, 120, 2):
        for name, pool in found.submissions(float(now)):
            found.accepted(name, pool, f"id-{name}", float(now))
            running[name] = False
        for name in list(running):
            if rng.random() < 0.5:
                running[name] = True
            if rng.random() < 0.02:
                del running[name]
        with_workers = {name: True for name, has in running.items() if has}
        shown = [name for name in running if running[name] and rng.random() < 0.5]
        shown += [name for name in running if not running[name]]
        orders = found.look(queue(*shown), with_workers, float(now))
        assert not set(orders.gone) & set(running)
        for name in (*orders.cancel, *orders.no_show, *orders.retire):
            running.pop(name, None)
        for pool in (CPU, GPU):
            assert sum(name.startswith(pool.name) for name in running) <= pool.max_jobs
