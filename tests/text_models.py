"""Small text towers with random weights, in the layouts that people publish."""
# ruff: noqa: RUF001  # Cyrillic is meant

import importlib
import json
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cah_dask.pairs.encoders.open_clip_import import open_clip


def transformers() -> ModuleType:
    """The library, imported as it has to be beside a torch without CUDA."""
    open_clip()  # it imports torchvision, too
    return importlib.import_module("transformers")


WORDS = ["red", "green", "blue", "cat", "dogs", "two", "three", "picture", "ein", "hund", "drei"]
LETTERS = sorted(set("abcdefghiklmnoprstuwзклрсту图片"))
TEXTS = [
    "A red cat",
    "three green dogs, two blue cats",
    "",
    "ein Hund",
    "три красных круга",
    "图片",
]
LONG = "red " * 300
WIDTH, DIM, LENGTH = 24, 16, 40
ST = "sentence_transformers.models"


def sentence_transformers(
    folder: Path, *, root: str = "", dense: str = "model.safetensors"
) -> Path:
    """Write the layout of clip-ViT-B-32-multilingual-v1: `root` is empty or ends with a slash."""
    library = transformers()
    torch.manual_seed(3)
    config = library.DistilBertConfig(
        vocab_size=200, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64
    )
    (folder / root).mkdir(parents=True, exist_ok=True)
    (folder / root / "config.json").write_text(config.to_json_string())
    save_file(library.DistilBertModel(config).state_dict(), folder / root / "model.safetensors")
    _word_pieces().save(str(folder / root / "tokenizer.json"))
    _write(folder / root / "sentence_bert_config.json", {"max_seq_length": LENGTH})
    parts = {"Transformer": root.rstrip("/"), "Pooling": "1_Pooling", "Dense": "2_Dense"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{ST}.{name}"}
        for number, (name, path) in enumerate(parts.items())
    ]
    _write(folder / "modules.json", modules)
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": WIDTH,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
    )
    said = {"in_features": WIDTH, "out_features": DIM, "bias": False}
    activation = "torch.nn.modules.linear.Identity"
    _write(folder / "2_Dense" / "config.json", said | {"activation_function": activation})
    linear = {"linear.weight": torch.randn(DIM, WIDTH) / WIDTH**0.5}
    if dense.endswith(".bin"):
        torch.save(linear, folder / "2_Dense" / dense)
    else:
        save_file(linear, folder / "2_Dense" / dense)
    return folder


def m_clip(folder: Path, *, base: str = "xlm-roberta-large") -> Path:
    """Write the layout of M-CLIP, with the configuration of its base in a folder of its own."""
    library = transformers()
    torch.manual_seed(4)
    tokenizer = unigram()
    config = library.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=LENGTH + 2,
    )  # fmt: skip
    _write(folder / base / "config.json", json.loads(config.to_json_string()))
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"model_type": "M-CLIP", "modelBase": base, "transformerDimensions": WIDTH}
    _write(folder / "config.json", said | {"numDims": DIM})
    state = {f"transformer.{k}": v for k, v in library.XLMRobertaModel(config).state_dict().items()}
    state["transformer.embeddings.position_ids"] = torch.arange(LENGTH + 2)[None]
    state["LinearTransformation.weight"] = torch.randn(DIM, WIDTH)
    state["LinearTransformation.bias"] = torch.randn(DIM)
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def _write(path: Path, said: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said))


def _word_pieces():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [prefix + letter for letter in LETTERS for prefix in ("", "##")]
    vocabulary = {token: number for number, token in enumerate([*special, *letters, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=LENGTH)  # as published ones do
    return tokenizer


def unigram():
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    letters = [(letter, -5.0) for letter in ["▁", *LETTERS]]
    words = [(f"▁{word}", -3.0) for word in sorted(set(WORDS)) if len(word) > 1]
    tokenizer = Tokenizer(models.Unigram([*special, *letters, *words], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
