"""What a user can get wrong is found before anything is written."""

import gzip
from pathlib import Path

import pytest
import yaml

from cah_dask.errors import ConfigError, InputError
from cah_dask.run.before.preflight import prepare
from cah_dask.run.folder.run_folder import RunFolder

RECORD = b'{"Envelope": {"Payload-Metadata": {}}}'
WAT = gzip.compress(
    b"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: http://page.example/\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(RECORD), RECORD)
)


ABOUT = "about: {name: x, description: a machine, url: https://x.example}\n"
ME = {"contact": "me@lab.example"}
MODEL = {"model": "tiny"}
THRESHOLDS = {"en": 0.2, "multi": 0.2, "nolang": 0.2}


@pytest.fixture
def config(tmp_path: Path):
    """Writes a config that would run, changed by the given keys."""

    def write(**changes) -> Path:
        (tmp_path / "a.warc.wat.gz").write_bytes(WAT)
        (tmp_path / "site.yaml").write_text(ABOUT)
        tree = {
            "run_dir": str(tmp_path / "run"),
            "inputs": [str(tmp_path / "*.warc.wat.gz")],
            "download": ME,
            "embed": MODEL,
            "select": {"thresholds": THRESHOLDS},
            **changes,
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        return tmp_path / "c.yaml"

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "inputs: expected `array` of length >= 1"),
        ({"archives_per_wave": "many"}, "archives_per_wave: expected `int`, got `str`"),
        ({"download": {}}, "contact"),
        ({"download": {**ME, "crawl": "forbidden"}}, "forbidden here ("),
        ({"download": {**ME, "crawl": "maybe"}}, "download.crawl: invalid enum value 'maybe'"),
        ({"pools": {"io": {"partition": "x", "time": "10"}}}, "say so with download.crawl=allowed"),
        ({"slurm": {"launch": "srun"}}, "say so with download.crawl=allowed"),
        ({"site": "site.yaml"}, "say so with download.crawl=allowed"),
        ({"embed": {**MODEL, "model": "nonsense"}}, "unknown model 'nonsense'"),
        ({"embed": {**MODEL, "model": "/nowhere"}}, "has no open_clip_config.json"),
        ({"embed": {**MODEL, "checksums": {MODEL["model"]: {"a": "0" * 64}}}}, "is no file of it"),
        ({"select": {}}, "no threshold is known for en, multi, nolang"),
        ({"pack": {"rows_per_shard": 10, "rows_per_chunk": 3}}, "must be a multiple"),
        ({"dedup": {"exclude": ["uid:none.npy"]}}, "none.npy"),
    ],
)
def test_a_wrong_setting_is_named(config, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        prepare(config(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["none.warc.wat.gz", "*.nothing", __file__, "ftp://a.example/x"])
def test_an_input_that_is_not_there_or_no_wat_is_named(config, name: str):
    with pytest.raises(InputError) as caught:
        prepare(config(inputs=[name]))
    assert name in str(caught.value)


def test_an_empty_list_of_archives_is_named(config, tmp_path: Path):
    (tmp_path / "wat.paths").write_text("\n\n")
    with pytest.raises(InputError, match=r"wat\.paths"):
        prepare(config(inputs=[str(tmp_path / "wat.paths")]))


def test_only_the_splits_of_the_run_need_a_threshold(config):
    prepared = prepare(config(select={"thresholds": {"en": 0.2}}, extract={"splits": ["en"]}))
    assert prepared.config.select.thresholds == {"en": 0.2}
    assert prepared.config.embed.checksums


def test_lists_are_pinned_by_what_they_hold(config, tmp_path: Path):
    (tmp_path / "hosts.txt").write_text("a.org")
    (tmp_path / "hashes.txt").write_text("0" * 32)
    dedup = {"exclude": [f"host:{tmp_path}/hosts.txt"]}
    download = {**ME, "hash_lists": [f"{tmp_path}/hashes.txt"]}
    path = config(dedup=dedup, download=download)
    pinned = prepare(path).config.lists_sha256
    assert set(pinned) == {f"{tmp_path}/hosts.txt", f"{tmp_path}/hashes.txt"}
    (tmp_path / "hosts.txt").write_text("b.org")
    assert prepare(path).config.lists_sha256 != pinned
    with pytest.raises(ConfigError, match=r"lists_sha256 wants .*hosts\.txt with SHA-256 \w+, but"):
        prepare(config(dedup=dedup, download=download, lists_sha256=pinned))


def test_a_run_is_not_taken_up_with_a_list_that_has_changed(config, tmp_path: Path):
    (tmp_path / "hosts.txt").write_text("a.org")
    path = config(dedup={"exclude": [f"host:{tmp_path}/hosts.txt"]})
    folder = RunFolder(tmp_path / "run")
    for _ in range(2):
        prepared = prepare(path)
        with folder.driving(prepared.loaded, list(prepared.archives)):
            pass
    (tmp_path / "hosts.txt").write_text("b.org")
    changed = prepare(path)
    with (
        pytest.raises(ConfigError, match=r"was started with other lists \(.*hosts\.txt is not"),
        folder.driving(changed.loaded, list(changed.archives)),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": "MIT"}, "embed.licence was '' when this run was begun and is now 'MIT'"),
        ({"names": {"tiny": "mine"}}, "embed.names of tiny was 'tiny' when .* is now 'mine'"),
    ],
)
def test_what_the_models_of_a_begun_run_are_called_is_not_changed_in_silence(
    config, tmp_path: Path, changes: dict, message: str
):
    path = config()
    prepared = prepare(path)
    with RunFolder(tmp_path / "run").driving(prepared.loaded, list(prepared.archives)):
        pass
    again = prepare(config(embed={**MODEL, "names": {"tiny": "tiny"}}))
    assert again.config.embed == prepared.config.embed
    with pytest.raises(ConfigError, match=message):
        prepare(config(embed={**MODEL, **changes}))


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def test_on_a_machine_of_your_own_nobody_else_is_asked(config):
    assert prepare(config()).config.download.crawl == "ask"


def test_inside_a_job_the_site_is_asked_wherever_the_workers_are(config, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(ConfigError, match="shared site"):
        prepare(config())
    assert prepare(config(download={**ME, "crawl": "allowed"}))


def test_what_a_site_forbids_no_run_can_allow(config, tmp_path: Path):
    allowed = config(site="site.yaml", download={**ME, "crawl": "allowed"})
    assert prepare(allowed)
    (tmp_path / "site.yaml").write_text(ABOUT + "download: {crawl: forbidden}\n")
    with pytest.raises(ConfigError, match=r"forbidden here \(.*site\.yaml\)"):
        prepare(allowed, ["download.crawl=allowed"])
