"""What a run tells by its folder alone: failures and their retry, logs, samples, tables."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cah_dask.run.cluster.machine import free_name
from tests import runs
from tests.commands import cah, refused
from tests.webserver import WebServer

ESCAPE = "\x1b]0;owned\x07"
ODD = f"{ESCAPE}\U00050000"  # of a plane without letters, so in no font


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which a list was given up, and done when `cah retry` asked for it."""
    folder = tmp_path_factory.mktemp("watched")
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n}.jpg", host=f"h{n % 5}.test"), f"A picture of thing {n} {ODD}")
            for n in range(60)
        ]
        links += [(web.url("/404-1.jpg", host="h1.test"), "A picture that is gone")]
        config = runs.write_config(
            folder / "run.yaml", inputs=runs.write_inputs(folder / "wats", links), port=web.port
        )
        run_dir = config.with_suffix("")
        driver = runs.start(config)
        runs.wait_for_commits(run_dir, 1, driver)
        obstacle = run_dir / "scored/w00001"
        obstacle.parent.mkdir(exist_ok=True)
        obstacle.write_text("a file where a folder should be")
        code, lines, _ = cah("retry", run_dir)
        assert (code, lines) == (
            0, ["the driver tries again what it gave up, once it has done all else"],
        )  # fmt: skip
        asked_for = "what was given up is tried again"
        assert runs.wait_for(lambda: asked_for in runs.output(config)), runs.output(config)
        code, lines, said = cah("failures", run_dir, "--trace")
        assert code == 6
        assert " embed w00001/b0" in lines[0]
        assert "given up after attempt 3 on " in lines[0]
        assert any(line.startswith("    Traceback") for line in lines)
        assert "cah retry" in said
        obstacle.unlink()
        assert driver.wait(120) == 0, runs.output(config)
    return run_dir


def test_what_was_given_up_and_done_later_is_no_failure_any_more(finished: Path):
    assert cah("failures", finished)[:2] == (0, ["no task was given up, no archive was lost"])
    code, lines, said = cah("failures", finished, "--all")
    assert code == 0
    assert "cah retry" not in said
    assert sum("given up after attempt 3" in line for line in lines) >= 1


def test_a_batch_log_tells_the_state_when_all_tasks_are_over(finished: Path):
    lines = runs.output(finished.parent / "run.yaml").splitlines()
    told = [line for line in lines if " UTC extract " in line]
    retried = next(n for n, line in enumerate(lines) if "what was given up is tried again" in line)
    assert "were given up, so nothing will be published" in lines[retried - 1]
    assert "all tasks are done: the release is being put in place" in told[-2]
    assert "done: the release is published" in told[-1]


@pytest.fixture(scope="module")
def stopped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, as it was when its driver had done the first tasks."""
    copy = tmp_path_factory.mktemp("stopped") / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("release"))
    journal = copy / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:3]))
    return copy


def test_without_a_driver_a_retry_says_how_to_go_on(stopped: Path):
    _, (line,), _ = cah("retry", stopped)
    assert "no driver is at work: the command that began the run" in line
    assert not (stopped / "RETRY").exists()


def test_downloads_are_paused_and_go_on(stopped: Path):
    cah("pause", stopped)
    assert (stopped / "PAUSE").exists()
    assert cah("resume", stopped)[1][0] == "downloads go on"
    assert cah("resume", stopped)[1][0] == "downloads were not paused"


def test_a_pause_waits_for_no_journal(stopped: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(stopped, copy)
    (copy / "journal.jsonl").unlink()
    (copy / "journal.jsonl").mkdir()  # whoever reads it fails
    assert cah("pause", copy)[0] == 0
    assert (copy / "PAUSE").exists()


@pytest.mark.parametrize("command", ["retry", "pause"])
def test_of_a_run_that_is_over_nothing_is_tried_again_or_paused(finished: Path, command: str):
    code, _, said = cah(command, finished)
    assert code == 3
    assert f"all of {finished} is done: " in said
    assert not (finished / "PAUSE").exists()


def test_a_log_is_followed_until_ctrl_c(finished: Path):
    command = [sys.executable, "-m", "cah_dask", "logs", str(finished), "-n", "1", "-f"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    assert follower.stdout.readline()
    with (finished / "logs/driver.log").open("a") as log:
        log.write("something new\n")
    assert follower.stdout.readline() == "something new\n"
    follower.send_signal(signal.SIGINT)
    assert follower.communicate(timeout=30) == ("", "")
    assert follower.returncode == 0


def test_logs_are_shown_from_their_end_without_escapes(finished: Path):
    log = finished / "logs" / "driver.log"
    before = log.read_bytes()
    try:
        log.write_bytes(before + f"a host says {ESCAPE}\n".encode())
        _, lines, _ = cah("logs", finished, "--lines", "2")
    finally:
        log.write_bytes(before)
    assert len(lines) == 2
    assert lines[1] == r"a host says \x1b]0;owned\x07"
    assert cah("logs", finished, "list")[1][0].startswith("driver: ")


def test_quiet_is_silent_and_verbose_shows_the_log(finished: Path):
    config = finished.parent / "run.yaml"
    assert cah("-q", "run", config) == (0, [], "")
    code, _, said = cah("--quiet", "run", config, "--set", "extract.min_text=7")
    assert code == 3
    assert "was started with extract.min_text" in said
    release = finished / "release"
    release.rename(finished / "other")
    performance = config.with_name("dask.html")
    code, _, said = cah("-v", "run", config, "--set", f"performance_report={performance}")
    assert code == 0
    assert re.search(r" INFO cah_dask\.\S+ task=\S+ stage=pack ", said)
    assert "Dask Performance Report" in performance.read_text()


def test_a_contact_sheet_shows_what_was_asked_for(finished: Path, tmp_path: Path):
    sheet = tmp_path / "sheet.html"
    _, lines, _ = cah("samples", finished, "--to", sheet, "--number", "20", "--kept")
    assert lines == [f"{sheet}: 20 samples (ok, kept)"]
    html = sheet.read_text()
    assert html.count("<img ") == 20
    assert "\x1b" not in html
    cah("samples", finished, "--to", tmp_path / "again.html", "--number", "20", "--kept")
    assert (tmp_path / "again.html").read_text() == html
    _, lines, _ = cah("samples", finished, "--to", sheet, "--outcome", "http_404")
    assert lines == [f"{sheet}: 1 sample (http_404)"]
    _, lines, _ = cah("samples", finished, "--to", sheet, "--host", "H1.Test", "--lang", "EN")
    assert lines == [f"{sheet}: 12 samples (ok, EN, h1.test)"]
    picture = tmp_path / "sheet.png"
    _, _, said = cah("samples", finished, "--to", picture, "--similarity", "-1:0")
    assert f"{picture}: no font of this machine has 1 letter of the captions" in said
    assert "ask for sheet.html" in said
    assert said.count("\n") == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_copy_tells_the_same(finished: Path, tmp_path: Path):
    copy = tmp_path / "somewhere" / "else"
    shutil.copytree(finished, copy)
    _, lines, _ = cah("runs", tmp_path)
    assert len(lines) == 2
    assert lines[1].split()[1:3] == ["2/2", "60"]
    assert lines[1].split()[-1] == "published"


def test_a_report_is_not_written_over_with_the_figures_of_another_selection(
    finished: Path, tmp_path: Path
):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    config = finished.parent / "run.yaml"
    before = (copy / "release/report.html").read_bytes()
    done = cah(
        "run", config, "--to", tmp_path / "other", "--set", f"run_dir={copy}",
        "--set", "select.thresholds.en=0.0",
    )  # fmt: skip
    assert done[0] == 0, done
    code, _, said = cah("report", copy)
    assert code == 3
    assert "release was made with other settings of select or pack" in said
    assert (copy / "release/report.html").read_bytes() == before
    prices = ["--set", "report.prices.cpu=7", "--set", "report.currency=ducats"]
    assert cah("report", copy, "--to", tmp_path / "other", *prices)[0] == 0
    assert "ducats" in (tmp_path / "other/report.html").read_text()
    code, _, said = cah("report", copy, "--to", tmp_path)
    assert code == 3
    assert f"{tmp_path} is no release" in said


@pytest.mark.parametrize(
    "override",
    [
        "keep_images=false",
        "report.prices.foo=2",
        "select.thresholds.en=0.9",
        "report.prices.cpu=.inf",
    ],
)
def test_a_report_takes_nothing_but_what_it_shows(finished: Path, override: str):
    code, _, said = cah("report", finished, "--set", override)
    assert code == 3
    assert override.partition("=")[0] in said
    assert said.count("\n") == 1


def test_a_performance_report_takes_the_place_of_no_other(tmp_path: Path):
    for expected in ("dask.html", "dask-2.html", "dask-3.html"):
        path = free_name(tmp_path / "dask.html")
        assert path == tmp_path / expected
        path.touch()


def test_a_performance_report_that_cannot_be_written_is_told_before_the_run(finished: Path):
    place = finished.parent / "run.yaml" / "dask.html"
    code, _, said = cah("run", finished.parent / "run.yaml", "--set", f"performance_report={place}")
    assert code == 3
    assert "performance_report: " in said
    assert "lies in no folder that can be written" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("logs", "."), "is no run folder"),
        (("runs", "."), "has no run folder in it"),
        (("samples", ".", "--to", "x.gif"), "expected FILE.html or FILE.png"),
        (("samples", ".", "--to", "x.png", "--similarity", "0.3"), "expected LOW:HIGH"),
        (("samples", ".", "--to", "x.png", "--similarity", "1:0"), "expected LOW:HIGH"),
        (("samples", ".", "--to", "x.png", "--split", "de"), "expected one of en, multi, nolang"),
        (("samples", ".", "--to", "x.png", "--outcome", "gone"), "expected one of ok, dns_not"),
        (("samples", ".", "--to", "x.png", "--host", "a.test:80"), "expected a name only"),
        (("samples", ".", "--to", "x.png", "--kept", "--outcome", "http_404"), "only what is ok"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    code, _, said = refused(capsys, *arguments)
    assert code == 3
    assert message in said
    assert said.count("\n") == 1
