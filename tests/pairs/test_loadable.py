"""A model that no worker could load is refused in one line, before anything is fetched."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders import hub
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.resolve import resolve

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@pytest.fixture
def model(tmp_path: Path, random_model: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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


def test_a_sound_model_is_looked_at_once(model: Path, tmp_path: Path):
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


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


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
