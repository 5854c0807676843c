"""Nothing in this package may leave a thread, a process or a descriptor behind."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.webserver import WebServer


def wait_until(is_so: Callable[[], bool], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return is_so()


def descriptors() -> set[str]:
    """What is open, apart from what an import opens once and keeps (epoll, urandom)."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue
    return found


def threads() -> set[threading.Thread]:
    """Who runs, apart from the one thread in which pycares closes what it opened."""
    return {t for t in threading.enumerate() if "_run_safe_shutdown_loop" not in t.name}


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    before, files, processes = threads(), descriptors(), children()
    yield
    assert wait_until(lambda: threads() <= before), threads() - before
    assert wait_until(lambda: descriptors() <= files), descriptors() - files
    assert wait_until(lambda: children() <= processes), children() - processes


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server
