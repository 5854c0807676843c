"""One list, downloaded from a server of the test's own, and checked for what always holds."""

import time
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.images.download import Downloaded, download_list
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.shards import ShardReader
from cah_dask.schema import OUTCOMES
from tests.rawserver import RawServer
from tests.webserver import WebServer

QUICK = HostOptions(spacing_s=0, backoff_s=0.05)


def options(web: WebServer | RawServer, **changes) -> DownloadOptions:
    base = DownloadOptions(
        contact="me@lab.example",
        resolve={"*.test": "127.0.0.1"},
        allow_addresses=("127.0.0.1/32",),
        allow_ports=(web.port,),
        hosts=QUICK,
        retry_delay_s=0.05,
        read_timeout_s=20,
        total_timeout_s=30,
        max_bytes=1_000_000,
        decoders=1,
    )
    return msgspec.structs.replace(base, **changes)


def download(
    urls: list[str], folder: Path, options: DownloadOptions, **limits
) -> tuple[Downloaded, list[bytes]]:
    shard = folder / f"{time.monotonic_ns()}.h5"
    made = download_list(urls, shard, options, DecodeOptions(), **limits)
    made.counts.require_balance("test")
    assert made.outcomes.schema == OUTCOMES
    assert made.outcomes["url"].to_pylist() == urls
    assert made.counts.seen == len(urls)
    with ShardReader(shard) as reader:
        assert len(reader) == made.counts.kept
        return made, reader.read(range(len(reader)))


def statuses(made: Downloaded) -> list[str]:
    return made.outcomes["status"].to_pylist()


def rows(table: pa.Table) -> list[dict]:
    return table.to_pylist()
