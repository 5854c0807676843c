"""Small models in the repositories of the hub that the presets name, and `cah` that knows them.

Run as a program it is `cah`: `python -m tests.hub_models ARCHITECTURES ...`. open_clip is told that
the architectures of the presets are as small as the files of that folder say.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cah_dask.pairs.encoders.open_clip_import import open_clip
from tests.conftest import ARCHITECTURE
from tests.text_models import LENGTH, WIDTH, sentence_transformers, transformers, unigram

XLMR, NLLB, GEMMA = (
    "xlm-roberta-base",
    "facebook/nllb-200-distilled-600M",
    "timm/ViT-B-16-SigLIP2-256",
)
NATIVE: dict[str, Any] = dict(ARCHITECTURE)
HF_TOWER = {"context_length": 16, "hf_pooler_type": "mean_pooler"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ViT-B-32-quickgelu": {**NATIVE, "quick_gelu": True},
    "xlm-roberta-base-ViT-B-32": {
        **NATIVE,
        "text_cfg": {**HF_TOWER, "hf_model_name": XLMR, "hf_tokenizer_name": XLMR},
    },
    "nllb-clip-base-siglip": {
        **NATIVE,
        "custom_text": True,
        "init_logit_bias": -10,
        "text_cfg": {
            **HF_TOWER,
            "hf_model_name": NLLB,
            "hf_tokenizer_name": NLLB,
            "hf_proj_type": "linear",
            "hf_pooler_type": "cls_pooler",
        },
    },
    "ViT-B-16-SigLIP2-256": {
        **NATIVE,
        "custom_text": True,
        "init_logit_bias": -10,
        "text_cfg": {
            **NATIVE["text_cfg"],
            "hf_tokenizer_name": GEMMA,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "pool_type": "last",
        },
    },
}  # fmt: skip
WEIGHTS = {
    "ViT-B-32-quickgelu": "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors",
    "xlm-roberta-base-ViT-B-32": (
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k/open_clip_pytorch_model.bin"
    ),
    "nllb-clip-base-siglip": "visheratin/nllb-siglip-mrl-base/open_clip_pytorch_model.bin",
    "ViT-B-16-SigLIP2-256": f"{GEMMA}/open_clip_model.safetensors",
}


def fill_hub(root: Path) -> Path:
    """Write what the presets need of the hub under `root`; return a folder of architectures."""
    sentence_transformers(
        root / "sentence-transformers" / "clip-ViT-B-32-multilingual-v1",
        dense="pytorch_model.bin",
    )
    library, size = transformers(), unigram().get_vocab_size()
    xlmr = library.XLMRobertaConfig(
        vocab_size=size, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LENGTH + 2,
    )  # fmt: skip
    nllb = library.M2M100Config(  # its tokenizer has 202 languages more
        vocab_size=size + 256, d_model=WIDTH, max_position_embeddings=64,
        encoder_layers=2, encoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_layers=1, decoder_ffn_dim=32, decoder_attention_heads=2,
    )  # fmt: skip
    _text_repository(root / XLMR, xlmr.to_dict(), {"model_max_length": 512})
    _text_repository(root / NLLB, nllb.to_dict(), {"tokenizer_class": "NllbTokenizer"})
    gemma = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    _text_repository(root / GEMMA, {"architecture": "a name of timm"}, gemma)
    folder = root / "architectures"
    folder.mkdir()
    for name, config in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    for number, (name, path) in enumerate(WEIGHTS.items()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _save(_random_model(name, root, seed=number), root / path)
    return folder


def _text_repository(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    unigram().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def _random_model(name: str, root: Path, *, seed: int) -> torch.nn.Module:
    config = json.loads(json.dumps(ARCHITECTURES[name]))
    text, is_custom = config["text_cfg"], config.pop("custom_text", False)
    if tower := text.get("hf_model_name"):
        text |= {"hf_model_name": str(root / tower), "hf_model_pretrained": False}
    library = open_clip()
    torch.manual_seed(seed)
    kind = library.CustomTextCLIP if is_custom or tower else library.CLIP
    return kind(**config)


def _save(model: torch.nn.Module, path: Path) -> None:
    if path.suffix == ".bin":
        torch.save(model.state_dict(), path)
    else:
        save_file({name: each.contiguous() for name, each in model.state_dict().items()}, path)


if __name__ == "__main__":
    from cah_dask.cli import main

    open_clip().add_model_config(sys.argv.pop(1))
    main()
