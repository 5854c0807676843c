"""Without chromium the tests in this folder are skipped, loudly."""

import pytest

from tests.browser.chromium import missing

SKIPPED = "install Debian's chromium (scripts/install-test-system)"


@pytest.fixture(scope="session", autouse=True)
def _chromium() -> None:
    if missing():
        pytest.skip(f"no chromium: {SKIPPED}")


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if SKIPPED in str(r.longrepr)]
    if skipped:
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True)
        terminalreporter.line(f"{len(skipped)} tests in a real browser were skipped: {SKIPPED}")
