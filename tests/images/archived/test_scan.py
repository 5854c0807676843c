"""What is found in archives, of which records may be cut, damaged or packed together."""

import gzip
import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pytest

from cah_dask.archives.members import MAGIC
from cah_dask.archives.responses import opened
from cah_dask.counts import Counts
from cah_dask.errors import ShardError
from cah_dask.images.archived.scan import Scanned, scan
from tests.archived import make_index, take
from tests.hostile import picture
from tests.warcs import response, write_warc
from tests.wats import WARCINFO

JPEG = {"Content-Type": "image/jpeg"}


def url(n: int) -> str:
    return f"http://host.test/{n}.jpg"


RECORDS = [response(url(n), picture(seed=n), JPEG) for n in range(6)]


@pytest.mark.parametrize(
    "data", [b"", bytes(9), random.Random(2).randbytes(9000), gzip.compress(b"url,text\n")]
)
def test_what_is_no_archive_is_refused_as_one(tmp_path, data):
    (tmp_path / "x.warc.gz").write_bytes(data)
    with pytest.raises(ShardError, match=r"x\.warc\.gz holds no records of a WARC archive"):
        scan(str(tmp_path / "x.warc.gz"), "x", 4)


def test_an_archive_that_was_only_begun_holds_nothing(tmp_path):
    assert scan(write_warc(tmp_path / "x.warc.gz", []), "x", 4).counts == Counts(0, 0)


def test_records_behind_another_one_in_their_member_are_counted(tmp_path):
    data = Path(write_warc(tmp_path / "x.warc", RECORDS[:3], gzip=False)).read_bytes()
    (tmp_path / "x.warc.gz").write_bytes(gzip.compress(data))
    found = scan(str(tmp_path / "x.warc.gz"), "x", 4)
    assert found.counts == Counts(3, 0, {"behind_another": 3})
    whole = gzip.compress(RECORDS[2])
    (tmp_path / "x.warc.gz").write_bytes(gzip.compress(b"".join(RECORDS[:2])) + whole)
    found = scan(str(tmp_path / "x.warc.gz"), "x", 4)
    assert found.counts == Counts(3, 2, {"behind_another": 1})
    index = make_index(tmp_path / "index", [str(tmp_path / "x.warc.gz")])
    made, _ = take([url(n) for n in range(3)], index, tmp_path / "x.h5")
    assert made.outcomes["status"].to_pylist() == ["ok", "not_archived", "ok"]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_records_of_frames_of_their_own_are_found(tmp_path, codec):
    def compress(data: bytes) -> bytes:
        return pa.compress(data, codec=codec, asbytes=True)

    pieces = [WARCINFO, *RECORDS]
    (tmp_path / "x.warc").write_bytes(b"".join(map(compress, pieces)))
    index = make_index(tmp_path / "index", [str(tmp_path / "x.warc")])
    made, _ = take([url(n) for n in range(3)], index, tmp_path / "x.h5")
    assert made.counts.kept == 3
    (tmp_path / "x.warc").write_bytes(compress(b"".join(pieces)))
    found = scan(str(tmp_path / "x.warc"), "x", 4)
    assert found.counts == Counts(6, 0, {"behind_another": 6})


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("n_cut", [1, 4, 8, 40, 400, -60])
def test_a_cut_record_does_not_hide_an_older_one_that_is_whole(tmp_path, n_cut, is_packed):
    old = response(url(0), picture(seed=1), JPEG, fields={"WARC-Date": "2016-01-01T00:00:00Z"})
    path = tmp_path / "x.warc"
    write_warc(path, [old, response(url(0), picture(seed=2), JPEG)], gzip=is_packed)
    data, begins = path.read_bytes(), path.read_bytes().rindex(MAGIC if is_packed else b"WARC/1.0")
    path.write_bytes(data[: begins - n_cut if n_cut < 0 else -n_cut - (0 if is_packed else 4)])
    index = make_index(tmp_path / "index", [str(path)])
    made, _ = take([url(0)], index, tmp_path / "x.h5")
    assert made.outcomes["status"].to_pylist() == ["ok"]
    assert made.outcomes["sha256"].to_pylist() == [hashlib.sha256(picture(seed=1)).hexdigest()]


def test_the_errors_of_an_archive_are_as_few_as_a_person_reads(tmp_path):
    sound, cut = gzip.compress(RECORDS[0]), gzip.compress(RECORDS[1])[:-4]
    (tmp_path / "x.warc.gz").write_bytes((sound + cut) * 50)
    errors = scan(str(tmp_path / "x.warc.gz"), "x", 4).errors
    assert len(errors) == 11
    assert errors[-1].endswith(" more places")


def mutated(chance: random.Random, *, is_packed: bool) -> bytes:
    """Return an archive with faults, of which members may hold several records."""
    pieces, members = [WARCINFO, *RECORDS], []
    while pieces:
        n = chance.choice((1, 1, 1, 2, 3))
        members.append(b"".join(pieces[:n]))
        pieces = pieces[n:]
    data = bytearray(b"".join(map(gzip.compress, members) if is_packed else members))
    for _ in range(chance.choice((0, 0, 1, 2, 4))):
        at, n = chance.randrange(len(data)), chance.randrange(1, 50)
        stop = chance.choice((at, at + n, len(data)))
        data[at:stop] = chance.randbytes(chance.choice((0, 1, n)))
    return bytes(data)


@pytest.mark.parametrize("is_packed", [True, False])
def test_whatever_is_found_can_be_looked_up(tmp_path, is_packed):
    chance = random.Random(7)
    path, n_read = tmp_path / "x.warc", 0
    for _ in range(120):
        path.write_bytes(mutated(chance, is_packed=is_packed))
        try:
            found: Scanned = scan(str(path), "x", 4)
        except ShardError:
            continue
        found.counts.require_balance("scan")
        with opened(str(path)) as archive:
            for offset in found.captures["offset"].to_pylist():
                assert archive.read_response(offset).url
                n_read += 1
    assert n_read > 200
