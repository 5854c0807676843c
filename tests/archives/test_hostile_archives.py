"""Archives that were written to do harm cost the time of their bytes, and no memory to speak of."""

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pyarrow as pa
import pytest

from tests.warcs import chunked, http, record, response, within_one_another

MAX_BYTES = 1 << 20
ROOM_MB = 16
"""What a worker may need more than for an archive of small records: of a body the stored bytes and
what is unpacked of it, of a member its heads and body when it is read again, twice each."""

READ = f"""
import json, sys, time
from cah_dask.archives.responses import Responses, Wanted, read_response
from cah_dask.errors import RecordError

started = time.process_time()
responses = Responses(sys.argv[1], Wanted(max_bytes={MAX_BYTES}))
found = [(each.url, len(each.body), each.fault) for each in responses]
for offset in map(int, sys.argv[2:]):
    try:
        read_response(sys.argv[1], offset, max_bytes={MAX_BYTES})
    except RecordError:
        pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak_mb = int(status["VmHWM"].split()[0]) / 1024
seconds = time.process_time() - started
print(json.dumps([found, responses.n_bad, peak_mb, seconds]))
"""


def read(archive: Path, *offsets: int) -> tuple[list[list], int, float, float]:
    """Read an archive, and some places of it, in a process of its own."""
    command = [sys.executable, "-c", READ, str(archive), *map(str, offsets)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def bomb(head: bytes, n_zeros: int) -> bytes:
    """A sound gzip member of a head and so many zeros, of which it takes a thousandth."""
    piece = bytes(1 << 20)
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(head)]
    pieces += [packer.compress(piece) for _ in range(n_zeros >> 20)]
    return b"".join([*pieces, packer.flush()])


def response_of(n_bytes: int, headers: bytes = b"Content-Type: image/png\r\n") -> bytes:
    """The beginning of a record with a response whose body is so long."""
    message = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n"
    whole = record("response", "http://h.test/bomb", b"", length=len(message) + n_bytes)
    return whole.removesuffix(b"\r\n\r\n") + message


def packed(coding: str, body: bytes, transfer: str = "") -> bytes:
    headers = {"Content-Encoding": coding, "Transfer-Encoding": transfer}
    return member(response("http://h.test/bomb", body, headers))


BIG = 256 << 20
GZIP_BOMB = bomb(b"", BIG)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a member of 512 MB": lambda: bomb(response_of(512 << 20), 512 << 20),
    "a member of 512 MB that says it is small": lambda: bomb(response_of(1000), 512 << 20),
    "a member of 512 MB that is no record": lambda: bomb(b"", 512 << 20),
    "a head of 256 MB": lambda: bomb(b"WARC/1.0\r\nWARC-Type: response\r\nA: ", BIG),
    "a head of HTTP of 256 MB": lambda: bomb(response_of(BIG)[:-4], BIG),
    "a body of 256 MB in gzip": lambda: packed("gzip", GZIP_BOMB),
    "a body of 256 MB in Brotli": lambda: packed("br", brotli.compress(bytes(BIG), quality=1)),
    "a body of 256 MB in Zstandard": lambda: packed(
        "zstd", pa.compress(bytes(BIG), codec="zstd", asbytes=True)
    ),
    "chunks of gzip": lambda: packed("gzip", chunked(GZIP_BOMB), "chunked"),
    "gzip in gzip in gzip": lambda: packed(
        "gzip, gzip, gzip", gzip.compress(gzip.compress(GZIP_BOMB))
    ),
    "a million chunks": lambda: packed("", chunked(b"x" * 10**6, 1), "chunked"),
    "ten million lines of headers": lambda: bomb(response_of(0, b"A: b\r\n" * 10**7), 0),
    "members that begin within one another": lambda: within_one_another(
        b"", 4000, GZIP_BOMB[10:-9]
    ),
    "a WARC head of a million lines": lambda: bomb(b"WARC/1.0\r\n" + b"A:\n" * 10**6, 0),
    "a length of 10 EB": lambda: member(
        record("response", "http://h.test/bomb", http(b"x"), length=10**19)
    ),
}


@pytest.fixture(scope="module")
def usual_mb(tmp_path_factory) -> float:
    path = tmp_path_factory.mktemp("warc") / "x.warc.gz"
    path.write_bytes(member(response("http://h.test/1", b"x")))
    return read(path, 0)[2]


@pytest.mark.parametrize("name", HOSTILE)
def test_harm_costs_no_memory_and_no_neighbour(tmp_path: Path, usual_mb: float, name: str):
    before, behind = (member(response(f"http://h.test/{n}", b"sound")) for n in (1, 2))
    path = tmp_path / "x.warc.gz"
    path.write_bytes(before + HOSTILE[name]() + behind)
    found, n_bad, peak_mb, seconds = read(path, len(before))
    assert found[0] == ["http://h.test/1", 5, ""]
    assert found[-1] == ["http://h.test/2", 5, ""]
    assert len(found) + n_bad <= 3
    assert peak_mb < usual_mb + ROOM_MB
    assert seconds < 60


def test_a_head_of_lines_without_end_in_an_archive_that_is_not_packed_costs_no_memory(
    tmp_path: Path, usual_mb: float
):
    path = tmp_path / "x.warc"
    before = response("http://h.test/1", b"sound")
    path.write_bytes(before + b"WARC/1.0\r\n" + b"A:\n" * 10**7)
    found, _, peak_mb, seconds = read(path, len(before))
    assert found == [["http://h.test/1", 5, ""]]
    assert peak_mb < usual_mb + ROOM_MB
    assert seconds < 10


def test_a_record_of_100_mb_in_an_archive_that_is_not_packed_costs_no_memory(
    tmp_path: Path, usual_mb: float
):
    before, behind = (response(f"http://h.test/{n}", b"sound") for n in (1, 2))
    path = tmp_path / "x.warc"
    path.write_bytes(before + response("http://h.test/large", bytes(100 << 20)) + behind)
    found, _, peak_mb, _ = read(path, len(before))
    assert found[1] == ["http://h.test/large", MAX_BYTES, "too_large"]
    assert [url for url, _, _ in found] == [f"http://h.test/{name}" for name in (1, "large", 2)]
    assert peak_mb < usual_mb + ROOM_MB
