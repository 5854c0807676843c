"""The metrics have every number of the figures, and Grafana's example asks for what there is."""

import itertools
import json
import re
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from cah_dask.run.cluster.page.metrics import metrics
from cah_dask.run.watch.figures import AT_WORK, Figures
from tests.run.watch.loads import load, pool

DASHBOARD = Path("docs/grafana.json")
NO_METRICS = {"at", "moments", "pairs"}
"""Fields that speak of single moments and pairs: Prometheus keeps the time itself."""


class Number(NamedTuple):
    """A number of the figures."""

    path: str
    names: frozenset[str]
    """Texts that say what it is a number of: names of stages, hosts, reasons."""
    value: float


class Filled:
    """Figures all of whose fields have a value that no other one has."""

    def __init__(self) -> None:
        self._values = itertools.count(100)
        self.numbers: list[Number] = []
        self.figures: Figures = self._made(Figures, "", frozenset())

    def _made(self, kind: Any, path: str, names: frozenset[str]) -> Any:
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self._made(parts[0], path, names)
        if origin in (list, tuple):
            return origin([self._made(parts[0], path, names)])
        if origin is dict:
            if parts[0] is int:  # bins of similarities
                return {7: self._made(parts[1], path, names)}
            key = f"name {next(self._values)}"
            return {key: self._made(parts[1], path, names | {key})}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, path, names)
        return self._value(kind, path, names)

    def _struct(self, kind: Any, path: str, names: frozenset[str]) -> Any:
        hints = typing.get_type_hints(kind)
        told = {name: f"{name} {next(self._values)}" for name in hints if hints[name] is str}
        names |= {told[name] for name in ("name", "host", "split") if name in told}
        others = {
            name: self._made(hint, f"{path}.{name}".lstrip("."), names)
            for name, hint in hints.items()
            if name not in told
        }
        return kind(**told, **others)

    def _value(self, kind: Any, path: str, names: frozenset[str]) -> Any:
        value = next(self._values)
        if kind is bool:
            return True
        if kind is str:
            return f"text {value}"
        assert kind in (int, float, datetime), (path, kind)
        self.numbers.append(Number(path, names, float(value)))
        return datetime.fromtimestamp(value, UTC) if kind is datetime else kind(value)


def exported(found: Figures) -> str:
    class Given(Collector):
        def collect(self):
            return metrics(found)

    registry = CollectorRegistry()
    registry.register(Given())
    return generate_latest(registry).decode()


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def test_every_number_of_the_figures_is_a_metric_but_for_those_of_moments_and_pairs():
    filled = Filled()
    found = list(samples(exported(filled.figures)))
    assert len(filled.numbers) > 40
    missing = {
        number.path
        for number in filled.numbers
        if not any(
            value == number.value and number.names <= set(labels.values())
            for _, labels, value in found
        )
    }
    assert {path.partition(".")[0] for path in missing} == NO_METRICS
    (worker,) = filled.figures.workers_given_up
    assert ("cah_worker_given_up", {"worker": worker}, 1.0) in found


def test_names_have_the_units_of_prometheus():
    for name, _, _ in samples(exported(Filled().figures)):
        assert re.fullmatch(r"cah_[a-z_]+", name)
        assert not name.endswith(("_total", "_s", "_ms", "_mb", "_gb")), "they are gauges"


def test_what_is_not_known_has_no_sample():
    found = load(pools=[pool("io", busy=None)], started=None, last_commit=None)
    names = {name for name, _, _ in samples(exported(found))}
    assert "cah_workers" in names
    for name in ("busy_ratio", "start_timestamp_seconds", "run_left_seconds"):
        assert f"cah_{name}" not in names


def test_the_run_is_in_one_state_and_similarities_are_added_up_from_the_left():
    bins = {60: 5, 65: 7}
    filled = Filled().figures
    split = msgspec.structs.replace(filled.histograms[0], bins=bins)
    found = msgspec.structs.replace(filled, state=AT_WORK, histograms=[split])
    told = list(samples(exported(found)))
    assert [labels["state"] for name, labels, value in told if name == "cah_state" and value] == [
        AT_WORK
    ]
    below = {labels["le"]: value for name, labels, value in told if name == "cah_similarity_bucket"}
    assert (below["0.20"], below["0.22"], below["+Inf"]) == (0, 5, 12)


def test_the_example_of_grafana_asks_for_metrics_and_labels_that_there_are():
    known: dict[str, set[str]] = {}
    for name, labels, _ in samples(exported(Filled().figures)):
        known.setdefault(name, set()).update(labels)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(asked) > 20
    for expression in asked:
        names = re.findall(r"cah_\w+", expression)
        assert names, expression
        wanted = re.findall(r"(\w+)!?=~?\"", expression) + [
            label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")
        ]
        for name in names:
            assert name in known, expression
            assert set(wanted) <= known[name], expression


def test_no_two_panels_of_the_example_have_one_place_or_number():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("state", ["at work", "published", "all is packed"])
def test_there_is_a_panel_for_each_state(state: str):
    assert state in DASHBOARD.read_text()
