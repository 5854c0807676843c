"""The demo, and all else that a user has who installed the wheel instead of cloning."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cah_dask.demo.demo import CONFIG_FILE, run_demo
from cah_dask.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and what that depends on from here."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *wheel], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (python,) = (folder / "env").glob("bin/python")
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (made,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, made], check=True)
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def run(python: Path, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", *arguments], cwd=where, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("source", [[], ["--warcs"]])
def test_from_the_wheel_a_tenth_of_the_web_gives_exactly_what_was_planted(
    python: Path, tmp_path: Path, source: list[str]
):
    done = run(python, tmp_path, "cah_dask.demo", "--share", "0.1", *source)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = re.finditer(r"(\d+) of (\d+) counts are as planted; precision", done.stdout)
    assert found[1] == found[2]
    assert int(found[1]) > 60
    assert (tmp_path / "runs/demo/run/release/report.html").exists()


def test_from_the_wheel_a_folder_is_made_that_has_what_a_clone_has(python: Path, tmp_path: Path):
    done = run(python, tmp_path, "cah_dask", "init", "mine")
    assert done.returncode == 0, done.stderr
    mine = tmp_path / "mine"
    made = {path.relative_to(mine) for path in mine.rglob("*") if path.is_file()}
    tracked = subprocess.run(
        ["git", "ls-files", "configs", "slurm", "environment.yml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert made == {Path(name) for name in [*tracked, "slurm/site.env"]}
    assert all((mine / name).read_bytes() == (ROOT / name).read_bytes() for name in tracked)
    shown = run(python, mine, "cah_dask", "config", "show", "configs/laion-en.yaml")
    assert shown.returncode == 0, shown.stderr


def test_a_folder_to_start_from_keeps_what_its_owner_wrote(python: Path, tmp_path: Path):
    run(python, tmp_path, "cah_dask", "init", "mine")
    (tmp_path / "mine/slurm/site.env").write_text("mine")
    assert run(python, tmp_path, "cah_dask", "init", "mine").returncode == 0
    assert (tmp_path / "mine/slurm/site.env").read_text() == "mine"
    (tmp_path / "mine/configs/example.yaml").write_text("mine")
    done = run(python, tmp_path, "cah_dask", "init", "mine")
    assert done.returncode == 3
    assert "configs/example.yaml is there and another file; name a new folder" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(ConfigError, match="not the folder of a demo"):
        run_demo(tmp_path)

    assert (tmp_path / "thesis.tex").exists()
    assert not (tmp_path / CONFIG_FILE).exists()
