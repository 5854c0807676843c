"""What a person sees of a job: a view as wide as the terminal, or lines with the time."""

import io
import re
import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cah_dask.counts import Counts
from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.folder.journal import Commit
from cah_dask.run.progress import PLAIN_INTERVAL_S, Progress
from cah_dask.run.stages import EXTRACT
from cah_dask.run.stagewise import Stagewise
from cah_dask.run.watch.figures import NOT_DRIVEN, PUBLISHED, Figures
from cah_dask.run.watch.job import JobWatch
from cah_dask.run.watch.verdict import judged
from cah_dask.storage import Receipt
from tests.run.shown import ESCAPE, ESCAPED, STAGES, hostile
from tests.run.terminals import Terminal, widest
from tests.run.watch.loads import NOW, load

HERE = Dashboard(1, "token", "here")
OBEYED = re.compile("\x1b\\]|[\x07\u202e]")
"""What no terminal may be sent: rich itself only moves the cursor and colours."""


def job() -> JobWatch:
    """A job of many units, none of which is done; what became of rows is made up."""
    made = Stagewise({EXTRACT: 2000}, lambda _: None)
    made.counts[EXTRACT] = Counts(
        9_000_000, 1_000_000, {"no_text": 4_000_000, "duplicate": 3_000_000, "long_url": 1_000_000}
    )
    return JobWatch(made)


@pytest.mark.parametrize("width", [20, 40, 64, 90, 200])
def test_the_table_of_a_job_fits_a_terminal_of_any_width(width: int):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    with Progress(console) as view:
        view.start(HERE)
        view.look(job().figures)
    lines = text.getvalue().splitlines()
    (row,) = [line for line in lines if "extract" in line][-1:]
    assert "0/2,000" in row
    assert len(row.rstrip()) <= width
    assert ("no_text" in row) == (width >= 90)
    assert ("9,000,000" in row) == (width >= 48)


def test_a_job_tells_how_far_it_is_and_how_long_it_takes():
    watch = job()
    for n in range(20):
        receipt = Receipt(stage="extract", unit="u", config="", counts=Counts(5, 5))
        at = watch.figures().at - timedelta(seconds=30 * n)
        watch.add(Commit(at, "extract", f"{n}", "n/cpu-0", 30.0, receipt))
    (stage,) = watch.figures().stages
    assert stage.left_s == pytest.approx(2000 * 30, rel=0.1)
    text = io.StringIO()
    with Progress(Console(file=text)) as view:
        view.look(watch.figures)
    first = text.getvalue().splitlines()[0]
    assert re.search(
        r" UTC extract 0/2,000 tasks, 1,000,000 of 9,000,000 rows, left: 1[5-8] h ", first
    )


@pytest.fixture(scope="module")
def batch_log() -> list[str]:
    """The lines of a batch log of 36 seconds, over a run whose names are hostile."""
    text, seconds = io.StringIO(), [0.0]

    def found() -> Figures:
        at = NOW + timedelta(seconds=seconds[0])
        return judged(msgspec.structs.replace(hostile(), at=at))

    with Progress(Console(file=text), lambda: seconds[0]) as view:
        view.start(HERE)
        view.warn(f"a host says {ESCAPE}")
        for _ in range(36):
            view.look(found)
            seconds[0] += 1.0
    return text.getvalue().splitlines()


def test_a_batch_log_has_eta_and_verdict_now_and_then_and_in_the_end(batch_log: list[str]):
    told = [line for line in batch_log if "extract 50/100, dedup 50/100" in line]
    seconds = [int(line[17:19]) for line in told]
    assert seconds == [0, 10, 20, 30, 36]
    assert PLAIN_INTERVAL_S == 10
    verdict = hostile().verdict[0].replace(ESCAPE, ESCAPED)
    assert all(line.endswith(f"; at work; left to embed: 2 h 1 min; {verdict}") for line in told)


def test_what_may_not_be_missed_is_shown_at_once():
    text = io.StringIO()
    with Progress(Console(file=text), lambda: 0.0) as view:
        for _ in range(2):
            view.look(hostile)
        assert len(text.getvalue().splitlines()) == 1
        view.look(hostile, at_once=True)
        assert len(text.getvalue().splitlines()) == 2


def test_lines_have_their_time_and_nothing_that_a_terminal_obeys(batch_log: list[str]):
    for line in batch_log:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC ", line)
    assert not OBEYED.search("".join(batch_log))
    assert any("warning: a host says " in line and "[red]no[/red]" in line for line in batch_log)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_run_is_shown_whole_at_any_width_and_nothing_is_obeyed(width: int, tmp_path: Path):
    command = [sys.executable, "-m", "tests.run.shown", str(tmp_path / "end")]
    with Terminal(command, width) as terminal:
        assert terminal.wait_for("run: at work", times=3)
        frame = terminal.frame("run: at work")
        (tmp_path / "end").touch()
        assert terminal.process.wait(20) == 0
        shown = terminal.raw
    assert frame[0] == "run: at work; left to embed: 2 h 1 min"
    assert widest(frame) <= width
    rows = [line.split()[:2] for line in frame]
    assert [row for row in rows if row[1:] == ["50/100"]] == [[s.name, "50/100"] for s in STAGES]
    assert [row for row in rows if row[:1] in (["gpu"], ["io"])] == [["gpu", "4"], ["io", "4"]]
    words = "".join(frame).replace(" ", "")
    for each in hostile().verdict:
        assert each.replace(ESCAPE, ESCAPED).replace(" ", "") in words
    assert "in2listsatwork:80of200urlsdone" in words
    assert not OBEYED.search(shown)
    assert "dashboard: http" in shown


def test_the_view_follows_a_terminal_that_gets_another_size(tmp_path: Path):
    command = [sys.executable, "-m", "tests.run.shown", str(tmp_path / "end")]
    with Terminal(command, 200) as terminal:
        for width in (200, 48, 120):
            terminal.resize(width)
            assert terminal.wait_for("run: at work", times=3)
            frame = terminal.frame("run: at work")
            assert widest(frame) <= width
            assert ("rejected" in " ".join(frame)) == (width >= 90)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (PUBLISHED, "published; left to embed: -; done: the release is published"),
        (NOT_DRIVEN, "left to embed: -; no driver is at work: run the same command again to go on"),
    ],
)
def test_what_is_shown_last_is_what_is_so_in_the_end(last: str, told: str):
    text, state = io.StringIO(), ["at work"]
    with Progress(Console(file=text)) as view:
        view.look(lambda: judged(load(state=state[0])))
        state[0] = last
    assert [line.split("; ", 1)[1] for line in text.getvalue().splitlines()] == [
        f"at work; left to embed: -; {judged(load()).verdict[0]}",
        told,
    ]
