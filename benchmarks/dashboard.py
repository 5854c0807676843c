"""What the page of a run costs the driver: 500 workers, 100,000 lists, one browser that looks on.

A real plan is carried out in a simulation until half of its lists are embedded, and then goes on at
the pace of 500 workers, beside a real scheduler that serves the page. The CPU time of this process
is compared with and without somebody who looks, with chromium.

    python -m benchmarks.dashboard [--lists 100000] [--seconds 20] [--times 5]
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
from distributed import Scheduler

from cah_dask.run.cluster.page.shown import shown
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.pools import Pool
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, Stage
from cah_dask.run.watch.figures import PoolFigures
from cah_dask.run.watch.live import Watch
from cah_dask.run.watch.view import facts
from tests.browser.chromium import browsing
from tests.run.watch.loads import pool
from tests.run.watch.simulated import SERVED, STAGES, Shape, Simulated, simulate

COMMITS_PER_S = 5.0
"""400 workers that download a list in 300 s give 1.3 lists a second, in four stages."""

N_WORKERS = {"cpu": 90, "io": 400, "gpu": 10}


class Crew:
    """500 workers with tasks, found as the cluster of a run finds them: by name."""

    workers_given_up: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._names = [f"{name}-{n}" for name, many in N_WORKERS.items() for n in range(many)]

    @property
    def running(self) -> Counter[Stage]:
        """Tasks that workers have."""
        return Counter({DOWNLOAD: 400, EMBED: 9})

    def pool_figures(self, of: Pool) -> PoolFigures:
        """Return the figures of a pool."""
        n_workers = sum(name.partition("-")[0] == of.name for name in self._names)
        reasons = {"Resources": 3, "Priority": 2}
        return pool(of.name, *of.stages, busy=None, workers=n_workers, pending=5, reasons=reasons)


def half_way(n_lists: int) -> tuple[Iterator[Simulated], Watch]:
    """Return a run in its middle, and the watch that has seen all of its commits."""
    shape = Shape(
        archives=n_lists // (256 * 13) * 10, archives_per_wave=10, buckets=256, lists=13,
        slots={"cpu": 90, "io": 400, "gpu": 10},
    )  # fmt: skip
    run = simulate(shape)
    found = next(run)
    known = msgspec.structs.replace(facts(found.config, RunFolder(Path("run"))), stages=STAGES)
    watch = Watch(known, found.plan)
    pools = [
        Pool(name=name, stages=stages, threads=1, workers=N_WORKERS[name])
        for name, stages in SERVED.items()
    ]
    crew = Crew()
    watch.begin(crew, crew, pools)
    for found in run:
        watch.add(found.commit)
        if found.plan.done[EMBED] >= n_lists / 2:
            break
    embed, dedup = found.plan.done[EMBED], found.plan.done[DEDUP]
    print(
        f"{embed:,} lists embedded, {dedup:,} of {found.plan.known[DEDUP]:,} buckets deduplicated"
    )
    return run, watch


async def measure(n_lists: int, seconds: float, times: int) -> None:
    """Print the CPU share of this process with and without somebody who looks."""
    run, watch = half_way(n_lists)
    commits = [found.commit for found in itertools.islice(run, 200)]
    started = time.perf_counter()
    for commit in commits:
        watch.add(commit)
    print(f"{(time.perf_counter() - started) / len(commits) * 1e6:.0f} us a commit")
    options = {"dashboard": True, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    async with Scheduler(**options) as scheduler, shown(scheduler, watch):
        url = f"http://127.0.0.1:{scheduler.http_server.port}/cah"
        started = time.perf_counter()
        for _ in range(20):
            watch._make()  # what a second costs, without Bokeh
        print(f"{(time.perf_counter() - started) / 20 * 1e3:.1f} ms to make the figures")
        alone = [await _cpu_share(run, watch, seconds) for _ in range(times)]
        with tempfile.TemporaryDirectory() as profile:
            async with browsing(Path(profile)) as tab:  # chromium's own time is not counted
                await tab.open(url)
                await tab.wait_for("texts(document.body).includes('embed')")
                watched = [await _cpu_share(run, watch, seconds) for _ in range(times)]
    for what, shares in (("nobody looks", alone), ("somebody looks", watched)):
        listed = ", ".join(f"{share:.2%}" for share in shares)
        print(f"{what}: median {statistics.median(shares):.2%} of a core ({listed})")
    difference = statistics.median(watched) - statistics.median(alone)
    print(f"the page costs {difference:.2%} of a core")


async def _cpu_share(run: Iterator[Simulated], watch: Watch, seconds: float) -> float:
    """Return the CPU time of this process by the clock's while the run goes on."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        watch.add(next(run).commit)
        watch.look()
        await asyncio.sleep(1 / COMMITS_PER_S)
    return (time.process_time() - used) / (time.monotonic() - began)


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--times", type=int, default=5)
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.lists, chosen.seconds, chosen.times))


if __name__ == "__main__":
    main()
