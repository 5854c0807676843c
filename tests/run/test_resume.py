"""Kill anything, run the same command again: the release is the same, byte for byte."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest

from cah_dask.images.list_progress import read_progress
from tests import runs
from tests.webserver import WebServer

LINKS = 160
KILLS = 5
"""Of the driver, and as many of workers: ten moments in all."""
STOP_S = 7.0
"""Longer than a body may do with few bytes, and than most other things are waited for."""


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(web: WebServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two WATs: mostly images, some missing, some slow or in halves, some with two texts."""
    links = []
    for number in range(LINKS):
        name = {0: "404", 1: "slow", 2: "halves"}.get(number % 10, "ok")
        url = web.url(f"/{name}-{number}.jpg", host=f"h{number % 17}.test")
        links.append((url, f"A photograph of thing number {number}"))
        if number % 8 == 0:
            links.append((url, f"Das Bild zeigt die Sache Nummer {number}"))
    return runs.write_inputs(tmp_path_factory.mktemp("inputs"), links)


@pytest.fixture
def config(tmp_path: Path, inputs: str, web: WebServer, random_model: Path) -> Path:
    return runs.write_config(
        tmp_path / "run.yaml", inputs=inputs, model=random_model, port=web.port
    )


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, inputs: str, web: WebServer, random_model: Path
) -> Path:
    """The run folder of a run that nobody disturbed."""
    path = tmp_path_factory.mktemp("undisturbed") / "run.yaml"
    config = runs.write_config(path, inputs=inputs, model=random_model, port=web.port)
    assert runs.finish(config) == 0, runs.output(config)
    return path.parent / "run"


def commits(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]


def test_an_undisturbed_run_publishes_every_sample_that_has_an_image(undisturbed: Path):
    pairs = ds.dataset(undisturbed / "release" / "pairs").to_table()
    assert len(pairs) == 180 - 16 - 4
    assert len(set(pairs["uid"].to_pylist())) == len(pairs)
    assert not [url for url in pairs["url"].to_pylist() if "404" in url]


def test_no_url_is_asked_for_twice(undisturbed: Path):
    urls = ds.dataset(sorted((undisturbed / "images").rglob("*.parquet"))).to_table()["url"]
    assert len(urls) == len(set(urls.to_pylist())) == LINKS


def test_tasks_run_on_their_own_pool_only(undisturbed: Path):
    pools = {
        (commit["stage"], commit["worker"].split("/")[1].split("-")[0])
        for commit in commits(undisturbed)
    }
    assert pools == {
        ("extract", "cpu"),
        ("dedup", "cpu"),
        ("download", "cpu"),
        ("embed", "gpu"),
        ("select", "cpu"),
        ("pack", "cpu"),
    }


def test_a_killed_driver_leaves_no_process_and_the_same_release(config: Path, undisturbed: Path):
    total = len(commits(undisturbed))
    run_dir = config.with_suffix("")
    for moment in sorted(random.Random(2026).sample(range(total), KILLS)):
        driver = runs.start(config)
        runs.wait_for_commits(run_dir, moment, driver)
        family = runs.children(driver)
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, [process.cmdline() for process in alive]
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)
    assert not list(run_dir.rglob(".tmp-*"))


def test_killed_workers_cost_their_task_only(config: Path, undisturbed: Path):
    total = len(commits(undisturbed))
    run_dir = config.with_suffix("")
    rng = random.Random(7)
    driver = runs.start(config)
    killed = 0
    for moment in sorted(rng.sample(range(total - 1), KILLS)):
        runs.wait_for_commits(run_dir, moment, driver)
        if driver.poll() is None and (alive := runs.workers(driver)):
            rng.choice(alive).kill()
            killed += 1
    assert driver.wait(180) == 0, runs.output(config)
    assert killed >= KILLS - 1
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)
    done = Counter((commit["stage"], commit["unit"]) for commit in commits(run_dir))
    assert set(done.values()) == {1}


def test_an_interrupted_run_says_how_to_resume(config: Path, undisturbed: Path):
    run_dir = config.with_suffix("")
    driver = runs.start(config)
    assert runs.wait_for(lambda: runs.journal_lines(run_dir) >= 3)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(90) == 75, runs.output(config)
    assert "run the same command again to resume" in runs.output(config)
    assert not (run_dir / "release").exists()
    assert runs.finish(config) == 0
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)


def test_a_finished_run_does_nothing_when_run_again(undisturbed: Path):
    config = undisturbed.with_suffix(".yaml")
    before = runs.journal_lines(undisturbed)
    assert runs.finish(config) == 0
    assert runs.journal_lines(undisturbed) == before


def seconds_at_work(run_dir: Path) -> float:
    """Return for how long the list has been at work that has been so longest."""
    found = (read_progress(path) for path in (run_dir / "progress").rglob("*.json"))
    return max((each.seconds for each in found if each), default=0.0)


def test_a_pause_is_said_and_ends_with_its_file(config: Path, undisturbed: Path):
    run_dir = config.with_suffix("")
    driver = runs.start(config)
    runs.wait_for_commits(run_dir, 1, driver)
    (run_dir / "PAUSE").touch()
    assert runs.wait_for(lambda: "warning: downloads are paused: remove" in runs.output(config))
    status = runs.status(run_dir)
    assert "driver: pid" in status
    assert "downloads are paused: `cah resume RUN` has them go on" in status
    assert runs.wait_for(lambda: seconds_at_work(run_dir) > 3)
    (run_dir / "PAUSE").unlink()
    assert driver.wait(120) == 0, runs.output(config)
    assert "downloads go on" in runs.output(config)
    timings = [commit["receipt"].get("timings", {}) for commit in commits(run_dir)]
    assert max(each.get("paused", 0) for each in timings) > 1000
    assert "driver: none at work; last commit: 20" in runs.status(run_dir)
    assert not (run_dir / "dashboard.txt").exists()
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)


def test_what_fails_again_and_again_is_given_up_by_name_and_done_when_run_again(
    config: Path, undisturbed: Path
):
    run_dir = config.with_suffix("")
    obstacle = run_dir / "scored/w00001"
    driver = runs.start(config)
    runs.wait_for_commits(run_dir, 1, driver)
    obstacle.parent.mkdir(exist_ok=True)
    obstacle.write_text("a file where a folder should be")
    assert driver.wait(120) == 6, runs.output(config)
    said = " ".join(runs.output(config).split())
    assert "embed w00001/b00001-l00000 is given up after 3 attempts: " in said
    assert "run again to retry them" in said
    assert not (run_dir / "release").exists()
    obstacle.unlink()
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)


def test_little_room_for_images_makes_the_same_release_and_leaves_none(
    tmp_path: Path, inputs: str, web: WebServer, random_model: Path, undisturbed: Path
):
    config = runs.write_config(
        tmp_path / "run.yaml", inputs=inputs, model=random_model, port=web.port,
        keep_images=False, staged_gb=1e-6,
    )  # fmt: skip
    assert runs.finish(config) == 0, runs.output(config)
    run_dir = config.with_suffix("")
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)
    assert list(undisturbed.rglob("images/*/*.h5"))
    assert not list(run_dir.rglob("*.h5"))
    stages = [commit["stage"] for commit in commits(run_dir)]
    first, last = stages.index("embed"), len(stages) - stages[::-1].index("download")
    assert first < last, "with little room the model works before all downloads are done"


def n_half_sent(web: WebServer) -> int:
    asked = sum(n for (_, path), n in web.hits.items() if path.startswith("/halves"))
    return asked - sum(entry.path.startswith("/halves") for entry in list(web.log))


def test_a_run_that_is_stopped_for_a_while_gives_the_same_release(config, web, undisturbed):
    """As `scontrol suspend`, Ctrl-Z or a move of the virtual machine do."""
    run_dir = config.parent / "run"
    driver = runs.start(config)
    assert runs.wait_for(lambda: n_half_sent(web) > 0)
    family = [psutil.Process(driver.pid), *runs.children(driver)]
    for process in family:
        process.suspend()
    time.sleep(STOP_S)
    for process in reversed(family):
        process.resume()
    assert driver.wait(180) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(undisturbed)
