"""Nobody is told to add a host to the file OPTOUT that is in it."""

from datetime import timedelta
from pathlib import Path

from cah_dask.counts import Counts
from cah_dask.pairs.options import EmbedOptions
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DOWNLOAD, RUN
from cah_dask.run.watch.figures import AT_WORK, Figures
from cah_dask.run.watch.history import History
from cah_dask.run.watch.view import Beside, Tasks, facts, figures
from tests.run.watch.loads import NOW
from tests.run.watch.test_history import commit

CONFIG = Config(run_dir="run", inputs=("x",), embed=EmbedOptions(model="tiny"))


def told(run_dir: Path, ago_s: float = 30) -> Figures:
    """Return the figures of a run in which two hosts refused all, so long ago."""
    refused = {f"{name}.shop.example": {"http_403": 90} for name in ("a", "b")}
    counts = Counts(seen=1000, kept=820, rejected={"http_403": 180})
    history = History(RUN)
    history.add(commit(DOWNLOAD, ago_s, hosts=refused, counts=counts))
    known = facts(CONFIG, RunFolder(run_dir))
    tasks = Tasks(known={}, done={}, counts={})
    return figures(known, tasks, history, Beside(state=AT_WORK, staged=0), NOW)


def test_a_host_that_refuses_is_named_until_it_is_opted_out(tmp_path: Path):
    first, second, *_ = told(tmp_path).verdict
    assert first.startswith("a.shop.example refused 90 of 90 urls in the last 10 minutes")
    assert second.startswith("b.shop.example refused 90")
    (tmp_path / "OPTOUT").write_text("a.shop.example\n")
    assert [host.host for host in told(tmp_path).recent_hosts] == ["b.shop.example"]
    (tmp_path / "OPTOUT").write_text("# all of them\nshop.example\n")
    assert not any("OPTOUT" in line for line in told(tmp_path).verdict)
    assert len(told(tmp_path).hosts) == 2, "they had their trouble"


def test_what_was_refused_long_ago_is_not_what_is_wrong_now(tmp_path: Path):
    late = told(tmp_path, timedelta(days=6).total_seconds())
    assert not any("shop.example" in line for line in late.verdict)


def test_a_file_that_cannot_be_read_leaves_nobody_out(tmp_path: Path):
    (tmp_path / "OPTOUT").mkdir()
    assert len(told(tmp_path).recent_hosts) == 2
