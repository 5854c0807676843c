"""Models of the hub by their names, against a hub on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import COMMIT, serve_hub
from tests.text_models import m_clip, sentence_transformers

ASK = """
import sys
from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.models import checksums, locate
try:
    found = locate(sys.argv[1])
    print(found.folder, found.dim, *checksums(found))
except ConfigError as error:
    print("refused:", error)
"""


def ask(model: str, cache: Path, hub: str) -> str:
    """What is found of a model by a process of its own: the client reads its settings once."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, model],
        env=env | {"HF_ENDPOINT": hub, "HF_HOME": str(cache)},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    sentence_transformers(root / "org" / "mclip", dense="pytorch_model.bin")
    folder = m_clip(root / "org" / "m-clip", base="base")
    (folder / "base").rename(root / "base")
    return root


def test_a_model_is_fetched_once_and_then_found_without_the_hub(repositories: Path, tmp_path: Path):
    with serve_hub(repositories) as (hub, asked):
        first = ask("hf:org/mclip", tmp_path, hub)
        n_asked = len(asked)
        assert ask("hf:org/mclip", tmp_path, hub) == first
        assert len(asked) == n_asked
    assert first.split()[:2] == ["None", "16"]
    assert {"model.safetensors", "2_Dense/pytorch_model.bin", "tokenizer.json"} < {*first.split()}
    assert ask("hf:org/mclip", tmp_path, hub) == first


def test_only_files_that_are_needed_are_fetched(repositories: Path, tmp_path: Path):
    (repositories / "org" / "mclip" / "pytorch_model.bin").write_bytes(b"the same weights again")
    with serve_hub(repositories) as (hub, _):
        ask("hf:org/mclip", tmp_path, hub)
    (fetched,) = tmp_path.rglob(f"snapshots/{COMMIT}")
    assert not (fetched / "pytorch_model.bin").exists()
    assert (fetched / "model.safetensors").exists()


def test_the_base_of_a_model_is_fetched_from_its_own_repository(repositories: Path, tmp_path: Path):
    with serve_hub(repositories) as (hub, _):
        assert "base/config.json" in ask("hf:org/m-clip", tmp_path, hub)


def test_a_model_that_is_not_to_be_had_is_refused_in_one_line(repositories: Path, tmp_path: Path):
    with serve_hub(repositories) as (hub, _):
        unknown = ask("hf:org/none", tmp_path, hub)
        (repositories / "org" / "half").mkdir(exist_ok=True)
        modules = (repositories / "org" / "mclip" / "modules.json").read_bytes()
        (repositories / "org" / "half" / "modules.json").write_bytes(modules)
        half = ask("hf:org/half", tmp_path, hub)
    offline = ask("hf:org/mclip", tmp_path, hub)
    assert "has no model.safetensors or pytorch_model.bin; run `cah models fetch`" in half
    assert unknown.startswith("refused:")
    assert "hf:org/none" in unknown
    assert "cah models fetch" in offline
    assert "\n" not in unknown + offline
