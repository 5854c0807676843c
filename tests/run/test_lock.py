"""One driver at a time, even without locks of the file system, and whether it lives is known."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cah_dask.errors import RunError
from cah_dask.run.folder.lock import Lease, held, read_lease, state_of
from tests.runs import wait_for

DRIVE = """\
import fcntl, errno, pathlib, socket, sys, time
if {no_flock}:
    def flock(*_):
        raise OSError(errno.ENOSYS, "no locks here")
    fcntl.flock = flock
socket.gethostname = lambda: {host!r}
from cah_dask.run.folder import lock
lock.BEAT_S, lock.SILENCE_S = 0.2, 1.5
with lock.held(pathlib.Path(sys.argv[1]), print):
    print("drives", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def drive(path: Path, *, host: str, no_flock: bool = True, seconds: float = 60):
    """Start a process that drives; each has a host name of its own."""
    code = DRIVE.format(host=host, no_flock=no_flock)
    command = [sys.executable, "-c", code, str(path), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.lock"


def test_a_driver_is_written_down_and_gone_in_the_end(path: Path):
    assert state_of(path) == "none at work"
    with held(path):
        found = read_lease(path)
        assert found is not None
        assert found.pid == os.getpid()
        assert state_of(path) == found.who
    assert state_of(path) == "none at work"


def test_a_second_driver_is_kept_out_by_a_lock(path: Path):
    with (
        held(path),
        pytest.raises(RunError, match=rf"another driver \(pid {os.getpid()} on .+\) is at work"),
        held(path),
    ):
        pass


@pytest.mark.parametrize("host", ["one", "two"])
def test_without_locks_the_second_of_two_drivers_says_who_drives(path: Path, host: str):
    first = drive(path, host="one")
    assert first.stdout.readline() == "drives\n"
    second = drive(path, host=host)
    _, error = second.communicate(timeout=30)
    assert f"another driver (pid {first.pid} on one) is at work" in error
    assert second.returncode
    first.kill()
    first.communicate()


@pytest.mark.parametrize("host", ["one", "two"])
def test_the_run_of_a_killed_driver_is_taken_up(path: Path, host: str):
    first = drive(path, host="one")
    assert first.stdout.readline() == "drives\n"
    first.kill()
    first.communicate()
    second = drive(path, host=host, seconds=0)
    said, error = second.communicate(timeout=30)
    assert second.returncode == 0, error
    assert said.endswith("drives\n")
    assert ("to see whether it still does" in said) == (host == "two")
    assert read_lease(path) is None


def test_a_driver_that_was_suspended_until_another_took_over_ends(path: Path):
    first = drive(path, host="one")
    assert first.stdout.readline() == "drives\n"
    first.send_signal(signal.SIGSTOP)
    second = drive(path, host="two")
    assert "waiting" in second.stdout.readline()
    assert second.stdout.readline() == "drives\n"
    first.send_signal(signal.SIGCONT)
    assert first.wait(30) == -signal.SIGTERM
    assert wait_for(lambda: (read_lease(path) or Lease("", 0, 0)).host == "two", 10)
    second.kill()
    for process in (first, second):
        process.communicate()


def test_it_is_told_that_a_driver_was_killed(path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed = Lease(socket.gethostname(), gone.pid, time.time())
    path.write_bytes(msgspec.json.encode(killed))
    assert state_of(path) == f"none at work; pid {gone.pid} on {killed.host} was killed"


def test_of_a_driver_elsewhere_it_is_told_whether_it_beats(path: Path):
    path.write_bytes(msgspec.json.encode(Lease("elsewhere", 7, 0.0)))
    assert state_of(path) == "pid 7 on elsewhere, but it was not heard of"
