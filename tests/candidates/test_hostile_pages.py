"""A page costs no more memory and time than it has bytes, and never an archive."""

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.candidates.extract import (
    PAGE_BYTES,
    PAGE_FACTOR,
    RESPECTED,
    ExtractOptions,
    extract_archive,
)
from cah_dask.candidates.page import PageRules
from cah_dask.candidates.page_images import Extra
from cah_dask.candidates.wat import parse_page
from cah_dask.errors import RecordError
from tests.wats import anchor, as_json, image, page, record, write_pages, write_wat

ALSO: frozenset[Extra] = frozenset({"title", "og:image", "srcset"})


def rows_of(archive: str, **options) -> tuple[dict[str, int], list[dict]]:
    found = extract_archive(archive, ExtractOptions(**options), buckets=1)
    found.counts.require_balance("test")
    return found.counts.rejected, [row for group in found.groups for row in group.to_pylist()]


def size(rows: list[dict]) -> int:
    columns = ("url", "text", "license", "page_url")
    return sum(len(row[name] or "") for row in rows for name in columns)


@settings(max_examples=60)
@given(
    images=st.integers(1, 300),
    licenses=st.integers(0, 300),
    license_length=st.integers(1, 3000),
    base=st.integers(0, 5000),
    title=st.integers(0, 3000),
    page_url=st.integers(0, 5000),
)
def test_the_rows_of_a_page_take_little_more_than_its_json(  # noqa: PLR0917
    tmp_path_factory, images, licenses, license_length, base, title, page_url
):
    links = [anchor(f"/l{n}/{'x' * license_length}", rel="license") for n in range(licenses)]
    links += [image(f"{n}.jpg", f"caption number {n}") for n in range(images)]
    metas = [{"property": "og:title", "content": "t" * title}]
    metas += [{"property": "og:image", "content": f"http://c.test/{n}"} for n in range(images)]
    made = page(*links, base=f"http://b.test/{'b' * base}/", metas=metas)
    path = tmp_path_factory.mktemp("wat") / "x.wat.gz"
    archive = write_pages(path, made, url=f"http://p.test/{'p' * page_url}")
    _, rows = rows_of(archive, also=tuple(ALSO))
    assert size(rows) <= PAGE_BYTES + PAGE_FACTOR * len(as_json(made))


def test_a_usual_page_is_far_from_its_limit(tmp_path: Path):
    links = [
        image(f"/wp-content/uploads/2024/05/{n}.jpg", f"A photograph of thing {n}")
        for n in range(400)
    ]
    made = page(*links, anchor("https://creativecommons.org/licenses/by-sa/4.0/", rel="license"))
    rejected, rows = rows_of(write_pages(tmp_path / "x.wat.gz", made))
    assert (rejected, len(rows)) == ({}, 400)


def test_a_page_with_more_licences_than_any_needs_has_none(tmp_path: Path):
    links = [anchor(f"/{n}/{'x' * 1000}", rel="license") for n in range(400)]
    _, (row,) = rows_of(
        write_pages(tmp_path / "x.wat.gz", page(*links, image("a.jpg", "a caption")))
    )
    assert row["license"] is None


def test_time_grows_no_faster_than_the_page(tmp_path: Path):
    def seconds(links: int) -> float:
        images = [image(str(n), f"text {n}") for n in range(links)]
        archive = write_pages(
            tmp_path / "x.wat.gz", page(*images, base=f"http://b.test/{'b' * 500_000}")
        )
        began = time.process_time()
        rejected, _ = rows_of(archive)
        assert rejected == {"long_url": links}
        return time.process_time() - began

    assert seconds(16_000) < 5, "joined one by one they took fifty"


LICENCES = (
    "import sys, resource\n"
    "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    "from cah_dask.candidates.extract import ExtractOptions, extract_archive\n"
    "found = extract_archive(sys.argv[1], ExtractOptions(), buckets=1)\n"
    "print(found.counts.seen, found.counts.kept, *found.errors)\n"
)


def test_an_archive_made_to_fill_the_memory_fits_into_three_gigabytes(tmp_path: Path):
    licences = [anchor(f"/{n}/{'x' * 1000}", rel="license") for n in range(400)]
    pages = [
        page(*licences, *(image(f"{p}-{n}.jpg", f"caption {n}") for n in range(9000)))
        for p in range(3)
    ]
    archive = write_pages(tmp_path / "x.wat.gz", *pages, url=f"http://p.test/{'p' * 1900}")
    command = [sys.executable, "-c", LICENCES, archive]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen, kept = map(int, done.stdout.split()[:2])
    assert seen == 27_000
    assert 0 < kept < seen
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000  # kB


def test_what_follows_too_many_rows_is_named_and_not_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cah_dask.candidates.extract.ARCHIVE_BYTES", 20_000)
    pages = [page(*(image(f"{p}-{n}.jpg", f"a caption {n}") for n in range(90))) for p in range(9)]
    found = extract_archive(write_pages(tmp_path / "x.wat.gz", *pages), ExtractOptions(), buckets=1)
    found.counts.require_balance("test")
    assert 0 < found.counts.kept < 9 * 90
    assert "is not read" in found.errors[0]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, double or put in some bytes."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randrange(1, 20)]
            case 2:
                changed[at:at] = changed[at : at + rng.randrange(1, 40)]
            case _:
                changed[at:at] = rng.choice([b"\xff", b"\0", b"\xed\xa0\x80", b"[" * 30, b"1e999"])
        if not changed:
            return b""
    return bytes(changed)


def test_ten_thousand_mutated_records_raise_nothing_but_that_they_are_none():
    rng = random.Random(11)
    made = page(
        image("a.jpg", "a caption"), anchor("https://creativecommons.org/licenses/by/4.0/"),
        base="http://b.test/", metas=[
            {"name": "robots", "content": "noai"}, {"property": "og:image", "content": "/o.jpg"},
            {"property": "og:title", "content": "caf\u00e9"},
        ],
        head_links=[{"path": "LINK@/href", "url": "/l", "rel": "license"}],
        headers={"X-Robots-Tag": "noindex", "tdm-reservation": "1"},
    )  # fmt: skip
    data = as_json(made)
    rules = PageRules(frozenset(RESPECTED), ALSO)
    n_pages = 0
    for _ in range(10_000):
        try:
            found = parse_page("http://p.test/", mutated(data, rng), rules)
        except RecordError:
            continue
        n_pages += 1
        assert found.license is None or isinstance(found.license, str)
        assert isinstance(found.base.href, str)
    assert n_pages > 1000


@pytest.mark.parametrize("where", ["metas", "headers", "head_links"])
def test_a_byte_that_is_no_utf8_costs_no_archive(tmp_path: Path, where: str):
    others: dict[str, Any] = {
        "metas": [{"name": "robots", "content": "all"}, {"name": "x", "content": "caf@"}],
        "headers": {"X-Robots-Tag": "all", "x": "caf@"},
        "head_links": [{"path": "LINK@/href", "url": "caf@", "rel": "license"}],
    }
    other = {where: others[where]}
    made = json.dumps(page(image("/a.jpg", "a caption"), **other)).encode()
    archive = write_wat(tmp_path / "x.wat.gz", record(made.replace(b"caf@", b"caf\xff")))
    assert len(rows_of(archive)[1]) == 1
