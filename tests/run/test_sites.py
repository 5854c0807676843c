"""What a centre's file says lies beneath what a run's file says."""

from pathlib import Path

import msgspec
import pytest
import yaml

from cah_dask.errors import ConfigError
from cah_dask.run.pools import check_pools
from cah_dask.run.settings import loading, render
from cah_dask.run.settings.sites import About

SITES = Path(__file__).parents[2] / "configs" / "sites"
MINIMAL = "run_dir: runs/x\ninputs: [a.warc.wat.gz]\n"
ABOUT = "about: {name: x, description: a machine, url: https://x.example}\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(site: str, run: str = "") -> Path:
        (tmp_path / "sites").mkdir()
        (tmp_path / "sites" / "x.yaml").write_text(site)
        path = tmp_path / "run.yaml"
        path.write_text(f"{MINIMAL}site: sites/x.yaml\n{run}")
        return path

    return write


def test_the_runs_file_overrules_the_sites_and_the_command_both(write):
    site = ABOUT + "slurm: {poll_s: 10, max_jobs: 5}\npools: {cpu: {max_jobs: 9, memory: 2G}}\n"
    path = write(site, "slurm: {poll_s: 20}\npools: {cpu: {memory: 4G}}\n")
    loaded = loading.load(path, ["pools.cpu.max_jobs=3"])
    assert loaded.config.slurm.poll_s == 20
    assert loaded.config.slurm.max_jobs == 5
    assert loaded.config.pools.cpu.max_jobs == 3
    assert loaded.config.pools.cpu.memory == "4G"
    assert loaded.origins["slurm.max_jobs"] == str(path.parent / "sites" / "x.yaml")
    assert loaded.origins["slurm.poll_s"] == str(path)
    assert loaded.origins["pools.cpu.max_jobs"].startswith("--set")


def test_a_rendered_configuration_needs_no_site_file(write, tmp_path: Path):
    loaded = loading.load(write(ABOUT + "slurm: {poll_s: 10}\n"))
    again = tmp_path / "again.yaml"
    again.write_text(render.render(loaded))
    (tmp_path / "sites" / "x.yaml").unlink()
    assert loading.load(again).config.slurm.poll_s == 10


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (ABOUT + "embed: {model: x}\n", "unknown key embed; accepted in site files: about, slurm"),
        ("about: {nam: x}\n", "about: Object contains unknown field `nam`"),
        (ABOUT + "slurm: {pol_s: 1}\n", "unknown key slurm.pol_s; did you mean slurm.poll_s?"),
        ("[]", "holds no `key: value` lines"),
    ],
)
def test_a_mistake_in_a_site_file_is_one_line(write, site: str, message: str):
    with pytest.raises(ConfigError) as caught:
        loading.load(write(site))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_site_file_is_named(tmp_path: Path):
    (tmp_path / "run.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        loading.load(tmp_path / "run.yaml", ["site=none.yaml"])


@pytest.mark.parametrize("site", sorted(SITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_site_can_be_used(site: Path, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(MINIMAL)
    overrides = [f"site={site}", "slurm.account=project"]
    check_pools(loading.load(tmp_path / "run.yaml", overrides).config)
    about = msgspec.convert(yaml.safe_load(site.read_text())["about"], About)
    assert about.name == site.stem
    assert about.description
    assert about.url
    assert about.verified == "never"
