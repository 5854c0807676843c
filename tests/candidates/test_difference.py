"""Every pair that cc2dataset's rule finds is ours, or one of our stated rules rejects it."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.difference import UNEXPLAINED, difference
from tests.strategies import wat_json
from tests.wats import as_json, image, page, record, write_pages, write_wat

CAPTION = "two brown dogs playing in the green grass"


def test_each_pair_of_cc2dataset_is_ours_or_rejected_for_a_reason(tmp_path):
    archive = write_pages(
        tmp_path / "x.wat.gz",
        page(
            image("http://ex.org/1.jpg", CAPTION),
            image("2.jpg", f" {CAPTION}\n"),
            image("../../../3.jpg", CAPTION),
            image("http://ex.org/a b.jpg#x", CAPTION),
            image("4.svg", CAPTION),
            image("http://localhost/5.jpg", CAPTION),
            image("6.jpg", "dog"),
            image("data:image/gif;base64,", CAPTION),
            image("7.jpg", ""),
            base="/b/",
        ),
        page(image("8.jpg", CAPTION), metas=[{"name": "robots", "content": "noai"}]),
    )
    assert difference(archive) == {
        "same": 2,
        "cleaned": 2,
        "format": 1,
        "private_host": 1,
        "short_text": 1,
        "page_directive": 1,
    }


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(wat_json(), max_size=3))
def test_no_pair_is_lost_without_a_reason_whatever_the_pages(tmp_path, trees):
    records = [record(as_json(tree).decode("utf-8", "replace").encode()) for tree in trees]
    archive = write_wat(tmp_path / "x.wat.gz", record(b"{}"), *records)
    assert difference(archive)[UNEXPLAINED] == 0
