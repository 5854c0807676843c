"""Archives in an S3 store are read as those on a disk are; a store on loopback answers."""

import gzip
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cah_dask.archives import s3
from cah_dask.archives.responses import Responses, opened, read_response
from cah_dask.archives.sources import list_archives, public_names
from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.errors import InputError, RecordError, RetryableError
from tests.warcs import response, write_warc
from tests.wats import image, page, write_pages

SECRET = "a-secret-that-nobody-may-see"
BUCKET = "archives"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a WAT, a WARC and lists; yields the folder with the same files."""
    folder = tmp_path_factory.mktemp("s3")
    text = "two brown dogs playing in the green grass"
    trees = (page(image(f"http://h.test/{number}.jpg", text)) for number in range(40))
    write_pages(folder / "a.warc.wat.gz", *trees)
    pages = (response(f"http://h.test/{n}", b"<html>%d" % n * 3000) for n in range(300))
    write_warc(folder / "b.warc.gz", pages, requests=True)
    lines = b"crawl-data/x.warc.wat.gz\na.warc.wat.gz\n"
    (folder / "wat.paths.gz").write_bytes(gzip.compress(lines))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "ATTEMPTS", 2)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        for bucket in (BUCKET, "commoncrawl"):
            client.create_bucket(Bucket=bucket)
            for path in folder.iterdir():
                for key in (path.name, f"crawl/1/{path.name}", f"crawl/2/deep/{path.name}"):
                    client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        yield folder
    server.stop()


def test_a_wat_gives_the_same_rows(store: Path):
    name = f"s3://{BUCKET}/a.warc.wat.gz"
    found, expected = (
        extract_archive(archive, ExtractOptions(), buckets=4, name="a")
        for archive in (name, str(store / "a.warc.wat.gz"))
    )
    assert [group.to_pylist() for group in found.groups] == [
        group.to_pylist() for group in expected.groups
    ]
    assert found.counts == expected.counts
    assert found.counts.seen == 40


def test_a_warc_gives_the_same_responses_and_each_at_its_offset(store: Path):
    found = list(Responses(f"s3://{BUCKET}/b.warc.gz"))
    assert found == list(Responses(str(store / "b.warc.gz")))
    with opened(f"s3://{BUCKET}/b.warc.gz") as archive:
        assert [archive.read_response(each.offset) for each in found[::50]] == found[::50]
        with pytest.raises(RecordError, match="the archive ends before that"):
            archive.read_response(10**9)


@pytest.mark.usefixtures("store")
def test_globs_list_what_matches_in_order():
    assert list_archives([f"s3://{BUCKET}/crawl/*/*.warc.gz"]) == [
        f"s3://{BUCKET}/crawl/1/b.warc.gz"
    ]
    assert list_archives([f"s3://{BUCKET}/**/[ab].warc*"]) == [
        f"s3://{BUCKET}/{key}"
        for key in (
            "a.warc.wat.gz", "b.warc.gz", "crawl/1/a.warc.wat.gz", "crawl/1/b.warc.gz",
            "crawl/2/deep/a.warc.wat.gz", "crawl/2/deep/b.warc.gz",
        )
    ]  # fmt: skip
    assert list_archives([f"s3://{BUCKET}/cr?wl/2/*/a.warc.wat.gz"]) == [
        f"s3://{BUCKET}/crawl/2/deep/a.warc.wat.gz"
    ]


@pytest.mark.usefixtures("store")
def test_lines_of_a_list_lie_beside_it_or_where_common_crawl_is():
    public = "https://data.commoncrawl.org/crawl-data/x.warc.wat.gz"
    assert list_archives([f"s3://{BUCKET}/crawl/1/wat.paths.gz"]) == [
        public,
        f"s3://{BUCKET}/crawl/1/a.warc.wat.gz",
    ]
    inside = "s3://commoncrawl/crawl-data/x.warc.wat.gz"
    assert list_archives(["s3://commoncrawl/wat.paths.gz"])[0] == inside
    assert public_names([inside])[inside] == public_names([public])[public]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"s3://{BUCKET}/*.nothing", "matches no object"),
        (f"s3://{BUCKET}/none/*", "matches no object"),
        ("s3://no-such-bucket/*", "matches no object|cannot be listed"),
        ("s3://ab/x", "names no object; accepted is s3://bucket/key"),
        ("s3://archives", "names no object"),
        ("s3://archives/", "names no object"),
        (f"s3://{BUCKET}/none.paths", "there is no such object"),
    ],
)
def test_what_is_not_there_is_a_clear_error(entry: str, message: str):
    with pytest.raises(InputError, match=message):
        list_archives([entry])


def test_credentials_in_a_name_are_refused_and_not_repeated():
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID") as error:
        list_archives([f"s3://AKIDEXAMPLE:{SECRET}@archives/x.warc.gz"])
    assert SECRET not in str(error.value)


@pytest.mark.usefixtures("store")
def test_an_object_that_is_not_there_may_come_back():
    with pytest.raises(RetryableError, match=r"none.warc.gz: there is no such object"):
        read_response(f"s3://{BUCKET}/none.warc.gz", 0)


@pytest.mark.usefixtures("store")
def test_a_store_that_does_not_answer_may_do_so_later(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RetryableError, match="NETWORK_CONNECTION") as error:
        list(Responses(f"s3://{BUCKET}/b.warc.gz"))
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_object_that_shrinks_while_it_is_read_is_lost(store: Path):
    client = boto3.client("s3")
    body = (store / "b.warc.gz").read_bytes()
    client.put_object(Bucket=BUCKET, Key="c.warc.gz", Body=body * 80)
    responses = iter(Responses(f"s3://{BUCKET}/c.warc.gz"))
    next(responses)
    client.put_object(Bucket=BUCKET, Key="c.warc.gz", Body=body[:100])
    with pytest.raises(RetryableError, match=r"c.warc.gz: "):
        list(responses)


def test_an_object_that_is_another_one_of_the_same_length_at_the_end_is_lost(store: Path):
    client = boto3.client("s3")
    one = (store / "b.warc.gz").read_bytes() * 80
    other = one[: len(one) // 2] + one[len(one) // 2 :][::-1]
    client.put_object(Bucket=BUCKET, Key="d.warc.gz", Body=one)
    responses = iter(Responses(f"s3://{BUCKET}/d.warc.gz"))
    next(responses)
    client.put_object(Bucket=BUCKET, Key="d.warc.gz", Body=other)
    with pytest.raises(RetryableError, match=r"d.warc.gz: changed while it was read"):
        list(responses)


@pytest.mark.usefixtures("store")
def test_without_credentials_the_store_is_asked_as_everybody_may(monkeypatch):
    client = boto3.client("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(RetryableError, match=r"ACCESS_DENIED.*AWS_ACCESS_KEY_ID"):
        list(Responses(f"s3://{BUCKET}/b.warc.gz"))
    client.put_object_acl(Bucket=BUCKET, Key="b.warc.gz", ACL="public-read")
    assert len(list(Responses(f"s3://{BUCKET}/b.warc.gz"))) == 300
