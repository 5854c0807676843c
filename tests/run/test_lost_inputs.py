"""A server that refuses archives: the run says so, and the same command asks for them again."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml

from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.run.folder.lost import late_waves, write_lost
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import DEDUP, EXTRACT
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import PUBLISHED
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.storage import Receipt
from tests import runs
from tests.wats import image, page, write_pages
from tests.webserver import WebServer

ARCHIVES = 4
REFUSALS = [403, 404, 520, 204]
"""One way for each archive."""


class ArchiveServer:
    """Serves the files of a folder, so many answers of them; then it refuses, as long as asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers_left = 10**9
        self.refused_with: set[int] = set()
        self.port = 0


@pytest.fixture
def archives(tmp_path: Path, web: WebServer) -> Iterator[ArchiveServer]:
    folder = tmp_path / "archives"
    folder.mkdir()
    for number in range(ARCHIVES):
        links = [
            image(web.url(f"/ok-{number}{n}.jpg", f"h{n}.test"), f"A picture of {number} and {n}")
            for n in range(5)
        ]
        write_pages(folder / f"{number}.warc.wat.gz", page(*links))
    server = ArchiveServer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if server.answers_left <= 0:
                status = REFUSALS[int(Path(self.path).name[0])]
                server.refused_with.add(status)
                self.send_response(status)
                self.send_header("Retry-After", "86400")
                self.end_headers()
                return
            server.answers_left -= 1
            data = (folder / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.port = http.server_port
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, archives: ArchiveServer, web: WebServer, random_model: Path) -> Path:
    (tmp_path / "wat.paths").write_text(
        "".join(f"http://127.0.0.1:{archives.port}/{n}.warc.wat.gz\n" for n in range(ARCHIVES))
    )
    return runs.write_config(
        tmp_path / "run.yaml", inputs=str(tmp_path / "wat.paths"), model=random_model,
        port=web.port, archives_per_wave=2,
    )  # fmt: skip


def texts(run_dir: Path) -> list[str]:
    """Return the texts of the release of a run, which knows that it is published."""
    assert FromFiles(RunFolder(run_dir)).figures().state == PUBLISHED
    return sorted(ds.dataset(run_dir / "release" / "pairs").to_table()["text"].to_pylist())


def test_what_a_server_refuses_is_told_allowed_if_so_wished_and_asked_for_again(
    config: Path, archives: ArchiveServer
):
    run_dir = config.with_suffix("")
    archives.answers_left = 1
    assert runs.finish(config) == 6, runs.output(config)
    said = " ".join(runs.output(config).split())
    assert "3 of 4 archives were not to be had and nothing is published; run again" in said
    assert len(archives.refused_with) == 3
    assert all(f"HTTP {status}" in said for status in archives.refused_with)
    assert not (run_dir / "release").exists()
    assert runs.status(run_dir).count("lost for now") == 3

    config.write_text(config.read_text() + "max_lost_share: 0.5\n")
    archives.answers_left = 2
    assert runs.finish(config) == 0, runs.output(config)
    assert len(texts(run_dir)) == 15
    assert "lost for now" in runs.status(run_dir)
    assert "lost for now" in (run_dir / "release" / "report.html").read_text()

    archives.answers_left = 10**9
    assert runs.finish(config) == 0, runs.output(config)
    assert texts(run_dir) == sorted(
        f"A picture of {number} and {n}" for number in range(ARCHIVES) for n in range(5)
    )


def test_a_share_of_all_samples_is_that_of_the_archives_that_were_to_be_had(
    config: Path, archives: ArchiveServer
):
    run_dir = config.with_suffix("")
    tree = yaml.safe_load(config.read_text()) | {"max_lost_share": 0.5}
    tree["select"] = {"thresholds": {"multi": -1, "nolang": -1}, "top_fraction": {"en": 0.5}}
    config.write_text(yaml.safe_dump(tree))
    archives.answers_left = 3
    assert runs.finish(config) == 0, runs.output(config)
    assert not (run_dir / "late.json").exists(), "it is asked for again by the next start only"
    assert len(texts(run_dir)) == top_half(run_dir, 15)
    archives.answers_left = 10**9
    assert runs.finish(config) == 0, runs.output(config)
    assert len(texts(run_dir)) == top_half(run_dir, 20)


def top_half(run_dir: Path, n: int) -> int:
    """Return how many of `n` scored samples are in the top half, ties included."""
    table = ds.dataset(sorted(run_dir.glob("scored/*/*.parquet"))).to_table()
    (name,) = (each for each in table.column_names if each.startswith("similarity_"))
    assert table["split"].to_pylist() == ["en"] * n
    values = sorted(table[name].to_pylist(), reverse=True)
    return sum(value >= values[n // 2] for value in values)


@pytest.mark.parametrize("data", [b'[["a', b'[["\xff"]]', b"{}"])
def test_a_damaged_list_of_late_archives_is_one_clear_error(tmp_path: Path, data: bytes):
    (tmp_path / "late.json").write_bytes(data)
    with pytest.raises(DamageError, match=r"late\.json is damaged: .* restore it"):
        late_waves(RunFolder(tmp_path))


def test_a_lost_archive_is_asked_for_in_its_own_wave_until_that_is_deduplicated(tmp_path: Path):
    folder = RunFolder(tmp_path)
    lost, had, late = (Unit(EXTRACT, wave, archive=name) for wave, name in enumerate("abc"))
    with folder.held():
        for unit in (lost, had, late):
            folder.commit(unit, Done(write_lost(folder, unit, "c", "HTTP 403"), 0.0, ""))
        receipt = Receipt(stage="extract", unit=had.name, config="c", counts=Counts(1, 1))
        folder.commit(had, Done(receipt, 0.0, ""))  # it came after all
        (tmp_path / DEDUP.folder / "w00002").mkdir(parents=True)
        (tmp_path / DEDUP.folder / "w00002" / "b00000.parquet").touch()
        assert late_waves(folder) == [["c"]]
        existing = folder.existing()
        assert existing(lost) is None
        assert existing(had) == receipt
        assert late_waves(folder) == [["c"]], "asked for once"
