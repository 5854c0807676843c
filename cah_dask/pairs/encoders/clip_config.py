"""What a folder of open_clip says about its pictures and texts, looked at before it is believed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cah_dask.errors import ConfigError

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
"""Files that a tokenizer of transformers may be made of; those of a model lie beside its config."""

_CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "longest", "squash"),
}


def text_files(model_cfg: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that a text tower of Hugging Face may have in its folder."""
    text = model_cfg.get("text_cfg", {})
    names = list(TOKENIZER) if text.get("hf_tokenizer_name") else []
    return [*names, f"{text['hf_model_name']}/config.json"] if text.get("hf_model_name") else names


def local_text_tower(folder: Path | None) -> dict[str, Any]:
    """Return arguments of open_clip for a folder that holds the description of its text tower, too.

    The folder names it by a path within it, which open_clip would look for where it is run.
    """
    if folder is None:
        return {}
    text = json.loads((folder / "open_clip_config.json").read_bytes())["model_cfg"]["text_cfg"]
    path = folder / (text.get("hf_model_name") or "?")
    if not path.is_dir():
        return {}
    return {"text_cfg": {**text, "hf_model_name": str(path), "hf_model_pretrained": False}}


def require_sane_preprocess(config: Path) -> None:
    """Refuse a preprocessing that cannot be that of the model; open_clip itself asks nothing.

    Parameters
    ----------
    config
        ``open_clip_config.json`` of a model.

    Raises
    ------
    ConfigError
        If there is none, its size is another one than the model's, or its numbers are not those of
        pixels from 0 to 1.
    """
    said = json.loads(config.read_bytes())
    preprocess = said.get("preprocess_cfg")
    if not isinstance(preprocess, dict):
        raise ConfigError(
            f"{config} has no preprocess_cfg; take it from where the model comes from, or write "
            "{} if its pictures are prepared like OpenAI's"
        )
    size = _pair(said["model_cfg"].get("vision_cfg", {}).get("image_size"))
    wanted = _pair(preprocess.get("size"))
    if wanted and size and wanted != size:
        raise ConfigError(
            f"{config} prepares pictures of {wanted[0]} x {wanted[1]} pixels, its model takes "
            f"{size[0]} x {size[1]}; its preprocess_cfg is that of another model"
        )
    for name in ("mean", "std"):
        _require_share(config, preprocess, name)
    for name, known in _CHOICES.items():
        value = preprocess.get(name)
        if value is not None and value not in known:
            raise ConfigError(f"{config} has {name} {value!r}; known: {', '.join(known)}")


def _require_share(config: Path, preprocess: Mapping[str, Any], name: str) -> None:
    value = preprocess.get(name)
    if value is None:
        return
    numbers = value if isinstance(value, list) else []
    least = 0 if name == "mean" else 1e-3
    if len(numbers) != 3 or not all(least <= number <= 1 for number in numbers):
        raise ConfigError(
            f"{config} has {name} {value}; it takes one number for each of red, green and blue, "
            "for pixels from 0 to 1"
        )


def _pair(size: Any) -> list[int] | None:
    return [size, size] if isinstance(size, int) else size
