"""Models that were fetched from a hub on loopback, and used where there is none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from cah_dask.errors import ConfigError, DamageError
from cah_dask.pairs import catalogue
from cah_dask.pairs.catalogue import FILE
from cah_dask.pairs.encoders.contents import _copy
from cah_dask.pairs.encoders.load import load_model
from cah_dask.pairs.encoders.models import OPEN_CLIP_CONFIG
from cah_dask.pairs.fetch import check, fetch
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.resolve import resolve
from cah_dask.run.before.preflight import prepare
from tests.hub_models import fill_hub
from tests.hub_server import serve_hub
from tests.text_models import TEXTS

PRESETS = ("laion5b", "xlmr-b32", "siglip2-b16", "nllb-siglip")
MODELS = (*PRESETS, "hf:org/clip")
MCLIP = "hf:sentence-transformers/clip-ViT-B-32-multilingual-v1"
CLIP = "ViT-B-32-quickgelu-openai"

FETCH = """
import sys
from pathlib import Path
from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.fetch import check, fetch
from tests.pairs.test_fetch import MCLIP, MODELS, save_vectors
open_clip().add_model_config(sys.argv[1])
for name in (*MODELS[1:], MCLIP):
    list(fetch(name, Path(sys.argv[2]) / name.rpartition("/")[2]))
folder = Path(sys.argv[2]) / "siglip2-b16"
changed = folder / "ViT-B-16-SigLIP2-256-webli" / "tokenizer.json"
changed.write_text("{}")
try:
    list(fetch("siglip2-b16", folder))
except ConfigError as error:
    print(error)
changed.unlink()
print(*(model for model, _ in fetch("siglip2-b16", folder)))
save_vectors(sys.argv[3], {name: name for name in MODELS})
"""

EMBED = """
import sys
from tests.pairs.test_fetch import MODELS, save_vectors
save_vectors(sys.argv[1], {name: f"{sys.argv[2]}/{name.rpartition('/')[2]}" for name in MODELS})
"""


def save_vectors(path: str, folders: dict[str, str]) -> None:
    """Embed a picture and some texts with each model of presets."""
    image = Image.radial_gradient("L").convert("RGB")
    vectors = {}
    for name, folder in folders.items():
        preset = catalogue.find(folder)
        for number, model in enumerate(preset.sources if preset else [folder]):
            tower = load_model(model, EmbedOptions())
            vectors[f"{name} texts {number}"] = tower.encode_texts(TEXTS).vectors
            if number == 0:
                vectors[f"{name} images"] = tower.encode_images([tower.preprocess(image)])
    np.savez(path, **vectors)


class Place:
    """A machine of its own: another cache, with a hub or without one."""

    def __init__(self, folder: Path, architectures: Path, hub: str | None) -> None:
        reach = {"HF_HUB_OFFLINE": "1"} if hub is None else {"HF_ENDPOINT": hub}
        caches = {"HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache")}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        self._env = kept | caches | reach
        self._cah = ["-m", "tests.hub_models", str(architectures)]

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self._env, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def cah(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.python(*self._cah, *arguments)


class World(msgspec.Struct):
    """What was done while there was a hub."""

    folder: Path
    """Has a fetched folder for each preset, moved away from where it was written."""
    originals: Path
    interrupted: subprocess.CompletedProcess[str]
    is_half_done: bool
    asked_again: list[str]
    resumed: subprocess.CompletedProcess[str]
    repaired: str
    """What was said when a file was changed, and when it was removed."""
    offline: Place


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    base = tmp_path_factory.mktemp("models")
    architectures, written = fill_hub(base / "hub"), base / "written"
    command = ("models", "fetch", "laion5b", "--to", written / "laion5b")
    with serve_hub(base / "hub", withheld=["2_Dense/pytorch_model.bin"]) as (hub, _):
        interrupted = Place(base, architectures, hub).cah(*command)
    is_half_done = (written / "laion5b" / CLIP / "open_clip_model.safetensors").exists()
    is_half_done &= not (written / "laion5b" / FILE).exists()
    with serve_hub(base / "hub") as (hub, asked):
        online = Place(base, architectures, hub)
        resumed = online.cah(*command)
        asked_again = list(asked)
        done = online.python("-c", FETCH, architectures, written, base / "originals.npz")
        assert done.returncode == 0, done.stderr
    folder = written.rename(base / "copied")
    return World(
        folder=folder,
        originals=base / "originals.npz",
        interrupted=interrupted,
        is_half_done=is_half_done,
        asked_again=asked_again,
        resumed=resumed,
        repaired=done.stdout,
        offline=Place(base / "offline", architectures, None),
    )


@pytest.fixture
def copied(world: World, tmp_path: Path, monkeypatch) -> Path:
    """A folder of one's own, looked at in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.folder.with_name("looked-at")))
    return Path(shutil.copytree(world.folder / "laion5b", tmp_path / "laion5b"))


def config(tmp_path: Path, model: Path, **select) -> Path:
    path = tmp_path / "c.yaml"
    tree = {
        "run_dir": str(tmp_path / "run"),
        "inputs": ["http://127.0.0.1/a.warc.wat.gz"],
        "download": {"contact": "me@lab.example", "crawl": "allowed"},
        "embed": {"model": str(model)},
        "select": select,
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_fetched_models_give_the_vectors_of_the_originals_where_there_is_no_hub(world: World):
    path = world.originals.with_name("fetched.npz")
    done = world.offline.python("-c", EMBED, path, world.folder)
    assert done.returncode == 0, done.stderr
    originals, fetched = np.load(world.originals), np.load(path)
    assert len(originals.files) == 2 * len(MODELS) + 1
    assert originals.files == fetched.files
    for name in originals.files:
        assert np.array_equal(originals[name], fetched[name]), name


def test_a_fetched_model_names_nothing_of_the_hub_and_has_no_pickle_of_open_clip(world: World):
    paths = list(world.folder.rglob(OPEN_CLIP_CONFIG))
    assert len(paths) == len(MODELS)
    for path in paths:
        text = json.loads(path.read_text())["model_cfg"]["text_cfg"]
        assert {text.get("hf_model_name"), text.get("hf_tokenizer_name")} <= {None, ".", "text"}
        assert (path.parent / "open_clip_model.safetensors").is_file()
        assert not list(path.parent.glob("*.bin"))


def test_an_interrupted_fetch_goes_on_and_asks_for_nothing_twice(world: World):
    assert world.interrupted.returncode == 3
    assert "the hub does not give 2_Dense/pytorch_model.bin" in world.interrupted.stderr
    assert world.interrupted.stderr.count("\n") == 1
    assert world.is_half_done
    assert world.resumed.returncode == 0, world.resumed.stderr
    assert f"fetched {MCLIP}: 8 files" in world.resumed.stdout
    sent = [line for line in world.asked_again if line.startswith("GET")]
    assert any(line.endswith("2_Dense/pytorch_model.bin") for line in sent)
    assert not any(line.endswith(("open_clip_model.safetensors", "modules.json")) for line in sent)


def test_a_file_that_was_changed_is_refused_and_one_that_is_lost_is_fetched(world: World):
    refused, fetched = world.repaired.splitlines()
    assert refused.endswith("tokenizer.json is there and is another file; remove it and run again")
    assert fetched == "ViT-B-16-SigLIP2-256/webli"


def test_a_folder_that_is_whole_is_left_alone_and_needs_no_hub(copied: Path):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    assert list(fetch("laion5b", copied)) == []
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_a_folder_with_something_else_is_refused(copied: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds 'LAION-5B: .*', not xlmr-b32; give a new folder"):
        list(fetch("xlmr-b32", copied))
    preset = (copied / FILE).read_text()
    (copied / FILE).write_text(preset.replace("LAION-5B: CLIP", "The same: CLIP"))
    with pytest.raises(ConfigError, match=r"holds 'The same: .*', not laion5b; give a new"):
        list(fetch("laion5b", copied))
    (copied / FILE).unlink()
    (copied / "letters.txt").touch()
    with pytest.raises(ConfigError, match=r"holds letters\.txt, which is not of laion5b"):
        list(fetch("laion5b", copied))
    with pytest.raises(ConfigError, match="is on this machine"):
        list(fetch("tiny", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_fetched_folder_is_a_preset_whose_models_keep_their_names(copied: Path):
    options = resolve(EmbedOptions(model=str(copied)))
    assert list(options.encoders) == ["clip-b32"]
    assert options.names == {
        str(copied / CLIP): "ViT-B-32-quickgelu/openai",
        str(copied / MCLIP.removeprefix("hf:").replace("/", "-")): MCLIP,
    }
    preset = catalogue.find(str(copied))
    assert preset is not None
    assert preset.encoders["clip-b32"].thresholds["multi"] == 0.26


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_damaged_model_is_refused_before_it_is_loaded(copied: Path, name: str):
    path = copied / CLIP / name
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    options = EmbedOptions(encoders={"mine": EncoderOptions(image=str(copied / CLIP))})
    for given in (EmbedOptions(model=str(copied)), options):
        with pytest.raises(ConfigError, match=f"{name} is damaged; remove it"):
            resolve(given)


def test_check_says_what_is_sound_and_what_is_damaged_or_lost(world: World, tmp_path: Path):
    sound = world.offline.cah("models", "check", world.folder / "nllb-siglip")
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout.startswith("ok: ")
    assert "6 files" in sound.stdout
    broken = Path(shutil.copytree(world.folder / "nllb-siglip", tmp_path / "broken"))
    model = broken / "nllb-clip-base-siglip-mrl"
    (model / "tokenizer.json").write_text("{}")
    (model / "text" / "config.json").unlink()
    found = world.offline.cah("models", "check", broken)
    assert found.returncode == 5
    assert f"{model}/tokenizer.json is damaged" in found.stdout
    assert f"{model}/text/config.json is not there" in found.stdout
    assert found.stderr == f"{broken} is not sound: 2 faults\n"


def test_a_config_that_names_a_fetched_folder_needs_no_thresholds(copied: Path, tmp_path: Path):
    prepared = prepare(config(tmp_path, copied))
    assert prepared.config.select.thresholds == {"en": 0.28, "multi": 0.26, "nolang": 0.26}
    assert prepared.config.embed.licence == "MIT (CLIP), Apache-2.0 (mCLIP)"
    assert prepared.warnings == ()


def test_a_licence_that_forbids_commercial_use_is_said(world: World, tmp_path: Path):
    thresholds = dict.fromkeys(("en", "multi", "nolang"), 0.1)
    path = config(tmp_path, world.folder / "nllb-siglip", thresholds=thresholds)
    done = world.offline.cah("config", "check", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: the licence of the models is CC-BY-NC-4.0 (no commercial use)\n"


def test_the_licence_of_a_model_is_known_without_its_preset():
    nllb, clip = (
        EmbedOptions(encoders={"a": EncoderOptions(image=name)})
        for name in ("nllb-clip-base-siglip/mrl", "ViT-B-32-quickgelu/openai")
    )
    assert catalogue.licence(nllb, None) == ("CC-BY-NC-4.0 (no commercial use)", False)
    assert catalogue.licence(clip, None) == ("", True)
    given = msgspec.structs.replace(clip, licence="mine")
    assert catalogue.licence(given, catalogue.presets()["laion5b"]) == ("mine", True)


def test_a_text_tower_alone_can_be_fetched_for_an_encoder_of_ones_own(world: World):
    folder = world.folder / MCLIP.rpartition("/")[2]
    assert catalogue.read(folder / FILE).encoders == {}
    with pytest.raises(ConfigError, match="holds a text tower alone"):
        resolve(EmbedOptions(model=str(folder)))
    (model,) = (path for path in folder.iterdir() if path.is_dir())
    fetched = catalogue.fetched(model)
    assert fetched is not None
    assert fetched.origin == MCLIP


def test_a_file_that_the_cache_of_the_hub_holds_damaged_is_not_taken(tmp_path: Path):
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"something else")
    with pytest.raises(DamageError, match="not what the hub sent"):
        _copy(blob, tmp_path / "copy")


def test_a_model_that_was_not_fetched_can_be_checked_too():
    ((name, files),) = check("tiny")
    assert name == "tiny"
    assert {"open_clip_config.json", "open_clip_model.safetensors"} == {*files.files}


def test_without_a_hub_nothing_is_fetched(world: World, tmp_path: Path):
    done = world.offline.cah("models", "fetch", "laion5b", "--to", tmp_path / "new")
    assert done.returncode == 3
    assert "run it on a machine with internet" in done.stderr
    assert not (tmp_path / "new").exists()
