"""The page and the metrics, from figures, without a browser."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from bokeh.document import Document
from prometheus_client import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from cah_dask.run.cluster.page.charts import KINDS, kind_of
from cah_dask.run.cluster.page.document import RunPage
from cah_dask.run.cluster.page.metrics import metrics
from cah_dask.run.cluster.page.sections import LONGEST_TEXT, Sections, size
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.watch.figures import Figures, HistogramFigures, Moment, PairFigures
from cah_dask.run.watch.terminal import line, view
from cah_dask.run.watch.verdict import judged
from cah_dask.schema import Status
from cah_dask.words import short, span
from tests.run.watch.loads import NOW, host, load, pool

HOSTILE = '<script>alert(1)</script> & "quotes" \u202eturned\x1b[31m \x00' + "long " * 2000
DASHBOARD = Path("docs/grafana.json")


def figures() -> Figures:
    """A run that shows everything, and whose hosts and captions are hostile."""
    pair = PairFigures(
        url=f"http://a.test/{HOSTILE}", text=HOSTILE, split="en", similarity=0.31, is_kept=True,
        thumbnail="data:image/jpeg;base64,AAAA",
    )  # fmt: skip
    return judged(
        load(
            pools=[
                pool("gpu", EMBED, busy=0.4, pending=2, running=2, reasons={HOSTILE[:50]: 2}),
                pool("io", DOWNLOAD, busy=None),
            ],
            left_s=60.0,
            hosts=[host(HOSTILE[:200], http_403=80)],
            pairs=[pair, msgspec.structs.replace(pair, is_kept=False, thumbnail="")],
            histograms=[HistogramFigures(split="en", threshold=0.28, bins={60: 5, 65: 7})],
            moments=[Moment(at=NOW, seconds=10.0, outcomes={"ok": 8, "http_404": 1, "robots": 1})],
        )
    )


def exported(found: Figures) -> str:
    class Given(Collector):
        def collect(self):
            return metrics(found)

    registry = CollectorRegistry()
    registry.register(Given())
    return generate_latest(registry).decode()


def test_nothing_of_a_stranger_is_markup_or_turns_the_page():
    sections = Sections()
    sections.show(figures())
    text = "".join(root.text for root in sections.roots)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert len(text) < 20_000


def test_what_did_not_change_is_not_sent_again():
    changes: list[object] = []
    seen = [figures()]
    page = RunPage(lambda: seen[0])
    document = Document()
    page.fill(document)
    document.on_change(changes.append)
    (callback,) = document.session_callbacks
    callback.callback()
    assert changes == []
    seen[0] = msgspec.structs.replace(seen[0], verdict=["another one"])
    callback.callback()
    assert len(changes) == 1


def test_each_outcome_is_of_one_kind():
    kinds = {status: kind_of(status) for status in Status}
    assert set(kinds.values()) == set(KINDS)
    assert (kinds[Status.HTTP_403], kinds[Status.HTTP_404]) == ("host refused", "dead link")
    assert (kinds[Status.ROBOTS], kinds[Status.TOO_SMALL]) == ("rules", "no such picture")
    assert kinds[Status.DNS_ERROR] == "host failed"


def test_texts_are_cut_and_sizes_are_readable():
    assert len(short("x " * 1000, LONGEST_TEXT)) == LONGEST_TEXT
    assert [size(n) for n in (999, 1000, 5.1e11, 2e12)] == ["999 B", "1.0 kB", "510.0 GB", "2.0 TB"]
    assert [span(s) for s in (None, 5.4, 119, 7260, 180_000)] == [
        "-", "5 s", "1 min 59 s", "2 h 1 min", "2 d 2 h",
    ]  # fmt: skip


def test_the_terminal_gets_nothing_that_it_would_obey():
    found = figures()
    printed = line(found) + "".join(str(part) for part in view(found, 200).renderables)
    assert "\x1b" not in printed
    assert printed.startswith("2026-11-01 12:00:00 UTC extract 50/100")


def test_metrics_have_the_numbers_of_the_figures():
    text = exported(figures())
    for wanted in (
        'cah_tasks{stage="embed",state="running"} 4.0',
        'cah_jobs{pool="gpu",state="pending"} 2.0',
        'cah_busy_ratio{pool="gpu"} 0.4',
        'cah_similarity_bucket{le="0.22",split="en"} 5.0',
        'cah_similarity_bucket{le="+Inf",split="en"} 12.0',
        'cah_state{state="at work"} 1.0',
    ):
        assert wanted in text
    assert 'cah_busy_ratio{pool="io"}' not in text, "it is not known"


def test_the_example_of_grafana_asks_for_metrics_and_labels_that_there_are():
    known: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(cah_\w+)(?:\{(.*?)\})? ", exported(figures()), re.MULTILINE):
        known.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(asked) > 10
    for expression in asked:
        names = re.findall(r"cah_\w+", expression)
        assert names, expression
        labels = re.findall(r"(\w+)=~?\"", expression) + [
            label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")
        ]
        for name in names:
            assert name in known, expression
            assert set(labels) <= known[name], expression


@pytest.mark.parametrize("state", ["at work", "published"])
def test_there_is_a_panel_for_each_state(state: str):
    assert state in DASHBOARD.read_text()
