"""What a run would submit and write is shown before it does."""

import os
from pathlib import Path

import pytest

from cah_dask.run import config as configuration
from cah_dask.run.config import PoolOptions, PoolsOptions
from cah_dask.run.plan import Plan, Stage
from cah_dask.run.pools import pools
from cah_dask.run.preview import describe, expected, job_script
from cah_dask.run.slurm import SlurmOptions
from cah_dask.schema import Counts
from cah_dask.storage import Receipt

GOLDEN = Path(__file__).parent / "golden"


def config(tmp_path: Path, **changes):
    path = tmp_path / "c.yaml"
    path.write_text("run_dir: /scratch/me/a run\ninputs: [a.warc.wat.gz]\nembed: {model: tiny}\n")
    return configuration.msgspec.structs.replace(configuration.load(path).config, **changes)


def test_a_job_script_is_the_accepted_one(tmp_path: Path):
    gpu = PoolOptions(
        partition="accel", time="1-12:00:00", gres="gpu:a100:4", threads=8, memory="256G",
        qos="long", constraint="nvme", directives=("--exclusive",),
        prologue=("module load cuda",), container="apptainer exec --nv cah.sif",
    )  # fmt: skip
    options = PoolsOptions(gpu=gpu)
    found = config(tmp_path, pools=options, slurm=SlurmOptions(account="mine"))
    script = job_script(pools(options)[0], found)
    script = script.replace(f"/secrets/{os.getuid()}/", "/secrets/UID/")
    golden = GOLDEN / "gpu-job.sh"
    assert script == golden.read_text(), (
        f"if the new script is right, accept it: write it to {golden}\n{script}"
    )


def test_estimates_count_the_tasks_that_the_plan_will_have(tmp_path: Path):
    found = config(tmp_path, archives_per_wave=3)
    estimated = {step.stage: step.tasks for step in expected(found, 7)}
    plan = Plan(
        [f"{n}.warc.wat.gz" for n in range(7)],
        archives_per_wave=3,
        buckets=found.dedup.buckets,
        committed=lambda unit: Receipt(
            stage=unit.stage, unit=unit.name, config="", counts=Counts(notes={"lists": 2})
        ),
    )
    for stage in (Stage.EXTRACT, Stage.DEDUP):
        assert estimated[stage] == plan.known[stage]


@pytest.mark.parametrize("n_archives", [1, 1000, 100_000])
def test_more_archives_never_cost_less(tmp_path: Path, n_archives: int):
    found = config(tmp_path)
    for less, more in zip(
        expected(found, n_archives), expected(found, 2 * n_archives), strict=True
    ):
        assert less.files <= more.files
        assert less.n_bytes < more.n_bytes


def test_a_local_run_is_described_without_scripts(tmp_path: Path):
    text = "\n".join(describe(config(tmp_path), 2))
    assert "pool cpu: " in text
    assert "workers on the driver's machine" in text
    assert "#SBATCH" not in text
