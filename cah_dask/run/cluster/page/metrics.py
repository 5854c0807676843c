"""The figures of a run for Prometheus; all names begin with ``cah_``."""

from collections.abc import Callable, Iterable, Iterator

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
)

Samples = Iterable[tuple[tuple[str, ...], float | None]]


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
    for each in (*_of_stages(figures), *_of_pools(figures), *_of_the_run(figures)):
        yield _gauge(*each)
    yield _similarities(figures.histograms)


def _gauge(name: str, what: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    metric = GaugeMetricFamily(f"cah_{name}", what, labels=labels)
    for values, number in samples:
        if number is not None:
            metric.add_metric(values, number)
    return metric


def _of_stages(figures: Figures) -> Iterator[tuple[str, str, tuple[str, ...], Samples]]:
    stages = figures.stages
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
    yield (
        "rows_per_second",
        "Rows of a stage per second of late",
        ("stage",),
        [((stage.name,), stage.rows_per_s) for stage in stages],
    )
    yield (
        "left_seconds",
        "Time left for the known tasks of a stage",
        ("stage",),
        [((stage.name,), stage.left_s) for stage in stages],
    )


def _of_pools(figures: Figures) -> Iterator[tuple[str, str, tuple[str, ...], Samples]]:
    pools = figures.pools
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
    yield (
        "workers",
        "Connected worker processes",
        ("pool",),
        [((pool.name,), pool.workers) for pool in pools],
    )
    yield (
        "busy_ratio",
        "Share of workers with a task, over 10 minutes",
        ("pool",),
        [((pool.name,), pool.busy) for pool in pools],
    )


def _of_the_run(figures: Figures) -> Iterator[tuple[str, str, tuple[str, ...], Samples]]:
    model, staged = figures.model, figures.staged
    yield (
        "model_ratio",
        "What models do while their workers have lists",
        ("what",),
        [
            (("at_work",), model.at_work),
            (("waiting_for_pictures",), model.waiting_for_pictures),
            (("waiting_for_turn",), model.waiting_for_turn),
        ],
    )
    yield "staged_bytes", "Images that wait to be embedded", (), [((), staged.n_bytes)]
    at_work = figures.at_work
    yield "lists_at_work", "Fetch lists that are being downloaded", (), [((), at_work.lists)]
    yield "lists_at_work_urls", "Urls of these lists", (), [((), at_work.urls)]
    yield "lists_at_work_done_urls", "Urls of them with an outcome", (), [((), at_work.done)]
    yield "staged_bound_bytes", "At more than these downloads wait", (), [((), staged.bound)]
    yield (
        "host_trouble_urls",
        "Urls that came to nothing at the worst hosts",
        ("host",),
        [((host.host,), host.trouble) for host in figures.hosts],
    )
    yield "run_left_seconds", "Time until the last list is embedded", (), [((), figures.left_s)]
    last = figures.last_commit
    yield (
        "last_commit_timestamp_seconds",
        "Time of the last commit",
        (),
        [((), last.timestamp() if last else None)],
    )
    yield (
        "state",
        "1 for the state that the run is in",
        ("state",),
        [
            ((state,), float(state == figures.state))
            for state in (AT_WORK, PAUSED, PUBLISHED, PACKED, NOT_DRIVEN)
        ],
    )


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
