"""One Slurm cluster for the tests in this folder; without Slurm they are skipped, loudly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, Layout, missing

SKIPPED = "install Debian's slurmctld, slurmd, slurm-client and munge (scripts/install-test-system)"


@pytest.fixture(scope="session", autouse=True)
def _slurm_programs() -> None:
    absent = missing()
    if absent:
        pytest.skip(f"no {', '.join(absent)}: {SKIPPED}")


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(_folder(tmp_path_factory, "slurm"), Layout()) as cluster:
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster without any job on it, and this process as a user of it."""
    monkeypatch.setenv("SLURM_CONF", str(session_cluster.conf))
    yield session_cluster
    session_cluster.cancel_all()


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory):
    return lambda name: _folder(tmp_path_factory, name)


def _folder(tmp_path_factory, name: str) -> Path:
    folder = tmp_path_factory.mktemp(name)
    for path in (folder, *folder.parents):  # munge refuses a socket that others cannot reach
        if path == folder or path.name.startswith(("pytest-", "popen-")):
            path.chmod(0o755)
    return folder


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if SKIPPED in str(r.longrepr)]
    if skipped:
        terminalreporter.section("SLURM TESTS DID NOT RUN", sep="!", red=True)
        terminalreporter.line(f"{len(skipped)} tests on a real Slurm were skipped: {SKIPPED}")
