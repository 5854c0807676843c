"""A worker that does not see the inputs fails at once, again and again: the run ends whole."""

import os
from pathlib import Path

from cah_dask.run.folder.run_folder import RunFolder
from tests import runs
from tests.webserver import WebServer

ARCHIVES = 24
FIRST_WORKER = """
import multiprocessing, os
def is_blind():
    if multiprocessing.parent_process() is None:
        return False  # the driver
    try:
        with open(os.environ["BLIND"], "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        pass
    with open(os.environ["BLIND"]) as file:
        return file.read() == str(os.getpid())
"""
"""The first worker process that opens an archive sees none, from then on."""


def test_what_it_fails_is_done_by_others(tmp_path: Path):
    blind = tmp_path / "blind"
    shim = runs.write_blindness(tmp_path / "shim", FIRST_WORKER)
    environment = os.environ | {"PYTHONPATH": f"{shim}:{Path.cwd()}", "BLIND": str(blind)}
    with WebServer() as web:
        links = [(web.url(f"/ok-{n}.jpg", f"h{n}.test"), f"A thing {n}") for n in range(ARCHIVES)]
        config = runs.write_config(
            tmp_path / "run.yaml",
            inputs=runs.write_inputs(tmp_path / "in", links, archives=ARCHIVES),
            port=web.port, archives_per_wave=ARCHIVES,
            max_attempts=2,
        )  # fmt: skip
        assert runs.finish(config, env=environment) == 0, runs.output(config)
    assert blind.exists()
    extract = RunFolder(config.with_suffix("")).summary().counts("extract")
    assert extract.seen == ARCHIVES
    assert "lost" not in runs.status(config.with_suffix(""))
