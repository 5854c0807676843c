from collections import Counter

import pytest

from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.counts import Counts, Reject, Status
from cah_dask.demo.planting import HOSTS, N_IMAGES, N_PAGES, plan_site
from cah_dask.demo.plants import FAULTS, FLAWS, Fault
from cah_dask.demo.site import Ports
from cah_dask.demo.wat import write_wat

PORTS = Ports(web=8000, closed=8001, names=8002)


@pytest.fixture(scope="module")
def site():
    return plan_site(7, PORTS)


def test_a_seed_and_ports_make_one_web(site):
    again = plan_site(7, PORTS)

    assert again.pages == site.pages
    assert list(again.answers) == list(site.answers)
    assert plan_site(8, PORTS).pages != site.pages


def test_the_web_has_the_size_it_should_have(site):
    assert len(site.pages) == N_PAGES
    assert len({page.page.url.split("/")[2] for page in site.pages}) == len(HOSTS)
    assert site.truth.download.seen == N_IMAGES


def test_every_fault_and_flaw_is_planted_as_often_as_its_table_says(site):
    links = {
        (planted.fate, planted.url)
        for page in site.pages
        for planted in page.images
        if planted.fate is not Status.OK
    }
    fates = Counter(fate for fate, _ in links)
    tables: Counter[Status | Reject] = Counter()
    for plant in (*FAULTS, *FLAWS):
        tables[plant.status if isinstance(plant, Fault) else plant.reject] += plant.count

    assert {fate: fates[fate] for fate in tables} == dict(tables)


def test_the_truth_balances(site):
    truth = site.truth
    for counts in (truth.extract, truth.dedup, truth.download):
        counts.require_balance("truth")

    assert truth.extract.kept == truth.dedup.seen
    assert truth.dedup.kept == len(truth.matches) + sum(truth.lost.values())


def test_every_image_that_can_be_had_has_an_answer(site):
    asked = {
        planted.url for page in site.pages for planted in page.images if planted.fate is Status.OK
    }
    assert asked <= set(site.answers)


def test_extraction_of_the_archives_finds_exactly_what_was_planted(site, tmp_path):
    counts = Counts()
    pairs: set[tuple[str, str]] = set()
    for number in range(site.n_archives):
        path = tmp_path / f"{number}.warc.wat.gz"
        write_wat(path, site.archive(number))
        found = extract_archive(str(path), ExtractOptions(), buckets=4)
        counts += found.counts
        for group in found.groups:
            pairs.update(zip(group["url"].to_pylist(), group["text"].to_pylist(), strict=True))

    planted = {
        (planted.url, planted.text)
        for page in site.pages
        for planted in page.images
        if isinstance(planted.fate, Status) or planted.fate is Reject.SEEN_EARLIER
    }
    truth = site.truth.extract
    assert (counts.seen, counts.kept, counts.rejected) == (truth.seen, truth.kept, truth.rejected)
    assert pairs == planted
