"""The report tells what happened, alone in one file, and nothing from the web runs in it."""

import io
import itertools
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from cah_dask.counts import Counts, Reject, Status
from cah_dask.images.web.request_log import RequestLog
from cah_dask.images.web.responses import Answer
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.release.card import MEANINGS, write_card
from cah_dask.release.layout import Layout
from cah_dask.release.pool_time import PoolTime, PoolTimes
from cah_dask.release.report import SAMPLES_SHOWN, write_report
from cah_dask.release.summary import (
    ReportOptions,
    StageSummary,
    Summary,
    funnel,
    similarity_histogram,
)
from cah_dask.release.timeline import BUCKETS, TimelineSum
from cah_dask.schema import PAIRS, SPLITS
from tests.encoders import released_encoder
from tests.release.small_run import COUNTS, HOSTILE, write_run

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
"""When the run of the samples began."""


class Page(HTMLParser):
    """Collects the text, tags and links of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def page(run_dir: Path, summary: Summary) -> Page:
    write_report(run_dir / "report.html", run_dir, summary)
    return Page((run_dir / "report.html").read_text())


def test_every_count_of_the_funnel_is_on_the_page(run_dir: Path, summary: Summary):
    text = " ".join(page(run_dir, summary).text.split())
    for step in funnel(summary):
        for reason, count in step.rejected.items():
            assert f"{reason} {count}" in text
    assert "12 pairs from 2 archives" in text
    assert "cut after 10 records" in text
    html = (run_dir / "report.html").read_text()
    assert '<td>multi</td><td>de</td><td class="number">3</td><td class="number">0</td>' in html
    assert "4 texts were longer than the context" in text


def test_the_report_says_for_how_much_of_its_time_the_model_was_at_work(
    run_dir: Path, summary: Summary
):
    timings = {"input": 300, "model": 1500, "turn": 1800, "worker": 2000}  # of two lists at once
    embed = StageSummary(2, COUNTS["embed"], 3.9, "rows", timings=timings)
    found = msgspec.structs.replace(summary, stages=summary.stages | {"embed": embed})
    said = "models were at work for 75% of the time and waited for pictures of their list for 15%"
    assert said in " ".join(page(run_dir, found).text.split())
    assert "waited for pictures" not in page(run_dir, summary).text


def test_what_came_from_the_web_is_escaped_and_nothing_is_loaded(run_dir: Path, summary: Summary):
    found = page(run_dir, summary)
    assert "script" not in found.tags
    assert HOSTILE in found.text
    assert len(found.links) == 2
    assert all(link.startswith("data:image/jpeg;base64,") for link in found.links)


def test_work_is_shown_over_time_and_its_cost_for_a_million_pairs(run_dir: Path, summary: Summary):
    sums = TimelineSum()
    sums.add("embed", datetime(2026, 5, 1, 12, 0, 10, tzinfo=UTC), 10.0)
    pools = dict.fromkeys(COUNTS, "cpu") | {"embed": "gpu"}
    stages = {
        name: StageSummary(1, each, 3600.0, "rows", pools={pools[name]: 3600.0})
        for name, each in COUNTS.items()
    }
    found = msgspec.structs.replace(
        summary,
        stages=stages,
        timeline=sums.total,
        pools=pools,
        options=ReportOptions(prices={"gpu": 2.5}, currency="EUR"),
    )
    text = " ".join(page(run_dir, found).text.split())
    assert "from 2026-05-01 12:00:00 UTC to 2026-05-01 12:00:11 UTC" in text
    assert "gpu2.50 EUR---1.00 h--" in text
    assert "cpuno price---5.00 h--" in text
    assert "It is not known for how long this run held its workers" in text
    held = PoolTimes(START, {"gpu": PoolTime(looked_s=7200, held_s=7200, gpus_s=94)})
    text = " ".join(page(run_dir, msgspec.structs.replace(found, held=held)).text.split())
    assert "gpu5.00 EUR-2.00 h1 min 34 s1.00 h50%-" in text
    assert "At these prices the workers cost 5.00 EUR" in text
    million = 5.0 / COUNTS["pack"].kept * 1e6
    assert f"{million:,.2f} EUR for a million pairs, without the pools that have no price" in text


@pytest.mark.parametrize(
    ("seconds", "price", "currency", "told"),
    [
        (94, 2.5, "", "1 min 34 s 0.065 0.065, that is 5,439.81 for"),
        (0.5, 0.04, "EUR", "under 1 s 0.0000056 EUR 0.0000056 EUR, that is 0.46 EUR for"),
        (3600, 0.0, "EUR", "1.00 h 0.00 EUR 0.00 EUR, that is 0.00 EUR for"),
        (5000 * 3600, 2.5, "EUR", "5,000.00 h 12,500.00 EUR 12,500.00 EUR, that is"),
    ],
)
def test_hours_and_costs_of_any_size_are_to_be_read(
    run_dir: Path, summary: Summary, seconds: float, price: float, currency: str, told: str
):
    found = msgspec.structs.replace(
        summary,
        stages=dict.fromkeys(COUNTS, StageSummary(0, Counts(), 0.0, "rows"))
        | {"embed": StageSummary(
            1, COUNTS["embed"], seconds, "rows", pools={"gpu": seconds}
        ),
           "pack": StageSummary(1, COUNTS["pack"], 0.0, "rows")},
        pools=dict.fromkeys(COUNTS, "gpu"),
        options=ReportOptions(prices={"gpu": price}, currency=currency),
    )  # fmt: skip
    text = " ".join(page(run_dir, found).text.split())
    table = text.partition("BusyJobs waited in Slurm")[2]
    (cells,) = re.findall(r"gpu(.+?)---(.+?)-- At .* the work cost (.+) a million pairs", table)
    cost, time, costs = cells
    assert f"{time} {cost} {costs}".startswith(told)


def test_a_run_that_is_not_finished_is_called_so_and_no_table_is_empty(
    run_dir: Path, summary: Summary
):
    unpacked = {name: StageSummary(0, Counts(), 0.0, "rows") for name in ("select", "pack")}
    found = msgspec.structs.replace(
        summary, is_finished=False, stages=summary.stages | unpacked, selected=[]
    )
    shown = page(run_dir, found)
    assert "Not finished: 20 samples scored, nothing packed yet" in shown.text
    assert "pairs from" not in shown.text
    assert "Scored" not in shown.text
    packed = msgspec.structs.replace(summary, is_finished=False)
    assert "20 samples scored, 12 pairs packed so far" in page(run_dir, packed).text


def test_work_and_manners_are_told_before_pictures_which_come_last(run_dir: Path, summary: Summary):
    text = page(run_dir, summary).text
    headings = ("What stands out", "Funnel", "Work", "By pool", "Manners", "Settings", "Kept pairs")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "embed counts once more" in text


def test_what_stands_out_is_told_before_all_figures(run_dir: Path, summary: Summary):
    found = msgspec.structs.replace(
        summary,
        stands_out=["31% of all urls end in dns_error"],
        hosts={"a\u202e<b>.example": {"ok": 2, "http_403": 50, "timeout": 9}},
    )
    text = " ".join(page(run_dir, found).text.split())
    assert text.index("31% of all urls end in dns_error") < text.index("Funnel")
    assert "a\\u202e<b>.example59ok 2 http_403 50 timeout 9" in text
    assert "Nothing stands out" not in text


def test_a_run_in_which_nothing_stands_out_says_so(run_dir: Path, summary: Summary):
    assert "Nothing stands out: no host or outcome" in page(run_dir, summary).text
    assert "Hosts with the most trouble" not in page(run_dir, summary).text
    unbegun = msgspec.structs.replace(summary, started=None, finished=None)
    assert "There is nothing to be judged yet" in page(run_dir, unbegun).text


def test_manners_are_told_from_the_logs_of_requests(run_dir: Path, summary: Summary):
    assert "No log of requests is there" in page(run_dir, summary).text
    with RequestLog(run_dir / "requests/w00000/b00000-l00000-a.parquet") as log:
        for host, requests in (("a.example", 5), ("b.example", 1), ("c.example", 1)):
            for n in range(requests):
                log.note(f"http://{host}/{n}", "192.0.2.1", Answer(Status.OK, 200), 10)
    text = " ".join(page(run_dir, summary).text.split())
    assert "Requests to one host, by the logs of 1 fetch list drawn from 2: 1 in the" in text
    assert "5 at the 99th percentile and 5 at most (3 hosts;" in text
    assert "may have had more from the other lists" in text


def test_requests_that_several_lists_sent_to_a_host_are_those_of_one_host(
    run_dir: Path, summary: Summary
):
    lists = ["w00000/b00000-l00000", "w00001/b00000-l00000"]
    for number, name in enumerate(lists):
        with RequestLog(run_dir / f"requests/{name}-a.parquet") as log:
            for n in range(5 + number):
                log.note(f"http://a.example/{n}", "192.0.2.1", Answer(Status.OK, 200), 10)
    shutil.copytree(run_dir / "images/w00000", run_dir / "images/w00001")
    found = msgspec.structs.replace(summary, lists=lists)
    text = " ".join(page(run_dir, found).text.split())
    assert "Requests to one host, by the logs of all fetch lists (2): 11 in the median" in text
    assert "11 at most (1 host;" in text
    assert "may have had more" not in text


def test_a_damaged_file_costs_its_own_figures_and_no_report(run_dir: Path, summary: Summary):
    (log,) = [run_dir / "requests/w00000/b00000-l00000-a.parquet"]
    with RequestLog(log) as requests:
        requests.note("http://a.example/1", "192.0.2.1", Answer(Status.OK, 200), 10)
    for path in (log, run_dir / "images/w00000/b00000-l00000.parquet"):
        data = bytearray(path.read_bytes())
        data[4:20] = bytes(16)
        path.write_bytes(data)
        text = page(run_dir, summary).text
        assert "No log of requests is there" in text
    assert "12 pairs from 2 archives" in text
    assert "a dog" not in text


def test_very_many_lost_archives_are_told_in_a_few_lines(run_dir: Path, summary: Summary):
    lost = [f"{n}.warc.wat.gz: " + "x" * 1000 for n in range(30_000)]
    text = page(run_dir, msgspec.structs.replace(summary, lost=lost)).text
    assert "29,900 more: cah failures names them" in text
    assert (run_dir / "report.html").stat().st_size < 500_000


def noise(seed: int) -> bytes:
    """Return a picture that no codec makes small."""
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_largest_run_has_a_report_of_a_few_megabytes(tmp_path: Path, summary: Summary):
    n = 2 * SAMPLES_SHOWN
    columns = {
        "uid": [bytes([number]) * 16 for number in range(n)],
        "text": ["&" * 100_000] * n,
        "url": [f"http://a.example/{number}" for number in range(n)],
        "split": ["en"] * n,
        "lang": ["en"] * n,
        "status": ["ok"] * n,
        "similarity_clip": [0.3, 0.1] * SAMPLES_SHOWN,
    }
    write_run(tmp_path, columns, [noise(number) for number in range(n)])
    most = 10**12
    reasons = dict.fromkeys([*map(str, Reject), *map(str, Status)], most)
    bins = {f"similarity/clip/{s}/{n}": most for s in SPLITS for n in range(HISTOGRAM_BINS)}
    languages = {f"scored/multi/l{number}": most for number in range(5000)}
    counts = Counts(most * len(reasons), 0, reasons, bins | languages)
    sums = TimelineSum()
    for stage, second in itertools.product(summary.stages, range(BUCKETS)):
        sums.add(stage, datetime.fromtimestamp(second, UTC), 1.0)
    largest = msgspec.structs.replace(
        summary,
        stages={name: StageSummary(10**6, counts, 1e9, "rows") for name in summary.stages},
        archives=[f"{number}.warc.wat.gz" for number in range(90_000)],
        lost=["x" * 10_000] * 90_000,
        lists=[*summary.lists, *(f"w{number:05d}/b00000-l00000" for number in range(1, 96))],
        timeline=sums.total,
        settings={f"setting{number}": "<" * 10**5 for number in range(20)},
    )
    found = page(tmp_path, largest)
    assert found.tags.count("img") == n
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_a_bin_that_begins_at_the_threshold_is_kept(run_dir: Path, summary: Summary):
    for index in range(50, 100):
        threshold = (2 * index - 100) / 100
        bins = {f"similarity/clip/en/{index}": 1}
        embed = StageSummary(1, Counts(1, 1, {}, bins), 1.0, "rows")
        found = msgspec.structs.replace(
            summary,
            stages=summary.stages | {"embed": embed},
            thresholds={"en": threshold},
            lists=[],
        )
        page(run_dir, found)
        html = (run_dir / "report.html").read_text()
        chart = html.partition('aria-label="similarity histogram of en,')[2].partition("</svg>")[0]
        assert 'class="kept"' in chart, threshold


def test_a_report_without_images_says_why_and_still_shows_the_pairs(
    run_dir: Path, summary: Summary
):
    next((run_dir / "images").rglob("*.h5")).unlink()
    found = page(run_dir, summary)
    assert found.links == []
    assert "image not kept" not in found.text, "a tile with nothing in it"
    assert found.text.count("holds the pictures no more") == 2
    assert HOSTILE in found.text
    unkept = msgspec.structs.replace(summary, keeps_images=False)
    assert page(run_dir, unkept).text.count("(keep_images: false)") == 2


def test_a_run_that_did_nothing_yet_has_a_report(tmp_path: Path, summary: Summary):
    empty = msgspec.structs.replace(
        summary,
        stages={name: StageSummary(0, Counts(), 0.0, "rows") for name in COUNTS},
        started=None,
        finished=None,
        selected=[],
        lists=[],
    )
    assert "Nothing is committed yet" in page(tmp_path, empty).text


def test_the_histogram_of_each_split_is_read_back(summary: Summary):
    assert similarity_histogram(summary) == {"en": {60: 12, 52: 5}, "multi": {50: 3}}


def card(folder: Path, summary: Summary) -> str:
    layout = Layout(12, (released_encoder("clip", 512),), "clip", "c", 262144, 4096, "0")
    write_card(folder / "README.md", summary, layout)
    return (folder / "README.md").read_text()


def test_the_data_card_names_model_thresholds_archives_and_times(tmp_path: Path, summary: Summary):
    text = card(tmp_path, summary)
    assert "12 image-text pairs from 2 archives, made by cah_dask 0.1.0\n" in text
    assert "between 2026-05-01 and 2026-05-01" in text
    assert "en 0.2, multi 0.1, nolang 0.1" in text
    assert "- x.warc.wat.gz\n- y|`z`.warc.wat.gz\n" in text
    assert "| en | en | 17 | 12 | 70.6% |\n| multi | de | 3 | 0 | 0.0% |" in text
    assert "Licence of the models: not known to this tool.\n" in text
    named = msgspec.structs.replace(summary, settings={"embed.licence": "CC-BY-NC-4.0"})
    assert "Licence of the models: CC-BY-NC-4.0.\n" in card(tmp_path, named)
    assert "4 texts were longer than the context of their tower" in text
    assert f"| `clip` | 512 | images | `clip` | `weights` {'0' * 64} |" in text
    one = msgspec.structs.replace(
        summary,
        stages=summary.stages | {"extract": StageSummary(1, Counts(), 1.0, "rows")},
        archives=["x"],
    )
    assert "pairs from 1 archive," in card(tmp_path, one)


def test_the_data_card_says_what_every_column_means():
    assert MEANINGS.keys() == set(PAIRS.names)


def test_the_data_card_of_many_archives_is_short(tmp_path: Path, summary: Summary):
    many = msgspec.structs.replace(summary, archives=[f"{n}.warc.wat.gz" for n in range(90_000)])
    text = card(tmp_path, many)
    assert len(text) < 20_000
    assert "89,950 more" in text


def test_the_settings_are_as_in_a_file(tmp_path: Path, summary: Summary):
    settings = {"a": None, "b": True, "c": ["x", 1], "d": {"en": 0.2}, "e": "x: y", "f": 0.1}
    found = page(tmp_path, msgspec.structs.replace(summary, settings=settings, selected=[])).text
    for line in ("null", "true", "[x, 1]", "{en: 0.2}", "'x: y'", "0.1"):
        assert line in found
    assert "None" not in found.partition("Settings")[2].partition("Kept pairs")[0]
