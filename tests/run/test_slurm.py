"""Text for Slurm and text from Slurm, without Slurm."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cah_dask.errors import ConfigError
from cah_dask.run.before.slurm_limits import FULL, check_allocation
from cah_dask.run.cluster.jobs import without
from cah_dask.run.pools import check_pools, pools
from cah_dask.run.settings import config, loading
from cah_dask.run.settings.config import Config
from cah_dask.run.slurm import answers, options, script
from cah_dask.run.slurm.answers import Queued, count_processors
from cah_dask.run.slurm.options import JobOptions

MINIMAL = "run_dir: runs/x\ninputs: [a.warc.wat.gz]\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("12:00:00", 43_200),
        ("1-0", 86_400),
        ("2-12:30", 217_800),
        ("1-00:00:01", 86_401),
    ],
)
def test_every_slurm_time_is_understood(text: str, seconds: int):
    assert options.walltime_s(text) == seconds


@given(st.text(alphabet="0123456789:-xU", max_size=12))
@example("-1")
@example("1-")
@example("1:2:3:4")
def test_a_time_is_understood_or_refused_with_what_is_accepted(text: str):
    seconds, refusal = None, ""
    try:
        seconds = options.walltime_s(text)
    except ValueError as error:
        refusal = str(error)
    assert 'write "minutes", "HH:MM:SS"' in refusal if seconds is None else seconds >= 60


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("partition: c, time: 12:00:00", "time is the number 43200, maybe by YAML; write"),
        ("partition: c, time: soon", "time 'soon' is not understood; write"),
        ("partition: c, time: '5', memory: 16000", "memory 16000 is not understood; write a num"),
        ("partition: c, time: '5', memory: 16GB", "memory '16GB' is not understood"),
        ("partition: c", "pools.cpu.time is missing"),
        ("partition: c, time: '5', cores: 2, processes: 3", "pools.cpu.cores is 2, but 3 processe"),
        ("partition: c, time: '2'", "pools.cpu.time '2' is no longer than slurm.drain_s (120 s)"),
        ("partition: 'a b', time: '5'", "pools.cpu.partition: expected `str` matching"),
        ("time: '5'", "pools.cpu.time is for Slurm jobs; name their partition"),
        ("max_jobs: 9", "pools.cpu.max_jobs is for Slurm jobs"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_submitted(tmp_path, pool: str, message: str):
    path = tmp_path / "c.yaml"
    path.write_text(f"{MINIMAL}pools: {{cpu: {{{pool}}}}}\n")
    with pytest.raises(ConfigError) as caught:
        check_pools(loading.load(path).config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_account_is_named_where_the_site_needs_one(tmp_path: Path):
    path = tmp_path / "c.yaml"
    pool = "{partition: c, time: '5'}"
    path.write_text(f"{MINIMAL}slurm: {{needs_account: true}}\npools: {{cpu: {pool}}}\n")
    with pytest.raises(ConfigError, match=r"pools\.cpu\.account is missing .* slurm\.account"):
        check_pools(loading.load(path).config)
    check_pools(loading.load(path, ["slurm.account=mine"]).config)


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        (None, 0), ("gpu", 1), ("gpu:4", 4), ("gpu:a100:2", 2), ("gpu:a100", 1), ("nvme", 0),
        ("nvme:1,gpu:h100:3", 3), ("gpu:v100-sxm2:4", 4), ("gpu:nvidia_a100-sxm4-80gb:4", 4),
        ("gpu:1g.10gb:2", 2), ("gpu:a100_3g.20gb:2", 2), ("gpu:nvidia_h100_nvl_1g.12gb:1", 1),
        ("gpu:2080ti:4", 4), ("gpu:3090:2", 2), ("gpu:rtx_a6000:4(S:0-1)", 4), ("gpu:8(S:0,1)", 8),
        ("gpu:a100:1,gpu:v100:1", 2), ("gpu:h200:4(IDX:0,2-3),nvme:2", 4), ("shard:4", 0),
        ("gpufs:2", 0), ("craynetwork:0,gpu:mi250:8", 8),
    ],
)  # fmt: skip
def test_gpus_are_counted_in_any_gres(gres: str | None, count: int):
    assert JobOptions(gres=gres).n_gpus == count


def test_a_job_has_a_process_for_each_gpu_or_for_each_share_of_its_cores():
    options = config.PoolsOptions(
        cpu=config.PoolOptions(partition="c", time="5", cores=128, threads=4),
        gpu=config.PoolOptions(partition="g", time="5", gres="gpu:4", threads=8),
        io=config.PoolOptions(workers=3),
    )
    gpu, io, cpu = pools(options)
    assert (cpu.processes, cpu.cores) == (32, 128)
    assert (gpu.processes, gpu.cores) == (4, 32)
    assert (io.workers, io.job) == (3, None)
    assert [pool.jobs_for(5) for pool in (gpu, io, cpu)] == [1, 0, 1]
    assert [pool.jobs_for(33) for pool in (gpu, io, cpu)] == [4, 0, 2]  # a gpu job has 8 at once


def test_only_live_jobs_of_this_run_are_seen_in_the_queue():
    text = (
        "12|R|1-00:10:00|None|cah-0a1b2c3d-cpu-1\n"
        "13|PD|INVALID|QOSMaxJobsPerUserLimit|cah-0a1b2c3d-gpu-1\n"
        "14|CG|0:00|None|cah-0a1b2c3d-cpu-2\n"
        "15|R|UNLIMITED|None|another|job\n"
        "a line of a site's own wrapper\n"
    )
    assert answers.parse_squeue(text, "cah-0a1b2c3d-") == [
        Queued("12", "R", 87_000.0, "None", "cah-0a1b2c3d-cpu-1"),
        Queued("13", "PD", None, "QOSMaxJobsPerUserLimit", "cah-0a1b2c3d-gpu-1"),
    ]


def test_what_the_drivers_own_job_was_given_is_not_passed_on():
    given_to_driver = {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_CPU": "100",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_TRES_PER_TASK": "cpu:2",
        "SBATCH_PARTITION": "debug",
        "SQUEUE_STATES": "R",
    }
    assert set(answers.clean_environment(given_to_driver)) == {"PATH", "SLURM_CONF", "SLURM_JOB_ID"}


def test_only_the_named_option_is_skipped():
    header = "#SBATCH -J a\n#SBATCH -p gpu-normal\n#SBATCH -n 1\n#SBATCH --cpus-per-task=2"
    assert without(frozenset(["-n"]), header) == header.replace("#SBATCH -n 1\n", "")


@pytest.mark.parametrize(
    ("said", "is_full"),
    [
        ("Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("AssocGrpSubmitJobsLimit: Job violates accounting/QOS policy (job submit limit)", True),
        ("QOSMaxSubmitJobPerUserLimit: Job violates accounting/QOS policy (job submit", True),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time)", True),
        ("QOSMaxWallDurationPerJobLimit: Job violates policy (job submit limit, user's)", False),
        ("Requested time limit is invalid (missing or exceeds some limit)", False),
    ],
)
def test_a_full_queue_is_told_from_a_wrong_request(said: str, *, is_full: bool):
    assert bool(FULL.search(said)) == is_full


def test_options_of_a_pool_become_directives_unless_the_site_refuses_them():
    options = JobOptions(
        qos="long", gres="gpu:2", directives=("--exclusive",), skip_directives=("--open-mode",)
    )
    assert script.directives(options, "/run/jobs/%x.out") == [
        "--no-requeue", "--nodes=1", '--output="/run/jobs/%x.out"', "--qos=long", "--gres=gpu:2",
        "--exclusive",
    ]  # fmt: skip


@pytest.mark.parametrize("own", ["--exclude=a1,a2", "--exclude a1,a2", "-x a1,a2", "-xa1,a2"])
def test_nodes_that_are_given_up_join_those_that_the_user_excludes(own: str):
    given_up = script.directives(JobOptions(directives=(own, "--exclusive")), "log", ["b1", "b2"])
    assert given_up[-2:] == ["--exclusive", "--exclude=a1,a2,b1,b2"]
    assert script.directives(JobOptions(), "log", ["b1"])[-1] == "--exclude=b1"


@pytest.mark.parametrize(
    ("text", "processors"), [("8", 8), ("72(x2),36", 180), ("4(x1),2(x3)", 10), ("", 0)]
)
def test_the_processors_of_an_allocation_are_counted(text: str, processors: int):
    assert count_processors(text) == processors


def steps(tmp_path: Path, pool: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(f"{MINIMAL}slurm: {{launch: srun}}\npools: {{cpu: {pool}, gpu: {pool}}}\n")
    return loading.load(path).config


def test_steps_need_an_allocation_that_holds_them_all(tmp_path: Path):
    config = steps(tmp_path, "{processes: 2, max_jobs: 2}")
    there = {"SLURM_JOB_ID": "7", "SLURM_JOB_CPUS_PER_NODE": "4(x2)"}
    check_allocation(config, there)
    with pytest.raises(ConfigError, match="but this is no Slurm job; submit one"):
        check_allocation(config, {})
    with pytest.raises(ConfigError, match=r"need 8 .* \(max_jobs x cores: gpu 4, cpu 4\), .* 6"):
        check_allocation(config, there | {"SLURM_JOB_CPUS_PER_NODE": "6"})


def test_a_run_has_its_own_short_prefix_for_the_names_of_its_jobs(tmp_path: Path):
    one, other = script.run_prefix(tmp_path / "a"), script.run_prefix(tmp_path / "b")
    assert one != other
    assert re.fullmatch(r"cah-[0-9a-f]{8}-", one)


BANNERS = st.lists(
    st.sampled_from(
        [
            "-----------------", "   Welcome to Example5", "", "sbatch: Warning: 12",
            "--> Verifying valid submit host (login2)...OK", "Sun Jul 7 03:08:22 2019 [INFO4] auks",
            "you have used 4711 of 5000 hours", "Account: 12-345", "\x1b[1mnews\x1b[0m", "job 17?",
        ]
    ),
    max_size=5,
)  # fmt: skip


@given(BANNERS, BANNERS, st.integers(1, 10**9), st.sampled_from(["{}", " {} ", "{};alps", "{}\r"]))
def test_the_id_of_a_job_is_found_among_whatever_a_site_prints(before, behind, job_id, form):
    printed = "\n".join([*before, form.format(job_id), *behind]) + "\n"
    assert answers.parse_job_id(printed) == str(job_id)


@given(BANNERS, st.integers(1, 10**9))
def test_the_id_of_a_job_is_also_found_in_words(before, job_id):
    printed = "\n".join([*before, f"Submitted batch job {job_id} on cluster alps"])
    assert answers.parse_job_id(printed) == str(job_id)


@given(BANNERS)
def test_what_holds_no_id_is_shown_in_one_printable_line(printed):
    with pytest.raises(ValueError, match="sbatch printed no job id but") as caught:
        answers.parse_job_id("\n".join(printed))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "directive", ["--clusters=b", "-M b", "--cluster=b", "--clusters b", "-Mb"]
)
def test_jobs_of_another_cluster_are_refused(directive: str):
    with pytest.raises(ValueError, match="name another cluster"):
        JobOptions(directives=(directive,))


def test_what_a_driver_was_given_does_not_reach_its_steps_and_jobs():
    given = {"SLURM_EXPORT_ENV": "NONE", "SLURM_CLUSTERS": "b", "SBATCH_CLUSTERS": "b", "PATH": "/"}
    assert answers.clean_environment(given) == {"PATH": "/"}
