import io

from rich.console import Console

from cah_dask.counts import Counts, Reject, Status
from cah_dask.demo.__main__ import show
from cah_dask.demo.site import Planted, PlantedPage, Ports, Site
from cah_dask.demo.verdict import LEAST, Row, Verdict
from cah_dask.demo.wat import Link, Page

EXACT = Row("download", "http_404", planted=70, found=70)
WRONG = Row("download", "http_404", planted=70, found=69)


def planted(url, text, fate, *, is_match=False):
    return Planted(Link("IMG@/src", url, alt=text), url, text, fate, is_match)


def test_a_run_is_good_only_if_every_count_is_exact_and_the_release_good_enough():
    assert Verdict((EXACT,), precision=LEAST, recall=LEAST).is_good
    assert not Verdict((EXACT, WRONG), precision=1.0, recall=1.0).is_good
    assert not Verdict((EXACT,), precision=LEAST - 0.01, recall=1.0).is_good
    assert not Verdict((EXACT,), precision=1.0, recall=LEAST - 0.01).is_good


def test_the_truth_counts_links_then_candidates_then_urls_then_samples():
    images = (
        planted("http://a/1", "three red stars", Status.OK, is_match=True),
        planted("http://a/1", "drei rote Sterne", Status.OK, is_match=True),
        planted("http://a/1", "a blue heart", Status.OK),
        planted("http://a/2", "one text", Status.HTTP_404),
        planted("http://a/2", "another text", Status.HTTP_404),
        planted("http://a/1", "a blue heart", Reject.DUPLICATE),
        planted("http://a/3", "", Reject.NO_TEXT),
        planted("http://a/1", "three red stars", Reject.SEEN_EARLIER),
    )
    page = PlantedPage(Page("http://a/", []), images, archive=0)

    truth = Site(Ports(web=1, closed=2, names=3), (page,), {}).truth

    assert truth.extract == Counts(8, 6, {"duplicate": 1, "no_text": 1})
    assert truth.dedup == Counts(6, 5, {"seen_earlier": 1})
    assert truth.download == Counts(2, 1, {"http_404": 1})
    assert truth.lost == {"http_404": 2}
    assert list(truth.matches.values()) == [True, True, False]


def test_what_differs_is_marked_and_the_results_are_named(tmp_path):
    out = io.StringIO()

    show(Verdict((EXACT, WRONG), precision=1.0, recall=0.5), tmp_path, Console(file=out))

    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["download", "http_404", "70", "70"] in lines
    assert ["download", "http_404", "70", "69", "differs"] in lines
    assert "1 of 2 counts are as planted; precision 1.0000, recall 0.5000" in out.getvalue()
    assert str(tmp_path / "run" / "release" / "report.html") in out.getvalue()
