"""Whole runs on a real Slurm, submitted as users do: whatever happens, the same release."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.slurm import script
from tests import commands, runs
from tests.slurm.cluster import Cluster, Layout, wait_until
from tests.slurm.launched import (
    POOLS,
    ROOT,
    Gate,
    Run,
    assert_same,
    on_slurm,
    write_config,
    write_links,
)

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site() -> Iterator[Gate]:
    with Gate() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(site: Gate, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_links(tmp_path_factory.mktemp("inputs"), site)


@pytest.fixture(scope="module")
def local(site: Gate, inputs: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the same run without Slurm."""
    config = write_config(tmp_path_factory.mktemp("local"), site, inputs)
    assert runs.finish(config) == 0, runs.output(config)
    return config.with_suffix("")


@pytest.fixture
def start(cluster: Cluster, site: Gate, inputs: str, tmp_path: Path):
    """Submit a run; `pools` changes options of pools, `options` those of `slurm`."""

    def start(
        on: Cluster = cluster, submit: tuple[str, ...] = (), **changes: dict[str, Any]
    ) -> Run:
        config = write_config(tmp_path, site, inputs, **on_slurm(**changes))
        run = Run(on, config)
        run.submit(*submit)
        return run

    return start


def test_a_run_on_slurm_publishes_what_a_local_run_does_each_task_on_its_pool(start, local: Path):
    run = start()
    assert_same(run, local)
    places = {(c["stage"], c["worker"].split("/")[1].split("-")[0]) for c in run.commits()}
    assert places == {
        ("extract", "cpu"), ("dedup", "cpu"), ("download", "io"), ("embed", "gpu"),
        ("select", "cpu"), ("pack", "cpu"),
    }  # fmt: skip
    assert_held(run)
    assert "ssh -N -L 8787:127.0.0.1:" in run.text()
    assert (RunFolder(run.folder).secrets / "token").read_text() not in run.text()


def assert_held(run: Run) -> None:
    """Check the hours of jobs against what Slurm wrote down of them.

    The driver does not count the seconds in which it lets its jobs go.
    """
    held = RunFolder(run.folder).summary().held
    assert held is not None
    prefix = script.run_prefix(run.folder)
    wait_until(lambda: not run.cluster.jobs(), 30)
    for pool, processes in (("cpu", 2), ("io", 2), ("gpu", 1)):
        seconds = sum(
            (datetime.fromisoformat(job["EndTime"]) - datetime.fromisoformat(job["StartTime"]))
            .total_seconds()
            for job in run.cluster.ended()
            if job["Name"].startswith(f"{prefix}{pool}-")
        )  # fmt: skip
        found = held.pools[pool]
        assert seconds - 20 <= found.jobs_s <= seconds + 5, pool
        assert 0 < found.jobs_s == pytest.approx(found.held_s / processes)
        assert 0 < found.connected_s <= found.held_s + 2 * processes


def test_a_lost_job_a_killed_worker_and_a_cancelled_pending_job_cost_only_time(
    start, local: Path, cluster: Cluster, site: Gate
):
    site.hold()
    run = start(pools={"cpu": {"directives": ["--begin=now+3"]}})
    run.wait(lambda: run.workers("cpu", "PD"))
    cluster.run("scancel", run.workers("cpu", "PD")[0])
    site.wait()
    (job,) = run.workers("io")
    lost = time.monotonic()
    cluster.run("scancel", job)
    run.wait(lambda: run.workers("io") not in ([], [job]))
    site.hold()
    site.wait()
    assert time.monotonic() - lost < 15
    for process in run.worker_processes("io"):
        process.kill()
    site.wait()
    site.release()
    assert_same(run, local)
    held = RunFolder(run.folder).summary().held
    assert held is not None
    assert held.pools["cpu"].pending_s > 1


BLIND_NODE = """
import multiprocessing, os, time
def is_blind():
    if multiprocessing.parent_process() is None:
        return False  # the driver, on whatever node
    failures = "%s"
    if os.environ["SLURMD_NODENAME"] == "cpu1":
        with open(failures, "a") as file:
            file.write(".")
        return True
    while not os.path.exists(failures) or os.path.getsize(failures) < 3:
        time.sleep(0.05)  # the other node has its turn first
    return False
"""


def test_a_node_that_does_not_see_the_inputs_is_given_up_and_the_run_ends_whole(
    cluster: Cluster, site: Gate, tmp_path: Path
):
    shim = runs.write_blindness(tmp_path / "shim", BLIND_NODE % (tmp_path / "failures"))
    prologue = [f"export PYTHONPATH={shim}:{ROOT}"]
    n_archives = 24
    links = [
        (site.url(f"/ok-{n}.jpg", host=f"h{n % 9}.test"), f"A photograph of thing number {n}")
        for n in range(n_archives)
    ]
    inputs = runs.write_inputs(tmp_path / "in", links, archives=n_archives)
    cpu = {"max_jobs": 2, "processes": 1, "cores": 5, "prologue": prologue}
    config = write_config(tmp_path, site, inputs, **on_slurm(pools={"cpu": cpu}))
    config.write_text(config.read_text().replace("archives_per_wave: 2", "archives_per_wave: 24"))
    run = Run(cluster, config)
    run.submit()
    text = run.finish()
    assert (run.folder / "release").exists(), text
    extracted = [commit["receipt"] for commit in run.commits() if commit["stage"] == "extract"]
    assert sum(receipt["counts"]["seen"] for receipt in extracted) == n_archives
    assert not [receipt for receipt in extracted if receipt.get("errors")]
    assert "worker cpu1/cpu-" in text
    scripts = [path.read_text() for path in (run.folder / "jobs").glob("*.sh")]
    assert any("--exclude=cpu1" in script for script in scripts), "a job that took its place"


def test_preemption_and_a_partition_that_refuses_for_a_while_cost_only_time(
    start, local: Path, cluster: Cluster, site: Gate
):
    site.hold()
    run = start()
    site.wait()
    cluster.run("scontrol", "update", "PartitionName=gpu", "State=DRAIN")
    urgent = ("sbatch", "--parsable", "-p", "urgent", "-w", "io1", "-c", "8", "--wrap", "sleep 99")
    job = cluster.run(*urgent)[1].strip()
    wait_until(lambda: not run.workers("io"), 20)
    site.release()
    cluster.run("scancel", job)
    run.wait(lambda: "Slurm refused a job of pool gpu" in run.text())
    cluster.run("scontrol", "update", "PartitionName=gpu", "State=UP")
    assert_same(run, local)


def test_worker_jobs_that_reach_their_walltime_leave_before_idle_or_at_work(
    start, local: Path, site: Gate
):
    soon = "export SLURM_JOB_END_TIME=$(($(date +%s) + 25))"
    site.hold()
    run = start(pools={name: {"prologue": [soon]} for name in POOLS})
    site.wait()
    run.wait(lambda: {"cpu-1", "io-1"} <= run.completed())
    site.wait()
    site.release()
    assert_same(run, local)


def test_a_worker_job_that_slurm_ends_at_its_walltime_costs_only_time(
    start, local: Path, cluster: Cluster, site: Gate
):
    unaware = "export SLURM_JOB_END_TIME=$(($(date +%s) + 3600))"
    site.hold()
    run = start(pools={"io": {"time": "1", "prologue": [unaware]}})
    site.wait()
    (job,) = run.workers("io")
    run.wait(
        lambda: (job, "TIMEOUT") in [(j["JobId"], j["JobState"]) for j in cluster.ended()], 150
    )
    site.release()
    assert_same(run, local)


def test_a_driver_that_is_requeued_three_times_goes_on(start, local: Path, cluster: Cluster):
    run = start()
    for count in (1, 2, 3):
        run.wait(lambda n=count: run.text().count("dashboard from elsewhere") == n)
        run.wait(lambda n=count: len(run.commits()) >= 3 * n)
        cluster.run("scancel", "--batch", "--signal=USR2", run.job)
        run.wait(run.is_pending)
        assert not run.workers("io") + run.workers("cpu") + run.workers("gpu")
        run.start_again()
    assert_same(run, local)
    assert run.text().count("asking Slurm to run job") == 3


def test_a_pool_whose_jobs_fail_at_once_says_why_and_stops_the_run(start, cluster: Cluster):
    fails = 'echo "module: command not found" >&2; exit 7'
    run = start(pools={"cpu": {"prologue": [fails]}}, options={"false_starts": 2})
    text = " ".join(run.finish().split())
    assert "a job of pool cpu had no worker; its log ends: module: command not found" in text
    assert "error: 3 times in a row jobs of pool cpu ended before they had a worker" in text
    assert run.commits() == []
    assert cluster.jobs() == []


def test_a_driver_is_requeued_even_if_its_time_ends_while_it_starts(start, local: Path):
    run = start()
    run.wait(lambda: [run.job, "R"] in run.cluster.jobs("%A|%t"))
    run.wait((run.folder / "driver.lock").exists)
    run.cluster.run("scancel", "--batch", "--signal=USR2", run.job)
    run.wait(run.is_pending)
    run.start_again()
    assert_same(run, local)


def test_where_jobs_are_not_requeued_the_driver_submits_its_successor(start, local: Path):
    run = start(submit=("--no-requeue",))
    run.wait(lambda: len(run.commits()) >= 3)
    run.cluster.run("scancel", "--batch", "--signal=USR2", run.job)
    run.wait(lambda: not run.is_alive())
    ((successor, name),) = run.cluster.jobs("%A|%j")
    assert name == "cah-driver"
    run.job, run.log = successor, ROOT / f"cah-driver-{successor}.out"
    try:
        assert_same(run, local)
    finally:
        run.log.unlink()


def test_a_killed_driver_is_launched_again_while_slurm_is_silent_for_half_a_minute(
    start, local: Path, cluster: Cluster, site: Gate
):
    site.hold()
    run = start()
    site.wait()
    run.driver().kill()
    wait_until(lambda: not run.is_alive(), 30)
    run.submit()
    run.wait(lambda: run.text().count("dashboard from elsewhere") == 2)
    site.hold()
    site.wait()
    cluster.stop_controller()
    site.release()
    time.sleep(30)
    cluster.start_controller()
    assert_same(run, local)


def test_a_full_queue_costs_only_time(make_folder, start, local: Path, site: Gate):
    site.hold()
    with Cluster(make_folder("full"), Layout(max_jobs=2)) as small:
        run = start(small, options={"command_timeout_s": 2})
        run.wait(lambda: "Slurm refused a job of pool cpu" in run.text())
        assert "sbatch gave no answer in 2 s" in run.text()
        small.restart_controller(MaxJobCount="1000")
        site.wait()
        site.release()
        assert_same(run, local)


def test_one_allocation_holds_driver_and_workers_where_jobs_may_not_submit_jobs(
    start, local: Path, cluster: Cluster, site: Gate
):
    site.hold()
    pools = {name: {"partition": None, "time": None} for name in POOLS}
    whole = ("--partition=gpu", "--cpus-per-task=8", "--gres=gpu:2", "--mem=8G")
    run = start(submit=whole, pools=pools, options={"launch": "srun", "needs_account": True})
    site.wait()
    steps = cluster.run("squeue", "-h", "-s", "-j", run.job, "-o", "%i|%j")[1].splitlines()
    (io,) = [step.split("|")[0] for step in steps if step.endswith("|io-1")]
    site.hold()
    cluster.run("scancel", io)
    site.wait()
    site.release()
    assert_same(run, local)
    assert {job["JobId"] for job in cluster.ended() if "cah-" in job["Name"]} >= {run.job}


def test_a_filter_on_slurm_leaves_what_a_local_one_does_and_so_on(
    cluster: Cluster, local: Path, site: Gate, inputs: str, random_model: Path, tmp_path: Path
):
    config = write_config(tmp_path, site, inputs, random_model, **on_slurm())
    keep = {"keep": {"top_fraction": {"fraction": 0.5}}}
    rules = tmp_path / "half.yaml"
    rules.write_text(yaml.safe_dump(keep))

    def cah(*words: str | Path) -> None:
        code, _, said = commands.cah(*words, env=cluster.env, cwd=tmp_path)
        assert code == 0, said

    there = ("--config", config)
    cah("filter", local, rules, "--to", tmp_path / "here")
    cah("filter", local, rules, "--to", tmp_path / "there", *there)
    files = sorted(path for path in (tmp_path / "here").rglob("*") if path.is_file())
    for path in files:
        twin = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert twin.read_bytes() == path.read_bytes(), path
    (tmp_path / "hosts").write_text("h1.test\n")
    cah(
        "redact",
        tmp_path / "there",
        "--hosts",
        tmp_path / "hosts",
        "--to",
        tmp_path / "less",
        *there,
    )
    cah("verify", tmp_path / "less", *there)
    assert len(files) > 5
    assert cluster.jobs() == []
