"""The watch of a driver: what it reads for whom, and what it tells when all is over."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from cah_dask.counts import Counts
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.pool_times import read_pool_times
from cah_dask.run.plan import Plan
from cah_dask.run.pools import Pool
from cah_dask.run.stages import DOWNLOAD, EMBED, Stage
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import (
    AT_WORK,
    PAUSED,
    PUBLISHED,
    Figures,
    ListsFigures,
    PoolFigures,
)
from cah_dask.run.watch.live import Watch
from cah_dask.run.watch.view import Facts
from cah_dask.storage import Receipt
from tests import runs
from tests.run.watch.loads import NOW, pool
from tests.run.watch.test_lists import write
from tests.run.watch.test_pairs import known as known  # noqa: PLC0414  # a fixture
from tests.run.watch.test_pairs import write_list


class Watched:
    """A watch whose clock goes on by two seconds at each look."""

    def __init__(self, known: Facts) -> None:
        plan = Plan(
            ["a.warc.wat.gz"], archives_per_wave=1, buckets=4, committed=lambda _: None,
            staged_limit=1e9,
        )  # fmt: skip
        self.seconds = 0.0
        plan.known[EMBED], plan.done[EMBED] = 100, 50
        self.plan = plan
        self.watch = Watch(known, plan, lambda: self.seconds)

    def look(self, *, with_pairs: bool) -> Figures:
        self.seconds += 2.0
        return self.watch.figures(with_pairs=with_pairs)

    def go_on(self, seconds: int) -> None:
        """Let time pass in which the driver looks at its workers once a second."""
        for _ in range(seconds):
            self.seconds += 1.0
            self.watch.look()


class Crew:
    """Workers that all have a task, until told otherwise."""

    def __init__(self) -> None:
        self.running: Counter[Stage] = Counter({DOWNLOAD: 4, EMBED: 4})
        self.workers_given_up: Sequence[str] = ()

    def pool_figures(self, pool_: Pool) -> PoolFigures:
        return pool(pool_.name, *pool_.stages, busy=None)


def embedded(unit: str) -> Commit:
    receipt = Receipt(stage=EMBED.name, unit=unit, config="", counts=Counts(2, 2))
    return Commit(NOW, EMBED.name, unit, "n/gpu-0", 1.0, receipt)


def test_pairs_are_read_for_those_who_see_them_and_lists_at_work_for_all(
    known: Facts, tmp_path: Path
):
    watched = Watched(known)
    watched.watch.add(embedded(write_list(tmp_path, 0, [0.5, 0.2], 0)))
    write(known.folder, "w00000/b00000-l00000")
    assert runs.wait_for(lambda: watched.look(with_pairs=False).at_work.lists == 1, 20)
    assert watched.look(with_pairs=False).pairs == []
    assert runs.wait_for(lambda: len(watched.look(with_pairs=True).pairs) == 2, 20)


def test_when_all_is_over_its_state_is_told_and_no_list_is_at_work(known: Facts):
    watched = Watched(known)
    write(known.folder, "w00000/b00000-l00000")
    assert runs.wait_for(lambda: watched.look(with_pairs=False).at_work.lists == 1, 20)
    assert watched.look(with_pairs=False).state == AT_WORK
    known.folder.pause_file.touch()
    assert watched.look(with_pairs=False).state == PAUSED
    watched.watch.end(PUBLISHED)
    ended = watched.watch.figures(with_pairs=False)
    assert (ended.state, ended.at_work, ended.pools) == (PUBLISHED, ListsFigures(), [])
    assert ended.verdict == ["done: the release is published"]


def test_a_pause_is_no_time_in_which_embed_waits(known: Facts, tmp_path: Path):
    watched, crew = Watched(known), Crew()
    pools = [
        Pool(name=stage.name, stages=(stage,), threads=1, workers=4) for stage in (DOWNLOAD, EMBED)
    ]
    times = tmp_path / "pools.json"
    watched.watch.begin(crew, crew, pools, times)

    def embed_busy() -> float | None:
        _, embed = watched.look(with_pairs=False).pools
        return embed.busy

    watched.go_on(1000)
    known.folder.pause_file.touch()
    crew.running[EMBED] = 0
    watched.go_on(300)
    assert embed_busy() == 1.0
    watched.go_on(600)
    assert embed_busy() is None
    known.folder.pause_file.unlink()
    crew.running[EMBED] = 4
    watched.go_on(60)
    assert embed_busy() == 1.0
    watched.watch.last_look()
    found = read_pool_times(times)
    assert found is not None
    embed = found.pools["embed"]
    assert embed.busy_s == pytest.approx(embed.midst_s) == pytest.approx(1060, abs=5)
    assert embed.looked_s == pytest.approx(1960, abs=10)
    assert embed.held_s == 4 * embed.looked_s


def test_a_list_that_is_given_up_is_not_left(known: Facts):
    watched = Watched(known)
    watched.watch.add(embedded("w00000/b00000-l00000"))
    watched.plan.known[DOWNLOAD] = watched.plan.known[EMBED] = 2
    watched.plan.done[DOWNLOAD] = watched.plan.done[EMBED] = 1

    def left() -> list[float | None]:
        stages = {stage.name: stage for stage in watched.look(with_pairs=False).stages}
        return [stages[name].left_s for name in ("download", "embed")]

    assert 0.0 not in left()
    watched.plan.failed[Unit(DOWNLOAD, number=1)] = "broken"
    assert left() == [0.0, 0.0]
