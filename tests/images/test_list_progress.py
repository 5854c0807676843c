"""How far a list is can be read while it is at work, and nothing is left of it."""

from pathlib import Path

from cah_dask.images.list_progress import progress_written, read_progress
from cah_dask.images.outcomes import Ledger, Outcome
from cah_dask.schema import Status
from tests import runs

URLS = [f"http://{'slow' if n % 3 else 'fast'}.example/{n}" for n in range(9)]


def test_it_says_what_has_an_outcome_and_which_hosts_have_the_most_left(tmp_path: Path):
    path = tmp_path / "progress" / "list.json"
    ledger = Ledger(URLS)
    for index in (0, 3, 1):
        ledger.record(index, Outcome(Status.OK, attempts=1))
    with progress_written(path, ledger, lambda: 1234, every_s=0.01):
        assert runs.wait_for(lambda: read_progress(path) is not None)
        found = read_progress(path)
        assert found is not None
        assert (found.urls, found.done, found.n_bytes) == (9, 3, 1234)
        assert found.hosts == {"slow.example": 5, "fast.example": 1}
    assert list(path.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_costs_nothing(tmp_path: Path):
    (tmp_path / "progress").write_text("a file where a folder should be")
    with progress_written(tmp_path / "progress" / "list.json", Ledger(URLS), int, every_s=0.01):
        assert read_progress(tmp_path / "progress" / "list.json") is None


def test_what_is_torn_is_not_believed(tmp_path: Path):
    (tmp_path / "list.json").write_bytes(b'{"urls":')
    assert read_progress(tmp_path / "list.json") is None
