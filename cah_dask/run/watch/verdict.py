"""What holds a run back and what to change, in words, from measured rates."""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from cah_dask.counts import Status
from cah_dask.images.outcomes import TROUBLE
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.watch.figures import (
    AT_WORK,
    NOT_DRIVEN,
    PACKED,
    PAUSED,
    PUBLISHED,
    Figures,
    HostFigures,
    PoolFigures,
)
from cah_dask.words import counted

BUSY = 0.85
"""Share of their time above which the workers of a pool are what is short."""

IDLE = 0.25
"""Share of its time above which a pool that waits is worth a word."""

DNS_SHARE = 0.05
"""Share of urls that end in dns_error above which the resolver is to be looked at: names that do
not exist end in dns_not_found."""

BLOCK_SHARE = 0.8
BLOCK_URLS = 50
"""A host that has refused so large a share of its urls, and so many of them, does not want us."""

MOST_TIMES = 10.0
"""More workers than so many times those there are, nobody is told to ask for."""

SOME = 0.5
"""Tasks from which on there are some: of a whole run they are told on average."""

REFUSALS = (Status.HTTP_403, Status.HTTP_429, Status.HOST_SUSPENDED)
"""Outcomes by which a host says that it does not want to be asked, or not so often."""


def verdict(figures: Figures) -> list[str]:
    """Return what holds a run back, what matters most first; one line says so if nothing does."""
    if figures.state == PUBLISHED:
        return ["done: the release is published"]
    if figures.state == PACKED:
        return [
            "all is packed, and the release is not in this folder: it is where --to said; if not, "
            "the same command publishes it"
        ]
    if figures.state == AT_WORK and all(each.known == each.done > 0 for each in figures.stages):
        what_was = (*_resolver(figures), *_blocking_hosts(figures), *_broken_hosts(figures))
        return ["all tasks are done: the release is being put in place", *what_was]
    found = [line for look in _LOOKS for line in look(figures)]
    if not found and figures.pools and not any(stage.done for stage in figures.stages):
        return ["just started: no task is finished yet"]
    return found or [_well(figures)]


def _well(figures: Figures) -> str:
    if not figures.pools:
        return "the files alone show no trouble; while a driver is at work its dashboard knows more"
    return "all is well: no pool waits for another"


def _stopped(figures: Figures) -> list[str]:
    if figures.state != NOT_DRIVEN:
        return []
    return [f"{NOT_DRIVEN}: run the same command again to go on"]


def _paused(figures: Figures) -> list[str]:
    if figures.state != PAUSED:
        return []
    return ["downloads are paused: `cah resume RUN` has them go on"]


def given_up(figures: Figures) -> list[str]:
    """Say how many tasks of each stage were given up."""
    return [
        f"{counted(stage.failed, 'task')} of {stage.name} {'was' if stage.failed == 1 else 'were'} "
        "given up, so nothing will be published: the log says why, and the same command tries again"
        for stage in figures.stages
        if stage.failed
    ]


def _resolver(figures: Figures) -> list[str]:
    return resolver(figures.recent_outcomes, "the last urls")


def resolver(outcomes: Mapping[str, int], which: str) -> list[str]:
    """Say whether a resolver fails, by the outcomes of the urls that are told of."""
    share = outcomes.get(Status.DNS_ERROR, 0) / max(1, sum(outcomes.values()))
    if share < DNS_SHARE:
        return []
    return [
        f"{share:.0%} of {which} end in dns_error: the resolver of the nodes that download "
        "does not answer; set download.nameservers, or lower download.connections"
    ]


def _workers_missing(figures: Figures) -> list[str]:
    lines = []
    for pool in figures.pools:
        if pool.pending and pool.running < pool.wanted:
            why = ", ".join(
                f"{reason or 'no reason given'} {n}" for reason, n in pool.reasons.items()
            )
            lines.append(
                f"pool {pool.name}: {pool.running} of {counted(pool.wanted, 'job')} run, "
                f"{pool.pending} wait in Slurm ({why})"
            )
        elif not pool.workers and pool.wanted:
            lines.append(f"pool {pool.name} has no worker yet, and there is work for it")
    return lines


def _failing_workers(figures: Figures) -> list[str]:
    return [
        f"worker {worker} failed all its tasks while others did not, and gets no more: look at its "
        "node"
        for worker in figures.workers_given_up
    ]


def models(figures: Figures) -> list[str]:
    """Say whether models wait for images or images for models; at most one of both is so."""
    stage, pool = figures.stage(EMBED.name), _pool_of(figures, EMBED.name)
    if stage is None or pool is None or pool.busy is None:
        return []
    staged = figures.staged
    decodes = pool.busy * figures.model.waiting_for_pictures
    if pool.busy >= BUSY and decodes >= IDLE:
        return [
            f"the models wait for pictures to be decoded {decodes:.0%} of the time: raise "
            f"pools.gpu.threads to about {_times(1 / (1 - min(0.9, decodes)))} times what it is"
        ]
    is_full = staged.bound > 0 and staged.n_bytes >= staged.bound
    ready = figures.can_start.get(EMBED.name, 0)
    if is_full or (pool.busy >= BUSY and ready >= 2 * max(1, pool.workers)):
        return [_more_models(figures, pool, is_full=is_full)]
    return _embed_waits(figures, pool)


def _more_models(figures: Figures, pool: PoolFigures, *, is_full: bool) -> str:
    """Say by how much the models are too slow: by what downloads bring while they embed."""
    download, embed = figures.stage(DOWNLOAD.name), figures.stage(EMBED.name)
    supply = max(download.tasks_per_s, embed.tasks_per_s) if download and embed else 0.0
    needed = supply / embed.tasks_per_s if embed and embed.tasks_per_s else 1.0
    why = (
        f"downloads wait: {figures.staged.n_bytes / 1e9:,.0f} GB of images wait to be embedded "
        f"(staged_gb is {figures.staged.bound / 1e9:,.0f})"
        if is_full
        else f"embed holds the run back: its workers are busy {pool.busy or 0:.0%} of the time and "
        f"{counted(round(figures.can_start.get(EMBED.name, 0)), 'list')} wait for them"
    )
    return f"{why}: {_raise(pool, max(needed, 1.25))}"


def _embed_waits(figures: Figures, pool: PoolFigures) -> list[str]:
    """Say what embed waits for, and how many more downloads it could take."""
    embed, source = figures.stage(EMBED.name), _pool_of(figures, DOWNLOAD.name)
    if pool.busy is None or source is None or source.busy is None or embed is None:
        return []
    idle = 1 - pool.busy
    if idle < IDLE or not embed.done or figures.state == PAUSED:
        return []
    share = f"embed waits for input {idle:.0%} of the time"
    ready = sum(figures.can_start.get(name, 0) for name in source.stages)
    if source.busy >= BUSY and ready >= SOME:
        more = _raise(source, 1 / max(1 / MOST_TIMES, pool.busy), ready)
        return [f"{share}: {more}"]
    download = figures.stage(DOWNLOAD.name)
    is_at_work = download is not None and download.running >= SOME
    if download is None or not is_at_work or ready >= SOME or _front_is_short(figures):
        return []
    they_too, advice = f", and {source.name} workers idle, too", "fewer workers would do"
    if source.busy >= BUSY:
        they_too, advice = "", "more workers would not help"
    return [
        f"{share}{they_too}: hosts set the pace, as each is asked by one list at a time "
        f"({counted(max(1, round(download.running)), 'list')} at work); {advice}"
    ]


def front(figures: Figures) -> list[str]:
    """Say whether extract and dedup, which feed all else, are what is short."""
    download = figures.stage(DOWNLOAD.name)
    pool, source = _pool_of(figures, EXTRACT.name), _pool_of(figures, DOWNLOAD.name)
    if download is None or not download.done or pool is None or source is None or source is pool:
        return []
    if not _front_is_short(figures) or source.busy is None or source.busy > 1 - IDLE:
        return []
    more = _raise(pool, 1 / max(1 / MOST_TIMES, source.busy))
    return [f"download waits for lists {1 - source.busy:.0%} of the time: {more}"]


def _front_is_short(figures: Figures) -> bool:
    pool = _pool_of(figures, EXTRACT.name)
    front = [figures.stage(EXTRACT.name), figures.stage(DEDUP.name)]
    is_busy = pool is not None and (pool.busy or 0.0) >= BUSY
    return is_busy and sum(stage.running for stage in front if stage is not None) >= SOME


def _blocking_hosts(figures: Figures) -> list[str]:
    advice = "add it to the file OPTOUT of the run"
    return blocking_hosts(figures.recent_hosts, " in the last 10 minutes", advice)


def blocking_hosts(hosts: Sequence[HostFigures], when: str, advice: str) -> list[str]:
    """Name two hosts at the most that refused nearly all of their urls in that time."""
    lines = []
    for host in hosts:
        refused, all_urls = _refused(host), sum(host.outcomes.values())
        if refused >= BLOCK_URLS and refused >= BLOCK_SHARE * all_urls:
            what = max(REFUSALS, key=lambda status: host.outcomes.get(status, 0))
            lines.append(
                f"{host.host} refused {refused:,} of {all_urls:,} urls{when} "
                f"(most are {what}): it does not want to be asked; {advice}"
            )
    return lines[:2]


def _broken_hosts(figures: Figures) -> list[str]:
    hosts, outcomes = figures.recent_hosts, figures.recent_outcomes
    return broken_hosts(hosts, outcomes, " in the last 10 minutes")


def broken_hosts(hosts: Sequence[HostFigures], outcomes: Mapping[str, int], when: str) -> list[str]:
    """Name one host that has half of all the trouble of that time, or more."""
    if not hosts:
        return []
    worst = hosts[0]
    trouble = sum(outcomes.get(status, 0) for status in TROUBLE)
    if worst.trouble < max(BLOCK_URLS, trouble / 2) or _refused(worst) >= worst.trouble / 2:
        return []
    what = max(TROUBLE, key=lambda status: (worst.outcomes.get(status, 0), status))
    return [
        f"{worst.host} alone has {worst.trouble:,} of {trouble:,} urls that came to nothing{when} "
        f"(most are {what})"
    ]


def _refused(host: HostFigures) -> int:
    return sum(host.outcomes.get(status, 0) for status in REFUSALS)


def _pool_of(figures: Figures, stage: str) -> PoolFigures | None:
    return next((pool for pool in figures.pools if stage in pool.stages), None)


def _times(factor: float) -> str:
    return f"{min(factor, MOST_TIMES):.1f}".removesuffix(".0")


def _raise(pool: PoolFigures, factor: float, ready: float | None = None) -> str:
    """Say how many more workers of a pool there should be: not more than have a task at once."""
    key = f"pools.{pool.name}.{'max_jobs' if pool.is_slurm else 'workers'}"
    number = math.ceil(pool.most * min(factor, MOST_TIMES) - 1e-9)
    if ready is not None:
        workers_of_a_job = max(1, round(pool.workers / max(1, pool.running)))
        number = min(number, pool.most + math.ceil(ready / workers_of_a_job))
    return f"raise {key} from {pool.most} to about {number}"


_LOOKS: tuple[Callable[[Figures], list[str]], ...] = (
    _stopped,
    _paused,
    given_up,
    _resolver,
    _workers_missing,
    _failing_workers,
    models,
    front,
    _blocking_hosts,
    _broken_hosts,
)


def judged(figures: Figures) -> Figures:
    """Return figures with their verdict."""
    return msgspec.structs.replace(figures, verdict=verdict(figures))
