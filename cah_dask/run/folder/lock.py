"""One driver at a time for a run folder, on any file system.

`flock` where there is one, which the kernel gives back however a process ends. As some file systems
have none, and others only one for each node, the lock file also tells who drives and beats: it
changes every few seconds. Who finds a beat of another node watches it for a while. No clocks of two
machines are compared. (filelock's soft lock knows no beat: a killed driver would lock its run for
ever.)
"""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from cah_dask.errors import RunError
from cah_dask.storage import write_atomic

BEAT_S = 5.0
"""Seconds between two beats."""
SILENCE_S = 30.0
"""Seconds without a beat after which a driver on another node is taken for dead."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the lock file says of the driver at work."""

    host: str
    pid: int
    began: float
    """When the process was created, by the clock of its own machine: pids are used again."""
    beat: int = 0

    @property
    def who(self) -> str:
        """The driver, for people."""
        return f"pid {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive_here(self) -> bool:
        """Whether that process still lives; for drivers of this machine."""
        with contextlib.suppress(psutil.Error):
            return bool(abs(psutil.Process(self.pid).create_time() - self.began) < 2)
        return False


def read_lease(path: Path) -> Lease | None:
    """Return what a lock file says, None if nobody drives."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Lease)
    return None


def state_of(path: Path) -> str:
    """Say who drives, as far as that is known without a wait for a beat of another machine."""
    lease = read_lease(path)
    if lease is None:
        return "none at work"
    if lease.is_here:
        return lease.who if lease.is_alive_here else f"none at work; {lease.who} was killed"
    return f"{lease.who}, but it was not heard of"


def is_held(path: Path, wait_s: float = 0.0) -> bool:
    """Tell whether somebody drives; a beat of another machine is waited for a moment."""
    lease = read_lease(path)
    if lease is None or lease.is_here:
        return lease is not None and lease.is_alive_here
    return _wait_for(lambda: read_lease(path) != lease, wait_s)


@contextlib.contextmanager
def held(path: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Be the one driver of a run, as long as the block lasts.

    Parameters
    ----------
    path
        The lock file.
    say
        Shows a line to a person who has to wait.

    Raises
    ------
    RunError
        If another driver is at work.
    """
    mine = Lease(socket.gethostname(), os.getpid(), psutil.Process().create_time())
    with path.with_name(f"{path.name}.flock").open("a") as lock:
        _flock(lock.fileno(), path)
        _require_silence(path, mine, say)
        write_atomic(path, msgspec.json.encode(mine))
        stop = threading.Event()
        beats = threading.Thread(target=_beat, args=(path, mine, stop), daemon=True)
        beats.start()
        try:
            yield
        finally:
            stop.set()
            beats.join()
            if _is_mine(path, mine):
                path.unlink(missing_ok=True)


def _flock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lease = read_lease(path)
        raise _at_work(lease.who if lease else "unknown", path) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _require_silence(path: Path, mine: Lease, say: Callable[[str], None]) -> None:
    """Make sure that whoever the lock file names is no longer at work."""
    lease = read_lease(path)
    if lease is None or (lease.host, lease.pid, lease.began) == (mine.host, mine.pid, mine.began):
        return
    if lease.is_here:
        if lease.is_alive_here:
            raise _at_work(lease.who, path)
        return
    say(f"{lease.who} drove this run; waiting {SILENCE_S:g} s to see whether it still does")
    if _wait_for(lambda: read_lease(path) not in (lease, None), SILENCE_S):
        raise _at_work(lease.who, path)


def _at_work(who: str, path: Path) -> RunError:
    return RunError(f"another driver ({who}) is at work in {path.parent}")


def _beat(path: Path, mine: Lease, stop: threading.Event) -> None:
    """Change the lock file again and again; where it has become another's, this driver ends."""
    beat = 0
    while not stop.wait(BEAT_S):
        if not _is_mine(path, mine):
            os.kill(os.getpid(), signal.SIGTERM)
            return
        beat += 1
        with contextlib.suppress(OSError, RunError):  # a full disk ends the run elsewhere
            write_atomic(path, msgspec.json.encode(msgspec.structs.replace(mine, beat=beat)))


def _is_mine(path: Path, mine: Lease) -> bool:
    lease = read_lease(path)
    return lease is None or msgspec.structs.replace(lease, beat=0) == mine


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True
