"""A host with a hundredth or more of all urls does not set the pace of a run: Plan, simulated.

Sizes are those of a crawl with the default settings: 300 archives a wave, 31.7 million urls of it
in 256 buckets, fetch lists of 10,000 urls, a second between two requests to one host. A list takes
five minutes, or as long as its urls of the large host; 64 of them are in flight.
"""

import heapq
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from cah_dask.counts import Counts
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.run.plan import Plan
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, EXTRACT, SELECT
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt
from tests import runs
from tests.webserver import WebServer

WAVES, BUCKETS, ARCHIVES = 30, 256, 300
URLS, LIST_URLS = 31_740_000, 10_000
SLOTS = {EXTRACT: 64, DEDUP: 64, DOWNLOAD: 64, EMBED: 8, SELECT: 64, COMPACT: 64}
SECONDS = {
    EXTRACT: 90.0, DEDUP: 30.0, DOWNLOAD: 300.0, EMBED: 10.0, SELECT: 2.0, COMPACT: 60.0,
}  # fmt: skip
LISTS = URLS // BUCKETS // LIST_URLS
LARGE = 7
"""The bucket of the large host."""
BOUND_S = WAVES * BUCKETS * LISTS * SECONDS[DOWNLOAD] / SLOTS[DOWNLOAD]
"""How long the downloads of all other hosts take if no slot ever waits."""


class Run(NamedTuple):
    """What became of a simulated run."""

    end_s: float
    others_end_s: float
    """When the last list without the large host was done."""
    busy: float
    """Share of the time that the download slots worked."""


def simulate(large_urls: int) -> Run:
    """Carry out a whole plan by a clock of its own; `large_urls` of the host in each wave."""
    n_lists = Counter({LARGE: large_urls // LIST_URLS})
    plan = Plan(
        [f"{number}.warc.wat.gz" for number in range(WAVES * ARCHIVES)],
        archives_per_wave=ARCHIVES, buckets=BUCKETS, committed=lambda _: None,
    )  # fmt: skip
    free = Counter(SLOTS)
    running: list[tuple[float, int, Unit]] = []
    number = itertools.count()
    now = worked = others_end = 0.0
    while True:
        for stage in SLOTS:
            while free[stage] and (unit := plan.take([stage])) is not None:
                free[stage] -= 1
                seconds = SECONDS[stage]
                if stage == DOWNLOAD and unit.bucket == LARGE:
                    seconds += large_urls / (LISTS + n_lists[LARGE])
                heapq.heappush(running, (now + seconds, next(number), unit))
                worked += seconds if stage == DOWNLOAD else 0
        if not running:
            break
        now, _, unit = heapq.heappop(running)
        free[unit.stage] += 1
        lists = LISTS + n_lists[unit.bucket]
        notes = {"lists": lists} if unit.stage == DEDUP else {}
        receipt = Receipt(stage=unit.stage.name, unit="", config="", counts=Counts(1, 1, {}, notes))
        plan.complete(unit, receipt)
        if unit.stage == DOWNLOAD and unit.bucket != LARGE:
            others_end = now
    assert plan.is_selected
    return Run(now, others_end, worked / (SLOTS[DOWNLOAD] * now))


@pytest.mark.parametrize("share", [0.01, 0.085])
def test_with_the_quota_a_large_host_costs_a_run_nothing(share: float):
    quota = HostOptions().quota
    assert quota is not None
    run = simulate(min(quota, int(share * URLS)))
    assert run.busy >= 0.9
    assert run.end_s <= 1.2 * BOUND_S


def test_without_a_quota_it_holds_up_no_other_host():
    run = simulate(int(0.01 * URLS))
    assert run.others_end_s <= 1.2 * BOUND_S
    assert run.end_s > 2 * BOUND_S, "its own urls still take a second each"


def test_status_plan_and_the_live_view_name_the_hosts_that_set_the_pace(
    tmp_path: Path, random_model: Path
):
    with WebServer() as web:
        hosts = ["large.test"] * 8 + ["small.test"] * 3
        links = [(web.url(f"/ok-{n}.jpg", host), f"A thing {n}") for n, host in enumerate(hosts)]
        config = runs.write_config(
            tmp_path / "run.yaml", inputs=runs.write_inputs(tmp_path / "in", links, archives=1),
            model=random_model, port=web.port,
        )  # fmt: skip
        config.write_text(config.read_text().replace("spacing_s: 0", "spacing_s: 0\n    quota: 5"))
        assert runs.finish(config) == 0, runs.output(config)
        assert len(web.log) == 5 + 3 + 2, "with a robots.txt each"
    told = runs.status(config.with_suffix(""))
    line = "beyond download.hosts.quota: 3 urls of large.test, whose 5 of a wave take at least"
    assert f"{line} 0.0 h" in told
    assert line in " ".join(runs.output(config).split()), "and while it is at work"
    plan = [sys.executable, "-m", "cah_dask", "plan", str(config)]
    assert line in subprocess.run(plan, capture_output=True, text=True, check=True).stdout
    assert "host_quota 3" in " ".join(told.split())
