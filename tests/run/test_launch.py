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


@pytest.mark.skipif(SHELLCHECK is None, reason="no shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name: str):
    command = [str(SHELLCHECK), "-x", f"slurm/{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
