"""File systems that lack something or take nothing any more: the run works, or says why."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cah_dask.errors import RunError
from cah_dask.images.shards import ShardWriter
from cah_dask.images.web.request_log import RequestLog
from cah_dask.storage import write_atomic
from tests import runs
from tests.webserver import WebServer


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> str:
    links = [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 5}.test"), f"A picture of thing {number}")
        for number in range(40)
    ]
    return runs.write_inputs(tmp_path_factory.mktemp("inputs"), links)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, inputs: str, web: WebServer
) -> dict[str, str]:
    config = runs.write_config(
        tmp_path_factory.mktemp("undisturbed") / "run.yaml",
        inputs=inputs, port=web.port,
    )  # fmt: skip
    assert runs.finish(config) == 0, runs.output(config)
    return runs.release_digests(config.with_suffix(""))


@pytest.fixture
def config(tmp_path: Path, inputs: str, web: WebServer) -> Path:
    return runs.write_config(tmp_path / "run.yaml", inputs=inputs, port=web.port)


def test_without_hard_links_a_run_ends_in_the_same_release(
    tmp_path: Path, config: Path, undisturbed: dict[str, str]
):
    environment = runs.without_links(tmp_path / "shim")
    assert runs.finish(config, env=environment) == 0, runs.output(config)
    assert runs.release_digests(config.with_suffix("")) == undisturbed


def test_files_that_may_not_grow_stop_the_run_with_the_path(
    config: Path, undisturbed: dict[str, str]
):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, resource.RLIM_INFINITY))

    assert runs.finish(config, preexec_fn=limit) == 5, runs.output(config)
    said = " ".join(runs.output(config).split())
    assert "files may not be so large here (ulimit -f), while writing" in said
    assert str(config.with_suffix("")) in said
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(config.with_suffix("")) == undisturbed


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_file_system_stops_the_run_with_the_path(read_only: Path):
    reason = "the file system is read-only now, while writing"
    with pytest.raises(RunError, match=f"{reason} {read_only}/part"):
        write_atomic(read_only / "part", b"x")
    with (
        pytest.raises(RunError, match=f"{reason} {read_only}/a.h5"),
        ShardWriter(read_only / "a.h5"),
    ):
        pass
    with pytest.raises(RunError, match=f"{reason} {read_only}/log"), RequestLog(read_only / "log"):
        pass
