"""What a person sees who has the page of a run open until the run is over."""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.watch.figures import Figures
from cah_dask.run.watch.from_files import FromFiles
from tests.browser.chromium import browsing

IS_LOST = "all(document, '.lost').some((line) => line.offsetHeight > 0)"
"""Whether the page says that nothing new comes."""

_FETCH = "await fetch('{}').then((answer) => answer.text()).catch(() => '')"


class Seen(NamedTuple):
    """What the page and its neighbours told, one after the other, and at last."""

    figures: list[Figures]
    metrics: str
    """The last that were there."""
    text: str
    """What can be read on the page at the end."""
    complaints: list[str]
    """Of the browser, until the connection was lost."""


def watch_to_the_end(link: str, profile: Path, seconds: float) -> Seen:
    """Open the link of a run and look until the page says that nothing new comes."""
    return asyncio.run(_watch(link, profile, time.monotonic() + seconds))


async def _watch(link: str, profile: Path, deadline: float) -> Seen:
    figures: list[Figures] = []
    metrics, complaints = "", list[str]()
    async with browsing(profile) as tab:
        await tab.open(link)
        await tab.wait_for("all(document, '.verdict').length === 1")
        while not await tab.value(IS_LOST):
            assert time.monotonic() < deadline, await tab.text()
            found = await tab.value(_FETCH.format("/cah.json"))
            figures += [msgspec.json.decode(found, type=Figures)] if found else []
            told = await tab.value(_FETCH.format("/metrics"))
            metrics = told if "cah_rows" in told else metrics  # at the end Dask's own stay longer
            complaints = tab.complaints[:] if found else complaints
            await asyncio.sleep(0.2)
        return Seen(figures, metrics, await tab.text(), complaints)


def assert_shown(text: str, run_dir: Path) -> None:
    """Compare what can be read on the page with the files of the run."""
    for stage in FromFiles(RunFolder(run_dir)).figures().stages:
        assert f"{stage.name} {stage.done:,} of {stage.known:,} " in text
        if stage.rows and stage.seen:
            assert f"{stage.name} {stage.kept:,} of {stage.seen:,} {stage.rows} kept" in text
        assert all(f"{reason} {number:,}" in text for reason, number in stage.rejected.items())
