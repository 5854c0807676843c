"""Signals that tell a run to stop, whenever they come."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cah_dask.run.signals import Signals, Stopped
from tests import runs


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_that_nobody_listens_to_stops_at_once(kind: signal.Signals):
    before = signal.getsignal(kind)
    with Signals(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), kind)
    assert stopped.value.kind is kind
    assert signal.getsignal(kind) is before


def test_a_listener_hears_every_signal_while_it_listens():
    heard: list[signal.Signals] = []
    with Signals() as signals:
        with signals.heard_by(heard.append):
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGUSR2, signal.SIGTERM]


def test_a_signal_that_python_dropped_in_a_callback_is_not_lost():
    with Signals() as signals:
        with contextlib.suppress(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), signals.heard_by(lambda _: None):
            pass


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_no_library_takes_a_signal_over_while_it_is_imported(kind: signal.Signals):
    code = (
        "import os, signal\n"
        "heard = []\n"
        f"signal.signal({int(kind)}, lambda *_: heard.append(1))\n"
        "import cah_dask.run.pipeline, cah_dask.run.before.doctor\n"
        "import cah_dask.run.tasks.images, cah_dask.run.tasks.pairs, cah_dask.run.tasks.release\n"
        f"os.kill(os.getpid(), {int(kind)})\n"
        "assert heard\n"
        "raise SystemExit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9


@pytest.fixture
def config(tmp_path: Path, random_model: Path) -> Path:
    """The config of a run whose one image is at a port where nobody listens."""
    inputs = runs.write_inputs(tmp_path / "inputs", [("http://h.test:9/a", "A photograph")], 1)
    return runs.write_config(tmp_path / "run.yaml", inputs=inputs, model=random_model, port=9)


def is_minded(process: subprocess.Popen[str], kind: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, or has ended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return not caught or bool(int(caught[0], 16) >> (kind - 1) & 1)


@pytest.mark.parametrize(
    ("kind", "wait_s"),
    [
        (signal.SIGTERM, 0.0), (signal.SIGINT, 0.05), (signal.SIGUSR2, 0.2), (signal.SIGTERM, 0.5),
        (signal.SIGTERM, 1.0), (signal.SIGTERM, 1.5), (signal.SIGUSR2, 2.5),
    ],
)  # fmt: skip
def test_a_signal_in_the_first_seconds_ends_a_run_as_documented(
    config: Path, kind: signal.Signals, wait_s: float
):
    driver = runs.start(config)
    assert runs.wait_for(lambda: is_minded(driver, kind), 20)
    time.sleep(wait_s)
    driver.send_signal(kind)
    assert driver.wait(60) == 75, runs.output(config)
    assert "Traceback" not in runs.output(config)
    assert "stopped" in runs.output(config)


def test_a_signal_in_the_last_lines_is_minded():
    command = [sys.executable, "-m", "cah_dask", "--version"]
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            process.send_signal(kind)
            process.stdout.read()
        assert process.returncode in (0, 75)
