"""What is said of a run, for loads in every direction."""

from typing import Any

import pytest

from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.watch.figures import (
    NOT_DRIVEN,
    PACKED,
    PAUSED,
    PUBLISHED,
    ModelFigures,
    StagedFigures,
)
from cah_dask.run.watch.verdict import verdict
from tests.run.watch.loads import host, load, pool, stage

FULL = StagedFigures(n_bytes=510 * 10**9, bound=500 * 10**9)
SLOW_DECODING = ModelFigures(at_work=0.5, waiting_for_pictures=0.4, waiting_for_turn=0.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "all is well: no pool waits for another"),
        (
            {"gpu": 0.37, "io": 0.95},
            "embed waits for input 63% of the time: raise pools.io.max_jobs from 4 to about 11",
        ),
        (
            {"gpu": 0.37, "io": 0.4, "can_start": {"download": 0}},
            "embed waits for input 63% of the time, and io workers idle, too: hosts set the pace, "
            "as each is asked by one list at a time (4 lists at work); fewer workers would do",
        ),
        (
            {"gpu": 0.37, "io": 0.95, "can_start": {"download": 3}},
            "embed waits for input 63% of the time: raise pools.io.max_jobs from 4 to about 7",
        ),
        (
            {"gpu": 0.37, "io": 0.95, "can_start": {"download": 0}},
            "embed waits for input 63% of the time: hosts set the pace, as each is asked by one "
            "list at a time (4 lists at work); more workers would not help",
        ),
        (
            {"cpu": 0.95, "gpu": 0.37, "io": 0.4, "can_start": {"download": 0}},
            "download waits for lists 60% of the time: raise pools.cpu.max_jobs from 4 to about 10",
        ),
        ({"gpu": 0.97, "can_start": {"embed": 5}}, "all is well: no pool waits for another"),
        (
            {"gpu": 0.97, "stages": [stage(DOWNLOAD, tasks_per_s=0.3), stage(EMBED)]},
            "embed holds the run back: its workers are busy 97% of the time and 46 lists wait for "
            "them: raise pools.gpu.max_jobs from 4 to about 12",
        ),
        (
            {"staged": FULL, "stages": [stage(DOWNLOAD, tasks_per_s=0.2), stage(EMBED)]},
            "downloads wait: 510 GB of images wait to be embedded (staged_gb is 500): raise "
            "pools.gpu.max_jobs from 4 to about 8",
        ),
        (
            {"gpu": 1.0, "model": SLOW_DECODING},
            "the models wait for pictures to be decoded 40% of the time: raise pools.gpu.threads "
            "to about 1.7 times what it is",
        ),
        (
            {"cpu": 0.95, "io": 0.5, "gpu": 0.8},
            "download waits for lists 50% of the time: raise pools.cpu.max_jobs from 4 to about 8",
        ),
        (
            {"recent_outcomes": {"ok": 690, "dns_error": 310}},
            "31% of the last urls end in dns_error: the resolver of the nodes that download does "
            "not answer; set download.nameservers, or lower download.connections",
        ),
        (
            {"recent_hosts": [host("shop.example", ok=80, http_403=4120)],
             "recent_outcomes": {"ok": 9000, "http_403": 9000}},
            "shop.example refused 4,120 of 4,200 urls in the last 10 minutes (most are http_403): "
            "it does not want to be asked; add it to the file OPTOUT of the run",
        ),
        (
            {"recent_hosts": [host("dead.example", connect_timeout=900), host("b.test", timeout=9)],
             "recent_outcomes": {"ok": 900, "connect_timeout": 1200}},
            "dead.example alone has 900 of 1,200 urls that came to nothing in the last 10 minutes "
            "(most are connect_timeout)",
        ),
        (
            {"hosts": [host("old.example", http_403=900), host("dead.example", timeout=9000)],
             "recent_hosts": [host("fine.example", ok=90, timeout=9)],
             "recent_outcomes": {"ok": 90, "timeout": 9}},
            "all is well: no pool waits for another",
        ),
        (
            {"workers_given_up": ["n7/gpu-3-0"]},
            "worker n7/gpu-3-0 failed all its tasks while others did not, and gets no more: look "
            "at its node",
        ),
        (
            {"stages": [stage(EXTRACT), stage(DOWNLOAD, failed=3), stage(EMBED)]},
            "3 tasks of download were given up, so nothing will be published: the log says why, "
            "and the same command tries again",
        ),
        (
            {"stages": [stage(EXTRACT), stage(DOWNLOAD, failed=1), stage(EMBED)]},
            "1 task of download was given up, so nothing will be published: the log says why, "
            "and the same command tries again",
        ),
        ({"state": PAUSED}, "downloads are paused: `cah resume RUN` has them go on"),
        ({"state": PUBLISHED}, "done: the release is published"),
        (
            {"state": PACKED},
            "all is packed, and the release is not in this folder: it is where --to said; if not, "
            "the same command publishes it",
        ),
        ({"state": NOT_DRIVEN}, "no driver is at work: run the same command again to go on"),
        (
            {"stages": [stage(EXTRACT, done=0)]},
            "just started: no task is finished yet",
        ),
        (
            {"stages": [stage(each, done=100) for each in (DOWNLOAD, EMBED)]},
            "all tasks are done: the release is being put in place",
        ),
        (
            {"stages": [stage(DOWNLOAD, done=100), stage(EMBED, known=0, done=0)]},
            "all is well: no pool waits for another",
        ),
        (
            {"pools": []},
            "the files alone show no trouble; while a driver is at work its dashboard knows more",
        ),
    ],
)  # fmt: skip
def test_a_load_has_its_verdict(changes: dict[str, Any], words: str):
    assert verdict(load(**changes)) == [words]


def test_the_end_of_a_run_hides_no_host_that_refused():
    done = [stage(each, done=100) for each in (DOWNLOAD, EMBED)]
    first, second = verdict(load(stages=done, recent_hosts=[host("shop.test", http_403=374)]))
    assert first.startswith("all tasks are done")
    assert second.startswith("shop.test refused 374 of 374 urls")


def test_pending_jobs_are_named_with_what_slurm_says():
    gpu = pool(
        "gpu", EMBED, busy=0.9, running=1, pending=3, workers=1,
        reasons={"Resources": 2, "Priority": 1},
    )  # fmt: skip
    lines = verdict(load(pools=[gpu, pool("io", DOWNLOAD, busy=0.5)]))
    assert lines[0] == ("pool gpu: 1 of 4 jobs run, 3 wait in Slurm (Resources 2, Priority 1)")


def test_local_workers_have_another_option():
    gpu = pool("gpu", EMBED, busy=0.5, is_slurm=False, most=1)
    cpu = pool("cpu", DOWNLOAD, DEDUP, EXTRACT, busy=1.0, is_slurm=False, most=2)
    (line,) = verdict(load(pools=[gpu, cpu]))
    assert line.endswith("raise pools.cpu.workers from 2 to about 4")


def test_nobody_is_told_to_ask_for_a_hundred_times_the_workers():
    (line,) = verdict(load(gpu=0.001, io=1.0))
    assert line.endswith("from 4 to about 40")


def test_what_matters_most_comes_first():
    lines = verdict(
        load(gpu=0.3, io=0.95, state=PAUSED, recent_outcomes={"dns_error": 10, "ok": 10})
    )
    assert [line.split(" ")[0] for line in lines] == ["downloads", "50%"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_there_is_always_something_to_say(share: float):
    for other in (None, 0.0, 0.5, 1.0):
        for changes in ({"gpu": share, "io": other}, {"cpu": share, "gpu": other}):
            assert all(verdict(load(**changes)))
