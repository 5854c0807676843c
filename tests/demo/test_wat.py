import gzip
import json
import zlib

import pytest
from fastwarc.warc import ArchiveIterator

from cah_dask.demo.wat import Link, Page, write_wat

PAGES = [
    Page(
        "http://museum.example/rooms/one.html?lang=fr",
        [
            Link("IMG@/src", "../img/æ.png", alt='A "red" cat\nat rest', title="cat"),
            Link("A@/href", "/next", rel="next", text="→"),
            Link("IMG@/src", ""),
        ],
        title="Room <1>",
        base="http://cdn.museum.example/",
        metas=[{"name": "robots", "content": "noai"}],
        headers={"X-Robots-Tag": "noindex"},
    ),
    Page("https://empty.example/", []),
]

# The layout of a genuine record: names in order, and what a value is.
CONTAINER = {
    "Filename": str,
    "Compressed": bool,
    "Offset": str,
    "Gzip-Metadata": {
        "Deflate-Length": str,
        "Header-Length": str,
        "Footer-Length": str,
        "Inflated-CRC": str,
        "Inflated-Length": str,
    },
}
ENTITY = {"Entity-Length": str, "Entity-Digest": str, "Entity-Trailing-Slop-Length": str}
METADATA = {
    "request": (
        "HTTP-Request-Metadata",
        ["Request-Message", "Headers-Length", "Headers", *ENTITY],
    ),
    "response": (
        "HTTP-Response-Metadata",
        ["Response-Message", "Headers-Length", "Headers", "HTML-Metadata", *ENTITY],
    ),
    "metadata": ("WARC-Metadata-Metadata", ["Metadata-Records"]),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("wat") / "small.warc.wat.gz"
    write_wat(path, iter(PAGES))
    return path


@pytest.fixture(scope="module")
def records(archive):
    """Return (WARC headers, JSON) of every record but the first."""
    with archive.open("rb") as file:
        return [
            (dict(record.headers), json.loads(record.reader.read()))
            for record in ArchiveIterator(file)
            if record.headers["WARC-Type"] == "metadata"
        ]


def layout(value):
    if isinstance(value, dict):
        return {name: layout(item) for name, item in value.items()}
    return type(value)


def html(records):
    """Return the HTML metadata of each page."""
    payloads = [tree["Envelope"]["Payload-Metadata"] for _, tree in records[1::3]]
    return [payload["HTTP-Response-Metadata"]["HTML-Metadata"] for payload in payloads]


def test_an_archive_has_a_warcinfo_and_three_records_a_page(archive, records, tmp_path):
    assert len(records) == 3 * len(PAGES)
    assert write_wat(tmp_path / "again.warc.wat.gz", PAGES) == 1 + 3 * len(PAGES)
    assert gzip.decompress(archive.read_bytes()).startswith(b"WARC/1.0\r\nWARC-Type: warcinfo\r\n")


def test_every_record_is_a_gzip_member_of_its_own(archive):
    data, members = archive.read_bytes(), []
    while data:
        inflater = zlib.decompressobj(wbits=31)
        members.append(inflater.decompress(data))
        data = inflater.unused_data

    assert len(members) == 1 + 3 * len(PAGES)
    assert all(member.startswith(b"WARC/1.0\r\n") for member in members)
    assert all(member.endswith(b"\r\n\r\n") for member in members)


def test_links_come_back_as_the_plan_says_and_what_is_absent_stays_absent(records):
    first, second = html(records)

    assert [list(link) for link in first["Links"]] == [
        ["path", "url", "alt", "title"],
        ["path", "url", "rel", "text"],
        ["path", "url"],
    ]
    assert [Link(**link) for link in first["Links"]] == PAGES[0].links
    assert first["Head"] == {
        "Metas": [{"name": "robots", "content": "noai"}],
        "Title": "Room <1>",
        "Base": "http://cdn.museum.example/",
    }
    assert second == {"Head": {}}


def test_headers_of_the_page_are_among_those_of_its_answer(records):
    _, tree = records[1]
    response = tree["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]

    assert response["Headers"]["X-Robots-Tag"] == "noindex"
    assert response["Headers"]["Content-Type"].startswith("text/html")


def test_names_order_and_types_are_those_of_common_crawl(records):
    for headers, tree in records:
        envelope = tree["Envelope"]
        payload = envelope["Payload-Metadata"]
        kind = envelope["WARC-Header-Metadata"]["WARC-Type"]
        name, fields = METADATA[kind]

        assert list(tree) == ["Container", "Envelope"]
        assert layout(tree["Container"]) == CONTAINER
        assert list(tree["Container"]) == list(CONTAINER)
        assert list(envelope) == [
            "Payload-Metadata",
            "Format",
            "WARC-Header-Length",
            "WARC-Header-Metadata",
        ]
        assert list(payload) == [
            "Actual-Content-Type",
            name,
            "Actual-Content-Length",
            "Trailing-Slop-Length",
            "Block-Digest",
        ]
        assert list(payload[name]) == fields
        assert headers["WARC-Refers-To"] == envelope["WARC-Header-Metadata"]["WARC-Record-ID"]


def test_record_ids_are_unique_and_offsets_grow(records):
    ids = [headers["WARC-Record-ID"] for headers, _ in records]
    ids += [headers["WARC-Refers-To"] for headers, _ in records]
    offsets = [int(tree["Container"]["Offset"]) for _, tree in records]

    assert len(set(ids)) == len(ids)
    assert offsets == sorted(set(offsets))


def test_the_same_pages_give_the_same_bytes(archive, tmp_path):
    again = tmp_path / archive.name
    write_wat(again, PAGES)
    assert again.read_bytes() == archive.read_bytes()
