"""What a terminal of any width shows of a run."""

import io

import pytest
from rich.console import Console

from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT
from cah_dask.run.watch.terminal import view
from tests.run.watch.loads import load, stage

REASONS = {f"a_reason_of_{n}": 100_000 - n for n in range(40)}
STAGES = (EXTRACT, DEDUP, DOWNLOAD, EMBED, COMPACT, SELECT, PACK)


def shown(width: int, known: int) -> list[str]:
    """Return the lines of the table of a run whose rows were lost for very many reasons."""
    stages = [stage(each, done=known, known=known, rejected=REASONS) for each in STAGES]
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    console.print(view(load(stages=stages), width))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    return lines[[line.startswith("stage tasks") for line in lines].index(True) + 1 :]


@pytest.mark.parametrize("known", [10, 60_000])
@pytest.mark.parametrize("width", [40, 60, 80, 89, 90, 120, 200])
def test_figures_are_whole_at_any_width(width: int, known: int):
    lines = shown(width, known)
    for each, line in zip(STAGES, lines, strict=False):
        assert line.startswith(f"{each.name} {known:,}/{known:,} "), line
    heads, *pools = lines[len(STAGES) :]
    assert heads.startswith("pool workers busy")
    assert [pool.split()[:3] for pool in pools] == [
        ["gpu", "4", "80%"], ["io", "4", "50%"], ["cpu", "4", "50%"],
    ]  # fmt: skip


@pytest.mark.parametrize("width", [90, 120])
def test_a_wide_terminal_shows_the_first_reasons_and_cuts_the_others_off(width: int):
    (line,) = [line for line in shown(width, 10) if line.startswith("download")]
    assert "download 10/10 5,000 4,000 10 8 min 20 s a_reason_of_0" in line
    assert line.endswith("…")
