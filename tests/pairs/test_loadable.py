"""A model that no worker could load is refused in one line, before anything is fetched."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders import hub
from cah_dask.pairs.encoders.clip_config import require_sane_preprocess
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.resolve import resolve
from tests.conftest import ARCHITECTURE
from tests.hostile import Trap
from tests.text_models import sentence_transformers

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is written down what was found sound, so that no test looks at it again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def model(tmp_path: Path, random_model: Path, cache: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return Path(shutil.copytree(random_model, tmp_path / "model"))


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(EmbedOptions(model=str(folder)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **text) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"] = text
    (folder / CONFIG).write_text(json.dumps(config))


def test_a_sound_model_is_looked_at_once(model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        resolve(EmbedOptions(model=str(model)))
    assert len(list((tmp_path / "cache" / "cah_dask").iterdir())) == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_weights_that_were_cut_while_they_were_copied_are_refused(model: Path, share: float):
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[: int(share * len(data))])
    assert WEIGHTS in refusal(model)


def test_weights_of_another_architecture_are_refused(model: Path):
    config = json.loads((model / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 64
    (model / CONFIG).write_text(json.dumps(config))
    assert "size mismatch" in refusal(model)


@pytest.mark.parametrize(("part", "name"), [("vision", "image_size"), ("text", "context_length")])
def test_weights_of_another_size_are_refused_and_not_stretched(model: Path, part: str, name: str):
    config = json.loads((model / CONFIG).read_text())
    config["model_cfg"][f"{part}_cfg"][name] *= 2
    (model / CONFIG).write_text(json.dumps(config))
    assert "is that of another model" in refusal(model)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (None, "has no preprocess_cfg"),
        ({"size": 64}, "64 x 64 pixels, its model takes 32 x 32"),
        ({"size": [32, 64]}, "32 x 64 pixels, its model takes 32 x 32"),
        ({"mean": [123.7, 116.3, 103.5]}, "for pixels from 0 to 1"),
        ({"mean": 0.5}, "one number for each of red, green and blue"),
        ({"std": [0.5, 0.5, 0]}, "for pixels from 0 to 1"),
        ({"interpolation": "lanczos"}, "known: bicubic, bilinear"),
        ({"resize_mode": "crop"}, "known: shortest, longest, squash"),
    ],
)
def test_a_preprocessing_that_cannot_be_the_models_is_refused(
    tmp_path: Path, preprocess: dict | None, message: str
):
    config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": preprocess}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        require_sane_preprocess(tmp_path / CONFIG)


def test_usual_preprocessings_are_taken(tmp_path: Path):
    for preprocess in (
        {},
        {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"},
        {"size": [32, 32], "mean": [0.481, 0.458, 0.408], "interpolation": "bicubic"},
    ):
        config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": preprocess}
        (tmp_path / CONFIG).write_text(json.dumps(config))
        require_sane_preprocess(tmp_path / CONFIG)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_cfg": {}}'])
def test_a_configuration_that_says_nothing_is_refused(model: Path, text: str):
    (model / CONFIG).write_text(text)
    assert "has no model_cfg with embed_dim" in refusal(model)


def with_weights(model: Path, folder: Path, change: Callable[[str, Any], Any]) -> Path:
    """Return a copy of a model whose weights were changed, each by its name."""
    copied = Path(shutil.copytree(model, folder))
    state = load_file(copied / WEIGHTS)
    save_file({name: change(name, tensor) for name, tensor in state.items()}, copied / WEIGHTS)
    return copied


def resolve_texts_of(model: Path, text: Path) -> EmbedOptions:
    encoder = EncoderOptions(image=str(model), texts={"multi": str(text)})
    return resolve(EmbedOptions(encoders={"a": encoder}))


def test_texts_of_a_model_with_the_same_image_tower_are_taken(model: Path, tmp_path: Path):
    other_texts = with_weights(
        model,
        tmp_path / "texts",
        lambda name, tensor: tensor.half() if name.startswith("visual.") else tensor + 0.1,
    )
    assert str(other_texts) in resolve_texts_of(model, other_texts).checksums


def test_texts_of_a_model_with_another_image_tower_are_refused(model: Path, tmp_path: Path):
    other = with_weights(
        model, tmp_path / "other", lambda name, t: t * 1.01 if name == "visual.proj" else t
    )
    with pytest.raises(ConfigError, match="trained with another image tower than that of"):
        resolve_texts_of(model, other)


def test_a_text_tower_alone_embeds_no_images(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mclip = sentence_transformers(tmp_path / "mclip")
    assert "is a text tower alone; name it in embed.encoders.mclip.texts" in refusal(mclip)


def test_weights_with_something_missing_are_refused(model: Path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = safetensors.load_file(model / WEIGHTS)
    state.pop("text_projection")
    safetensors.save_file(state, model / WEIGHTS)
    assert "text_projection" in refusal(model)


def test_a_text_tower_of_hugging_face_whose_files_are_not_here_is_refused(model: Path):
    change(model, hf_model_name="xlm-roberta-base", hf_tokenizer_name="xlm-roberta-base")
    said = refusal(model)
    assert "cannot be loaded" in said
    assert "fetch it on a node with internet" in said or "pip install transformers" in said


def test_pickled_code_in_weights_is_refused_and_not_run(model: Path, tmp_path: Path):
    torch = pytest.importorskip("torch")
    (model / WEIGHTS).unlink()
    torch.save(Trap(tmp_path / "ran"), model / "open_clip_pytorch_model.bin")
    assert "cannot be loaded" in refusal(model)
    assert not (tmp_path / "ran").exists()


def test_a_hub_that_is_out_of_reach_is_not_asked_again_and_again(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        hub.look_for_hub()
        assert os.environ.pop("HF_HUB_OFFLINE") == "1"


def test_a_hub_that_answers_is_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        hub.look_for_hub()
        assert "HF_HUB_OFFLINE" not in os.environ
