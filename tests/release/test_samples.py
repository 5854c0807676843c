"""Samples for people to look at: those that were asked for, the same for the same seed."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from cah_dask.release.draw import Draw
from cah_dask.release.lettering import Lettering, wrapped
from cah_dask.release.samples import Sample, Wanted, choose, why_gone
from cah_dask.release.sheet import Sheet, write_sheet
from cah_dask.release.summary import Summary
from tests.release.small_run import HOSTILE, LIST, write_late_texts
from tests.release.test_report import Page


def chosen(run_dir: Path, summary: Summary, number: int = 9, **wanted) -> list[Sample]:
    return list(choose(run_dir, summary, [LIST], Wanted(**wanted), number, 0))


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [
        ({}, {HOSTILE, "a dog"}),
        ({"is_kept": True}, {HOSTILE}),
        ({"is_kept": False}, {"a dog"}),
        ({"low": 0.2}, {HOSTILE}),
        ({"low": 0.05, "high": 0.1}, {"a dog"}),
        ({"outcome": "http_404"}, {"ein Haus"}),
        ({"outcome": "http_404", "split": "en"}, set()),
        ({"outcome": "http_404", "lang": "de"}, {"ein Haus"}),
        ({"host": "a.example"}, {HOSTILE}),
        ({"host": "example"}, {HOSTILE}),
        ({"host": "b.example"}, set()),
        ({"outcome": "http_404", "low": -1.0}, set()),
    ],
)
def test_only_what_was_asked_for_is_shown(
    run_dir: Path, summary: Summary, wanted: dict, texts: set[str]
):
    found = chosen(run_dir, summary, **wanted)
    assert {sample.text for sample in found} == texts
    assert all(sample.thumbnail for sample in found if sample.outcome == "ok")


def test_late_texts_have_outcome_and_image_of_the_list_that_fetched_their_url(
    run_dir: Path, summary: Summary
):
    late = write_late_texts(run_dir, ["javascript:alert(2)", "http://b.example/3"])

    def shown(**wanted: Any) -> list[tuple[str, str, bool]]:
        found = choose(run_dir, summary, [late], Wanted(**wanted), 9, 0)
        return [(each.text, each.url, bool(each.thumbnail)) for each in found]

    assert shown() == [("late text 0", "javascript:alert(2)", True)]
    assert shown(outcome="http_404") == [("late text 1", "http://b.example/3", False)]


def test_where_few_lists_have_any_those_give_more(run_dir: Path, summary: Summary):
    lists = [LIST, *(f"w00000/b{number:05d}-l00000" for number in range(1, 100))]
    assert len(list(choose(run_dir, summary, lists, Wanted(), 1, 0))) == 1
    found = list(choose(run_dir, summary, lists, Wanted(), 9, 0))
    assert sorted(sample.text for sample in found) == sorted([HOSTILE, "a dog"])


def test_where_rules_drop_pairs_only_kept_ones_are_shown(run_dir: Path, summary: Summary):
    ruled = msgspec.structs.replace(summary, rules={"unsafe": {"nsfw": {"at_least": 0.5}}})
    assert [sample.text for sample in chosen(run_dir, ruled)] == [HOSTILE]
    assert chosen(run_dir, ruled, is_kept=False) == []
    unselected = msgspec.structs.replace(ruled, selected=[])
    assert chosen(run_dir, unselected) == []


def test_before_the_selection_thresholds_tell_what_is_kept(run_dir: Path, summary: Summary):
    unselected = msgspec.structs.replace(summary, selected=[])
    assert [sample.text for sample in chosen(run_dir, unselected, is_kept=True)] == [HOSTILE]


def test_what_is_not_embedded_yet_has_no_similarity(run_dir: Path, summary: Summary):
    (run_dir / "scored" / f"{LIST}.parquet").unlink()
    assert [sample.similarity for sample in chosen(run_dir, summary)] == [None, None]
    assert chosen(run_dir, summary, low=-1.0) == []


def test_a_draw_depends_on_names_and_seed_only():
    names = [f"w00000/b{number:05d}-l00000" for number in range(1000)]

    def drawn(names: list[str], seed: int) -> list[str]:
        draw = Draw(seed, 10)
        for name in names:
            draw.add(name)
        return draw.names

    assert drawn(names, 0) == drawn(names[::-1], 0)
    assert drawn(names, 0) != drawn(names, 1)
    assert len(drawn(names, 0)) == 10
    assert max(map(names.index, drawn(names, 0))) > 500


def test_a_sheet_is_a_page_or_a_picture_in_which_nothing_runs(
    run_dir: Path, summary: Summary, tmp_path: Path
):
    samples = [*chosen(run_dir, summary), *chosen(run_dir, summary, outcome="http_404")]
    write_sheet(tmp_path / "sheet.html", Sheet("title <b>", "about", samples, "gone"))
    page = Page((tmp_path / "sheet.html").read_text())
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert HOSTILE in page.text
    assert "http_404" in page.text
    assert page.tags.count("img") == 2
    write_sheet(tmp_path / "sheet.png", Sheet("title \x1b[2J", "about", samples, "gone"))
    with Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())) as picture:
        colours = {picture.convert("RGB").getpixel((8 + 152 * n + 50, 60)) for n in range(2)}
    assert colours == {(254, 0, 0), (0, 0, 254)}


def test_a_sheet_without_images_says_why_and_one_of_failures_says_how(
    run_dir: Path, summary: Summary, tmp_path: Path
):
    next((run_dir / "images").rglob("*.h5")).unlink()
    gone = why_gone(msgspec.structs.replace(summary, keeps_images=False))
    write_sheet(tmp_path / "sheet.html", Sheet("t", "a", chosen(run_dir, summary), gone))
    page = Page((tmp_path / "sheet.html").read_text())
    assert "(keep_images: false)" in page.text
    assert "image not kept" not in page.text
    failed = chosen(run_dir, summary, outcome="http_404")
    write_sheet(tmp_path / "sheet.html", Sheet("t", "a", failed, gone))
    assert "keep_images" not in (tmp_path / "sheet.html").read_text()
    heights = []
    for samples in (chosen(run_dir, summary), failed):
        write_sheet(tmp_path / "sheet.png", Sheet("t", "a", samples, gone))
        with Image.open(tmp_path / "sheet.png") as picture:
            heights.append(picture.height)
    assert heights[0] < heights[1], "captions need no room for pictures"


def test_letters_that_no_font_has_are_named(run_dir: Path, summary: Summary, tmp_path: Path):
    (sample, _) = chosen(run_dir, summary)
    private = "\U00050000"  # of a plane without letters
    odd = msgspec.structs.replace(sample, text=f"a {private} dog {private}")
    png, html = tmp_path / "sheet.png", tmp_path / "sheet.html"
    assert write_sheet(png, Sheet("t", "a", [odd, odd], "gone")) == [private]
    assert write_sheet(html, Sheet("t", "a", [odd], "gone")) == []
    assert write_sheet(png, Sheet("t", "a", [sample], "gone")) == []


@pytest.mark.parametrize("text", ["many words of a caption " * 9, "unbroken" * 30, "a", ""])
def test_no_line_of_a_caption_leaves_its_tile(text: str):
    font = Lettering(11).font(text)
    lines = wrapped(text, font, 100, 3)
    assert all(font.getlength(line) <= 100 for line in lines)
    assert len(lines) <= 3
    shown = "".join(lines).replace(" ", "").removesuffix("…")
    assert text.replace(" ", "").startswith(shown)
    assert shown or not text
