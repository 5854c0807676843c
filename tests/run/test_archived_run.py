"""`cah run` with `download.source: archives`: one release, whatever is killed, without a web."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from cah_dask.images.archived.index import bucket_part
from cah_dask.run.before.node_checks import check_node
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.pools import pools
from cah_dask.run.settings import loading
from cah_dask.run.stages import DOWNLOAD
from cah_dask.storage import read_part
from tests import runs, warcs
from tests.commands import cah, refused
from tests.hostile import picture
from tests.run.test_damage import flip
from tests.warcs import response, revisit, write_warc

JPEG = {"Content-Type": "image/jpeg"}
N = 60


def url(n: int) -> str:
    return f"http://host{n % 9}.example/{n}.jpg"


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Write WATs that name pictures, and WARCs that hold them: every 10th is a 404, or missing."""
    folder = tmp_path_factory.mktemp("inputs")
    texts = [(url(n), f"a picture of the number {n} on a wall") for n in range(N)]
    wats = runs.write_inputs(folder / "wat", texts)
    records = []
    for n in range(N):
        if n % 10 == 0:
            records.append(response(url(n), b"gone", JPEG, 404))
        elif n % 10 == 1:
            where = f"http://cdn.example/{n}.jpg"
            records.append(response(url(n), b"", {"Location": where}, 302))
            records.append(response(where, picture(seed=n), JPEG))
        elif n % 10 == 2:
            records.append(revisit(url(n), (url(n + 1), warcs.DATE)))
        elif n % 10 != 9:
            records.append(response(url(n), picture(seed=n), JPEG))
    (folder / "warc").mkdir()
    names = [folder / "warc" / f"{number}.warc.gz" for number in range(3)]
    return wats, [write_warc(name, records[at::3]) for at, name in enumerate(names)]


OUTCOMES = {"ok": N - 12, "http_404": 6, "not_archived": 6}


def write_config(path: Path, wats: str, archives: list[str], /, **download: object) -> Path:
    """Write the config of a run that has no way to the web and needs none."""
    runs.write_config(path, inputs=wats, port=80)
    tree = yaml.safe_load(path.read_text())
    tree["download"] = {"source": "archives", "decoders": 1, "archives": archives, **download}
    path.write_text(yaml.safe_dump(tree))
    return path


GUARD = """
import os, sys

def look(event, arguments):
    host = ""
    if event == "socket.getaddrinfo" and str(arguments[0]).endswith(".example"):
        host = arguments[0]
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if host and not host.startswith(("127.", "::1")):
        os.write(2, f"asked for {host}".encode())
        os._exit(99)

sys.addaudithook(look)
"""
"""Ends any Python that connects to another machine, or asks for the name of a host of the run."""


def guarded(folder: Path) -> dict[str, str]:
    """Return an environment in which `GUARD` is on its guard."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(GUARD)
    return os.environ | {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


@pytest.mark.parametrize(
    "call", ["create_connection(('192.0.2.1', 80), 1)", "getaddrinfo('a.example', 80)"]
)
def test_the_guard_sees_connections_and_names(tmp_path, call):
    command = [sys.executable, "-c", f"import socket; socket.{call}"]
    assert subprocess.run(command, env=guarded(tmp_path / "site"), check=False).returncode == 99


def outcomes(run_dir: Path) -> dict[str, int]:
    counts = RunFolder(run_dir).summary().counts("download")
    return {"ok": counts.kept, **counts.rejected}


@pytest.fixture(scope="module")
def finished(links, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry a run to its end; return its config."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder / "whole.yaml", *links)
    assert runs.finish(config, env=guarded(folder / "site")) == 0, runs.output(config)
    return config


def test_a_run_takes_its_pictures_from_archives_and_asks_no_host(finished):
    run_dir = finished.with_suffix("")
    assert outcomes(run_dir) == OUTCOMES
    assert not (run_dir / "requests").exists()
    assert not (run_dir / "robots").exists()
    said = runs.output(finished)
    assert "pictures come from archives: these are indexed first" in said
    assert "asked for" not in said
    assert "index: 60 captures" in runs.status(run_dir)


def test_what_cannot_be_read_of_an_archive_is_told(links, tmp_path):
    data = Path(links[1][0]).read_bytes()
    cut = tmp_path / "cut.warc.gz"
    cut.write_bytes(data[: len(data) // 2])
    quota = {"hosts": {"quota": 1}}  # of hosts that are asked
    config = write_config(tmp_path / "cut.yaml", links[0], [str(cut), *links[1][1:]], **quota)
    assert runs.finish(config) == 0, runs.output(config)
    assert RunFolder(tmp_path / "cut").summary().counts("dedup").rejected == {}
    assert outcomes(tmp_path / "cut")["not_archived"] > OUTCOMES["not_archived"]
    assert "warning: cut.warc.gz: " in runs.output(config)
    assert "lost: cut.warc.gz: " in runs.status(tmp_path / "cut")
    report = (tmp_path / "cut" / "release" / "report.html").read_text()
    assert "cut.warc.gz: " in report
    assert str(tmp_path) not in report


def test_a_finished_run_needs_neither_archives_nor_index(finished, links, tmp_path):
    config = tmp_path / "again.yaml"
    shutil.copytree(finished.with_suffix(""), config.with_suffix(""))
    write_config(config, links[0], [str(tmp_path / "gone.warc.gz")])
    shutil.rmtree(config.with_suffix("") / "index")
    assert runs.finish(config) == 0, runs.output(config)
    assert "nothing was to be done" in runs.output(config)


@pytest.mark.parametrize("commits", [1, 4, 9])
def test_a_kill_at_any_moment_gives_the_same_release(finished, links, tmp_path, commits):
    config = write_config(tmp_path / "killed.yaml", *links)
    driver = runs.start(config, start_new_session=True)
    index, run_dir = tmp_path / "killed" / "index", tmp_path / "killed"
    runs.wait_for(
        lambda: (
            runs.journal_lines(index) + runs.journal_lines(run_dir) >= commits
            or driver.poll() is not None
        )
    )
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(finished.with_suffix(""))
    ours, others = (
        [read_part(part) for part in sorted((each / "images").rglob("*.parquet"))]
        for each in (run_dir, finished.with_suffix(""))
    )
    assert all(a.equals(b) for a, b in zip(ours, others, strict=True))


def test_an_index_made_before_gives_the_same_release(finished, links, tmp_path):
    index = tmp_path / "index"
    assert cah("index", *links[1], "--to", index, "--buckets", "5")[0] == 0
    config = write_config(tmp_path / "indexed.yaml", links[0], [], index=str(index))
    compact = ["--set", "compact=true"]
    assert runs.finish(config, options=compact) == 0, runs.output(config)
    assert runs.release_digests(tmp_path / "indexed") == runs.release_digests(
        finished.with_suffix("")
    )
    assert not (tmp_path / "indexed" / "index").exists()


def test_a_damaged_index_is_set_aside_and_made_again(finished, links, tmp_path):
    config = write_config(tmp_path / "damaged.yaml", *links)
    run_dir = tmp_path / "damaged"
    shutil.copytree(finished.with_suffix(""), run_dir)
    for folder in ("images", "scored", "selected", "release"):
        shutil.rmtree(run_dir / folder)
    flip(bucket_part(run_dir / "index", 1), 20)
    assert runs.finish(config) == 5
    assert "it was set aside: the same command makes it again" in " ".join(
        runs.output(config).split()
    )
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(finished.with_suffix(""))


def test_archives_that_are_gone_end_the_run_unless_they_may_be(links, tmp_path):
    copies = [shutil.copy(archive, tmp_path) for archive in links[1]]
    index = tmp_path / "index"
    assert cah("index", *copies, "--to", index, "--buckets", "2")[0] == 0
    Path(copies[0]).unlink()
    config = write_config(tmp_path / "lost.yaml", links[0], [], index=str(index))
    once = ["--set", "max_attempts=1"]
    assert runs.finish(config, options=once) == 6
    said = " ".join(runs.output(config).split())
    assert "are lost: 1 archive out of reach or damaged: 0.warc.gz is out of reach" in said
    assert not (tmp_path / "lost" / "release").exists()
    assert runs.finish(config, options=[*once, "--set", "max_lost_share=0.9"]) == 0
    assert outcomes(tmp_path / "lost")["archive_lost"] > 0
    assert "0.warc.gz is out of reach" in runs.status(tmp_path / "lost")


@pytest.mark.parametrize(
    ("download", "message"),
    [
        ({"source": "web", "contact": "a@b.example"}, "download.archives is for pictures out of"),
        ({"index": "somewhere"}, "download.archives and download.index are both given"),
        ({"archives": [], "index": "nowhere"}, "download.index: nowhere is no index; `cah index`"),
        ({"archives": []}, "holds no pictures; name WARC archives"),
        ({"archives": ["gone.warc.gz"]}, "gone.warc.gz does not exist"),
        ({"index_id": "0123"}, "download.index_id is 0123, but that of these archives is"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    links, tmp_path, capsys, download, message
):
    config = write_config(tmp_path / "wrong.yaml", *links, **download)
    code, _, said = refused(capsys, "run", config)
    assert code in (3, 4)
    assert message in " ".join(said.split())
    assert not (tmp_path / "wrong").exists()


def test_a_run_cannot_go_on_with_other_archives(finished, links, tmp_path, capsys):
    config = tmp_path / "other.yaml"
    shutil.copytree(finished.with_suffix(""), config.with_suffix(""))
    write_config(config, links[0], links[1][:2])
    code, _, said = refused(capsys, "run", config)
    assert code == 3
    assert "was started with download.index_id" in " ".join(said.split())


def test_no_node_is_looked_at_for_a_way_to_the_web(links, tmp_path):
    config = loading.load(write_config(tmp_path / "looked.yaml", *links)).config
    (cpu,) = [pool for pool in pools(config.pools) if DOWNLOAD in pool.stages]
    closed = "http://127.0.0.1:9/"
    assert not [each for each in check_node(config, cpu, closed) if closed in each.what]
    of_web = msgspec.structs.replace(config.download, source="web")
    config = msgspec.structs.replace(config, download=of_web)
    assert [each for each in check_node(config, cpu, closed) if closed in each.what]


def test_archives_of_a_browser_give_pages_and_pictures_without_a_network(tmp_path):
    records = []
    for n in range(12):
        images = "".join(
            f'<img src="/{n}-{k}.jpg" alt="the picture of number {n} and {k} on a wall">'
            for k in range(3)
        )
        records.append(response(f"http://shop{n % 3}.example/{n}.html", images.encode()))
        for k in range(2):  # the third one was not archived
            name = f"http://shop{n % 3}.example/{n}-{k}.jpg"
            records.append(response(name, picture(seed=3 * n + k), JPEG))
    for at in range(2):
        write_warc(tmp_path / f"rec-{at}.warc.gz", records[at::2], requests=True)
    config = write_config(tmp_path / "both.yaml", str(tmp_path / "rec-*.warc.gz"), [])
    assert runs.finish(config, env=guarded(tmp_path / "site")) == 0, runs.output(config)
    assert outcomes(tmp_path / "both") == {"ok": 24, "not_archived": 12}
    assert RunFolder(tmp_path / "both").summary().counts("pack").kept == 24
