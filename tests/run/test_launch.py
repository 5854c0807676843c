"""The script that users submit, without a cluster."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
SCRIPTS = ["launch.sh", "env.sh", "site.example.env"]


def test_the_script_is_short():
    assert len((ROOT / "slurm" / "launch.sh").read_text().splitlines()) < 60


def source(command: str, folder: Path, **environment: str) -> tuple[int, str]:
    (folder / "slurm").symlink_to(ROOT / "slurm")
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_script_without_a_config_or_elsewhere_says_how_to_submit_it(tmp_path: Path):
    code, text = source("bash slurm/launch.sh", tmp_path, SLURM_SUBMIT_DIR=str(tmp_path))
    assert (code, text.count("\n")) == (2, 1)
    assert "sbatch slurm/launch.sh configs/mine.yaml (this is" in text
    (tmp_path / "elsewhere").mkdir()
    code, text = source(
        f"bash {ROOT}/slurm/launch.sh a.yaml", tmp_path / "elsewhere", SLURM_SUBMIT_DIR="/"
    )
    assert (code, text.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "called"),
    [("a.yaml --set b=1", "run a.yaml --set b=1"), ("verify r --config a", "verify r --config a")],
)
def test_the_script_carries_on_a_run_or_checks_a_release(tmp_path: Path, arguments, called):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "called: $*" >&2\n')
    program.chmod(0o755)
    code, text = source(
        f"bash slurm/launch.sh {arguments}", tmp_path, SLURM_SUBMIT_DIR=str(tmp_path),
        CAH_PYTHON=str(program),
    )  # fmt: skip
    assert (code, text) == (0, f"called: -m cah_dask {called}\n")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CAH_MODULES", "gcc", "CAH_MODULES is set, but there is no command 'module'"),
        ("CAH_CONDA_ENV", "x", "CAH_CONDA_ENV is set, but there is no command 'conda'"),
        ("CAH_VENV", "/none", "CAH_VENV is /none, where no virtual environment is"),
    ],
)
def test_what_site_env_names_and_is_not_there_is_said(
    tmp_path: Path, name: str, value: str, message: str
):
    code, text = source(". slurm/env.sh", tmp_path, **{name: value})
    assert code == 2
    assert text.startswith(f"slurm/site.env: {message}")


@pytest.mark.skipif(SHELLCHECK is None, reason="no shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name: str):
    command = [str(SHELLCHECK), "-x", f"slurm/{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
