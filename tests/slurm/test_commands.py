"""`cah plan`, `cah doctor` and bad input, with a real Slurm to ask."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.launched import Gate, on_slurm, write_config, write_links

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def site():
    with Gate() as server:
        yield server


@pytest.fixture
def config(site: Gate, tmp_path: Path) -> Path:
    """The config of a small run on Slurm."""
    inputs = write_links(tmp_path / "inputs", site)
    return write_config(tmp_path, site, inputs, Path("tiny"), **on_slurm())


@pytest.fixture
def start(cluster: Cluster):
    """Start a command as a user of the cluster."""

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cah_dask", *words],
            env=cluster.env | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


@pytest.fixture
def cah(start, config: Path):
    """Run a command on the config; return its status and output."""

    def cah(*words: str, **overrides: str) -> tuple[int, str]:
        changes = [w for key, value in overrides.items() for w in ("--set", f"{key}={value}")]
        process = start(*words, str(config), *changes)
        text = process.communicate()[0]
        return process.returncode, text

    return cah


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pools.cpu.partition", "nope", "'nope' is not known here; there are cpu, gpu, io, urgent"),
        ("pools.cpu.time", "'3-00:00:00'", "is more than partition cpu allows: 2-00:00:00"),
        ("pools.cpu.time", "12:00:00", "time is the number 43200, maybe by YAML; write"),
        ("pools.io.memory", "900G", "pools.io: Slurm would refuse its jobs: allocation failure"),
        ("pools.io.memory", "900", "memory 900 is not understood; write a number and its unit"),
        ("pools.gpu.gres", "gpu:9", "pools.gpu: Slurm would refuse its jobs"),
        ("slurm.needs_account", "true", "pools.gpu.account is missing and this site needs one"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_submitted(
    cah, cluster: Cluster, tmp_path: Path, key: str, value: str, message: str
):
    code, text = cah("run", **{key: value})
    assert code == 3
    assert message in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    assert cluster.jobs() == []
    assert not (tmp_path / "run").exists()


def test_the_doctor_looks_at_a_node_of_each_pool(cah, site: Gate, tmp_path: Path):
    code, text = cah("doctor", "--wait", "100", "--url", site.url("/ok-1.jpg", "127.0.0.1"))
    assert code == 0, text
    sections = dict(re.findall(r"^(here|pool \w+)\n((?:  +.*\n)+)", text, re.MULTILINE))
    assert set(sections) == {"here", "pool cpu", "pool gpu", "pool io"}
    assert "partition cpu: 2 nodes, time limit 2-00:00:00" in sections["here"]
    assert "Slurm takes the jobs of every pool" in sections["here"]
    assert "jobs can be submitted from this node" in sections["pool cpu"]
    assert "GPU" in sections["pool gpu"]
    assert "weights" in sections["pool gpu"]
    assert "127.0.0.1 has the address 127.0.0.1" in sections["pool io"]
    assert "ok-1.jpg answers 200" in sections["pool io"]
    assert "a job lasts 0.5 h, a fetch list up to 3.0 h\n        -> lists" in sections["pool io"]
    assert "answers" not in sections["pool cpu"], "only nodes that download ask the web"
    assert not list(tmp_path.glob("run*/")), "the doctor leaves nothing"


def test_the_doctor_says_what_fails_on_a_node(cah):
    code, text = cah("doctor", "--wait", "100", **{"pools.cpu.prologue": '["exit 7"]'})
    assert code == 5
    assert "pool cpu\n  fail  its job ended without a report" in text


def test_the_doctor_looks_at_one_node_for_one_pool(cah):
    code, text = cah("doctor", "--pool", "gpu")
    assert code == 0, text
    assert text.startswith("pool gpu\n")
    assert "weights" in text
    code, text = cah("doctor", "--pool", "tpu")
    assert (code, text) == (
        3, "error: there is no pool 'tpu' in this config, but cpu, gpu, io\n"
    )  # fmt: skip


def test_the_plan_shows_pools_and_scripts_and_submits_nothing(cah, cluster: Cluster):
    code, text = cah("plan")
    assert code == 0, text
    assert "pool io: up to 1 jobs in io, 2 workers each, 30 time limit" in text
    assert text.count("#SBATCH -p ") == 3
    assert cluster.jobs() == []


def test_a_driver_waits_for_a_slurm_that_is_just_starting(start, config: Path, cluster: Cluster):
    cluster.stop_controller()
    driver = start("config", "check", str(config), SLURM_JOB_ID="1")
    with pytest.raises(subprocess.TimeoutExpired):
        driver.wait(5)
    cluster.start_controller()
    text = driver.communicate(timeout=100)[0]
    assert driver.returncode == 0, text
