"""What becomes of the records of an archive, hostile ones too: one outcome each, and no more."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cah_dask.classify.arrays import unpacked
from cah_dask.classify.options import ClassifyOptions, RecordOptions
from cah_dask.classify.proof import Proof
from cah_dask.classify.reading import Reading
from cah_dask.classify.rows import READ
from cah_dask.counts import STAGED
from cah_dask.errors import AlarmError
from tests.warcs import record, request, response, revisit, write_warc

PLAIN = {"Content-Type": "text/plain"}
LENGTHS = "tests.classify.models:Lengths"
READS = "tests.classify.bad_hooks:read"


def plain(number: int, text: str, status: int = 200) -> bytes:
    return response(f"http://h.test/{number}", text.encode(), PLAIN, status)


def read(path: Path, proof: Proof | None = None, **options) -> tuple[pa.Table, Reading]:
    """Return what is read of an archive, and its numbers, which balance."""
    given = {"model": LENGTHS, "hook_timeout_s": 0.3, **options}
    reading = Reading(str(path), path.name, ClassifyOptions(**given), proof=proof)
    table = pa.concat_tables([*reading.groups(), READ.empty_table()])
    assert reading.counts.is_balanced
    assert reading.counts.kept == len(table)
    return table, reading


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    return lambda *records: Path(write_warc(tmp_path / "a.warc.gz", records))


def test_the_filter_leaves_out_what_is_not_wanted(archive):
    path = archive(
        plain(0, "a"),
        request("http://h.test/0"),
        plain(1, "gone", 404),
        response("http://h.test/2", b"<html>"),
        plain(3, "x" * 100),
        plain(4, ""),
        revisit("http://h.test/5", ("http://h.test/0", "2024-01-01T00:00:00Z")),
    )
    table, reading = read(path, records=RecordOptions(mime=("text/plain",), max_bytes=99))
    assert table["url"].to_pylist() == ["http://h.test/0"]
    assert reading.counts.seen == 6, "a request holds nothing"
    assert reading.counts.rejected == {
        "kind": 1, "mime": 1, "status": 1, "too_large": 1, "too_small": 1,
    }  # fmt: skip
    assert reading.errors == ()


def test_the_default_hooks_give_the_body(archive):
    table, reading = read(archive(plain(0, "abc")), payload="all")
    (array,) = unpacked(table["arrays"][0].as_py()).values()
    assert array.tobytes() == b"abc"
    assert table["payload"].to_pylist() == [b"abc"]
    assert reading.counts.notes[STAGED] == len(table["arrays"][0].as_py()) + 3


def test_hooks_that_misbehave_cost_their_records(archive):
    words = ["fine", "raise", "loop", "crash", "none", "object", "fine too"]
    table, reading = read(archive(*(plain(n, word) for n, word in enumerate(words))), read=READS)
    assert table["url"].to_pylist() == ["http://h.test/0", "http://h.test/6"]
    assert reading.counts.rejected == {
        "bad_item": 1, "hook_crash": 1, "hook_error": 1, "hook_timeout": 1, "not_wanted": 1,
    }  # fmt: skip
    assert [error.partition(": ")[2].partition(": ")[2] for error in reading.errors] == [
        "read: ValueError: no such thing",
        "takes more than 0.3 s",
        "its process died",
        "prepare: TypeError: data has to be an array of numbers or bools, not an array of object",
    ]


def test_hooks_that_fail_for_all_of_the_first_records_stop_the_job(archive):
    few = [plain(n, "raise") for n in range(15)]
    assert read(archive(*few), read=READS)[1].counts.rejected == {"hook_error": 15}
    with pytest.raises(AlarmError, match=r"each of the first 16 records of a.warc.gz; the last"):
        read(archive(*few, plain(15, "raise"), plain(16, "fine")), read=READS)
    assert len(read(archive(plain(0, "none"), *few, plain(15, "raise")), read=READS)[0]) == 0


def test_groups_end_by_rows_and_by_bytes_whatever_the_batches_are(archive):
    path = archive(*(plain(number, f"text {number}") for number in range(300)))
    for batch_size in (1, 60, 5000):
        options = ClassifyOptions(read=READS, model=LENGTHS, batch_size=batch_size)
        groups = list(Reading(str(path), path.name, options).groups())
        assert [len(group) for group in groups] == [256, 44]
    path = archive(*(plain(number, "0" * (15 << 20)) for number in range(12)))
    options = ClassifyOptions(model=LENGTHS, batch_size=5000)
    groups = list(Reading(str(path), path.name, options).groups())
    assert [len(group) for group in groups] == [5, 5, 2]


def test_records_that_wait_for_their_group_do_not_keep_their_bodies(archive):
    path = archive(*(plain(number, f"word{' ' * (8 << 20)}") for number in range(24)))
    options = ClassifyOptions(read=READS, model=LENGTHS)
    tracemalloc.start()
    assert [len(group) for group in Reading(str(path), path.name, options).groups()] == [24]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_an_archive_of_bad_records_alone_does_not_stop_a_job_whose_hooks_work(tmp_path):
    bad = Path(write_warc(tmp_path / "bad.warc.gz", [plain(n, "raise") for n in range(20)]))
    fine = Path(write_warc(tmp_path / "fine.warc.gz", [plain(0, "fine")]))
    proof = tmp_path / "sound"
    with pytest.raises(AlarmError, match="for each of the first 16 records of bad"):
        read(bad, read=READS, proof=Proof(proof))
    read(fine, read=READS, proof=Proof(proof))
    table, reading = read(bad, read=READS, proof=Proof(proof))
    assert reading.counts.rejected == {"hook_error": 20}
    assert len(table) == 0
    with pytest.raises(AlarmError):  # one for which they work elsewhere only
        read(bad, read="tests.classify.bad_hooks:broken", proof=Proof(proof))


@pytest.mark.parametrize("hook", [None, READS])
def test_hostile_records_cost_what_they_hold(archive, hook: str | None):
    bomb = gzip.compress(bytes(100 << 20))
    packed = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    path = archive(
        plain(0, "fine"),
        response("http://h.test/1", bomb, packed),
        record("response", "http://h.test/2", b"HTTP/1.1 200 OK\r\n\r\nshort", length=9999),
        response("http://h.test/\udcff\udcfe", b"odd", PLAIN),
        response("http://h.test/4", b"body", {"Content-Type": "a/" + "b" * 5000}),
        record("response", "http://h.test/5", b"no http at all"),
        response("http://h.test/6", bytes(101 << 20), PLAIN),
        plain(7, "fine"),
    )
    table, reading = read(path, read=hook, records=RecordOptions(max_bytes=1 << 20))
    urls = table["url"].to_pylist()
    assert (urls[0], urls[-1]) == ("http://h.test/0", "http://h.test/7")
    assert reading.counts.rejected["too_large"] == 2
    assert reading.counts.seen == 8
    assert all(len(note) < 100 for note in reading.counts.notes)


def test_an_archive_that_is_cut_gives_what_is_before_the_cut(archive):
    path = archive(*(plain(number, f"text {number}") for number in range(20)))
    path.write_bytes(path.read_bytes()[:-40])
    table, reading = read(path, read=READS)
    assert len(table) == 19
    assert reading.errors[0].startswith("a.warc.gz: the record at byte ")
