"""What is published says nothing of where it was made, and is the same wherever that was."""

import shutil
import signal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.archives.sources import located, public_names
from tests import runs
from tests.webserver import WebServer


@pytest.mark.parametrize(
    ("archives", "names"),
    [
        (["/home/me/a.wat.gz", "b/b.wat.gz"], ["a.wat.gz", "b.wat.gz"]),
        (["x/1/a.gz", "y/1/a.gz", "b.gz"], ["x/1/a.gz", "y/1/a.gz", "b.gz"]),
        (["/p/x/a.wat.gz", "/p/y/a.wat.gz"], ["x/a.wat.gz", "y/a.wat.gz"]),
        (["a.wat.gz", "x/a.wat.gz"], ["a.wat.gz", "x/a.wat.gz"]),
        (
            ["https://data.commoncrawl.org/crawl-data/CC/x.warc.wat.gz"],
            ["crawl-data/CC/x.warc.wat.gz"],
        ),
        (
            ["https://me:secret@s3.example/bucket/x.wat.gz?X-Amz-Signature=abc#f"],
            ["s3.example/bucket/x.wat.gz"],
        ),
        (
            ["http://a.example/get?id=1", "http://a.example/get?id=2", "http://b.example/get?id=1"],
            ["a.example/get#04afe899", "a.example/get#cad22067", "b.example/get"],
        ),
    ],
)  # fmt: skip
def test_an_archive_is_called_by_no_folder_query_or_password(archives, names):
    assert public_names(archives) == dict(zip(archives, names, strict=True))


parts = st.lists(st.sampled_from(["a", "b", "c.gz"]), min_size=1, max_size=4)
local = parts.map("/".join).map("/data/{}".format)
remote = st.builds("http://{}.example{}?{}".format, st.sampled_from("ab"), local, st.integers(0, 2))


@given(st.lists(local | remote, unique=True, max_size=8), st.sampled_from(["/mnt/new", "/x"]))
def test_names_are_told_apart_and_found_again_elsewhere(archives, mount):
    names = public_names(archives)
    assert list(names) == archives
    assert len(set(names.values())) == len(names)
    assert located(archives, list(names.values())) == ({n: a for a, n in names.items()}, [])
    moved = [a if "://" in a else f"{mount}/{a.lstrip('/')}" for a in archives]
    if len(set(moved)) == len(moved):
        places, strangers = located(moved, list(names.values()))
        assert strangers == []
        assert places == {names[a]: m for a, m in zip(archives, moved, strict=True)}


def test_an_archive_that_was_not_there_is_a_stranger():
    assert located(["/p/a.gz", "/p/c.gz"], ["a.gz", "b.gz"]) == ({"a.gz": "/p/a.gz"}, ["/p/c.gz"])
    assert located(["/p/a.gz", "/q/a.gz"], ["a.gz"]) == ({"a.gz": "/p/a.gz"}, ["/q/a.gz"])


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


def test_the_same_run_at_another_place_publishes_the_same_bytes_and_no_path(
    tmp_path: Path, web: WebServer, random_model: Path
):
    links = [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 5}.test"), f"A picture of thing {number}")
        for number in range(20)
    ]
    digests = []
    for place in ("here", "there/deep"):
        folder = tmp_path / place
        inputs = runs.write_inputs(folder / "archives", links)
        model = shutil.copytree(random_model, folder / "model")
        hosts = folder / "hosts.txt"
        hosts.write_text("blocked.test\n")
        config = runs.write_config(
            folder / f"{place[:2]}.yaml", inputs=inputs, model=model, port=web.port,
            dedup={"buckets": 2, "list_urls": 30, "exclude": [f"host:{hosts}"]},
        )  # fmt: skip
        assert runs.finish(config) == 0, runs.output(config)
        digests.append(runs.release_digests(config.with_suffix("")))
        release = config.with_suffix("") / "release"
        for path in release.rglob("*"):
            if path.is_file():
                assert str(tmp_path).encode() not in path.read_bytes(), path
    assert digests[0] == digests[1]


def test_a_run_goes_on_at_another_site_with_what_it_still_needs(
    tmp_path: Path, web: WebServer, random_model: Path
):
    """Download here, embed there: other paths, another name of the model, no archives."""
    links = [
        (web.url(f"/ok-{n}.jpg", host=f"h{n % 5}.test"), f"A picture of thing {n}")
        for n in range(60)
    ]
    undisturbed = begin(tmp_path / "whole", links, web, random_model)
    assert runs.finish(undisturbed) == 0, runs.output(undisturbed)
    here = begin(tmp_path / "here", links, web, random_model)
    run_dir = here.with_suffix("")
    driver = runs.start(here)
    assert runs.wait_for(lambda: len(list(run_dir.glob("candidates/*/*.parquet"))) == 3)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(90) == 75, runs.output(here)
    assert not (run_dir / "release").exists()

    there = tmp_path / "there"
    shutil.copytree(run_dir, there / "work" / "moved")
    shutil.copytree(random_model, there / "models" / "renamed")
    shutil.copy(here.parent / "hosts.txt", there / "closed.txt")
    tree = yaml.safe_load(here.read_text())
    tree["run_dir"] = str(there / "work" / "moved")
    tree["inputs"] = [str(there / "no" / "*.warc.wat.gz")]
    tree["embed"]["model"] = str(there / "models" / "renamed")
    tree["dedup"]["exclude"] = [f"host:{there}/closed.txt"]
    config = there / "work" / "moved.yaml"
    config.write_text(yaml.safe_dump(tree))
    shutil.rmtree(tmp_path / "here")
    assert runs.finish(config) == 0, runs.output(config)
    moved, whole = there / "work" / "moved", undisturbed.with_suffix("")
    assert runs.release_digests(moved) == runs.release_digests(whole)


def begin(folder: Path, links, web: WebServer, model: Path) -> Path:
    """Write a config with all that it names beside it."""
    inputs = runs.write_inputs(folder / "archives", links, archives=3)
    (folder / "hosts.txt").write_text("blocked.test\n")
    return runs.write_config(
        folder / "run.yaml",
        inputs=inputs,
        model=Path(shutil.copytree(model, folder / "model")),
        port=web.port,
        archives_per_wave=3,
        dedup={"buckets": 2, "list_urls": 10, "exclude": [f"host:{folder}/hosts.txt"]},
    )


def test_an_archive_that_is_gone_and_not_extracted_is_named(
    tmp_path: Path, web: WebServer, random_model: Path
):
    links = [(web.url(f"/ok-{n}.jpg", host="h.test"), f"A picture of thing {n}") for n in range(9)]
    config = begin(tmp_path / "run", links, web, random_model)
    assert runs.finish(config) == 0, runs.output(config)
    archives = sorted((tmp_path / "run" / "archives").iterdir())
    (part,) = (tmp_path / "run").glob("run/candidates/w00000/1-*.parquet")
    archives[1].unlink()
    assert runs.finish(config) == 0, "it is not needed any more"
    part.unlink()
    assert runs.finish(config) == 3
    assert "are now others (1.warc.wat.gz is not there)" in runs.output(config)
    archives[1].with_name("new.warc.wat.gz").write_bytes(archives[0].read_bytes())
    assert runs.finish(config) == 3
    assert "new.warc.wat.gz is new" in runs.output(config)


def test_another_model_under_the_same_name_is_refused(
    tmp_path: Path, web: WebServer, random_model: Path
):
    links = [(web.url(f"/ok-{n}.jpg", host="h.test"), f"A picture of thing {n}") for n in range(3)]
    config = begin(tmp_path / "run", links, web, random_model)
    assert runs.finish(config) == 0, runs.output(config)
    described = tmp_path / "run" / "model" / "open_clip_config.json"
    described.write_text(described.read_text() + "\n")
    assert runs.finish(config) == 3
    assert "was started with embed.encoders" in runs.output(config)
