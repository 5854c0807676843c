from pathlib import Path

import pytest

from cah_dask.errors import InputError, RunError, ShardError
from cah_dask.images.archived.index import About, opened_index, read_about, write_about

CRAWLED = "crawl-data/CC-MAIN-2024-22/warc/x.warc.gz"


def about(folder: Path, cdx: str = "") -> About:
    return About(
        id="0",
        buckets=1,
        archives={"read.warc.gz": str(folder / "elsewhere" / "read.warc.gz")},
        cdx={"a.cdx": cdx or str(folder / "cdx" / "a.cdx")},
    )


@pytest.mark.parametrize(
    ("archive", "files", "root", "expected"),
    [
        ("read.warc.gz", [], "", "{}/elsewhere/read.warc.gz"),
        ("read.warc.gz", ["root/read.warc.gz"], "root", "{}/root/read.warc.gz"),
        ("a/x.warc.gz", ["cdx/a/x.warc.gz", "cdx/x.warc.gz"], "", "{}/cdx/a/x.warc.gz"),
        ("a/x.warc.gz", ["cdx/x.warc.gz"], "", "{}/cdx/x.warc.gz"),
        ("a/x.warc.gz", ["cdx/x.warc.gz", "root/x.warc.gz"], "root", "{}/root/x.warc.gz"),
        ("a/x.warc.gz", [], "root", "{}/cdx/a/x.warc.gz"),
        ("/data/x.warc.gz", [], "", "{}/cdx/x.warc.gz"),
        ("/data/x.warc.gz", ["root/x.warc.gz"], "root", "{}/root/x.warc.gz"),
        ("/etc/shadow", [], "https://h.test/d", "https://h.test/d/shadow"),
        ("../../etc/shadow", ["etc/shadow"], "cdx/a", "{}/cdx/shadow"),
        ("a/../../etc/shadow", ["etc/shadow"], "", "{}/cdx/shadow"),
        ("crawl-data/../x", [], "", "{}/cdx/x"),
        ("https://h.test/x.warc.gz", ["cdx/x.warc.gz"], "", "{}/cdx/x.warc.gz"),
        ("https://data.commoncrawl.org/x", [], "", "https://data.commoncrawl.org/x"),
        ("s3://commoncrawl/x", [], "", "s3://commoncrawl/x"),
        (CRAWLED, [], "", f"https://data.commoncrawl.org/{CRAWLED}"),
        (CRAWLED, ["cdx/x.warc.gz"], "", "{}/cdx/x.warc.gz"),
        (CRAWLED, ["cdx/x.warc.gz"], "https://h.test/d/", f"https://h.test/d/{CRAWLED}"),
    ],
)
def test_an_archive_is_where_it_is_found_first(tmp_path, archive, files, root, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path / root) if root and "://" not in root else root
    assert about(tmp_path).place_of(archive, root) == expected.format(tmp_path)


def test_archives_of_a_cdx_file_on_a_server_are_beside_it(tmp_path):
    remote = about(tmp_path, "https://h.test/cdx/a.cdx")
    assert remote.place_of("x.warc.gz") == "https://h.test/cdx/x.warc.gz"


def test_names_that_cdx_files_tell_are_told_apart_by_their_folders():
    places = {"a/x.cdx": "/d/a/x.cdx", "y.cdx": "/d/a/y.cdx", "b/x.cdx": "/d/b/x.cdx"}
    several = About(id="0", buckets=1, archives={}, cdx=places)
    assert [several.label_of(name) for name in places] == ["a/x.cdx::", "a/x.cdx::", "b/x.cdx::"]
    assert several.place_of("a/x.cdx::p/1.warc.gz") == "/d/a/p/1.warc.gz"
    assert several.place_of("b/x.cdx::1.warc.gz") == "/d/b/1.warc.gz"
    del places["b/x.cdx"]
    assert {several.label_of(name) for name in places} == {""}
    assert several.place_of("1.warc.gz") == "/d/a/1.warc.gz"


def test_a_path_below_the_folder_of_a_cdx_file_is_taken_as_it_stands(tmp_path):
    path = tmp_path / "cdx" / "a" / "x.warc.gz"
    assert about(tmp_path).place_of(str(path)) == str(path)


@pytest.mark.parametrize(
    "archive",
    [
        *("http://10.0.0.1/x", "http://h.test/x", "https://h.test@evil.test/x", "s3://other/x"),
        *("https://h.test.evil.test/x", "http://[", "https://", "https://h.test:1/x"),
    ],
)
def test_no_server_is_asked_that_only_a_cdx_file_names(tmp_path, archive):
    remote = about(tmp_path, "https://h.test/cdx/a.cdx?sign=/x")
    with pytest.raises(ShardError, match="is on a server that only a CDX file names"):
        remote.place_of(archive)
    assert remote.place_of("https://h.test/x.warc.gz") == "https://h.test/x.warc.gz"
    assert remote.place_of("../x.warc.gz") == "https://h.test/cdx/x.warc.gz"


def test_an_index_is_known_by_its_file(tmp_path):
    assert read_about(tmp_path) is None
    write_about(tmp_path, about(tmp_path))
    assert read_about(tmp_path) == about(tmp_path) == opened_index(tmp_path, "0")
    with pytest.raises(RunError, match="is not the index that this run was begun with"):
        opened_index(tmp_path, "1")
    (tmp_path / "index.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match=r"index.json is not what an index has"):
        read_about(tmp_path)
