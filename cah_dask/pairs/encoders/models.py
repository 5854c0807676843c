"""What a model's name means: the files that it is made of, found without loading them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

from cah_dask import storage
from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.clip_config import text_files
from cah_dask.pairs.encoders.custom import (
    custom_class,
    custom_files,
    has_images,
    has_texts,
    is_custom,
)
from cah_dask.pairs.encoders.hub import HUB, fetched_weights, hub_file
from cah_dask.pairs.encoders.layouts import MODULES, Find, TextLayout, read_layout
from cah_dask.pairs.encoders.open_clip_import import open_clip

TINY = "tiny"
"""Name of the small CLIP that ships with the package and knows only the demo's drawings."""

TINY_MULTILINGUAL = "tiny-multilingual"
"""Name of the text tower that ships with it, in the layout of mCLIP: it speaks the same space."""

_SHIPPED = {TINY: "model", TINY_MULTILINGUAL: "model-multilingual"}
"""Folder of each model of the demo."""

OPEN_CLIP_CONFIG = "open_clip_config.json"
_OPEN_CLIP_WEIGHTS = (  # in the order in which open_clip looks for them
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)

_LAYOUTS = (
    "a model is a folder of open_clip, of sentence-transformers or of M-CLIP with its weights; "
    "`cah models fetch` makes one on a machine with internet"
)


class Kind(StrEnum):
    """Which library a model is loaded with, or in which layout its folder is."""

    OPEN_CLIP = "open_clip"
    TEXT = "text"
    """A text tower alone, see `layouts`."""
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies."""

    kind: Kind
    library_name: str
    """What its library calls it."""
    folder: Path | None
    """None for a name of open_clip."""
    weights: Path
    """Of the transformer of a text tower, the source file of a custom model."""
    files: Mapping[str, Path]
    """All files that decide its vectors, by their names within the model: weights, configuration,
    tokenizer."""
    dim: int
    """Length of a vector."""
    text: TextLayout | None = None
    """What the files of a `Kind.TEXT` say."""
    has_images: bool = True
    """Whether it has an image tower."""
    has_texts: bool = True
    """Whether it has a text tower."""


def locate(model: str) -> ModelFiles:
    """Return the files of a model; those of a name of open_clip or the hub are fetched if need be.

    Raises
    ------
    ConfigError
        If there is no such model, or if a file of it is missing.
    """
    if is_custom(model):
        return _custom(model)
    find = finder(model)
    if find is None:
        return _of_library(model)
    config = find(OPEN_CLIP_CONFIG)
    if config is not None:
        return _open_clip_folder(model, config, find)
    layout = read_layout(find, model)
    if layout is None:
        raise ConfigError(
            f"{_described(model)} has no {OPEN_CLIP_CONFIG} and no {MODULES}; {_LAYOUTS}"
        )
    folder = model_folder(model)
    return ModelFiles(
        Kind.TEXT, model, folder, layout.weights, layout.files, layout.dim, layout, has_images=False
    )


def finder(model: str) -> Find | None:
    """Return what finds the files of a model by their names; None for a name of open_clip."""
    if model.startswith(HUB):
        return partial(hub_file, model.removeprefix(HUB))
    folder = model_folder(model)
    if folder is None:
        return None

    def find(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return find


def _custom(model: str) -> ModelFiles:
    found, files = custom_class(model), custom_files(model)
    return ModelFiles(
        Kind.CUSTOM,
        model,
        None,
        next(iter(files.values())),
        files,
        int(found.dim),
        has_images=has_images(found),
        has_texts=has_texts(found),
    )


def _of_library(model: str) -> ModelFiles:
    weights = fetched_weights(model)
    name = model.split("/", maxsplit=1)[0]
    dim = int(open_clip().get_model_config(name)["embed_dim"])
    return ModelFiles(Kind.OPEN_CLIP, name, None, weights, {weights.name: weights}, dim)


def _open_clip_folder(model: str, config: Path, find: Find) -> ModelFiles:
    found = ((name, find(name)) for name in _OPEN_CLIP_WEIGHTS)
    name, weights = next(((name, path) for name, path in found if path is not None), ("", None))
    if weights is None:
        raise ConfigError(
            f"{_described(model)} has no weights; it needs {' or '.join(_OPEN_CLIP_WEIGHTS)}"
        )
    try:
        said = json.loads(config.read_bytes())["model_cfg"]
        dim = int(said["embed_dim"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{config} has no model_cfg with embed_dim; copy it again") from error
    files = {name: weights, OPEN_CLIP_CONFIG: config}
    files |= {each: path for each in text_files(said) if (path := find(each)) is not None}
    folder = config.parent
    return ModelFiles(Kind.OPEN_CLIP, f"local-dir:{folder}", folder, weights, files, dim)


def _described(model: str) -> str:
    if model.startswith(HUB):
        return f"{model}, as far as it is in the local cache or the hub can be reached,"
    return f"model folder {model_folder(model)}"


def model_folder(model: str) -> Path | None:
    """Return the local folder that holds the model, or None for a name of open_clip."""
    if model in _SHIPPED:
        return Path(str(files("cah_dask"))) / "demo" / _SHIPPED[model]
    if model.startswith(HUB) or is_custom(model):
        return None
    path = Path(model).expanduser()
    return path if path.is_dir() or path.is_absolute() or model.startswith(".") else None


def public_name(model: str) -> str:
    """Return what a model is called in what is published: a folder by its own name alone."""
    folder = model_folder(model)
    return model if folder is None or model in _SHIPPED else folder.resolve().name


def embedding_dim(model: str) -> int:
    """Return the length of a model's vectors without loading it."""
    if finder(model) is None and not is_custom(model):
        return int(open_clip().get_model_config(model.split("/", maxsplit=1)[0])["embed_dim"])
    return locate(model).dim


def image_side(model: ModelFiles) -> int:
    """Return the pixels of the shorter side of what an image tower looks at; 0 if not known."""
    if model.kind is not Kind.OPEN_CLIP:
        return 0
    if OPEN_CLIP_CONFIG in model.files:
        config = json.loads(model.files[OPEN_CLIP_CONFIG].read_bytes())["model_cfg"]
    else:
        config = open_clip().get_model_config(model.library_name)
    size = config.get("vision_cfg", {}).get("image_size", 0)
    return int(size if isinstance(size, int) else min(size))


def checksums(model: ModelFiles) -> dict[str, str]:
    """Return the hex SHA-256 of each file of a model by its name."""
    return {name: file_sha256(path) for name, path in model.files.items()}


@cache
def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file that does not change while the process lives."""
    return storage.file_sha256(path)
