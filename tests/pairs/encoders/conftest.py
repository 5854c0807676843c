"""Tiny open_clip models of several architectures, with random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cah_dask.pairs.encoders.open_clip_import import open_clip

NATIVE = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TRANSFORMER = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 1,
}  # fmt: skip
HUGGING_FACE = {"context_length": 16, "hf_model_pretrained": False, "hf_proj_type": "linear"}

TEXT_TOWERS: dict[str, dict] = {
    "causal": NATIVE,
    "causal, pooled at its end token": NATIVE | {"pool_type": "eos", "eos_id": 49407},
    "SigLIP": NATIVE | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    "CoCa": NATIVE | {"embed_cls": True, "pad_id": 0, "output_tokens": True},
    "Hugging Face, mean": HUGGING_FACE | {"hf_pooler_type": "mean_pooler"},
    "Hugging Face, first token": HUGGING_FACE | {"hf_pooler_type": "cls_pooler"},
}
"""`text_cfg` by a name; that of Hugging Face lacks its folder."""


@pytest.fixture(scope="session")
def open_clip_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make the folder of a model with a text tower of TEXT_TOWERS, once."""
    open_clip()
    torch = pytest.importorskip("torch")
    made: dict[str, Path] = {}

    def folder_of(tower: str) -> Path:
        if tower not in made:
            torch.manual_seed(len(made))
            made[tower] = _save(tmp_path_factory.mktemp("model"), tower)
        return made[tower]

    return folder_of


def _save(folder: Path, tower: str) -> Path:
    library, safetensors = open_clip(), pytest.importorskip("safetensors.torch")
    text = dict(TEXT_TOWERS[tower])
    if tower.startswith("Hugging Face"):
        _save_transformer(folder)
        text |= {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    config: dict = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text}
    if tower == "CoCa":
        config["multimodal_cfg"] = NATIVE
    if tower != "causal":
        config["custom_text"] = True
    document = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    model = library.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    safetensors.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def _save_transformer(folder: Path) -> None:
    """Leave the configuration of an XLM-R and a tokenizer of one token a letter."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    transformers.XLMRobertaConfig(**TRANSFORMER).save_pretrained(folder)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(piece, -1.0) for piece in [*special, *"abcdefghijklmnopqrstuvwxyz", "▁"]]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
