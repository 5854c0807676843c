"""What is published says nothing of where it was made, and is the same wherever that was."""

import shutil
from pathlib import Path

import pytest

from cah_dask.candidates.sources import public_names
from tests import runs
from tests.webserver import WebServer


@pytest.mark.parametrize(
    ("archives", "names"),
    [
        (["/home/me/a.wat.gz", "b/b.wat.gz"], ["a.wat.gz", "b.wat.gz"]),
        (["x/1/a.gz", "y/1/a.gz", "b.gz"], ["x/1/a.gz", "y/1/a.gz", "b.gz"]),
        (["/p/x/a.wat.gz", "/p/y/a.wat.gz"], ["x/a.wat.gz", "y/a.wat.gz"]),
        (["a.wat.gz", "x/a.wat.gz"], ["a.wat.gz", "x/a.wat.gz"]),
        (
            ["https://data.commoncrawl.org/crawl-data/CC/x.warc.wat.gz"],
            ["crawl-data/CC/x.warc.wat.gz"],
        ),
        (
            ["https://me:secret@s3.example/bucket/x.wat.gz?X-Amz-Signature=abc#f"],
            ["s3.example/bucket/x.wat.gz"],
        ),
    ],
)  # fmt: skip
def test_an_archive_is_called_by_no_folder_query_or_password(archives, names):
    assert public_names(archives) == dict(zip(archives, names, strict=True))


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


def test_the_same_run_at_another_place_publishes_the_same_bytes_and_no_path(
    tmp_path: Path, web: WebServer, random_model: Path
):
    links = [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 5}.test"), f"A picture of thing {number}")
        for number in range(20)
    ]
    digests = []
    for place in ("here", "there/deep"):
        folder = tmp_path / place
        inputs = runs.write_inputs(folder / "archives", links)
        model = shutil.copytree(random_model, folder / "model")
        hosts = folder / "hosts.txt"
        hosts.write_text("blocked.test\n")
        config = runs.write_config(
            folder / f"{place[:2]}.yaml", inputs=inputs, model=model, port=web.port,
            dedup={"buckets": 2, "list_urls": 30, "exclude": [f"host:{hosts}"]},
        )  # fmt: skip
        assert runs.finish(config) == 0, runs.output(config)
        digests.append(runs.release_digests(config.with_suffix("")))
        release = config.with_suffix("") / "release"
        for path in release.rglob("*"):
            if path.is_file():
                assert str(tmp_path).encode() not in path.read_bytes(), path
    assert digests[0] == digests[1]
