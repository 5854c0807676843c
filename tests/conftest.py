"""What tests of several packages share."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cah_dask.pairs.open_clip_import import open_clip

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary open_clip model folder with random weights."""
    folder = tmp_path_factory.mktemp("model")
    config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    library = open_clip()
    model = library.CLIP(**ARCHITECTURE)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder
