"""One clear line for every mistake, and no value whose origin is unknown."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.errors import ConfigError
from cah_dask.run.settings import identity, loading, render
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import OPERATIONAL
from cah_dask.run.settings.loading import Loaded

ROOT = Path(__file__).parents[2]
MINIMAL = "run_dir: runs/x\ninputs: [a.warc.wat.gz]\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_and_overrides_are_joined(write):
    loaded = loading.load(write(MINIMAL), ["embed.batch_size=8", "pools.cpu.workers=3"])
    assert loaded.config.embed.batch_size == 8
    assert loaded.config.pools.cpu.workers == 3
    assert loaded.origins["embed.batch_size"] == "--set embed.batch_size=8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "embed: {modle: x}", "unknown key embed.modle; did you mean embed.model?"),
        (MINIMAL + "embed: {scores: {a: {model: x}, b: {modl: x}}}", "embed.scores.b: object"),
        (
            MINIMAL + "select: {drop: {a: {b: {above: 1}}, c: {b: {above: 0}, d: {limit: 1}}}}",
            "select.drop.c.d: object contains unknown field `limit`",
        ),
        (MINIMAL + "colour: red", "unknown key colour; accepted here: archives_per_wave, "),
        (MINIMAL + "embed: {batch_size: many}", "embed.batch_size: expected `int`, got `str`"),
        (MINIMAL + "embed: {batch_size: 0}", "embed.batch_size: expected `int` >= 1"),
        (MINIMAL + "select: {thresholds: {en: 2}}", "select.thresholds"),
        (MINIMAL + "select: {thresholds: {fr: 0.2}}", "select.thresholds"),
        (
            MINIMAL + "embed: {thresholds: {en: 0.2}}",
            "embed.thresholds is called select.",
        ),
        ("inputs: [a]\n", "missing required field `run_dir`"),
        ("run_dir: x\ninputs: []\n", "inputs: expected `array` of length >= 1"),
        ("run_dir: x\ninputs: a\n", "inputs: expected `array`, got `str`"),
        ("- a\n", "holds no `key: value` lines"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(write, text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        loading.load(write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["embed", "=1", "a..b=1", "run_dir.x=1", "embed.model=["])
def test_an_override_that_cannot_be_applied_is_refused(write, override: str):
    with pytest.raises(ConfigError):
        loading.load(write(MINIMAL), [override])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        loading.load(tmp_path / "none.yaml")


def test_what_is_rendered_loads_to_the_same_config_and_names_origins(write, tmp_path: Path):
    loaded = loading.load(write(MINIMAL), ["select.thresholds={en: 0.3, multi: 0.2}"])
    text = render.render(loaded)
    (tmp_path / "again.yaml").write_text(text)
    assert loading.load(tmp_path / "again.yaml").config == loaded.config
    assert "thresholds: {en: 0.3, multi: 0.2}  # --set" in text
    assert "batch_size: 64  # default" in text


@given(st.text(min_size=1), st.floats(-1, 1), st.integers(1, 9))
def test_any_config_survives_its_rendering(tmp_path_factory, name: str, threshold: float, n: int):
    config = msgspec.convert(
        {
            "run_dir": name,
            "inputs": [name, "no", "12:00:00"],
            "embed": {"batch_size": n},
            "select": {"thresholds": {"en": threshold}},
        },
        Config,
    )
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    path.write_text(render.render(Loaded(config, {})), encoding="utf-8")
    assert loading.load(path).config == config


def test_only_settings_that_change_results_change_the_hash(write):
    def digest(*overrides: str) -> str:
        return identity.config_hash(loading.load(write(MINIMAL), overrides).config)

    assert digest() == digest("pools.cpu.workers=9", "run_dir=elsewhere", "keep_images=false")
    assert digest() == digest("embed.licence=MIT")
    assert digest() != digest("dedup.buckets=7")
    assert digest() != digest("archives_per_wave=7")


def test_operational_keys_exist():
    known = [key for key, _, _ in render.explain()]
    for name in OPERATIONAL:
        assert any(key == name or key.startswith(f"{name}.") for key in known), name


def test_every_option_says_what_it_means():
    unexplained = [key for key, _, text in render.explain() if len(text) < 10]
    assert unexplained == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_loads(path: Path):
    loading.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run_dir: a\ninputs: [x]\nrun_dir: b\n", "key run_dir is there twice"),
        ("run_dir: a\ninputs: [x]\ndownload: {contact: a@b}\ndownload: {retries: 2}\n", "twice"),
        ("run_dir: &a [*a]\n", "references"),
        ("run_dir: a\ninputs: &i [x]\nembed: *i\n", "references"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
    ],
)  # fmt: skip
def test_yaml_that_says_things_twice_or_in_circles_is_one_line(tmp_path: Path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        loading.load(path)
    assert "\n" not in str(caught.value)
