"""What a model's name means: the files that it is made of, found without loading them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.hub import fetched_weights
from cah_dask.pairs.encoders.open_clip_import import open_clip

TINY = "tiny"
"""Name of the small CLIP that ships with the package and knows only the demo's drawings."""

OPEN_CLIP_CONFIG = "open_clip_config.json"
_OPEN_CLIP_WEIGHTS = (  # in the order in which open_clip looks for them
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


class Kind(StrEnum):
    """Which library a model is loaded with, or in which layout its folder is."""

    OPEN_CLIP = "open_clip"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies."""

    kind: Kind
    library_name: str
    """What its library calls it."""
    folder: Path | None
    """None for a name of open_clip."""
    weights: Path
    others: tuple[Path, ...] = ()
    """Whatever else decides its vectors: configuration, tokenizer."""

    def __iter__(self) -> Iterator[Path]:
        yield self.weights
        yield from self.others


def locate(model: str) -> ModelFiles:
    """Return the files of a model; those of a name of open_clip are fetched if need be.

    Raises
    ------
    ConfigError
        If there is no such model, or if a file of it is missing.
    """
    folder = model_folder(model)
    if folder is None:
        weights = fetched_weights(model)
        return ModelFiles(Kind.OPEN_CLIP, model.split("/", maxsplit=1)[0], None, weights)
    config = folder / OPEN_CLIP_CONFIG
    if not config.is_file():
        raise ConfigError(
            f"model folder {folder} has no {OPEN_CLIP_CONFIG}; it needs it and weights"
        )
    weights = _first_of(folder, _OPEN_CLIP_WEIGHTS)
    return ModelFiles(Kind.OPEN_CLIP, f"local-dir:{folder}", folder, weights, (config,))


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"model folder {folder} has no weights; it needs {' or '.join(names)}")


def model_folder(model: str) -> Path | None:
    """Return the local folder that holds the model, or None for a name of open_clip."""
    if model == TINY:
        return Path(str(files("cah_dask"))) / "demo" / "model"
    path = Path(model).expanduser()
    return path if path.is_dir() or path.is_absolute() or model.startswith(".") else None


def public_name(model: str) -> str:
    """Return what a model is called in what is published: a folder by its own name alone."""
    folder = model_folder(model)
    return model if folder is None or model == TINY else folder.resolve().name


def embedding_dim(model: str) -> int:
    """Return the length of a model's vectors without loading it."""
    folder = model_folder(model)
    if folder is None:
        return int(open_clip().get_model_config(model.split("/", maxsplit=1)[0])["embed_dim"])
    return int(json.loads((folder / OPEN_CLIP_CONFIG).read_bytes())["model_cfg"]["embed_dim"])


def checksums(model: ModelFiles) -> dict[str, str]:
    """Return the hex SHA-256 of each file of a model by its name."""
    return {path.name: file_sha256(path) for path in model}


@cache
def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file that does not change while the process lives."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
