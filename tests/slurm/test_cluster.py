"""The cluster that all other Slurm tests stand on."""

from pathlib import Path

import psutil
import pytest

from tests.slurm.cluster import Cluster, Layout, wait_until

pytestmark = pytest.mark.slurm


def test_a_job_sees_the_gpus_that_it_asked_for(cluster: Cluster, tmp_path: Path):
    out = tmp_path / "out"
    cluster.run(
        "sbatch", "-W", "-p", "gpu", "--gres=gpu:1", "-o", str(out),
        "--wrap", "echo $CUDA_VISIBLE_DEVICES on $SLURMD_NODENAME",
    )  # fmt: skip
    assert out.read_text() == "0 on gpu1\n"


def test_an_urgent_job_preempts_others(cluster: Cluster):
    low = cluster.run("sbatch", "--parsable", "-p", "io", "-c", "8", "--wrap", "sleep 60")[1]
    wait_until(lambda: [low.strip(), "R"] in cluster.jobs("%A|%t"), 10)
    cluster.run("sbatch", "-p", "urgent", "-w", "io1", "-c", "8", "--wrap", "sleep 60")
    wait_until(lambda: [low.strip(), "R"] not in cluster.jobs("%A|%t"), 10)


def test_nothing_is_left_behind(make_folder):
    others = set(psutil.Process().children(recursive=True))
    with Cluster(make_folder("gone"), Layout()) as cluster:
        cluster.run("sbatch", "--wrap", "sleep 60")
        wait_until(lambda: cluster.jobs("%t") == [["R"]], 10)
        (job,) = cluster.jobs("%A")
        wait_until(lambda: cluster.job_processes(job[0]), 10)
        processes = set(psutil.Process().children(recursive=True)) - others
        processes |= set(cluster.job_processes(job[0]))
    assert len(processes) >= 7
    assert psutil.wait_procs(processes, timeout=10)[1] == []
