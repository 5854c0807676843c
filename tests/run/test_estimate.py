"""What a run would submit and write is shown before it does."""

import os
from pathlib import Path

import msgspec
import pytest

from cah_dask.candidates.dedup import DedupOptions
from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.counts import Counts
from cah_dask.run.before.estimate import (
    LINKS_PER_ARCHIVE,
    advice,
    count_links,
    describe,
    expected,
    job_script,
    short_of_memory,
)
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.plan import Plan
from cah_dask.run.pools import Pool, pools
from cah_dask.run.settings import loading
from cah_dask.run.settings.config import Config, PoolOptions, PoolsOptions
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.stages import DEDUP, EXTRACT
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt
from tests.wats import image, page, write_pages

GOLDEN = Path(__file__).parent / "golden"


def config(tmp_path: Path, **changes):
    path = tmp_path / "c.yaml"
    path.write_text("run_dir: /scratch/me/a run\ninputs: [a.warc.wat.gz]\nembed: {model: tiny}\n")
    return msgspec.structs.replace(loading.load(path).config, **changes)


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
    estimated = {step.stage: step.tasks for step in expected(found, 7, 700_000)}
    plan = Plan(
        [f"{n}.warc.wat.gz" for n in range(7)],
        archives_per_wave=3,
        buckets=found.dedup.buckets,
        committed=lambda unit: Receipt(
            stage=unit.stage.name, unit=unit.name, config="", counts=Counts(notes={"lists": 2})
        ),
    )
    for stage in (EXTRACT, DEDUP):
        assert estimated[stage.name] == plan.known[stage]


@pytest.mark.parametrize("n", [1, 1000, 100_000])
def test_more_archives_never_cost_less(tmp_path: Path, n: int):
    found = config(tmp_path)
    for less, more in zip(
        expected(found, n, n * 99), expected(found, 2 * n, 2 * n * 99), strict=True
    ):
        assert less.files <= more.files
        assert less.n_bytes < more.n_bytes


def test_a_local_run_is_described_without_scripts(tmp_path: Path):
    text = "\n".join(describe(config(tmp_path), ["https://a.example/x.warc.wat.gz"] * 2))
    assert "pool cpu: " in text
    assert "workers on the driver's machine" in text
    assert "#SBATCH" not in text


def test_links_are_estimated_from_the_first_part_of_local_archives(tmp_path: Path):
    for n, n_pages in enumerate((40, 2000)):
        pages = (
            page(*(image(f"{n}/{k}/{i}.jpg", f"a red boat {k} {i} on a lake") for i in range(9)))
            for k in range(n_pages)
        )
        write_pages(tmp_path / f"{n}.warc.wat.gz", *pages)
    names = [str(path) for path in tmp_path.glob("*.warc.wat.gz")]
    true = sum(extract_archive(name, ExtractOptions(), buckets=1).counts.kept for name in names)
    assert true == 9 * 2040
    assert 0.7 * true < count_links(names, ExtractOptions()) < 1.4 * true
    there = ["https://a.example/x.warc.wat.gz"]
    assert count_links(names + there, ExtractOptions()) > LINKS_PER_ARCHIVE + 0.7 * true


def test_a_small_run_is_told_to_take_fewer_buckets(tmp_path: Path):
    found = config(tmp_path)
    assert "set dedup.buckets to about 1 " in advice(found, 1, 3_000)
    assert "set dedup.buckets to about 8 " in advice(found, 1, 105_800)
    assert not advice(found, 100, 10_580_000)
    few = msgspec.structs.replace(found, dedup=DedupOptions(buckets=1))
    assert not advice(few, 1, 3_000)


def pool_of(config: Config, name: str) -> Pool:
    return next(pool for pool in pools(config.pools, "sbatch") if pool.name == name)


def test_a_pool_whose_processes_have_too_little_memory_is_told_by_its_stage(tmp_path: Path):
    cpu = {"partition": "cpu", "time": "60", "processes": 8, "cores": 8}
    tight = config(tmp_path, pools=msgspec.convert({"cpu": {**cpu, "memory": "2G"}}, PoolsOptions))
    assert short_of_memory(tight, pool_of(tight, "cpu")) == (
        "pool cpu: a process has 256 MB (memory / processes), and pack takes 400 MB; "
        "give more memory or fewer processes"
    )
    assert any("pack takes 400 MB" in line for line in describe(tight, []))
    wide = config(tmp_path, pools=msgspec.convert({"cpu": {**cpu, "memory": "4G"}}, PoolsOptions))
    assert short_of_memory(wide, pool_of(wide, "cpu")) == ""
    local = config(tmp_path)
    assert short_of_memory(local, pool_of(local, "cpu")) == ""


def test_what_a_run_has_seen_counts_more_than_what_is_known(tmp_path: Path):
    cpu = {"partition": "cpu", "time": "60", "processes": 1, "memory": "1G"}
    options = msgspec.convert({"cpu": cpu}, PoolsOptions)
    found = config(tmp_path, pools=options, run_dir=str(tmp_path / "run"))
    folder = RunFolder(tmp_path / "run")
    unit = Unit(DEDUP)
    receipt = Receipt(stage="dedup", unit=unit.name, config="", counts=Counts())
    with folder.driving(Loaded(found, {}), []):
        folder.commit(unit, Done(receipt, 1.0, "node/cpu-1", peak_mb=5000))
    assert folder.summary().stages["dedup"].peak_mb == 5000
    assert "dedup takes 5,000 MB" in short_of_memory(found, pool_of(found, "cpu"))
