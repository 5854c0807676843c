"""The notebook runs from its first cell to its last, and shows what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from cah_dask.api import open_release
from cah_dask.errors import InputError

TOUR = Path(__file__).parents[1] / "notebooks" / "tour.ipynb"


def test_the_tour_runs_and_shows_funnel_vectors_and_pictures(tmp_path: Path):
    tour = nbformat.read(TOUR, as_version=4)
    assert not any(cell.get("outputs") for cell in tour.cells), "it is kept without outputs"
    NotebookClient(tour, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in tour.cells for output in cell.get("outputs", ())]
    assert any("image/png" in each for each in shown)
    grids = [each["text/html"] for each in shown if "data:image/jpeg" in each.get("text/html", "")]
    assert [grid.count("<img") for grid in grids] == [12, 12]
    release = open_release(tmp_path / "runs/tour/run/release")
    assert len(release) == release.pairs.count_rows() == release.vectors("text").shape[0] > 100
    for encoder in ("nope", "../x"):
        with pytest.raises(InputError, match=r"has no vectors \S+; it has \w+/image, \w+/text"):
            release.vectors("image", encoder)


def test_what_is_no_release_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="is no release; it is the folder"):
        open_release(tmp_path)
