"""For how long a run held its workers: what drivers see, second by second, adds up."""

from datetime import timedelta
from pathlib import Path

import pytest

from cah_dask.release.pool_time import Midst, PoolLook
from cah_dask.run.folder.pool_times import WRITE_S, PoolTimesFile, read_pool_times
from cah_dask.run.pools import pools
from cah_dask.run.settings.config import PoolOptions, PoolsOptions
from tests.run.watch.loads import NOW

TWO_OF_THREE = PoolLook(
    jobs=2, pending=1, held=8, gpus=2, connected=6, midst=Midst(0.5, {"embed": 5})
)
GONE = PoolLook(jobs=0, pending=0, held=0, connected=0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "pools.json"


def drive(path: Path, seconds: int, *, is_killed: bool = False, day: int = 0) -> None:
    """Have a driver look once a second at a pool with two of three jobs of four processes."""
    clock = Clock()
    times = PoolTimesFile(path, NOW + timedelta(days=day), clock)
    times.look({"gpu": TWO_OF_THREE})
    for _ in range(seconds):
        clock.now += 1
        times.look({"gpu": TWO_OF_THREE})
    if not is_killed:
        times.write()


def test_what_is_held_adds_up_over_drivers(path: Path):
    drive(path, 100)
    drive(path, 3500, day=1)
    found = read_pool_times(path)
    assert found is not None
    assert found.since == NOW
    gpu = found.pools["gpu"]
    assert gpu.looked_s == 3600
    assert (gpu.jobs_s, gpu.pending_s) == (2 * 3600, 3600)
    assert (gpu.midst_s, gpu.midst_workers_s, gpu.busy_s) == (3600, 6 * 3600, 1800)
    assert (gpu.held_s, gpu.gpus_s, gpu.connected_s) == (8 * 3600, 2 * 3600, 6 * 3600)
    assert gpu.ready_s == {"embed": 5 * 3600}


@pytest.mark.parametrize(
    ("told", "visible", "running", "gpus"),
    [
        ({"gres": "gpu:1", "processes": 4}, "", 3, 3),
        ({"gres": "gpu:8", "processes": 1}, "", 3, 24),
        ({"gres": "gpu:a100:4"}, "", 0, 0),
        ({"cores": 32}, "0,1", 3, 0),  # it may have some by `directives`: nobody knows
        ({}, "", 1, 0),
        ({}, "0,1", 2, 2),
        ({"workers": 1}, "0,1", 1, 1),
        ({"workers": 4}, "0,1", 4, 2),
        ({"workers": 4}, "0,1", 0, 0),
    ],
)
def test_gpus_are_those_of_jobs_or_of_this_machine_whatever_the_number_of_processes(
    monkeypatch, told: dict, visible: str, running: int, gpus: int
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    is_slurm = told.keys() & {"gres", "cores"}
    options = PoolOptions(**(told | ({"partition": "p", "time": "10"} if is_slurm else {})))
    (pool,) = [each for each in pools(PoolsOptions(gpu=options)) if each.name == "gpu"]
    assert pool.gpus_in_use(running) == gpus


@pytest.mark.parametrize("seconds", [3, 30, 299, 1000, 86_400])
def test_a_kill_costs_a_tenth_of_a_short_time_and_half_a_minute_of_a_long_one(
    path: Path, seconds: int
):
    drive(path, seconds, is_killed=True)
    found = read_pool_times(path)
    assert found is not None
    lost = seconds - found.pools["gpu"].looked_s
    assert 0 <= lost <= min(WRITE_S, max(1, seconds / 10))


def test_until_the_next_look_a_pool_is_as_it_was(path: Path):
    clock = Clock()
    times = PoolTimesFile(path, NOW, clock)
    for seconds, seen in ((0, TWO_OF_THREE), (60, GONE), (900, TWO_OF_THREE), (1, GONE)):
        clock.now += seconds
        times.look({"gpu": seen})
    times.write()
    found = read_pool_times(path)
    assert found is not None
    assert found.pools["gpu"].looked_s == 961
    assert found.pools["gpu"].jobs_s == 2 * 61
    assert found.pools["gpu"].midst_s == 61
    assert found.pools["gpu"].ready_s == {"embed": 5 * 61}


def test_the_file_does_not_grow_with_the_run(path: Path):
    drive(path, 10)
    small = path.stat().st_size
    drive(path, 90_000)
    assert path.stat().st_size < small + 50
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"since": 3}'])
def test_a_file_that_cannot_be_read_is_begun_anew(path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    assert read_pool_times(path) is None
    drive(path, 10)
    found = read_pool_times(path)
    assert found is not None
    assert found.pools["gpu"].looked_s == 10


def test_what_cannot_be_written_stops_no_run(path: Path):
    path.parent.write_bytes(b"a file in the place of the folder")
    drive(path, 10)
    assert read_pool_times(path) is None
