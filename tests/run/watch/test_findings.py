"""What stands out in a whole run, for loads in every direction."""

from typing import Any

import msgspec
import pytest

from cah_dask.counts import Counts, Status
from cah_dask.images.outcomes import TROUBLE
from cah_dask.release.pool_time import PoolTime, PoolTimes
from cah_dask.release.summary import StageSummary, Summary
from cah_dask.run.pools import Pool
from cah_dask.run.settings.render import explained
from cah_dask.run.slurm.options import JobOptions
from cah_dask.run.stages import RUN
from cah_dask.run.watch import findings
from cah_dask.run.watch.figures import AT_WORK, NOT_DRIVEN, PUBLISHED
from cah_dask.run.watch.findings import stands_out
from cah_dask.run.watch.whole import Beside, whole_run
from tests.run.watch.loads import NOW, host

HOURS = 10
"""Of the run, in which every pool has its workers all the time."""

WORKERS = {"gpu": 4, "io": 4, "cpu": 4}
SERVED = {stage.name: stage.pool for stage in RUN} | {"download": "io"}
COUNTS = {
    "extract": Counts(100_000, 30_000, {"no_text": 70_000}),
    "dedup": Counts(30_000, 20_000, {"duplicate": 10_000}),
    "download": Counts(20_000, 15_000, {"http_404": 4000, "timeout": 1000}),
    "embed": Counts(20_000, 15_000, {"http_404": 4000, "timeout": 1000}),
    "select": Counts(15_000, 5000, {"below_threshold": 10_000}),
    "compact": Counts(),
    "pack": Counts(5000, 5000),
}


def run(  # a load is many things
    *,
    busy: dict[str, float] | None = None,
    ready: dict[str, float] | None = None,
    model: dict[str, int] | None = None,
    counts: dict[str, Counts] | None = None,
    pending: float = 0.0,
    hours: float = HOURS,
    before: float = 0.0,
    at_work: dict[str, float] | None = None,
    done_by: dict[str, str] | None = None,
    is_known: bool = True,
    is_slurm: bool = True,
    cut: int = 0,
    cut_lists: int = 0,
    idle: tuple[str, ...] = (),
    lost: int = 0,
    **beside: Any,
) -> list[str]:
    """Return what stands out in a run.

    Parameters
    ----------
    busy
        Share of the workers of each pool that had tasks, on average.
    ready
        By stage, tasks that could have been taken, on average.
    model
        Milliseconds of the embed tasks by what they were for, of 10,000 for the workers.
    counts
        Of some stages, in the place of `COUNTS`.
    pending
        Jobs of the gpu pool that waited in Slurm, on average.
    hours
        From the first list that could be embedded to the last.
    before
        Hours before that, in which the gpu pool had no worker.
    at_work
        By stage, tasks that were at work on average, in the place of those of the busy workers.
    done_by
        Pools that did most of a stage before the run was told other ones.
    cut, lost
        Archives that were damaged, and that were not to be had.
    cut_lists
        Lists that lack pictures of damaged archives.
    idle
        Pools that had no worker while lists were embedded.
    """
    shares = {"gpu": 0.8, "io": 0.6, "cpu": 0.4} | (busy or {})
    seconds = hours * 3600
    first = {"gpu": "embed", "io": "download", "cpu": "extract"}
    worked = {first[pool]: share * WORKERS[pool] * seconds for pool, share in shares.items()}
    worked |= {stage: number * seconds for stage, number in (at_work or {}).items()}
    timings = {"worker": round(1000 * worked["embed"])}
    for part, share in (model or {"model": 9000, "input": 300}).items():
        timings[part] = timings["worker"] * share // 10_000
    stages = {
        name: StageSummary(100, each, worked.get(name, 0.0), name, timings={})
        for name, each in (COUNTS | (counts or {})).items()
    }
    stages["embed"] = msgspec.structs.replace(stages["embed"], timings=timings)
    times = {
        pool: PoolTime(
            looked_s=seconds + before * 3600,
            jobs_s=n * there_s,
            held_s=n * there_s,
            connected_s=n * there_s,
            midst_s=0.0 if pool in idle else seconds,
            midst_workers_s=0.0 if pool in idle else n * seconds,
            busy_s=0.0 if pool in idle else shares[pool] * seconds,
            pending_s=pending * seconds if pool == "gpu" else 0.0,
            ready_s={
                stage: number * seconds
                for stage, number in ({"download": 20.0, "embed": 1.0} | (ready or {})).items()
                if SERVED[stage] == pool
            },
        )
        for pool, n in WORKERS.items()
        for there_s in [seconds + (before * 3600 if pool != "gpu" else 0.0)]
    }
    summary = Summary(
        stages=stages, archives=["a"] * 200, lost=[],
        cut={"extract": cut, "download": cut_lists}, started=NOW, finished=NOW,
        versions={}, settings={}, encoder="clip", thresholds={}, selected=[],
        pools=SERVED | (done_by or {}),
        held=PoolTimes(NOW, times) if is_known else None,
    )  # fmt: skip
    known = Beside(
        now=NOW, run="run", lost=lost,
        **({"state": PUBLISHED, "hosts": (), "failed": {}} | beside),
    )  # fmt: skip
    return stands_out(whole_run(summary, told(is_slurm=is_slurm), known))


def told(*, is_slurm: bool) -> list[Pool]:
    """Return the pools as a config says them."""
    job = JobOptions(partition="p", time="1:00:00", max_jobs=4) if is_slurm else None
    return [
        Pool(
            name=name, threads=1, workers=n, job=job,
            stages=tuple(stage for stage in RUN if SERVED[stage.name] == name),
        )
        for name, n in WORKERS.items()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (
            {"busy": {"gpu": 0.37, "io": 0.95}},
            "embed waits for input 63% of the time: raise pools.io.max_jobs from 4 to about 11",
        ),
        (
            {"busy": {"gpu": 0.37, "io": 0.95}, "is_slurm": False},
            "embed waits for input 63% of the time: raise pools.io.workers from 4 to about 11",
        ),
        (
            {"busy": {"gpu": 0.37, "io": 0.4}, "ready": {"download": 0.2}},
            "embed waits for input 63% of the time, and io workers idle, too: hosts set the pace, "
            "as each is asked by one list at a time (2 lists at work); fewer workers would do",
        ),
        (
            {"busy": {"gpu": 0.37, "io": 0.4}, "ready": {"download": 0.2}, "before": 30},
            "embed waits for input 63% of the time, and io workers idle, too: hosts set the pace, "
            "as each is asked by one list at a time (2 lists at work); fewer workers would do",
        ),
        (
            {
                "busy": {"gpu": 0.37, "io": 0.4, "cpu": 0.95},
                "ready": {"download": 0.2},
                "at_work": {"extract": 0.4, "dedup": 0.4},
            },
            "download waits for lists 60% of the time: raise pools.cpu.max_jobs from 4 to about 10",
        ),
        (
            {"busy": {"gpu": 0.96, "io": 0.4}, "ready": {"embed": 46}},
            "embed holds the run back: its workers are busy 96% of the time and 46 lists wait for "
            "them: raise pools.gpu.max_jobs from 4 to about 10",
        ),
        (
            {"busy": {"gpu": 1.0}, "model": {"model": 5000, "input": 4000}},
            "the models wait for pictures to be decoded 40% of the time: raise pools.gpu.threads "
            "to about 1.7 times what it is",
        ),
        (
            {"busy": {"gpu": 0.8, "io": 0.5, "cpu": 0.95}},
            "download waits for lists 50% of the time: raise pools.cpu.max_jobs from 4 to about 8",
        ),
        (
            {"busy": {"gpu": 0.37, "io": 0.95}, "idle": ("cpu",)},  # which had done its part
            "embed waits for input 63% of the time: raise pools.io.max_jobs from 4 to about 11",
        ),
        (
            {"busy": {"gpu": 0.8, "io": 0.5, "cpu": 0.95}, "idle": ("gpu",)},
            "download waits for lists 50% of the time: raise pools.cpu.max_jobs from 4 to about 8",
        ),
        (
            {"cut_lists": 50},
            "50 lists of 100 lack pictures of archives that could not be read whole: they are cut "
            "or damaged, as named below; fetch those archives anew",
        ),
        (
            {"pending": 2.0},
            "jobs of pool gpu waited in Slurm for 20 h 0 min and ran for 1 d 16 h, all jobs "
            "together: shorter ones (pools.gpu.time) or another partition (pools.gpu.partition) "
            "may start sooner",
        ),
        (
            {"counts": {"download": Counts(1000, 690, {"dns_error": 310})}},
            "31% of all urls end in dns_error: the resolver of the nodes that download does not "
            "answer; set download.nameservers, or lower download.connections",
        ),
        (
            {"counts": {"download": Counts(1000, 300, {"connect_timeout": 700})}},
            "70% of all urls end in connect_timeout: if few hosts are not to blame, look at the "
            "network of the nodes that download, or lower download.connections",
        ),
        (
            {"counts": {"download": Counts(1000, 700, {"http_403": 300})}},
            "30% of all urls end in http_403: if few hosts are not to blame, ask more slowly "
            "(download.hosts.spacing_s)",
        ),
        (
            {"counts": {"download": Counts(1000, 600, {"dns_not_found": 400})}},
            "40% of all urls end in dns_not_found: these names are gone, as in old archives",
        ),
        (
            {"hosts": [host("shop.example", ok=80, http_403=4120)]},
            "shop.example refused 4,120 of 4,200 urls (most are http_403): it does not want to be "
            "asked; name it in dedup.exclude of later runs",
        ),
        (
            {"hosts": [host("shop.example", http_429=90)], "state": AT_WORK},
            "shop.example refused 90 of 90 urls (most are http_429): it does not want to be "
            "asked; add it to the file OPTOUT of the run",
        ),
        (
            {"hosts": [host("dead.example", timeout=900), host("b.test", timeout=9)]},
            "dead.example alone has 900 of 1,000 urls that came to nothing (most are timeout)",
        ),
        (
            {"lost": 3},
            "3 archives of 200 gave nothing: cah failures says why",
        ),
        (
            {"lost": 1, "state": AT_WORK},
            "1 archive of 200 gave nothing: cah failures says why, and the same command asks again",
        ),
        (
            {"failed": {"embed": 2}, "state": AT_WORK},
            "2 tasks of embed were given up, so nothing will be published: the log says why, and "
            "the same command tries again",
        ),
        (
            {"state": NOT_DRIVEN},
            "the run is not finished and no driver is at work: run the same command again to go on",
        ),
        (
            {"counts": {"select": Counts(15_000, 150, {"below_threshold": 14_850})}},
            "select keeps 150 of 15,000 select (1.0%): 100% of the loss is below_threshold, see "
            "select.thresholds",
        ),
        (
            {"counts": {"dedup": Counts(7, 0, {"duplicate": 3, "excluded": 4})}},
            "dedup keeps none of 7 dedup (0.0%): 57% of the loss is excluded, see dedup.exclude",
        ),
        (
            {"counts": {"extract": Counts(1000, 5, {"no_text": 995})}},
            "extract keeps 5 of 1,000 extract (0.5%): 100% of the loss is no_text",
        ),
        (
            {"counts": {"embed": Counts(1000, 0, {"no_vector": 1000})}},
            "embed keeps none of 1,000 embed (0.0%): 100% of the loss is no_vector",
        ),
        (
            {"counts": {"select": Counts(15_000, 15_000)}},
            "all 15,000 scored samples are kept: no threshold of select.thresholds is above the "
            "similarity of any",
        ),
    ],
)  # fmt: skip
def test_a_run_has_its_finding(load: dict[str, Any], words: str):
    assert run(**load) == [words]


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"busy": {"gpu": 0.37, "io": 0.4}},  # it is not known why
        {"busy": {"gpu": 0.97, "io": 0.97}, "ready": {"embed": 0.4}},  # all had enough to do
        {"busy": {"gpu": 0.97, "io": 0.97}, "ready": {"embed": 6}, "before": 30},
        {"busy": {"gpu": 0.1, "io": 1.0}, "hours": 0.01},  # it has hardly begun
        {"busy": {"gpu": 0.1, "io": 1.0}, "is_known": False},
        {"busy": {"gpu": 0.37, "io": 0.95}, "done_by": {"download": "cpu"}},
        {"pending": 0.5},
        {"counts": {"download": Counts(4, 2, {"timeout": 2})}},
        {"counts": {"select": Counts(20, 20)}},
        {"counts": {name: Counts() for name in COUNTS}},
        {"hosts": [host("a.example", http_403=40), host("b.example", timeout=400)]},
        {"cut": 2},
        {"cut_lists": 1},
        {"busy": {"gpu": 0.37, "io": 0.95}, "idle": ("io",)},
    ],
)
def test_an_ordinary_run_has_none(load: dict[str, Any]):
    assert run(**load) == []


@pytest.mark.parametrize("status", sorted(TROUBLE - {Status.DNS_ERROR}))
def test_the_network_is_blamed_only_for_what_it_can_do(status: Status):
    (line,) = run(counts={"download": Counts(1000, 700, {status: 300})})
    assert line.startswith(f"30% of all urls end in {status}")
    by_the_site = status.startswith(("dns_", "tls_certificate", "http_", "host_"))
    assert ("network" not in line) is by_the_site


def test_names_that_are_gone_hide_no_trouble_of_the_network():
    rejected = {"dns_not_found": 400, "connect_timeout": 300}
    lines = run(counts={"download": Counts(1000, 300, rejected)})
    assert [line.partition(":")[0] for line in lines] == [
        "40% of all urls end in dns_not_found",
        "30% of all urls end in connect_timeout",
    ]


def test_pictures_that_were_not_had_are_no_loss_of_embed():
    counts = Counts(1000, 3, {"connect_timeout": 997})
    lines = run(counts={"download": counts, "embed": counts})
    assert [line.split(" of ")[0] for line in lines] == ["100%", "download keeps 3"]


def test_archives_that_are_cut_stand_out_when_they_are_many():
    (line,) = run(cut=3)
    assert line.startswith("3 archives of 200 could not be read whole")


def test_what_went_wrong_comes_before_what_was_slow():
    lines = run(
        busy={"gpu": 0.3, "io": 0.95}, lost=2, pending=4.0,
        counts={"download": Counts(100, 50, {"dns_error": 50})},
    )  # fmt: skip
    assert [line.split()[0] for line in lines] == ["2", "50%", "jobs", "embed"]


def test_a_setting_that_is_named_is_one():
    assert all(explained(key) for key in findings._SETTINGS.values())
