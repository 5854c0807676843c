"""The page, from figures, without a browser."""

import re

import msgspec
import pytest
from bokeh.document import Document

from cah_dask.counts import Status
from cah_dask.run.cluster.page.charts import KINDS, kind_of
from cah_dask.run.cluster.page.document import RunPage
from cah_dask.run.cluster.page.sections import LONGEST_TEXT, Sections, size
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.watch.figures import Figures, HistogramFigures, Moment, PairFigures
from cah_dask.run.watch.terminal import line, view
from cah_dask.run.watch.verdict import judged
from cah_dask.words import short, span
from tests.run.watch.loads import NOW, host, load, pool

HOSTILE = '<script>alert(1)</script> & "quotes" \u202eturned\x1b[31m \x00' + "long " * 2000


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


def test_nothing_of_a_stranger_is_markup_or_turns_the_page():
    sections = Sections()
    sections.show(figures())
    text = "".join(root.text for root in sections.roots)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert len(text) < 20_000


@pytest.mark.parametrize("rejected", [{}, {"http_404": 7}])
def test_the_funnel_says_that_embed_counts_once_more_what_could_not_be_had(rejected: dict):
    seen = figures()
    stages = [
        msgspec.structs.replace(stage, rejected=rejected) if stage.name == "embed" else stage
        for stage in seen.stages
    ]
    sections = Sections()
    sections.show(msgspec.structs.replace(seen, stages=stages))
    text = "".join(root.text for root in sections.roots)
    assert ("embed counts once more" in text) is bool(rejected)


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


def test_several_look_at_once():
    page = RunPage(figures)
    documents = [Document() for _ in range(3)]
    for document in documents:
        page.fill(document)
    models = [set(document.models) for document in documents]
    assert len(set[object]().union(*models)) == sum(map(len, models)), "each has its own"


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
