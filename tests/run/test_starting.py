"""Workers that are killed while they start are started again, and no traceback is shown."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import runs
from tests.webserver import WebServer

KILLER = """\
import os, pathlib, signal, sys
victims = pathlib.Path({victims!r})
if "--multiprocessing-fork" in sys.orig_argv and victims.exists():
    left = int(victims.read_text())
    victims.unlink() if left <= 1 else victims.write_text(str(left - 1))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def config(tmp_path: Path, random_model: Path) -> Iterator[Path]:
    with WebServer() as web:
        links = [(web.url(f"/ok-{n}.jpg", f"h{n}.test"), f"A picture of {n}") for n in range(6)]
        yield runs.write_config(
            tmp_path / "run.yaml", inputs=runs.write_inputs(tmp_path / "in", links),
            model=random_model, port=web.port,
        )  # fmt: skip


def killing(folder: Path, victims: int) -> dict[str, str]:
    """Return an environment in which so many workers are killed as soon as they start."""
    folder.mkdir()
    (folder / "victims").write_text(str(victims))
    text = KILLER.format(victims=str(folder / "victims"))
    (folder / "sitecustomize.py").write_text(text)
    return os.environ | {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


def test_a_worker_that_is_killed_while_it_starts_is_started_again(tmp_path: Path, config: Path):
    assert runs.finish(config, env=killing(tmp_path / "shim", 1)) == 0, runs.output(config)
    assert "Traceback" not in runs.output(config)


def test_workers_that_never_start_end_the_run_with_one_line(tmp_path: Path, config: Path):
    assert runs.finish(config, env=killing(tmp_path / "shim", 10**6)) == 5, runs.output(config)
    assert "error: local workers did not start, 3 times" in " ".join(runs.output(config).split())
    assert "Traceback" not in runs.output(config)
