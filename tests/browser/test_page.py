"""A person watches a run: the page of its dashboard in a real browser, from start to end."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests import runs
from tests.browser.chromium import DESKTOP, PHONE, Tab, browsing
from tests.browser.watching import IS_LOST, assert_shown
from tests.run.watch import held
from tests.webserver import WebServer

pytestmark = pytest.mark.browser

WIDTH_OF_ALL = "document.documentElement.scrollWidth"
ALL_DOWNLOADED = "texts(document.body).replace(/\\s+/g, ' ').includes('download 7 of 7')"
SOME_EMBEDDED = "texts(document.body).replace(/\\s+/g, ' ').includes('embed 2 of 7')"
PICTURES = "all(document, 'figure img')"
BARS = "Bokeh.documents[0].get_model_by_name('similarity_nolang').renderers[0].data_source.length"


class Run:
    """A run that waits in its middle until it is let go."""

    def __init__(self, folder: Path, web: WebServer) -> None:
        self.dir = folder / "run"
        self.config = held.write(folder, web)
        self._gate = folder / "go"
        self._driver = runs.start(self.config, env=held.environment(folder))

    def begin(self) -> str:
        """Wait until the dashboard is up; return its link."""
        there = (self.dir / "dashboard.txt").exists
        assert runs.wait_for(there), runs.output(self.config)
        return held.link(self.dir)

    def end(self) -> int:
        """Let it go on; return its exit code."""
        self._gate.touch()
        return self._driver.wait(180)

    def kill(self) -> None:
        self._driver.kill()
        self._driver.wait()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with WebServer() as web:
        run = Run(tmp_path, web)
        yield run
        run.kill()


async def looks(tab: Tab, size: tuple[int, int], *, is_dark: bool) -> Image.Image:
    """Return the page as it looks; nothing may stand out at the right."""
    await tab.show_as(size, is_dark=is_dark)
    await tab.wait_for(f"innerWidth === {size[0]} && {WIDTH_OF_ALL} <= innerWidth")
    return Image.open(io.BytesIO(await tab.screenshot())).convert("L")


async def watch(run: Run, profile: Path) -> None:
    link = run.begin()
    async with browsing(profile) as tab:
        await tab.open(link)
        await tab.wait_for(ALL_DOWNLOADED)
        await tab.wait_for(SOME_EMBEDDED)
        await tab.wait_for(f"{PICTURES}.length >= 4")
        await tab.wait_for(f"{BARS} > 5")
        assert await tab.value("location.pathname + location.search") == "/cah"
        assert await tab.value(f"{PICTURES}.every((i) => i.complete && i.naturalWidth > 0)")
        assert await tab.value("all(document, 'script').every((s) => !/alert/.test(s.innerText))")

        assert_shown(await tab.text(), run.dir)
        for is_dark in (False, True):
            for size in (DESKTOP, PHONE):
                picture = await looks(tab, size, is_dark=is_dark)
                assert (np.asarray(picture)[-3, 3] < 60) == is_dark
        assert not await tab.value(IS_LOST)
        assert tab.complaints == []
        assert await asyncio.to_thread(run.end) == 0, runs.output(run.config)
        await tab.wait_for(IS_LOST)
        text = await tab.text()
        assert "all tasks are done" in text
        assert_shown(text, run.dir)


def test_a_run_is_watched_in_a_browser_to_its_end(run: Run, tmp_path: Path):
    asyncio.run(watch(run, tmp_path / "profile"))
    assert not (run.dir / "dashboard.txt").exists()


def test_every_page_of_the_dashboard_leads_to_it_and_json_needs_the_token(run: Run, tmp_path: Path):
    async def look() -> None:
        site = urlsplit(run.begin())
        async with browsing(tmp_path / "profile") as tab:
            await tab.open(f"http://{site.netloc}/cah.json")
            await tab.wait_for("document.body.innerText.includes('401')")
            await tab.open(f"http://{site.netloc}/status?{site.query}")
            await tab.wait_for("document.querySelectorAll('.navbar li a').length > 5")
            second = "document.querySelectorAll('.navbar li a')[1]"  # behind Dask's logo
            assert await tab.value(f"{second}.innerText") == "Cah"
            await tab.value(f"{second}.click()")
            await tab.wait_for("all(document, '.verdict').length === 1")
            await tab.open(f"http://{site.netloc}/cah.json")
            await tab.wait_for("JSON.parse(document.body.innerText).stages.length === 6")

    asyncio.run(look())
