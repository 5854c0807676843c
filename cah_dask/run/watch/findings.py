"""What stands out in a whole run, in words: what went wrong, what held it back, what to change.

The judgements are those of the verdict where that has them; what a reader of a report sees besides
is what only a whole run shows.
"""

from collections.abc import Callable

from cah_dask.counts import Reject, Status
from cah_dask.images.outcomes import TROUBLE
from cah_dask.run.stages import DOWNLOAD, EMBED, EXTRACT, SELECT, Stage
from cah_dask.run.watch import verdict
from cah_dask.run.watch.figures import NOT_DRIVEN, PUBLISHED, StageFigures
from cah_dask.run.watch.whole import WholeRun
from cah_dask.words import counted, span

ENOUGH_S = 60.0
"""Seconds in which a pool must have had workers while lists were embedded, or jobs that waited,
before anything is said of it."""

PENDING_SHARE = 0.25
"""Share of the time of its jobs that they waited in Slurm, above which that is worth a word."""

TROUBLE_SHARE = 0.25
"""Share of urls that end in the same trouble above which it is not that of single hosts."""

CUT_SHARE = 0.01
"""Share of archives that could not be read whole, or of urls in such ones, above which archives are
to be looked at."""

LEAST_KEPT = 0.02
"""Share of its rows below which a stage that keeps no more is worth a word."""

ENOUGH_ROWS = 100
"""Rows from which on a share of them says anything."""

_PERHAPS_OURS = frozenset(
    {
        *(Status.CONNECT_REFUSED, Status.CONNECT_TIMEOUT, Status.CONNECT_ERROR, Status.TLS_ERROR),
        *(Status.DISCONNECTED, Status.TIMEOUT, Status.TOO_SLOW, Status.ROBOTS_UNREACHABLE),
    }
)
"""Trouble that a poor network between the nodes and all hosts makes, too."""

_SETTINGS = {
    Reject.NOT_IN_SUBSET: "extract.table.subset",
    Reject.SHORT_TEXT: "extract.min_text",
    Reject.SPLIT: "extract.splits",
    Reject.EXCLUDED: "dedup.exclude",
    Reject.HOST_QUOTA: "download.hosts.quota",
    Reject.BELOW_THRESHOLD: "select.thresholds",
}
"""Those that decide how many rows a reason takes."""


def stands_out(run: WholeRun) -> list[str]:
    """Return what stands out, what matters most first; nothing if nothing does."""
    return [line for look in _LOOKS for line in look(run)]


def _stopped(run: WholeRun) -> list[str]:
    if run.figures.state != NOT_DRIVEN:
        return []
    return [f"the run is not finished and {NOT_DRIVEN}: run the same command again to go on"]


def _given_up(run: WholeRun) -> list[str]:
    return verdict.given_up(run.figures)


def _archives(run: WholeRun) -> list[str]:
    lines = []
    if run.lost:
        again = "" if run.figures.state == PUBLISHED else ", and the same command asks again"
        lost = f"{counted(run.lost, 'archive')} of {run.archives:,}"
        lines.append(f"{lost} gave nothing: cah failures says why{again}")
    if run.cut > CUT_SHARE * run.archives:
        lines.append(
            f"{counted(run.cut, 'archive')} of {run.archives:,} could not be read whole: they are "
            "cut or damaged, as named below; fetch them anew"
        )
    n_lists = _done(run, DOWNLOAD)
    if run.cut_lists > CUT_SHARE * n_lists:
        lines.append(
            f"{counted(run.cut_lists, 'list')} of {n_lists:,} lack pictures of archives that could "
            "not be read whole: they are cut or damaged, as named below; fetch those archives anew"
        )
    return lines


def _done(run: WholeRun, stage: Stage) -> int:
    figures = run.figures.stage(stage.name)
    return figures.done if figures is not None else 0


def _resolver(run: WholeRun) -> list[str]:
    return verdict.resolver(run.figures.recent_outcomes, "all urls")


def _network(run: WholeRun) -> list[str]:
    """Name each trouble that a large part of all urls ended in, but for that of the resolver."""
    outcomes = run.figures.recent_outcomes
    n_urls = sum(outcomes.values())
    if n_urls < ENOUGH_ROWS:
        return []
    found = {status: outcomes.get(status, 0) / n_urls for status in TROUBLE - {Status.DNS_ERROR}}
    return [
        f"{share:.0%} of all urls end in {status}{_advice(status)}"
        for status, share in sorted(found.items(), key=lambda each: (-each[1], each[0]))
        if share >= TROUBLE_SHARE
    ]


def _advice(status: Status) -> str:
    """Say what to change, if it is not for the sites alone."""
    if status == Status.DNS_NOT_FOUND:
        return ": these names are gone, as in old archives"
    if status in verdict.REFUSALS:
        return ": if few hosts are not to blame, ask more slowly (download.hosts.spacing_s)"
    if status in _PERHAPS_OURS:
        return (
            ": if few hosts are not to blame, look at the network of the nodes that download, or "
            "lower download.connections"
        )
    return ""


def _hosts(run: WholeRun) -> list[str]:
    figures = run.figures
    advice = (
        "name it in dedup.exclude of later runs"
        if figures.state == PUBLISHED
        else "add it to the file OPTOUT of the run"
    )
    return [
        *verdict.blocking_hosts(figures.recent_hosts, "", advice),
        *verdict.broken_hosts(figures.recent_hosts, figures.recent_outcomes, ""),
    ]


def _slurm(run: WholeRun) -> list[str]:
    lines = []
    for name, time in run.times.items():
        if time.pending_s < max(ENOUGH_S, PENDING_SHARE * (time.pending_s + time.jobs_s)):
            continue
        lines.append(
            f"jobs of pool {name} waited in Slurm for {span(time.pending_s)} and ran for "
            f"{span(time.jobs_s)}, all jobs together: shorter ones (pools.{name}.time) or another "
            f"partition (pools.{name}.partition) may start sooner"
        )
    return lines


def _pools(run: WholeRun) -> list[str]:
    """Say which pool the others waited for, if those compared were there for long enough."""
    return [
        *(verdict.models(run.figures) if are_pools_judged(run) else ()),
        *(verdict.front(run.figures) if _are_known(run, EXTRACT, DOWNLOAD) else ()),
    ]


def are_pools_judged(run: WholeRun) -> bool:
    """Tell whether it is known for long enough how busy those who embed and download were."""
    return _are_known(run, EMBED, DOWNLOAD)


def _are_known(run: WholeRun, *stages: Stage) -> bool:
    known = {
        stage
        for pool in run.figures.pools
        if run.times[pool.name].midst_s >= ENOUGH_S
        for stage in pool.stages
    }
    return known >= {stage.name for stage in stages}


def _funnel(run: WholeRun) -> list[str]:
    lines = []
    for stage in run.figures.stages:
        is_nothing = stage.seen > 0 and not stage.kept
        is_little = stage.seen >= ENOUGH_ROWS and stage.kept < LEAST_KEPT * stage.seen
        if stage.rejected and (is_nothing or is_little) and not _is_of_download(stage):
            lines.append(_loss(stage))
    return lines


def _is_of_download(stage: StageFigures) -> bool:
    """Tell whether what embed lacks are the pictures that download did not get."""
    return stage.name == EMBED.name and _main_reason(stage) in {str(each) for each in Status}


def _main_reason(stage: StageFigures) -> str:
    return max(stage.rejected, key=lambda reason: (stage.rejected[reason], reason))


def _loss(stage: StageFigures) -> str:
    reason = _main_reason(stage)
    share = stage.rejected[reason] / max(1, stage.seen - stage.kept)
    kept = f"{stage.kept:,}" if stage.kept else "none"
    setting = _SETTINGS.get(Reject(reason)) if reason in set(Reject) else None
    return (
        f"{stage.name} keeps {kept} of {stage.seen:,} {stage.rows} ({stage.kept / stage.seen:.1%}):"
        f" {share:.0%} of the loss is {reason}" + (f", see {setting}" if setting else "")
    )


def _all_kept(run: WholeRun) -> list[str]:
    select = run.figures.stage(SELECT.name)
    if select is None or select.seen < ENOUGH_ROWS or select.kept < select.seen:
        return []
    return [
        f"all {select.seen:,} scored samples are kept: no threshold of select.thresholds is above "
        "the similarity of any"
    ]


_LOOKS: tuple[Callable[[WholeRun], list[str]], ...] = (
    _stopped,
    _given_up,
    _archives,
    _resolver,
    _network,
    _hosts,
    _slurm,
    _pools,
    _funnel,
    _all_kept,
)
