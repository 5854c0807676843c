"""A run folder that belongs to a group: whoever of it starts the same command goes on."""

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import runs
from tests.webserver import WebServer

GROUP, ONE, ANOTHER = 54321, 54322, 54323
"""Ids that no system gives away."""
CAPABILITY = "+dac_read_search"
"""Members may read all, as the Python of the tests may lie in a home; not write what others own."""

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root starts others' processes"
)


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def links(web: WebServer) -> list[tuple[str, str]]:
    return [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 5}.test"), f"A picture of thing {number}")
        for number in range(40)
    ]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that all users reach, as those of pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def config(folder: Path, web: WebServer, links: list[tuple[str, str]], random_model: Path) -> Path:
    """The configuration of a run in a folder of the group, as sites set up for projects."""
    shared = folder / "shared"
    shared.mkdir()
    os.chown(shared, 0, GROUP)
    shared.chmod(0o2770)
    model = shutil.copytree(random_model, folder / "model")
    model.chmod(0o755)
    inputs = runs.write_inputs(folder / "in", links)
    config = runs.write_config(shared / "run.yaml", inputs=inputs, model=model, port=web.port)
    config.with_suffix(".out").touch()
    return config


def member(uid: int) -> list[str]:
    """Return the command that starts another as a member of the group."""
    return [
        "setpriv", f"--reuid={uid}", f"--regid={GROUP}", "--clear-groups",
        f"--inh-caps={CAPABILITY}", f"--ambient-caps={CAPABILITY}",
    ]  # fmt: skip


def with_home(folder: Path, uid: int) -> dict[str, str]:
    """Return an environment with a home of the member's own."""
    home = folder / f"home-{uid}"
    home.mkdir()
    os.chown(home, uid, GROUP)
    return os.environ | {"HOME": str(home)}


def finish(config: Path, uid: int, umask: int, commits: int | None = None) -> int:
    """Run as a member to the end, or kill the run after so many commits."""
    environment = with_home(config.parent.parent, uid)
    driver = runs.start(config, by=member(uid), umask=umask, env=environment)
    if commits is not None:
        runs.wait_for_commits(config.with_suffix(""), commits, driver)
        driver.send_signal(signal.SIGKILL)
    return driver.wait(180)


def test_another_member_goes_on_where_a_killed_run_stopped(config: Path):
    alone = config.with_stem("alone")
    tree = yaml.safe_load(config.read_text()) | {"run_dir": str(alone.with_suffix(""))}
    alone.write_text(yaml.safe_dump(tree))
    assert finish(config, ONE, 0o007, commits=3) == -signal.SIGKILL
    assert finish(config, ANOTHER, 0o007) == 0, runs.output(config)
    assert runs.finish(alone) == 0, runs.output(alone)
    run_dir = config.with_suffix("")
    assert runs.release_digests(run_dir) == runs.release_digests(alone.with_suffix(""))
    files = [path for path in run_dir.rglob("*") if "secrets" not in path.parts]
    assert {path.stat().st_uid for path in files} == {ONE, ANOTHER}
    closed = [path for path in files if not path.stat().st_mode & stat.S_IRGRP]
    assert not closed, "what the other member cannot read"


def test_where_one_may_not_write_the_other_is_told_so_in_one_line(config: Path):
    assert finish(config, ONE, 0o022, commits=3) == -signal.SIGKILL
    assert finish(config, ANOTHER, 0o022) in (3, 5)
    told = runs.output(config)
    assert "Traceback" not in told
    assert str(config.with_suffix("")) in told.splitlines()[-1], told
