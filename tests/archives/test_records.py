"""Whatever lies between the good members of an archive, their rows are kept; nothing is silent."""

import gzip
import itertools
import random
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.archives import members
from cah_dask.archives.records import Records
from cah_dask.candidates.extract import Extraction, ExtractOptions, extract_archive
from tests.fileserver import FileServer, serve
from tests.warcs import within_one_another
from tests.wats import WARCINFO, as_json, image, page, record

CAPTION = "two brown dogs playing in the green grass"
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def good(number: int) -> bytes:
    return record(as_json(page(image(f"http://h.test/{number}.jpg", CAPTION))))


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def claims(delta: int) -> bytes:
    """A record whose Content-Length is wrong."""
    whole = good(900)
    length = int(whole.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return whole.replace(b"Length: %d" % length, b"Length: %d" % max(0, length + delta))


def damaged(seed: int) -> bytes:
    """A member with a few wrong bytes behind its header."""
    data = bytearray(member(good(901) * 3))
    rng = random.Random(seed)
    for _ in range(4):
        data[rng.randrange(12, len(data))] ^= 1 + rng.randrange(255)
    return bytes(data)


def lengths() -> st.SearchStrategy[bytes]:
    return st.integers(-450, 3000).map(lambda delta: member(claims(delta)))


def bare(data: bytes) -> bytes:
    """A record whose head has bare line ends, as editors leave them."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head.replace(b"\r\n", b"\n") + b"\n\n" + body


def odd_heads(number: int) -> st.SearchStrategy[bytes]:
    """Members whose one record is whole, in a form that FastWARC does not read."""
    whole = good(number)
    return st.sampled_from(
        [
            member(bare(whole)), member(whole.replace(b"\r\n", b"\n")),
            member(whole.replace(b"page.html", b"page?" + b"a" * 40_000)),
            member(whole.replace(b"\r\n", b"\r\nX-Long: " + b"b" * 10**6 + b"\r\n", 1)),
            member(whole.replace(b"WARC/1.0", b"WARC/2.0", 1)), member(b"\xef\xbb\xbf" + whole),
            member(b"\r\n \r\n" + whole), member(b"\0" + whole),
        ]
    )  # fmt: skip


TROUBLE = st.one_of(
    st.sampled_from(
        [
            member(b""), BGZIP_END, b"\0" * 512, b"\r\n\r\n", member(b"\r\n"), member(WARCINFO),
            member(claims(10**6)), member(claims(5 * 10**9)), b"\x1f\x8b\x08 no member at all",
            member(b"no record at all"), member(good(902)[:-300]), member(good(903))[:-30],
            member(good(904).replace(b"WARC-Type", b"X-Type")),
            member(record(b"\xef\xbb\xbfno json")), member(record(b'{"cut": ')),
            member(record(b"{" + b"\xff" * 300 + b"}")), WARCINFO, b"\r\n\0 text",
            member(record('{"Envelope": "http://h.test/"}'.encode("utf-16"))),
            zlib.compress(good(906)), member(good(907).replace(b"\r\n", b"\r")),
        ]
    ),
    lengths(),
    st.integers(0, 10_000).map(damaged),
    st.binary(min_size=1, max_size=400).filter(lambda data: members.MAGIC not in data),
)  # fmt: skip


def extract(archive: str) -> tuple[Extraction, list[dict]]:
    found = extract_archive(archive, ExtractOptions(), buckets=1)
    found.counts.require_balance("test")
    return found, [row for group in found.groups for row in group.to_pylist()]


@settings(max_examples=120)
@given(st.lists(st.one_of(TROUBLE, st.none()), min_size=1, max_size=8))
def test_every_good_member_gives_its_row_whatever_lies_between(tmp_path_factory, pieces):
    """None stands for a good member; one more is the last."""
    path = tmp_path_factory.mktemp("wat") / "x.warc.wat.gz"
    data, offsets = b"", {}
    for number, piece in enumerate([*pieces, None]):
        if piece is None:
            offsets[f"http://h.test/{number}.jpg"] = len(data)
        data += member(good(number)) if piece is None else piece
    path.write_bytes(data)
    found, rows = extract(str(path))
    kept = {row["url"]: row["record_offset"] for row in rows}
    assert {url: kept[url] for url in offsets} == offsets
    assert [row["record_offset"] for row in rows] == sorted(kept.values())
    extra = kept.keys() - offsets.keys()
    plain = (WARCINFO, b"\r\n\r\n")  # read, as long as nothing stands before it
    behind = itertools.dropwhile(lambda piece: piece in plain, pieces)
    lost = [p for p in behind if p is not None and is_something(p)]
    told = found.counts.notes["bad_records"] + len(found.errors) + len(extra)
    assert told or not lost


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True).flatmap(
        lambda numbers: st.tuples(*map(odd_heads, numbers))
    ),
    st.lists(st.sampled_from([b"", member(WARCINFO), member(good(500))]), max_size=6),
)
def test_a_record_in_an_odd_form_gives_its_row_too(tmp_path_factory, pieces, others):
    path = tmp_path_factory.mktemp("wat") / "x.warc.wat.gz"
    mixed = itertools.zip_longest(pieces, others, fillvalue=b"")
    path.write_bytes(b"".join(itertools.chain(*mixed)))
    found, rows = extract(str(path))
    assert found.counts.seen == len(pieces) + others.count(member(good(500)))
    assert len(rows) == len(pieces) + (member(good(500)) in others)
    assert not found.errors
    assert not found.counts.notes["bad_records"]


@pytest.mark.parametrize("n_plain", [1, 3])
def test_plain_records_before_the_first_member_give_their_rows(tmp_path: Path, n_plain: int):
    plain = WARCINFO + b"".join(map(good, range(n_plain)))
    members_behind = b"".join(member(good(10 + number)) for number in range(5))
    (tmp_path / "x.wat.gz").write_bytes(plain + members_behind)
    _, rows = extract(str(tmp_path / "x.wat.gz"))
    assert len(rows) == n_plain + 5


def test_rubbish_that_looks_like_members_is_gone_through_in_linear_time(tmp_path: Path):
    """Of 800 kB; each beginning of a member was looked for in the whole rest before."""
    rubbish = b"\x1f\x8b\x08\0" * 200_000
    (tmp_path / "x.wat.gz").write_bytes(member(good(1)) + rubbish + member(good(2)))
    started = time.process_time()
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert time.process_time() - started < 5
    assert len(rows) == 2
    assert "600000 bytes" in found.errors[0]


@pytest.mark.parametrize("n", [40, 1200])
@pytest.mark.parametrize("begin", [b"", b"WARC/1.0\r\nWARC-Type: metadata\r\n", b"\0" * 10])
@pytest.mark.parametrize("ends", [b"", b"\xff" * 20])
def test_members_that_begin_within_one_another_are_gone_through_in_linear_time(
    tmp_path: Path, n: int, begin: bytes, ends: bytes
):
    """What they share are 200 MB of zeros, which were inflated for each, and no end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    shared = packer.compress(bytes(200 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) + ends
    hostile = within_one_another(begin, n, shared)
    (tmp_path / "x.wat.gz").write_bytes(member(good(1)) + hostile + member(good(2)))
    started = time.process_time()
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert time.process_time() - started < 10
    assert found.errors
    assert rows[0]["url"] == "http://h.test/1.jpg"
    assert len(rows) == 2 or b"WARC" in begin  # what follows is named, not read


@pytest.mark.parametrize("n", [1, 3000])
def test_a_member_that_is_damaged_anywhere_costs_its_record_which_is_counted(
    tmp_path: Path, n: int
):
    """FastWARC stops before it and says nothing."""
    whole = member(record(as_json(page(image("http://h.test/x.jpg", CAPTION))) + b" " * 200))
    rng = random.Random(4)
    for at in (len(whole) // 2, len(whole) - 6, len(whole) - 2):
        damaged = bytearray(whole)
        damaged[at] ^= 1 + rng.randrange(255)
        path = tmp_path / "x.wat.gz"
        path.write_bytes(member(good(1)) + (bytes(damaged) + member(good(2))) * n)
        found, _ = extract(str(path))
        assert found.counts.notes["bad_records"] == n
        assert found.counts.notes["records"] == n + 1
        assert f"the record at byte {len(member(good(1)))}: it is cut" in found.errors[0]


def is_something(piece: bytes) -> bool:
    """Tell whether a piece held a record or rubbish that must not vanish without a word."""
    try:
        inside = gzip.decompress(piece)
    except (OSError, EOFError, zlib.error):
        return bool(piece.strip(b"\0"))
    return b"http://h.test/" in inside and b"WARC-Type" in inside


@pytest.mark.parametrize("cut_after", [None, 700, 1500])
def test_a_remote_archive_obeys_the_same(tmp_path: Path, cut_after: int | None):
    pieces = [
        WARCINFO, good(1), b"", claims(500), good(2), b"", b"", good(3), claims(-3), good(4),
    ]  # fmt: skip
    data = b"".join(map(member, pieces)) + BGZIP_END + b"\0" * 20 + member(good(5)) + b"\0"
    (tmp_path / "x.warc.wat.gz").write_bytes(data)
    with serve(FileServer(data, cut_after=cut_after)) as server:
        found, rows = extract(server.url)
    local, expected = extract(str(tmp_path / "x.warc.wat.gz"))
    assert [row["url"] for row in rows] == [row["url"] for row in expected]
    assert len(rows) >= 5
    assert found.counts == local.counts
    assert found.errors == local.errors == ()


@pytest.mark.parametrize("name", [b"Warc-Type", b"warc-type", b"WARC-TYPE"])
@pytest.mark.parametrize("length", [b"content-length", b"CONTENT-LENGTH", b"Content-Length"])
def test_field_names_may_be_written_in_any_case(tmp_path: Path, name: bytes, length: bytes):
    odd = good(2).replace(b"WARC-Type", name).replace(b"Content-Length", length)
    (tmp_path / "x.wat.gz").write_bytes(b"".join(map(member, (WARCINFO, good(1), odd, good(3)))))
    _, rows = extract(str(tmp_path / "x.wat.gz"))
    assert len(rows) == 3


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n ", b"\t", b"\xef\xbb\xbf\r\n"])
def test_what_stands_before_the_json_is_passed_over(tmp_path: Path, before: bytes):
    payload = as_json(page(image("http://h.test/1.jpg", CAPTION)))
    data = member(WARCINFO) + member(record(before + payload))
    (tmp_path / "x.wat.gz").write_bytes(data)
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert (len(rows), found.counts.notes["records"]) == (1, 1)


def test_one_member_for_all_records_is_read_to_its_end(tmp_path: Path):
    (tmp_path / "x.wat.gz").write_bytes(member(WARCINFO + good(1) + good(2)))
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert (len(rows), found.errors) == (2, ())


@pytest.mark.parametrize("bad", [record(b'{"cut": '), record(b"")])
@pytest.mark.parametrize("pack", [bytes, member])
def test_a_bad_record_costs_no_other_where_it_has_no_member_of_its_own(
    tmp_path: Path, bad: bytes, pack
):
    rng = random.Random(1)
    long = [good(n).replace(b"page.html", rng.randbytes(3000).hex().encode()) for n in range(200)]
    (tmp_path / "x.wat.gz").write_bytes(pack(b"".join([*long[:100], bad, *long[100:]])))
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert (len(rows), found.counts.notes["bad_records"]) == (200, 1)


def test_a_record_that_is_larger_than_any_may_be_is_counted_and_costs_little(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(members, "MAX_RECORD_BYTES", 100_000)
    monkeypatch.setattr("cah_dask.archives.records.MAX_RECORD_BYTES", 100_000)
    bomb = record(b"{" + b" " * 3_000_000 + b"}")
    (tmp_path / "x.wat.gz").write_bytes(b"".join(map(member, (WARCINFO, good(1), bomb, good(2)))))
    found, rows = extract(str(tmp_path / "x.wat.gz"))
    assert len(rows) == 2
    assert found.counts.notes["bad_records"] == 1


def test_the_end_of_a_remote_archive_costs_no_request():
    data = b"".join(map(member, (WARCINFO, *map(good, range(50)))))
    with serve(FileServer(data)) as server:
        assert len(list(Records(server.url))) == 50
    assert len(server.requests) == 1
