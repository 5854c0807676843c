"""Encoders: what turns images and texts into vectors of one space.

torch and open_clip are imported inside functions, when they are needed: CPU workers and `--help`
never pay for them, the driver only to look up a model by open_clip's name.
"""

import difflib
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from cah_dask.errors import ConfigError
from cah_dask.images.picture.decode import open_rgb
from cah_dask.pairs.loadable import require_loadable
from cah_dask.pairs.open_clip_import import open_clip

Embeddings: TypeAlias = npt.NDArray[np.float32]
"""``(n, dim)`` float32, rows L2-normalised."""

TINY = "tiny"
"""Name of the small CLIP that ships with the package and knows only the demo's drawings."""

_HUB = "https://huggingface.co"
_HUB_TIMEOUT_S = 5.0
_CONFIG_FILE = "open_clip_config.json"
_WEIGHTS_FILES = (  # in the order in which open_clip looks for them
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


class EmbedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How images and texts become vectors."""

    model: str = "ViT-B-32-quickgelu/openai"
    """`ARCHITECTURE/TAG` of open_clip, a folder with `open_clip_config.json` and weights (how
    models reach compute nodes without internet), or `tiny`, the demo's own model."""
    weights_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    """Refuse to start unless the weights file has this SHA-256."""
    config_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    """Refuse to start unless the model folder's `open_clip_config.json` has this SHA-256."""
    name: str | None = None
    """What the model is called in what is published. Default: `model`, of a folder its own name."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    """Images or texts per forward pass. Another number moves a similarity by about 1e-7, so it is
    the same for the whole run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where the worker sees a GPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the weights. bf16 is up to 5 times as fast on CPUs with AMX and moves
    similarities by about 1.5e-3; fp16 is for GPUs. Similarities are always summed in float32."""


class Encoder(Protocol):
    """Whatever embeds images and texts in one space; an embedding never depends on its batch."""

    name: str
    """Model as the config names it; written beside every similarity."""
    weights_sha256: str
    """SHA-256 of the weights file, hex."""
    dim: int
    """Length of a vector."""

    def encode_images(self, images: Sequence[bytes]) -> Embeddings:
        """Return one unit vector for each encoded image (JPEG, PNG, WebP or GIF bytes)."""

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return one unit vector for each text; texts over the context length are cut."""


def resolve(options: EmbedOptions) -> EmbedOptions:
    """Pin the weights, and refuse now what would only fail on a GPU node hours later.

    Returns
    -------
    EmbedOptions
        With name and checksums set, so that a resumed run and every worker use the very same model.

    Raises
    ------
    ConfigError
        For an unknown model, missing or unexpected weights or ones that cannot be loaded.
    """
    if find_spec("open_clip") is None:
        raise ConfigError("open_clip is not installed; run: pip install 'cah_dask[clip]'")
    weights = _weights(options.model)
    found = file_sha256(weights)
    if options.weights_sha256 not in (None, found):
        raise ConfigError(
            f"the weights of {options.model} have SHA-256 {found}, "
            f"embed.weights_sha256 wants {options.weights_sha256}"
        )
    folder = model_folder(options.model)
    config = file_sha256(folder / _CONFIG_FILE) if folder else None
    if options.config_sha256 not in (None, config):
        raise ConfigError(
            f"{_CONFIG_FILE} of {options.model} has SHA-256 {config}, "
            f"embed.config_sha256 wants {options.config_sha256}"
        )
    require_loadable(_open_clip_name(options.model), weights, found)
    return msgspec.structs.replace(
        options,
        weights_sha256=found,
        config_sha256=config,
        name=options.name or public_name(options.model),
    )


def is_same_model(options: EmbedOptions, other: EmbedOptions) -> bool:
    """Tell whether two resolved options mean one model, wherever its folder lies."""
    one, two = (
        (each.weights_sha256, each.config_sha256 or each.model) for each in (options, other)
    )
    return one == two


def is_as_pinned(options: EmbedOptions, pinned: EmbedOptions) -> bool:
    """Tell whether options say nothing else than resolved ones, without looking for the model."""
    given = msgspec.structs.asdict(msgspec.structs.replace(options, device=pinned.device))
    kept = msgspec.structs.asdict(pinned)
    return all(value in (None, kept[key]) for key, value in given.items())


def _open_clip_name(model: str) -> str:
    """Return what open_clip calls a model."""
    folder = model_folder(model)
    return f"local-dir:{folder}" if folder else model.split("/", maxsplit=1)[0]


def embedding_dim(options: EmbedOptions) -> int:
    """Return the length of the model's vectors without loading it."""
    folder = model_folder(options.model)
    if folder is None:
        return int(open_clip().get_model_config(options.model.split("/")[0])["embed_dim"])
    return int(json.loads((folder / _CONFIG_FILE).read_bytes())["model_cfg"]["embed_dim"])


def _weights(model: str) -> Path:
    folder = model_folder(model)
    if folder is None:
        _require_known(model)
        return _fetched_weights(model)
    if not (folder / _CONFIG_FILE).is_file():
        raise ConfigError(f"model folder {folder} has no {_CONFIG_FILE}; it needs it and weights")
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"model folder {folder} has no weights; it needs {' or '.join(_WEIGHTS_FILES)}"
    )


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


@cache
def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file that does not change while the process lives."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _look_for_hub() -> None:
    """Where the model hub is out of reach, have its client say so at once.

    Left alone it asks again for a minute. It reads the variable when it is imported.
    """
    if "HF_HUB_OFFLINE" in os.environ:
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or _HUB)
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        socket.create_connection((hub.hostname or "", port), timeout=_HUB_TIMEOUT_S).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _require_known(model: str) -> None:
    _look_for_hub()
    library = open_clip()
    known = [f"{name}/{tag}" for name, tag in library.list_pretrained()]
    if model not in known:
        close = difflib.get_close_matches(model, known, n=3) or ["ViT-B-32-quickgelu/openai"]
        raise ConfigError(
            f"unknown model {model!r}; known: {TINY}, a folder with {_CONFIG_FILE}, or "
            f"ARCHITECTURE/TAG of open_clip such as {', '.join(close)}"
        )
    name, tag = model.split("/")
    wants = bool(library.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if wants != bool((library.get_model_config(name) or {}).get("quick_gelu", False)):
        raise ConfigError(
            f"model {model!r} pairs weights and architecture of different activations (QuickGELU); "
            f"use {name}-quickgelu/{tag}"
        )


def load_encoder(options: EmbedOptions, *, threads: int = 1) -> Encoder:
    """Load the model that the options name onto its device; seconds to minutes.

    Parameters
    ----------
    threads
        CPU threads for decoding and, without a GPU, for the model.

    Raises
    ------
    ConfigError
        If the weights are missing, or are not the ones that `resolve` pinned.
    """
    import torch

    resolve(options)
    torch.set_num_threads(threads)
    return OpenClipEncoder(options, threads=threads)


class OpenClipEncoder:
    """An open_clip model behind the `Encoder` protocol."""

    def __init__(self, options: EmbedOptions, *, threads: int) -> None:
        import torch

        library = open_clip()
        folder = model_folder(options.model)
        name = _open_clip_name(options.model)
        cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if cuda else "cpu")
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            options.precision
        ]
        model, transform = library.create_model_from_pretrained(
            name,
            None if folder else options.model.split("/")[1],
            precision=options.precision,
            device=self._device,
        )
        self._model = model.eval()
        self._transform = transform
        self._tokenizer = library.get_tokenizer(name)
        self._threads = threads
        self.name = options.model
        self.weights_sha256 = file_sha256(_weights(options.model))
        self.dim = self.encode_texts([""]).shape[1]

    def encode_images(self, images: Sequence[bytes]) -> Embeddings:
        """Return one unit vector for each encoded image (JPEG, PNG, WebP or GIF bytes)."""
        import torch

        with ThreadPoolExecutor(self._threads) as pool:
            pixels = torch.stack(list(pool.map(self._pixels, images)))
        with torch.inference_mode():
            return self._unit(self._model.encode_image(pixels.to(self._device, self._dtype)))

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return one unit vector for each text; texts over the context length are cut."""
        import torch

        with torch.inference_mode():
            return self._unit(
                self._model.encode_text(self._tokenizer(list(texts)).to(self._device))
            )

    def _pixels(self, image: bytes) -> Any:
        return self._transform(open_rgb(image))

    def _unit(self, features: Any) -> Embeddings:
        import torch

        vectors: Embeddings = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
        return vectors


def _fetched_weights(model: str) -> Path:
    library = open_clip()
    name, tag = model.split("/")
    try:
        return Path(library.download_pretrained(library.get_pretrained_cfg(name, tag)))
    except (OSError, ValueError) as error:  # huggingface_hub raises subclasses of both
        raise ConfigError(
            f"the weights of {model} are neither in the local cache nor to be fetched from here; "
            f"run `cah config check` once on a node with internet that shares your home, or set "
            "embed.model to a local folder"
        ) from error
