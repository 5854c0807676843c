"""The config of `cah classify`: what its page says is so."""

import re
from pathlib import Path

import msgspec

from cah_dask.classify.outcomes import Outcome
from cah_dask.run.classifying.config import ClassifyConfig
from cah_dask.run.settings.loading import load_as

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"
CHOSEN = {"inputs", "to", "read", "prepare", "model", "keep"}


def test_the_page_shows_every_key_with_its_default(tmp_path: Path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = tmp_path / "c.yaml"
    config.write_text(text)
    shown = load_as(ClassifyConfig, config)
    assert set(re.findall(r"^(\w+):", text, re.MULTILINE)) == set(ClassifyConfig.__struct_fields__)
    for field in msgspec.structs.fields(ClassifyConfig):
        if field.name not in CHOSEN:
            assert getattr(shown, field.name) == field.default, field.name
    assert set(shown.hooks) == {"read", "prepare", "model"}


def test_the_page_names_every_outcome():
    for outcome in Outcome:
        assert f"`{outcome}`" in PAGE.read_text(), outcome


def test_a_site_file_says_where_it_runs(tmp_path: Path):
    (tmp_path / "site.yaml").write_text(
        "slurm: {account: ours}\ndownload: {crawl: forbidden}\npools: {cpu: {threads: 3}}"
    )
    (tmp_path / "c.yaml").write_text("inputs: [a]\nto: out\nsite: site.yaml")
    config = load_as(ClassifyConfig, tmp_path / "c.yaml", ["pools.gpu.threads=2"])
    assert config.slurm.account == "ours"
    assert (config.pools.cpu.threads, config.pools.gpu.threads) == (3, 2)
