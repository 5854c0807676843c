"""What one task leaves behind, without a scheduler."""

import gzip
import hashlib
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.candidates.dedup import dedup_bucket
from cah_dask.counts import Counts
from cah_dask.errors import RetryableError, RunError
from cah_dask.release.layout import Layout, fingerprint
from cah_dask.release.pack import create_release
from cah_dask.run.settings import pinned_lists
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.pinned_lists import pin_lists
from cah_dask.run.stages import DEDUP, DOWNLOAD, EXTRACT, PACK
from cah_dask.run.task import Done, Failed, Peaks, run_task
from cah_dask.run.tasks import candidates
from cah_dask.run.tasks.candidates import dedup_task, extract_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.tasks.images import download_task
from cah_dask.run.tasks.release import pack_task
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES, SAMPLES, uid
from cah_dask.storage import Receipt, read_part, write_part
from tests.encoders import released_encoder
from tests.hostile import picture
from tests.runs import wait_for
from tests.webserver import WebServer


def job(run_dir: Path, unit: Unit, port: int = 80, **changes) -> CrawlTask:
    tree = {
        "run_dir": str(run_dir),
        "inputs": ["x"],
        "download": {
            "contact": "tests@lab.example",
            "resolve": {"*.test": "127.0.0.1"},
            "allow_addresses": ["127.0.0.1/32"],
            "allow_ports": [port],
            "hosts": {"spacing_s": 0},
            "decoders": 1,
        },
        **changes,
    }
    config = msgspec.convert(tree, Config)
    return CrawlTask(
        run_dir=str(run_dir), unit=unit, config=config, config_hash="c", place=unit.archive
    )


def fetch_list(run_dir: Path, *urls: str) -> None:
    """Write the part of bucket 0, wave 0 with one list."""
    values = [
        {
            "uid": uid("text", url), "url": url, "text": "text", "split": "en", "lang": "en",
            "lang_confidence": 1.0, "lang_is_reliable": True, "text_is_filename": False,
            "page_url": "http://p.test/", "archive": "a", "record_offset": 0, "link_index": 0,
            "image_wave": 0, "image_list": 0,
        }
        for url in urls
    ]  # fmt: skip
    n = len(urls)
    receipt = Receipt(stage="dedup", unit="u", config="c", counts=Counts(n, n))
    table = pa.Table.from_pylist(values, schema=SAMPLES)
    write_part(run_dir / Unit(DEDUP).part, SAMPLES, [table], receipt)


def candidates_part(run_dir: Path, number: int, rows: int) -> str:
    """Write a part of bucket 0 with texts of 2 kB; return its name."""
    numbers = range(number * rows, (number + 1) * rows)
    urls = [f"http://h.test/{n}.jpg" for n in numbers]
    texts = [f"{n:04}" * 500 for n in numbers]
    columns = {
        "bucket": [0] * rows, "uid": list(map(uid, texts, urls)), "url": urls, "text": texts,
        "split": ["en"] * rows, "lang": ["en"] * rows, "lang_confidence": [1.0] * rows,
        "lang_is_reliable": [True] * rows, "text_is_filename": [False] * rows,
        "license": [None] * rows, "page_url": ["http://p.test/"] * rows, "archive": ["a"] * rows,
        "record_offset": list(numbers), "link_index": [0] * rows,
        "published_sha256": [None] * rows,
    }  # fmt: skip
    part = Unit(EXTRACT, archive=str(number)).part
    receipt = Receipt(stage="extract", unit="u", config="c", counts=Counts(rows, rows))
    write_part(run_dir / part, CANDIDATES, [pa.table(columns, schema=CANDIDATES)], receipt)
    return part


@pytest.mark.parametrize(("quota", "n_kept"), [(None, 20_000), (9_000, 9_000)])
def test_a_bucket_that_is_too_large_is_never_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch, quota: int | None, n_kept: int
):
    monkeypatch.setitem(dedup_bucket.__kwdefaults__, "held_rows", 1000)
    parts = tuple(candidates_part(tmp_path, number, 1000) for number in range(20))
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)  # counts from now on
    pa.set_memory_pool(pool)
    try:
        hosts = {"hosts": {"quota": quota}}
        given = job(tmp_path, Unit(DEDUP), dedup={"list_urls": 500}, download=hosts)
        receipt = dedup_task(msgspec.structs.replace(given, inputs=parts))
    finally:
        pa.set_memory_pool(before)
    assert receipt.counts.kept == n_kept
    assert pool.max_memory() < 15e6  # of 40 MB


def test_a_worker_refuses_a_list_that_is_not_the_one_of_the_start(tmp_path: Path):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("h.test")
    unit = Unit(DEDUP)
    given = job(tmp_path, unit, dedup={"exclude": [f"host:{hosts}"]})
    given = msgspec.structs.replace(given, config=pin_lists(given.config))
    part = candidates_part(tmp_path, 0, 10)
    receipt = dedup_task(msgspec.structs.replace(given, inputs=(part,)))
    assert receipt.counts.rejected == {"excluded": 10}
    hosts.write_text("other.test")
    pinned_lists._read_exclusion.cache_clear()  # as in another process
    with pytest.raises(RunError, match=r"hosts\.txt is missing or has changed"):
        dedup_task(msgspec.structs.replace(given, inputs=(part,)))


def test_workers_map_what_the_driver_made_of_large_lists(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pinned_lists, "LARGE_BYTES", 6)
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("h.test")
    given = job(tmp_path, Unit(DEDUP), dedup={"exclude": [f"host:{hosts}"]})
    given = msgspec.structs.replace(given, config=pin_lists(given.config))
    folder = given.folder.lists_dir
    pinned_lists.map_lists(given.config, folder)
    (keys,) = folder.glob("exclude-*/hosts.npy")
    sound = keys.read_bytes()
    keys.write_bytes(sound[:-1])
    pinned_lists.map_lists(given.config, folder)  # as the next start of the run does
    assert keys.read_bytes() == sound
    hosts.unlink()  # what a worker reads is what the run was started with
    part = candidates_part(tmp_path, 0, 10)
    receipt = dedup_task(msgspec.structs.replace(given, inputs=(part,)))
    assert receipt.counts.rejected == {"excluded": 10}


def test_small_lists_leave_nothing_in_the_run_folder(tmp_path: Path):
    (tmp_path / "hosts.txt").write_text("h.test")
    (tmp_path / "md5s.txt").write_text("0" * 32)
    given = job(tmp_path, Unit(DEDUP), dedup={"exclude": [f"host:{tmp_path / 'hosts.txt'}"]})
    hash_lists = (str(tmp_path / "md5s.txt"),)
    download = msgspec.structs.replace(given.config.download, hash_lists=hash_lists)
    config = pin_lists(msgspec.structs.replace(given.config, download=download))
    pinned_lists.map_lists(config, given.folder.lists_dir)
    assert not given.folder.lists_dir.exists()


def test_a_large_list_that_changed_since_the_start_is_not_mapped(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pinned_lists, "LARGE_BYTES", 6)
    listed = tmp_path / "md5s.txt"
    listed.write_text("0" * 32)
    given = job(tmp_path, Unit(DEDUP))
    download = msgspec.structs.replace(given.config.download, hash_lists=(str(listed),))
    config = pin_lists(msgspec.structs.replace(given.config, download=download))
    listed.write_text("1" * 32)
    with pytest.raises(RunError, match=r"md5s\.txt is missing or has changed"):
        pinned_lists.map_lists(config, given.folder.lists_dir)
    assert not list(given.folder.lists_dir.rglob("index.json"))


def test_a_worker_refuses_a_list_that_changes_while_it_is_read(tmp_path: Path, monkeypatch):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("h.test")
    given = job(tmp_path, Unit(DEDUP), dedup={"exclude": [f"host:{hosts}"]})
    given = msgspec.structs.replace(given, config=pin_lists(given.config))

    def read_and_change(entries):
        read = load_exclusion(entries)
        hosts.write_text("other.test")
        return read

    monkeypatch.setattr(pinned_lists, "load_exclusion", read_and_change)
    with pytest.raises(RunError, match=r"hosts\.txt is missing or has changed"):
        dedup_task(msgspec.structs.replace(given, inputs=(candidates_part(tmp_path, 0, 10),)))


def test_a_worker_refuses_a_list_for_two_uses_that_changed(tmp_path: Path):
    """It names images that must be neither fetched nor stored."""
    listed = tmp_path / "md5s.txt"
    listed.write_text("0" * 32)
    given = job(tmp_path, Unit(DEDUP), dedup={"exclude": [f"md5:{listed}"]})
    download = msgspec.structs.replace(given.config.download, hash_lists=(str(listed),))
    config = pin_lists(msgspec.structs.replace(given.config, download=download))
    listed.write_text("1" * 32)
    with pytest.raises(RunError, match=r"md5s\.txt is missing or has changed"):
        pinned_lists.read_exclusion(config)
    with pytest.raises(RunError, match=r"md5s\.txt is missing or has changed"):
        pinned_lists.read_hash_lists(config)


def listed_image(folder: Path, web: WebServer) -> tuple[Path, CrawlTask]:
    """Return a hash list, and the job to download the one image that stands on it."""
    listed = folder / "md5s.txt"
    listed.write_text(hashlib.md5(picture(seed=1)).hexdigest())
    web.bodies = {"/listed.jpg": picture(seed=1)}
    fetch_list(folder, web.url("/listed.jpg"))
    given = job(folder, Unit(DOWNLOAD), web.port)
    download = msgspec.structs.replace(given.config.download, hash_lists=(str(listed),))
    config = pin_lists(msgspec.structs.replace(given.config, download=download))
    return listed, msgspec.structs.replace(given, config=config)


@pytest.mark.parametrize("text", ["", f"{'0' * 32}\n", "no digest", None])
def test_a_worker_refuses_a_hash_list_that_changed_before_it_was_read(tmp_path: Path, text):
    """The worker has looked at its lists once, for a dedup, when the file changes."""
    with WebServer() as web:
        listed, given = listed_image(tmp_path, web)
        dedup = msgspec.structs.replace(given, unit=Unit(DEDUP, bucket=1))
        dedup_task(msgspec.structs.replace(dedup, inputs=(candidates_part(tmp_path, 0, 1),)))
        listed.unlink() if text is None else listed.write_text(text)
        failed = run_task(given, "here")
        assert web.hits.total() == 0
    assert isinstance(failed, Failed)
    assert failed.is_fatal
    assert "md5s.txt is missing or has changed since the run was started" in failed.message


def test_a_worker_goes_on_with_the_hash_list_that_it_has_read(tmp_path: Path):
    with WebServer() as web:
        listed, given = listed_image(tmp_path, web)
        assert download_task(given).counts.rejected == {"hash_listed": 1}
        listed.write_text("")
        given.part.unlink()
        assert download_task(given).counts.rejected == {"hash_listed": 1}


def test_images_on_an_exclusion_list_are_never_stored(tmp_path: Path):
    digest = hashlib.md5(picture(seed=1)).hexdigest()
    (tmp_path / "md5s.txt.gz").write_bytes(gzip.compress(digest.encode()))
    exclude = {"exclude": [f"md5:{tmp_path / 'md5s.txt.gz'}"]}
    with WebServer() as web:
        web.bodies = {"/listed.jpg": picture(seed=1), "/free.jpg": picture(seed=2)}
        fetch_list(tmp_path, web.url("/listed.jpg"), web.url("/free.jpg"))
        receipt = download_task(job(tmp_path, Unit(DOWNLOAD), web.port, dedup=exclude))
    assert receipt.counts.kept == 1
    assert receipt.counts.rejected == {"hash_listed": 1}


def test_a_second_attempt_drops_its_own_images(tmp_path: Path):
    unit = Unit(DOWNLOAD)
    with WebServer() as web:
        fetch_list(tmp_path, web.url("/ok-1.jpg"))
        first, second = (download_task(job(tmp_path, unit, web.port)) for _ in range(2))
    assert first == second
    (shard,) = (tmp_path / unit.part).parent.glob("*.h5")
    assert shard.name == first.side[0].name


def test_an_archive_that_is_no_wat_leaves_an_empty_part_that_says_why(tmp_path: Path):
    (tmp_path / "x.warc.wat.gz").write_bytes(b"no archive")
    unit = Unit(EXTRACT, archive=str(tmp_path / "x.warc.wat.gz"))
    receipt = extract_task(job(tmp_path, unit))
    assert len(receipt.errors) == 1
    assert pq.read_metadata(tmp_path / unit.part).num_rows == 0


def test_an_archive_out_of_reach_is_tried_again_not_given_up_as_lost(tmp_path: Path):
    unit = Unit(EXTRACT, archive=str(tmp_path / "unmounted.warc.wat.gz"))
    failed = run_task(job(tmp_path, unit), "here")
    assert isinstance(failed, Failed)
    assert not failed.is_fatal
    assert not (tmp_path / unit.part).exists()


def test_a_damaged_part_stops_the_run_and_is_named(tmp_path: Path):
    fetch_list(tmp_path, "http://a.test/1.jpg")
    part = tmp_path / Unit(DEDUP).part
    part.write_bytes(part.read_bytes()[:-20])
    failed = run_task(job(tmp_path, Unit(DOWNLOAD)), "here")
    assert isinstance(failed, Failed)
    assert failed.is_fatal
    assert failed.damaged == str(part)
    assert "b00000.parquet is damaged" in failed.message


def test_a_part_that_this_node_does_not_see_is_tried_again(tmp_path: Path):
    failed = run_task(job(tmp_path, Unit(DOWNLOAD)), "here")
    assert isinstance(failed, Failed)
    assert not failed.is_fatal
    with pytest.raises(RetryableError, match="cannot be read from here"):
        read_part(tmp_path / "none.parquet")


def test_of_two_attempts_at_a_list_the_one_that_began_last_counts(tmp_path: Path):
    with WebServer() as server:
        url = server.url("/slow-1.jpg", host="h.test")
        fetch_list(tmp_path, url)
        given = job(tmp_path, Unit(DOWNLOAD), server.port)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(download_task, given)
            assert wait_for(lambda: any(path == "/slow-1.jpg" for _, path in server.hits))
            second = pool.submit(download_task, given)
            with pytest.raises(RetryableError, match="a later attempt at this list has begun"):
                first.result(60)
            receipt = second.result(60)
    (shard,) = given.part.parent.glob("*.h5")
    assert [side.name for side in receipt.side] == [shard.name]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_host_that_opts_out_during_a_run_is_not_asked_by_the_next_list(tmp_path: Path):
    with WebServer() as server:
        fetch_list(tmp_path, *(server.url("/ok-1.jpg", host=f"{h}.test") for h in ("a.b", "c")))
        (tmp_path / "OPTOUT").write_text("# asked us\nno host: at all\n*.B.test  # by mail\n")
        receipt = download_task(job(tmp_path, Unit(DOWNLOAD), server.port))
        assert receipt.counts.rejected == {"optout": 1}
        assert not [host for host, _ in server.hits if "b.test" in host]


def test_a_node_without_a_network_does_not_speak_for_the_web_before_the_last_attempt(
    tmp_path: Path,
):
    fetch_list(tmp_path, "http://a.test/1.jpg", "http://b.test/1.jpg")
    nowhere = "127.255.255.255"  # loopback's broadcast address: nothing can be connected to it
    given = job(tmp_path, Unit(DOWNLOAD))
    network = msgspec.structs.replace(
        given.config.download,
        resolve={"*.test": nowhere},
        allow_addresses=(f"{nowhere}/32",),
    )
    config = msgspec.structs.replace(given.config, download=network)
    given = msgspec.structs.replace(given, config=config)
    with pytest.raises(RetryableError, match="no route to 2 of 2 urls of a list"):
        download_task(given)
    assert not given.part.exists()
    assert not list(tmp_path.rglob("*.h5"))
    receipt = download_task(msgspec.structs.replace(given, is_last_attempt=True))
    assert receipt.counts.rejected == {"connect_error": 2}


@pytest.mark.parametrize(("n_connected", "is_tried_again"), [(0, True), (1, True), (2, False)])
def test_half_of_a_list_without_a_connection_is_tried_again_elsewhere(
    tmp_path: Path, n_connected: int, *, is_tried_again: bool
):
    with WebServer() as server:
        there = [server.url(f"/ok-{n}.jpg", host="here.test") for n in range(n_connected)]
        fetch_list(tmp_path, *there, f"http://lost.test:{server.port}/1.jpg")
        given = job(tmp_path, Unit(DOWNLOAD), server.port)
        nowhere = "127.255.255.255"
        network = msgspec.structs.replace(
            given.config.download,
            resolve={"here.test": "127.0.0.1", "lost.test": nowhere},
            allow_addresses=("127.0.0.1/32", f"{nowhere}/32"),
            retry_delay_s=0,
        )
        config = msgspec.structs.replace(given.config, download=network)
        given = msgspec.structs.replace(given, config=config)
        if is_tried_again:
            with pytest.raises(RetryableError, match=f"no route to 1 of {n_connected + 1} urls"):
                download_task(given)
        else:
            assert download_task(given).counts.rejected == {"connect_error": 1}


def test_a_panic_of_native_code_costs_an_attempt(tmp_path: Path, monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(_):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(candidates, "extract_task", panic)
    failed = run_task(job(tmp_path, Unit(EXTRACT, archive="a")), "here")
    assert isinstance(failed, Failed)
    assert (failed.message, failed.is_fatal) == ("PanicException: index out of bounds", False)


def touch(megabytes: int) -> None:
    """Use memory that the process has not had before, whatever it keeps of what it freed."""
    with mmap.mmap(-1, megabytes << 20) as memory:
        for start in range(0, len(memory), mmap.PAGESIZE):
            memory[start] = 1


def test_the_peak_of_a_task_is_its_own(tmp_path: Path, monkeypatch):
    sizes = iter([200, 1])

    def fill(task):
        del task
        touch(next(sizes))
        return Receipt(stage="extract", unit="", config="", counts=Counts())

    monkeypatch.setattr(candidates, "extract_task", fill)
    given = job(tmp_path, Unit(EXTRACT, archive="a"))
    large, small = (run_task(given, "here") for _ in range(2))
    assert isinstance(large, Done)
    assert isinstance(small, Done)
    assert large.peak_mb > small.peak_mb + 150
    assert small.peak_mb > 20


def test_the_peak_of_a_task_is_not_forgotten_when_another_one_begins_beside_it():
    peaks = Peaks()
    with peaks.watched() as first:
        touch(200)
        with peaks.watched() as second:
            pass
    assert first.mb > second.mb + 150
    assert second.mb > 20


def test_a_task_of_another_release_writes_nothing(tmp_path: Path):
    layout = Layout(0, (released_encoder("clip", 4),), "clip", "another", 8, 4, fingerprint([[]]))
    create_release(tmp_path / "r", layout)
    before = sorted((tmp_path / "r").rglob("*"))
    given = msgspec.structs.replace(job(tmp_path, Unit(PACK)), release=str(tmp_path / "r"))
    with pytest.raises(RetryableError, match="is not the release that this task belongs to"):
        pack_task(given)
    assert sorted((tmp_path / "r").rglob("*")) == before
