"""The figures of a run for Prometheus; all names begin with ``cah_``.

All numbers of `Figures` are among them but those over time, which Prometheus keeps itself, and
those of single pairs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.run.watch.figures import (
    AT_WORK,
    NOT_DRIVEN,
    PACKED,
    PAUSED,
    PUBLISHED,
    Figures,
    HistogramFigures,
    HostFigures,
    PoolFigures,
    StageFigures,
)

Samples: TypeAlias = Iterable[tuple[tuple[str, ...], float | None]]
"""The values of the labels, and the number; None if it is not known."""

_Gauges: TypeAlias = Iterator[tuple[str, str, tuple[str, ...], Samples]]
"""Name, help, labels and samples of each."""


class Collector(PrometheusCollector):
    """Asks for the figures when it is asked."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def describe(self) -> list[Metric]:
        """Name nothing before the first question: names are known by `metrics` alone."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        return metrics(self._figures())


def metrics(figures: Figures) -> Iterator[Metric]:
    """Yield the figures as metrics; what is not known has no sample."""
    for gauges in (
        _of_stages(figures.stages),
        _of_pools(figures.pools),
        _of_the_models(figures),
        _of_lists_at_work(figures),
        _of_hosts("", "of the whole run", figures.hosts),
        _of_hosts("recent_", "of the last 10 minutes", figures.recent_hosts),
        _of_the_run(figures),
    ):
        for each in gauges:
            yield _gauge(*each)
    yield _similarities(figures.histograms)


def _gauge(name: str, what: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    metric = GaugeMetricFamily(f"cah_{name}", what, labels=labels)
    for values, number in samples:
        if number is not None:
            metric.add_metric(values, number)
    return metric


def _by_name(numbers: Mapping[str, float | None]) -> Samples:
    return [((name,), number) for name, number in numbers.items()]


def _of_stages(stages: Iterable[StageFigures]) -> _Gauges:
    states = ("known", "done", "running", "waiting", "failed")
    yield (
        "tasks",
        "Tasks of a stage by state",
        ("stage", "state"),
        [((stage.name, state), getattr(stage, state)) for stage in stages for state in states],
    )
    yield (
        "rows",
        "Rows of a stage that it saw and kept",
        ("stage", "what"),
        [
            ((stage.name, what), getattr(stage, what))
            for stage in stages
            for what in ("seen", "kept")
        ],
    )
    yield (
        "rejected_rows",
        "Rows that a stage rejected, by reason",
        ("stage", "reason"),
        [((stage.name, reason), n) for stage in stages for reason, n in stage.rejected.items()],
    )
    for name, what, number in (
        ("rows_per_second", "Rows of a stage per second of late", "rows_per_s"),
        ("tasks_per_second", "Tasks per second, over the second half of its time", "tasks_per_s"),
        ("mean_tasks_per_second", "Tasks per second, over all its time", "mean_tasks_per_s"),
        ("task_seconds", "How long the last tasks of a stage took, on average", "task_s"),
        ("tail_seconds", "Time until the last task of a stage that is at work ends", "tail_s"),
        ("left_seconds", "Time left for the known tasks of a stage", "left_s"),
    ):
        yield (
            name,
            what,
            ("stage",),
            _by_name({each.name: getattr(each, number) for each in stages}),
        )


def _of_pools(pools: Iterable[PoolFigures]) -> _Gauges:
    states = ("most", "wanted", "pending", "running")
    yield (
        "jobs",
        "Jobs of a pool, or its local processes, by state",
        ("pool", "state"),
        [((pool.name, state), getattr(pool, state)) for pool in pools for state in states],
    )
    yield (
        "pending_jobs",
        "Pending jobs by Slurm's reason",
        ("pool", "reason"),
        [((pool.name, reason), n) for pool in pools for reason, n in pool.reasons.items()],
    )
    workers = {pool.name: pool.workers for pool in pools}
    yield "workers", "Connected worker processes", ("pool",), _by_name(workers)
    busy = {pool.name: pool.busy for pool in pools}
    yield "busy_ratio", "Share of workers with a task, over 10 minutes", ("pool",), _by_name(busy)


def _of_the_models(figures: Figures) -> _Gauges:
    model, staged = figures.model, figures.staged
    shares = {
        "at_work": model.at_work,
        "waiting_for_pictures": model.waiting_for_pictures,
        "waiting_for_turn": model.waiting_for_turn,
    }
    what = "What models do while their workers have lists"
    yield "model_ratio", what, ("what",), _by_name(shares)
    yield "staged_bytes", "Images that wait to be embedded", (), [((), staged.n_bytes)]
    yield "staged_bound_bytes", "At more than these downloads wait", (), [((), staged.bound)]
    thresholds = {each.split: each.threshold for each in figures.histograms}
    what = "Similarity from which on pairs are kept"
    yield "similarity_threshold", what, ("split",), _by_name(thresholds)


def _of_lists_at_work(figures: Figures) -> _Gauges:
    lists = figures.at_work
    for name, what, number in (
        ("", "Fetch lists that are being downloaded", lists.lists),
        ("_urls", "Urls of these lists", lists.urls),
        ("_done_urls", "Urls of them with an outcome", lists.done),
        ("_again_urls", "Urls of them that failed and are to be asked again", lists.again),
        ("_bytes", "Bytes that came for them", lists.n_bytes),
        ("_bytes_per_second", "These bytes per second, of all lists together", lists.bytes_per_s),
    ):
        yield f"lists_at_work{name}", what, (), [((), number)]
    what = "Urls to go of the hosts that hold these lists back"
    yield "lists_at_work_host_urls", what, ("host",), _by_name(lists.hosts)


def _of_hosts(when: str, of_when: str, hosts: Iterable[HostFigures]) -> _Gauges:
    trouble = {host.host: host.trouble for host in hosts}
    what = f"Urls that came to nothing at the worst hosts {of_when}"
    yield f"{when}host_trouble_urls", what, ("host",), _by_name(trouble)
    yield (
        f"{when}host_urls",
        f"Urls of the worst hosts {of_when}, by outcome",
        ("host", "outcome"),
        [((host.host, name), n) for host in hosts for name, n in host.outcomes.items()],
    )


def _of_the_run(figures: Figures) -> _Gauges:
    what = "Urls of the lists of the last 10 minutes, by outcome"
    yield "recent_urls", what, ("outcome",), _by_name(figures.recent_outcomes)
    what = "Tasks that a free worker could take"
    yield "startable_tasks", what, ("stage",), _by_name(figures.can_start)
    what = "1 for each worker that gets no more tasks, as it failed all it had"
    given_up = dict.fromkeys(figures.workers_given_up, 1.0)
    yield "worker_given_up", what, ("worker",), _by_name(given_up)
    yield "run_left_seconds", "Time until the last list is embedded", (), [((), figures.left_s)]
    for name, what, at in (
        ("start_timestamp_seconds", "Time of the first commit", figures.started),
        ("last_commit_timestamp_seconds", "Time of the last commit", figures.last_commit),
    ):
        yield name, what, (), [((), at.timestamp() if at else None)]
    states = (AT_WORK, PAUSED, PUBLISHED, PACKED, NOT_DRIVEN)
    is_in = {state: float(state == figures.state) for state in states}
    yield "state", "1 for the state that the run is in", ("state",), _by_name(is_in)


def _similarities(histograms: Iterable[HistogramFigures]) -> Metric:
    """Return the similarities of scored samples; a bin holds what is below its right edge."""
    metric = HistogramMetricFamily(
        "cah_similarity", "Similarities of scored samples", labels=("split",)
    )
    for each in histograms:
        total, buckets = 0, []
        for index in range(HISTOGRAM_BINS):
            total += each.bins.get(index, 0)
            buckets.append((f"{-1 + 2 * (index + 1) / HISTOGRAM_BINS:.2f}", float(total)))
        metric.add_metric((each.split,), [*buckets, ("+Inf", float(total))], sum_value=None)
    return metric
