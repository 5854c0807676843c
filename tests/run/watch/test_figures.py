"""The figures of a run: those of the driver, those of its files, and what parquet files hold."""

import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from cah_dask.release.pool_time import PoolTimes
from cah_dask.release.work import work_by_pool
from cah_dask.run.folder.journal import Journal, Void
from cah_dask.run.folder.pool_times import read_pool_times
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.pools import visible_gpus
from cah_dask.run.watch.figures import Figures
from cah_dask.run.watch.from_files import FromFiles
from tests import runs
from tests.run.terminals import Terminal, widest
from tests.run.watch import held
from tests.run.watch.agreement import InFiles
from tests.webserver import WebServer

KNOWN_TO_BOTH = ("run", "staged", "model", "moments", "histograms", "hosts", "started")


class Watched(NamedTuple):
    """What was seen of one run, in its middle and at its end."""

    run_dir: Path
    live: Figures
    metrics: str
    files: Figures
    resumed: Figures
    """Of the next driver, after the first was killed."""
    resumed_files: Figures
    ended: Figures
    said: list[str]
    """What the first driver printed, as a batch log has it."""
    frames: dict[int, list[str]]
    """What the second one showed on a terminal, by its width."""
    shown: list[str]
    """All that it showed."""
    held: PoolTimes
    """What the first driver had written down before it was killed."""
    walls: tuple[float, float]
    """Seconds that the two drivers were there."""


def ask(run_dir: Path, path: str) -> bytes:
    site = urlsplit(held.link(run_dir))
    request = urllib.request.Request(
        f"http://{site.netloc}{path}",
        headers={"Authorization": f"Bearer {held.token(run_dir)}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def live(run_dir: Path) -> Figures:
    return msgspec.json.decode(ask(run_dir, "/cah.json"), type=Figures)


def is_held(run_dir: Path, n_embedded: int = held.LISTS_BEFORE) -> bool:
    """Tell whether all is downloaded and the model waits."""
    try:
        seen = live(run_dir)
    except OSError:  # there is no driver yet
        return False
    stages = {stage.name: stage for stage in seen.stages}
    download, embed = stages["download"], stages["embed"]
    return (
        0 < download.done == download.known
        and embed.done == n_embedded
        and embed.running > 0
        and len(seen.pairs) > 0
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    run_dir = folder / "run"
    with WebServer() as web:
        config = held.write(folder, web)
        began = time.monotonic()
        driver = runs.start(config, env=held.environment(folder))
        try:
            assert runs.wait_for(lambda: is_held(run_dir)), runs.output(config)
            source = FromFiles(RunFolder(run_dir))
            files = source.figures()
            seen, metrics = live(run_dir), ask(run_dir, "/metrics").decode()
            times = RunFolder(run_dir).pool_times_file
            assert runs.wait_for(times.exists), runs.output(config)
            first = read_pool_times(times)
            driver.kill()
            driver.wait()
            killed = time.monotonic()
            said = runs.output(config).splitlines()
            command = [sys.executable, "-m", "cah_dask", "run", str(config)]
            with Terminal(command, 100, held.environment(folder)) as terminal:
                n_embedded = 2 * held.LISTS_BEFORE
                assert runs.wait_for(lambda: is_held(run_dir, n_embedded)), terminal.raw
                resumed_files, resumed = source.figures(), live(run_dir)
                frames = {width: frame(terminal, width) for width in (100, 44)}
                (folder / "go").touch()
                assert terminal.process.wait(180) == 0, terminal.raw
            shown = terminal.lines
        finally:
            driver.kill()
    walls = killed - began, time.monotonic() - killed
    assert first is not None
    ended = source.figures()
    return Watched(
        run_dir, seen, metrics, files, resumed, resumed_files, ended, said, frames, shown,
        first, walls,
    )  # fmt: skip


def frame(terminal: Terminal, width: int) -> list[str]:
    """Return what a terminal shows once it has another width."""
    terminal.resize(width)
    assert terminal.wait_for("run: at work", times=6)
    return terminal.frame("run: at work")


@pytest.mark.parametrize("moment", ["in its middle", "taken up by another driver"])
def test_driver_and_files_tell_the_same_of_a_run(watched: Watched, moment: str):
    told = {
        "in its middle": (watched.live, watched.files),
        "taken up by another driver": (watched.resumed, watched.resumed_files),
    }
    live, files = told[moment]
    for name in KNOWN_TO_BOTH:
        assert getattr(live, name) == getattr(files, name), name
    for mine, theirs in zip(live.stages, files.stages, strict=True):
        for name in ("name", "rows", "known", "done", "seen", "kept", "rejected"):
            assert getattr(mine, name) == getattr(theirs, name), (mine.name, name)
        assert theirs.waiting == mine.waiting + mine.running


def test_the_hours_of_workers_are_those_of_two_drivers_of_which_one_was_killed(watched: Watched):
    folder = RunFolder(watched.run_dir)
    summary = folder.summary()
    assert summary.held is not None
    assert summary.started is not None
    assert watched.held.since == summary.held.since < summary.started
    resumed = watched.resumed.last_commit
    second = [each.at for each in folder.commits() if resumed is not None and each.at >= resumed]
    at_work = (max(second) - min(second)).total_seconds()
    for pool, workers in (("cpu", 2), ("gpu", 1)):
        before, all_drivers = watched.held.pools[pool], summary.held.pools[pool]
        assert workers * at_work <= all_drivers.held_s - before.held_s
        assert all_drivers.held_s <= workers * sum(watched.walls)
        assert before.held_s <= workers * watched.walls[0]
        assert all_drivers.held_s == pytest.approx(all_drivers.connected_s)
        assert (all_drivers.jobs_s, all_drivers.pending_s) == (0, 0)
        assert 0 <= all_drivers.busy_s <= all_drivers.midst_s <= all_drivers.looked_s
    assert summary.held.pools["gpu"].busy_s > 0
    gpu = next(each for each in work_by_pool(summary) if each.pool == "gpu")
    assert gpu.held is not None
    assert 0 < gpu.worked < gpu.held
    assert (gpu.gpus is None) == (visible_gpus() == 0)


def test_the_driver_knows_its_workers_and_says_what_holds_the_run_back(watched: Watched):
    pools = {pool.name: pool for pool in watched.live.pools}
    assert (pools["cpu"].workers, pools["gpu"].workers) == (2, 1)
    assert pools["gpu"].busy is not None
    assert pools["gpu"].busy > 0
    assert watched.live.staged.n_bytes > 0
    assert watched.live.verdict
    assert watched.files.pools == []


def test_pairs_on_both_sides_of_the_threshold_are_shown(watched: Watched):
    pairs = watched.live.pairs
    assert {pair.is_kept for pair in pairs} == {True, False}
    assert all((pair.similarity >= 0) == pair.is_kept for pair in pairs)
    assert all(pair.thumbnail == "" for pair in pairs), "they are for the page alone"


def test_figures_at_the_end_are_those_of_the_parquet_files(watched: Watched):
    files = InFiles(watched.run_dir)
    files.agrees_with(watched.ended)
    files.agrees_with_report((watched.run_dir / "release" / "report.html").read_text())
    assert watched.ended.state == "published"


def test_what_was_followed_is_what_is_read_at_once(watched: Watched):
    anew = FromFiles(RunFolder(watched.run_dir)).figures()
    for name in (*KNOWN_TO_BOTH, "state", "last_commit"):
        assert getattr(anew, name) == getattr(watched.ended, name), name


def test_a_copy_tells_the_same_and_forgets_what_is_to_be_done_again(
    watched: Watched, tmp_path: Path
):
    copy = tmp_path / "run"
    shutil.copytree(watched.run_dir, copy)
    source = FromFiles(RunFolder(copy))
    for mine, theirs in zip(source.figures().stages, watched.ended.stages, strict=True):
        assert (mine.done, mine.seen, mine.rejected) == (theirs.done, theirs.seen, theirs.rejected)
    journal = Journal(copy / "journal.jsonl")
    journal.record(Void(watched.ended.at, "embed", "w00000/b00000-l00000"))
    journal.close()
    embed = source.figures().stage("embed")
    assert embed is not None
    assert (embed.done, embed.known) == (6, 7)
    assert embed.seen < 120
    assert source.figures().staged.n_bytes > 0


def test_the_command_prints_the_same_as_one_line_of_ascii(watched: Watched):
    for option in (["--json"], ["--json", "--watch"]):
        command = [sys.executable, "-m", "cah_dask", "status", str(watched.run_dir), *option]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (line,) = printed.splitlines()
        assert line.isascii()
        assert msgspec.json.decode(line, type=Figures).stages[2].seen == 120


def test_the_command_shows_a_run_that_is_over_once(watched: Watched):
    command = [sys.executable, "-m", "cah_dask", "status", str(watched.run_dir), "--watch"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "done: the release is published" in printed
    assert "download 7/7" in printed


def test_a_batch_log_has_lines_with_state_eta_and_verdict(watched: Watched):
    lines = [line for line in watched.said if " UTC extract " in line]
    assert lines, "there is one at once"
    assert all("; at work; left to embed: " in line for line in lines)


def test_a_terminal_shows_the_same_figures_at_any_width(watched: Watched):
    live = watched.resumed
    for width, frame in watched.frames.items():
        assert widest(frame) <= width
        assert frame[0].startswith("run: at work; left to embed: ")
        rows = [line.split()[:2] for line in frame]
        for stage in live.stages:
            assert [stage.name, f"{stage.done}/{stage.known}"] in rows
        for pool in live.pools:
            assert [pool.name, f"{pool.workers}"] in rows
    assert set(watched.frames) == {100, 44}
    shown = "\n".join(watched.shown)
    assert "run: published; left to embed: 0 s" in shown
    assert "done: the release is published" in shown
    assert f"release: {watched.run_dir / 'release'}" in shown


def test_metrics_are_the_same_figures(watched: Watched):
    lines = dict(
        line.rsplit(" ", 1) for line in watched.metrics.splitlines() if line.startswith("cah_")
    )
    for stage in watched.live.stages:
        assert float(lines[f'cah_rows{{stage="{stage.name}",what="seen"}}']) == stage.seen
        assert float(lines[f'cah_tasks{{stage="{stage.name}",state="done"}}']) == stage.done
    assert float(lines["cah_staged_bytes"]) == watched.live.staged.n_bytes
    assert "dask_scheduler_workers" in watched.metrics


def test_the_command_follows_a_run_until_it_is_interrupted(watched: Watched, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(watched.run_dir, copy, ignore=shutil.ignore_patterns("release"))
    (copy / "release.partial").mkdir()  # its driver was stopped before it was published
    command = [sys.executable, "-m", "cah_dask", "status", str(copy), "--watch"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    first = follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(20) == 0
    follower.stdout.close()
    assert "no driver is at work: run the same command again to go on" in first
