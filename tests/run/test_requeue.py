"""When a driver's job may run again, and how."""

from pathlib import Path

import pytest

from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.requeue import refusal, successor
from cah_dask.run.slurm.options import SlurmOptions

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "small", "SLURM_JOB_QOS": "normal"}


def test_a_job_that_got_something_done_may_run_again():
    assert refusal(SlurmOptions(), JOB, barren=0) is None
    assert refusal(SlurmOptions(), JOB, barren=3) is None


@pytest.mark.parametrize(
    ("options", "environment", "barren", "reason"),
    [
        (SlurmOptions(), {}, 0, "this is no Slurm job"),
        (SlurmOptions(restart="no"), JOB, 0, "slurm.restart is `no`"),
        (SlurmOptions(), JOB | {"SLURM_JOB_PARTITION": "dev-g"}, 0, "forbid chains of jobs in de"),
        (SlurmOptions(), JOB | {"SLURM_JOB_QOS": "Debug_2h"}, 0, "forbid chains of jobs in Debug"),
        (SlurmOptions(no_chain=("Dev-G",)), JOB | {"SLURM_JOB_PARTITION": "dev-g"}, 0, "in dev-g"),
        (SlurmOptions(), JOB, 4, "the last 4 attempts committed nothing"),
    ],
)
def test_a_job_does_not_run_again_where_it_must_not(options, environment, barren, reason):
    assert reason in (refusal(options, environment, barren) or "")


def test_a_partition_that_only_sounds_like_a_forbidden_one_is_fine():
    assert refusal(SlurmOptions(), JOB | {"SLURM_JOB_PARTITION": "devices"}, 0) is None


def test_the_successor_is_the_same_job_after_this_one():
    environment = JOB | {
        "SLURM_JOB_ACCOUNT": "mine", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4",
        "SLURM_MEM_PER_NODE": "4096", "CAH_LAUNCH": "/c/slurm/launch.sh",
    }  # fmt: skip
    assert successor(environment, "1-02:00:00|gres:gpu:2\n", ["configs/a.yaml"]) == [
        "sbatch", "--dependency=afterany:7", "--account=mine", "--partition=small",
        "--qos=normal", "--nodes=2", "--cpus-per-task=4", "--mem=4096", "--time=1-02:00:00",
        "--gres=gpu:2", "/c/slurm/launch.sh", "configs/a.yaml",
    ]  # fmt: skip
    bare = successor({"SLURM_JOB_ID": "7"}, "UNLIMITED|N/A\n", ["a.yaml"])
    assert bare == ["sbatch", "--dependency=afterany:7", "slurm/launch.sh", "a.yaml"]


def test_attempts_without_a_commit_are_counted_until_one_succeeds(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    folder = RunFolder(tmp_path)
    seen = [folder.count_barren(has_committed=done) for done in (False, False, True, False)]
    assert seen == [1, 2, 0, 1]
