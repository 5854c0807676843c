"""What a folder must hold so that a model of the hub can be used without the hub."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cah_dask.errors import ConfigError, DamageError
from cah_dask.pairs.encoders.clip_config import TOKENIZER, local_text_tower
from cah_dask.pairs.encoders.hub import HUB, hub_file
from cah_dask.pairs.encoders.models import (
    OPEN_CLIP_CONFIG,
    Kind,
    file_sha256,
    locate,
)
from cah_dask.pairs.encoders.open_clip_import import open_clip

WEIGHTS = "open_clip_model.safetensors"
_TEXT = "text"
"""Folder, within a model's, of the configuration of its text tower of Hugging Face."""
_OF_A_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json")
_SHA256_DIGITS = 64

Write = Callable[[Path], object]
"""Writes a file to a path."""


def contents(model: str, folder: Path) -> dict[str, Write]:
    """Download a model into the cache of the hub's client and return what its folder must hold.

    Parameters
    ----------
    model
        ``ARCHITECTURE/TAG`` of open_clip, or ``hf:ORG/NAME``.
    folder
        Where the files will lie; they are to be written in their order.

    Returns
    -------
    dict
        By the names of the files within the folder, what writes each of them.

    Raises
    ------
    ConfigError
        If the model is not to be had.
    """
    found = locate(model)
    if found.kind is Kind.TEXT:
        return {name: partial(_copy, path) for name, path in found.files.items()}
    if model.startswith(HUB):
        said = json.loads(found.files[OPEN_CLIP_CONFIG].read_bytes())
        origins = [model.removeprefix(HUB)]
    else:
        said, origins = _config_of(model), []
    text = said["model_cfg"]["text_cfg"]
    written: dict[str, Write] = {}
    if repository := text.get("hf_tokenizer_name"):
        tokenizer = _tokenizer([*origins, repository])
        written |= {name: partial(_copy, path) for name, path in tokenizer.items()}
        text["hf_tokenizer_name"] = "."
    if repository := text.get("hf_model_name"):
        written[f"{_TEXT}/config.json"] = partial(_copy, _required(repository, "config.json"))
        text["hf_model_name"] = _TEXT
    config = json.dumps(said, indent=2).encode()
    written[OPEN_CLIP_CONFIG] = partial(Path.write_bytes, data=config)
    is_safe = found.weights.suffix == ".safetensors"
    written[WEIGHTS] = partial(_copy if is_safe else partial(_convert, folder), found.weights)
    return written


def _config_of(model: str) -> dict[str, Any]:
    """Return what open_clip itself knows of a model."""
    from open_clip.transform import PreprocessCfg

    name, tag = model.split("/")
    known = open_clip().get_pretrained_cfg(name, tag)
    fields = PreprocessCfg.__dataclass_fields__
    preprocess = {key: value for key, value in known.items() if key in fields}
    return {"model_cfg": open_clip().get_model_config(name), "preprocess_cfg": preprocess}


def _tokenizer(repositories: list[str]) -> Mapping[str, Path]:
    """Return the files of the tokenizer in the first of some repositories that has one."""
    for repository in repositories:
        if any(hub_file(repository, name) for name in _OF_A_TOKENIZER):
            found = ((name, hub_file(repository, name)) for name in TOKENIZER)
            return {name: path for name, path in found if path is not None}
    raise ConfigError(f"there is no tokenizer in {' or '.join(repositories)} on the hub")


def _required(repository: str, name: str) -> Path:
    path = hub_file(repository, name)
    if path is None:
        raise ConfigError(f"there is no {name} in {repository} on the hub")
    return path


def _copy(source: Path, path: Path) -> None:
    """Copy a file from the cache of the hub's client, which may call it by its SHA-256."""
    shutil.copyfile(source, path)
    digest = source.resolve().name
    if len(digest) == _SHA256_DIGITS and file_sha256(path) != digest:
        raise DamageError(source, "it is not what the hub sent; remove it and run again")


def _convert(folder: Path, source: Path, path: Path) -> None:
    """Write weights that came as a pickle as safetensors; code in the pickle is not run."""
    library = open_clip()
    from open_clip.factory import load_checkpoint
    from safetensors.torch import save_file

    model = library.create_model(
        f"local-dir:{folder}",
        load_weights=False,
        pretrained_text=False,
        **local_text_tower(folder),
    )
    load_checkpoint(model, str(source))
    save_file({name: each.contiguous().clone() for name, each in model.state_dict().items()}, path)
    path.chmod(source.stat().st_mode)  # safetensors writes for its owner alone
