"""What a run leaves for people, report and contact sheet, opened as files in a real browser."""

import asyncio
import io
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from cah_dask.release.report import write_report
from cah_dask.run.folder.run_folder import RunFolder
from tests import jobs_here, runs
from tests.browser.chromium import DESKTOP, PHONE, Tab, browsing
from tests.classify import archives
from tests.commands import cah
from tests.webserver import WebServer

pytestmark = pytest.mark.browser

HOSTILE = [
    '<script>window.ran = 1</script> & "quotes" of a picture',
    "<img src=x onerror='window.ran = 1'> an image that is none",
    "&lt;script&gt;window.ran = 1&lt;/script&gt; &amp;amp; entities &#x202e; of a picture",
    "</figcaption></figure></main><h4>a heading of its own</h4><style>* {display: none}</style>",
    "a picture \u202e turned around \u2067 and isolated",
    "a red \x1b[31m picture \x1b]0;owned\x07 with a title",
    "{{ 7 * 7 }} {% raw %} a template of a picture",
    "javascript:window.ran=1 http://a.test/ a link in a picture",
    "picture" * 280,
    "a picture of many words " * 80,
    "一张红色的图片上面有三个圆圈和一颗星星背景是灰色的",
    "صورة لثلاث دوائر حمراء على خلفية رمادية في الحديقة",
    "a picture of a family 👩‍👩‍👧‍👦 and a flag 🏳️‍🌈 in the sun ☀️",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞ of a picture",
]
"""Captions, each of which some page has shown as it should not."""

HIDDEN = ("\u202e", "\u2067", "\x1b", "\x07")

FAINT = """[...document.querySelectorAll('body *')].flatMap((element) => {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.closest('title')) return [];
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = (colour) => {
            const linear = numbers(colour).slice(0, 3).map((v) => v / 255)
                .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        let behind = element;
        while (behind && (numbers(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0)
            behind = behind.parentElement;
        const paper = light(getComputedStyle(behind ?? document.body).backgroundColor);
        const style = getComputedStyle(element);
        const ink = light(element instanceof SVGElement ? style.fill : style.color);
        const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        return contrast < 4.5 ? [`${element.outerHTML.slice(0, 99)}: ${contrast}`] : [];
    })
"""
"""Elements with a text of their own that stands out too little from what is behind it."""

SMALL_LETTERS = """[...document.querySelectorAll('svg text')].filter((text) => {
        const scale = text.getScreenCTM().a;
        return parseFloat(getComputedStyle(text).fontSize) * scale < 9;
    }).length
"""

HEADINGS = "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((h) => +h.tagName[1])"

UNREACHABLE = """[...document.querySelectorAll('body *')].filter((element) =>
        ['auto', 'scroll'].includes(getComputedStyle(element).overflowX)
        && !(element.tabIndex === 0 && element.role && element.ariaLabel)
    ).map((element) => element.outerHTML.slice(0, 99))
"""
"""What may scroll sideways and cannot be reached by keys, or has no name."""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over hostile captions."""
    folder = tmp_path_factory.mktemp("report")
    with WebServer() as web:
        links = [
            (web.url(f"/{'404' if n % 9 == 8 else 'ok'}-{n}.jpg", f"h{n % 5}.test"), f"{text} {n}")
            for n, text in enumerate(HOSTILE * 3)
        ]
        config = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "wats", links, archives=1),
            port=web.port,
            extract={"max_text": 10_000},
            select={"thresholds": {"en": 0.0, "multi": 0.0, "nolang": 0.0}},
        )
        assert runs.finish(config) == 0, runs.output(config)
    return config.with_suffix("")


@pytest.fixture(scope="module")
def pages(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every page that a run or a classify job leaves for people."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(run_dir / "release/report.html", folder / "report.html")
    assert cah("samples", run_dir, "--to", folder / "sheet.html")[0] == 0
    shutil.copytree(run_dir, folder / "bare", ignore=shutil.ignore_patterns("*.h5"))
    summary = msgspec.structs.replace(RunFolder(run_dir).summary(), keeps_images=False)
    write_report(folder / "bare.html", folder / "bare", summary)
    archives.write_texts(folder / "hostile.warc.gz", HOSTILE)
    job = archives.job_of(archives.write_config(folder / "classified.yaml", folder))
    jobs_here.carry_out(job)
    shutil.copy(job.to / "report.html", folder / "classified.html")
    return sorted(folder.glob("*.html"))


HIDDEN_COLUMNS = """[...document.querySelectorAll('.stacked')].map((table) => table.parentElement)
    .filter((wide) => wide.scrollWidth > wide.clientWidth && innerWidth < 640)
    .map((wide) => wide.ariaLabel)
"""
"""Tables that a phone would have to be scrolled sideways for, of those that it shows as a list."""


async def look(profile: Path, pages: list[Path]) -> None:
    async with browsing(profile) as tab:
        for page in pages:
            await tab.open(page.as_uri())
            await tab.wait_for(f"location.href === '{page.as_uri()}'")
            await tab.wait_for("document.readyState === 'complete'")
            await opens_by_keys(tab)
            await is_sound(tab)
            for is_dark in (False, True):
                for size in (DESKTOP, PHONE):
                    await is_readable(tab, size, is_dark=is_dark)
        assert tab.complaints == []
        assert {url.partition(":")[0] for url in tab.requests} == {"file", "data"}
        assert len([url for url in tab.requests if url.startswith("file:")]) == len(pages)


async def opens_by_keys(tab: Tab) -> None:
    """Go to each thing that opens by the tabulator, and open it."""
    for _ in range(await tab.value("document.querySelectorAll('summary').length")):
        for _ in range(40):
            await tab.press("Tab")
            if await tab.value("document.activeElement.matches('details:not([open]) > summary')"):
                break
        await tab.press("Enter")
    assert await tab.value("document.querySelectorAll('details:not([open])').length") == 0


async def is_sound(tab: Tab) -> None:
    assert await tab.value("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert await tab.value("[...document.images].every((i) => i.alt)")
    assert await tab.value("document.scripts.length === 0 && window.ran === undefined")
    assert await tab.value("document.documentElement.lang && document.title")
    levels = await tab.value(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels), default=0) <= 1
    assert await tab.value("document.querySelectorAll('bdi:dir(rtl)').length > 0")
    assert await tab.value("document.querySelectorAll('figure:dir(rtl)').length === 0")
    for hidden in HIDDEN:
        assert hidden not in await tab.value("document.body.textContent")


async def is_readable(tab: Tab, size: tuple[int, int], *, is_dark: bool) -> None:
    await tab.show_as(size, is_dark=is_dark)
    await tab.wait_for(f"innerWidth === {size[0]}")
    assert await tab.value("document.documentElement.scrollWidth") <= size[0]
    assert await tab.value(FAINT) == []
    assert await tab.value(SMALL_LETTERS) == 0
    assert await tab.value(UNREACHABLE) == []
    assert await tab.value(HIDDEN_COLUMNS) == []
    picture = Image.open(io.BytesIO(await tab.screenshot())).convert("L")
    assert (np.asarray(picture)[-3, 3] < 60) == is_dark


def test_pages_are_sound_and_readable_wherever_they_are_opened(pages: list[Path], tmp_path: Path):
    assert len(pages) == 4
    asyncio.run(look(tmp_path / "profile", pages))
