"""Measure how fast responses are read from a WARC, beside FastWARC alone with the same filter.

    python benchmarks/archives.py [--records 4000] [--repeat 5]

CPU seconds (user + system) of one process, medians; both take turns, so that a busy machine is busy
for both. The archive is made by the script: pages of words and pictures of random bytes, half each,
under eleven headers, each between its request and a metadata record as crawlers write them.
FastWARC parses the HTTP head of responses only, leaves out other types, and reads the body of what
is left with all codings undone; so does `Responses`, which tells faults apart, too.
"""

import argparse
import gzip
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType

from cah_dask.archives.responses import Responses, Wanted, opened
from tests.warcs import metadata, request, response

HEADERS = {
    "Date": "Fri, 31 May 2024 01:17:49 GMT", "Server": "nginx", "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "max-age=0", "Vary": "Accept-Encoding", "ETag": '"6656f8d9-1f4"',
    "Connection": "keep-alive", "Strict-Transport-Security": "max-age=31536000",
    "Last-Modified": "Fri, 31 May 2024 01:17:49 GMT",
}  # fmt: skip


def records(n_records: int) -> Iterator[bytes]:
    """Yield requests, responses and metadata."""
    rng = random.Random(3)
    words = [bytes(rng.choices(b"etaoinshrdlu", k=rng.randrange(2, 10))) for _ in range(3000)]
    for number in range(n_records):
        if number % 2:
            text = b" ".join(rng.choices(words, k=rng.randrange(200, 20_000)))
            body, mime = b"<html>%b</html>" % text, "text/html; charset=utf-8"
        else:
            body, mime = rng.randbytes(rng.randrange(1000, 60_000)), "image/jpeg"
        url = f"http://host-{number % 97}.test/{number}"
        headers = {**HEADERS, "Content-Type": mime, "Content-Length": str(len(body))}
        yield from (request(url), response(url, body, headers), metadata(url))


def by_fastwarc(archive: str, mime: str) -> int:
    """Return the bytes of all bodies of a media type, read by FastWARC alone."""
    n_bytes = 0
    for record in ArchiveIterator(
        archive, record_types=WarcRecordType.response, auto_decode="all", fsspec_args=False
    ):
        if (record.http_content_type or "").startswith(mime):
            n_bytes += len(record.reader.read())
    return n_bytes


def by_responses(archive: str, mime: str) -> int:
    """Return the bytes of all bodies of a media type, read by `Responses`."""
    wanted = Wanted(kinds=("response",), mimes=(mime,) if mime else ())
    return sum(len(found.body) for found in Responses(archive, wanted))


def cpu_s(function: Callable[[str, str], int], archive: str, mime: str) -> float:
    """Return the CPU seconds that a function takes."""
    started = time.process_time()
    function(archive, mime)
    return time.process_time() - started


def compare(archive: Path, mime: str, repeat: int) -> None:
    """Print what both take, in turns."""
    if by_fastwarc(str(archive), mime) != by_responses(str(archive), mime):
        raise SystemExit("the two read different bytes")
    functions = (by_fastwarc, by_responses)
    rounds = [
        [cpu_s(function, str(archive), mime) for function in functions] for _ in range(repeat)
    ]
    fastwarc_s, ours_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    size_mb = archive.stat().st_size / 1e6
    print(
        f"{archive.name} ({size_mb:.0f} MB), {mime or 'all responses'}:"
        f" FastWARC {fastwarc_s:.3f} s, Responses {ours_s:.3f} s,"
        f" {size_mb / ours_s:.0f} MB/s, {fastwarc_s / ours_s:.0%} of its rate"
    )


def look_up(archive: Path, repeat: int) -> None:
    """Print what it takes to read each response at its offset."""
    offsets = [found.offset for found in Responses(str(archive), Wanted(kinds=("response",)))]
    times = []
    for _ in range(repeat):
        started = time.process_time()
        with opened(str(archive)) as places:
            for offset in offsets:
                places.read_response(offset)
        times.append(time.process_time() - started)
    each_us = statistics.median(times) / len(offsets) * 1e6
    print(f"{archive.name}: {len(offsets)} look-ups in order, {each_us:.0f} us each")


def main() -> None:
    """Make the archives and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed, plain = Path(folder, "pages.warc.gz"), Path(folder, "pages.warc")
        with packed.open("wb") as packed_file, plain.open("wb") as plain_file:
            for record in records(options.records):
                packed_file.write(gzip.compress(record, 6))
                plain_file.write(record)
        for archive in (packed, plain):
            for mime in ("", "image/"):
                compare(archive, mime, options.repeat)
            look_up(archive, options.repeat)


if __name__ == "__main__":
    main()
