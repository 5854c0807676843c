"""Pools on a real Slurm: right workers, kept right, nothing open, nothing left."""

import asyncio
import os
import signal
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import psutil
import pytest

from cah_dask.errors import RetryableError
from cah_dask.run import slurm
from cah_dask.run.cluster.jobs import call
from tests.slurm.cluster import Cluster, Layout, wait_until
from tests.slurm.live import CPU, GPU, Live, counted, note_and_sleep, where_am_i

pytestmark = pytest.mark.slurm


def test_tasks_run_in_their_own_partition_and_see_one_gpu_each(cluster: Cluster, tmp_path: Path):
    with Live(tmp_path / "a folder with blanks", gpu=GPU) as live:
        live.ask("cpu", 1)
        live.ask("gpu", 2)
        live.wait_for_workers("gpu", 2)
        live.wait_for_workers("cpu", 1)
        tasks = [live.submit("gpu", where_am_i) for _ in range(8)]
        places = [live.result(task) for task in tasks]
        assert {place["SLURM_JOB_PARTITION"] for place in places} == {"gpu"}
        assert {place["CUDA_VISIBLE_DEVICES"] for place in places} <= {"0", "1"}
        place = live.result(live.submit("cpu", where_am_i))
        assert (place["SLURM_JOB_PARTITION"], place["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
        assert_nothing_is_open(cluster, live)
    assert cluster.jobs() == []


def assert_nothing_is_open(cluster: Cluster, live: Live) -> None:
    """Every listening socket of workers and driver is TLS that wants a certificate, or loopback."""
    processes = [p for job_id in live.jobs.values() for p in cluster.job_processes(job_id)]
    processes.append(psutil.Process())
    listening = [
        connection.laddr
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    secrets = [(live.folder / "secrets" / name).read_text() for name in ("token", "key.pem")]
    for process in processes:
        public = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(secret in public for secret in secrets)
    dashboard = live.cluster.scheduler.http_server.port
    assert len(listening) >= 4
    for address in listening:
        if address.port == dashboard:
            assert address.ip == "127.0.0.1"
        else:
            assert_wants_certificate(address.ip, address.port)


def assert_wants_certificate(host: str, port: int) -> None:
    """The other side talks TLS, and ends the connection for want of a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=10) as raw,
        pytest.raises(ssl.SSLError, match="ALERT"),
        context.wrap_socket(raw) as secure,
    ):
        secure.recv(1)


def test_a_server_without_tls_would_be_found():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(AssertionError):
            assert_wants_certificate("127.0.0.1", server.server_port)


def test_a_lost_job_is_replaced_and_its_task_runs_again(cluster: Cluster, tmp_path: Path):
    with Live(tmp_path) as live:
        live.ask("cpu", 1)
        live.wait_for_workers("cpu", 1)
        log = tmp_path / "log"
        task = live.submit("cpu", note_and_sleep, str(log), "a", 3)
        wait_until(log.exists, 20)
        (job,) = live.jobs.values()
        started = time.monotonic()
        cluster.run("scancel", job)
        wait_until(lambda: log.read_text().count("start") == 2, 30)
        assert time.monotonic() - started < 15
        assert live.result(task) == "a"
        assert job not in live.jobs.values()


def test_a_cancelled_pending_job_is_replaced(cluster: Cluster, tmp_path: Path):
    cpu = msgspec.structs.replace(CPU, directives=("--begin=now+1hour",))
    with Live(tmp_path, cpu) as live:
        live.ask("cpu", 1)
        wait_until(lambda: len(cluster.jobs()) == 1, 20)
        (first,) = cluster.jobs("%A")[0]
        cluster.run("scancel", first)
        wait_until(lambda: cluster.jobs("%A") not in ([], [[first]]), 20)
    assert cluster.jobs() == []


def test_a_job_that_slurm_refuses_is_tried_again_when_it_may(cluster: Cluster, tmp_path: Path):
    cluster.run("scontrol", "update", "PartitionName=cpu", "State=DRAIN")
    try:
        with Live(tmp_path) as live:
            live.ask("cpu", 1)
            wait_until(lambda: live.warnings, 20)
            assert "Slurm refused a job of pool cpu" in live.warnings[0]
            assert "next try in" in live.warnings[0]
            cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
            live.wait_for_workers("cpu", 1)
    finally:
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")


def test_jobs_that_leave_no_log_are_not_submitted_for_ever(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SQUEUE_STATES", "R")
    cpu = msgspec.structs.replace(CPU, directives=("--output=/nonexistent/x",), max_jobs=4)
    with Live(tmp_path, cpu) as live:
        live.ask("cpu", 4)
        wait_until(lambda: live.warnings, 30)
        assert "a job of pool cpu had no worker; it left no log" in live.warnings[0]
        before = len(cluster.ended())
        wait_until(lambda: len(cluster.ended()) > before + 1, 30)
        assert len(cluster.ended()) - before <= 3, "one at a time, later and later"
    assert cluster.jobs() == []


def test_a_full_queue_makes_the_run_slower_and_says_so(make_folder, tmp_path, monkeypatch):
    with Cluster(make_folder("full"), Layout(nodes={"cpu": 1}, max_jobs=2)) as small:
        monkeypatch.setenv("SLURM_CONF", str(small.conf))
        cpu = msgspec.structs.replace(CPU, max_jobs=4)
        with Live(tmp_path, cpu, command_timeout_s=2) as live:
            live.ask("cpu", 4)
            wait_until(lambda: live.warnings, 60)
            assert "sbatch gave no answer in 2 s" in live.warnings[0]
            live.wait_for_workers("cpu", len(live.jobs))
            assert 1 <= len(live.jobs) <= 2
            tasks = [live.submit("cpu", where_am_i) for _ in range(8)]
            assert all(live.result(task)["SLURM_JOB_ID"] for task in tasks)
        assert small.jobs() == []


def test_workers_leave_before_their_job_ends_and_nothing_runs_twice(
    cluster: Cluster, tmp_path: Path
):
    soon = "export SLURM_JOB_END_TIME=$(($(date +%s) + 18))"  # as newer versions of Slurm tell
    cpu = msgspec.structs.replace(CPU, prologue=(soon,))
    with Live(tmp_path, cpu, drain_s=10) as live:
        live.ask("cpu", 1)
        log = tmp_path / "log"
        work = [(str(log), str(i), 3) for i in range(5)]
        assert live.carry_out("cpu", note_and_sleep, work) == [str(i) for i in range(5)]
        lines = log.read_text().splitlines()
        assert sorted(lines) == sorted(f"{w} {i}" for w in ("start", "end") for i in range(5))
        (left, *_) = [job for job in cluster.ended() if job["Name"].endswith("cpu-1")][-1:]
        assert left["JobState"] == "COMPLETED"


def test_slurm_may_be_silent_for_a_while(cluster: Cluster, tmp_path: Path):
    with Live(tmp_path, command_timeout_s=3) as live:
        live.ask("cpu", 1)
        live.wait_for_workers("cpu", 1)
        before = live.jobs
        cluster.stop_controller()
        wait_until(lambda: any("Slurm does not answer" in line for line in live.warnings), 30)
        assert live.result(live.submit("cpu", where_am_i))["SLURM_JOB_PARTITION"] == "cpu"
        cluster.start_controller()
        wait_until(lambda: cluster.jobs("%t") == [["R"]], 20)
        assert live.jobs == before


def test_one_look_at_the_queue_serves_all_jobs(cluster: Cluster, tmp_path: Path):
    cpu = msgspec.structs.replace(CPU, directives=("--begin=now+1hour",), max_jobs=20)
    with (
        counted("squeue", tmp_path, cluster.env["PATH"]) as log,
        Live(tmp_path / "run", cpu, poll_s=1) as live,
    ):
        live.ask("cpu", 20)
        wait_until(lambda: len(cluster.jobs()) == 20, 30)
        before = len(log.read_text().splitlines())
        started = time.monotonic()
        wait_until(lambda: len(log.read_text().splitlines()) >= before + 3, 30)
        assert time.monotonic() - started > 2
    assert cluster.jobs() == []


def test_jobs_without_work_are_given_back(cluster: Cluster, tmp_path: Path):
    with Live(tmp_path, idle_s=1) as live:
        live.ask("cpu", 1)
        live.wait_for_workers("cpu", 1)
        live.ask("cpu", 0)
        wait_until(lambda: cluster.jobs() == [], 20)
        live.ask("cpu", 1)
        live.wait_for_workers("cpu", 1)


def test_workers_end_by_themselves_and_leave_clean_logs(cluster: Cluster, tmp_path: Path):
    cpu = msgspec.structs.replace(CPU, processes=2)
    with Live(tmp_path, cpu) as live:
        live.ask("cpu", 2)
        live.wait_for_workers("cpu", 2)
        live.result(live.submit("cpu", where_am_i))
    assert cluster.jobs() == []
    name = slurm.run_prefix(tmp_path) + "cpu-1"
    (ended,) = [job for job in cluster.ended() if job["Name"] == name]
    assert ended["JobState"] == "COMPLETED"
    (log,) = (tmp_path / "jobs").glob("*.out")
    assert "Traceback" not in log.read_text(), log.read_text()
    assert "ERROR" not in log.read_text(), log.read_text()


def test_jobs_that_a_killed_driver_left_are_swept(cluster: Cluster, tmp_path: Path):
    name = slurm.run_prefix(tmp_path) + "cpu-7"
    for begin in ("now", "now+1hour"):
        cluster.run("sbatch", "-J", name, f"--begin={begin}", "--wrap", "sleep 60")
    other = cluster.run("sbatch", "--parsable", "-J", "mine", "--wrap", "sleep 60")[1].strip()
    with Live(tmp_path):
        wait_until(lambda: cluster.jobs("%A") == [[other]], 20)


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_process_is_started_again_in_its_job(tmp_path: Path):
    with Live(tmp_path) as live:
        live.ask("cpu", 1)
        live.wait_for_workers("cpu", 1)
        job = live.result(live.submit("cpu", where_am_i))["SLURM_JOB_ID"]
        pid = live.result(live.submit("cpu", os.getpid))
        os.kill(pid, signal.SIGKILL)
        assert live.result(live.submit("cpu", where_am_i))["SLURM_JOB_ID"] == job
        assert live.result(live.submit("cpu", os.getpid)) != pid


def test_a_pool_of_several_processes_has_a_worker_for_each(cluster: Cluster, tmp_path: Path):
    cpu = msgspec.structs.replace(CPU, processes=2)
    with Live(tmp_path, cpu) as live:
        live.ask("cpu", 2)
        live.wait_for_workers("cpu", 2)
        (job,) = live.jobs.values()
        cluster.run("scancel", job)
        wait_until(lambda: list(live.jobs.values()) not in ([], [job]), 20)


def test_a_command_that_overstays_is_killed():
    with pytest.raises(RetryableError, match=r"sleep gave no answer in 0\.1 s"):
        asyncio.run(call("sleep", "60", timeout_s=0.1))
    assert not [p for p in psutil.Process().children() if p.name() == "sleep"]
