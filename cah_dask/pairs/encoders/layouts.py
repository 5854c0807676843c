"""Text towers that were trained to speak the space of a CLIP: how their files lie, what they say.

Two layouts are read: that of sentence-transformers (`clip-ViT-B-32-multilingual-v1`: a transformer,
the mean of its tokens, a linear layer) and that of M-CLIP (the same in one weights file).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.hub import HUB, hub_file

MODULES = "modules.json"
"""Lists the parts of a model in the layout of sentence-transformers."""
CONFIG = "config.json"
M_CLIP = "M-CLIP"

_FETCH = "run `cah models fetch` on a machine with internet"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PART = ("type", "path")
_ROBERTA = ("camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")
"""Architectures whose first positions are not used: they count from the padding token on."""

Find = Callable[[str], Path | None]
"""Gives a file of a model by its name within it, or None where there is no such file."""


@dataclass(frozen=True, slots=True)
class TextLayout:
    """A transformer, the mean of its tokens, and a linear layer."""

    weights: Path
    """Of the transformer."""
    prefix: str
    """What the names of its weights begin with."""
    config: Path
    """Of the transformer."""
    tokenizer: Path
    max_tokens: int
    """Longer texts are cut."""
    linear: Path
    """Weights of the linear layer."""
    linear_prefix: str
    has_bias: bool
    width: int
    """Length of the vector of a token."""
    dim: int
    """Length of the vector of a text."""
    files: Mapping[str, Path]
    """All files that decide its vectors, by their names within the model."""


def read_layout(find: Find, model: str) -> TextLayout | None:
    """Read what the files of a text tower say; None where they are no text tower.

    Raises
    ------
    ConfigError
        If a file is missing, or if it asks for what is not done here.
    """
    files = _Files(find, model)
    if find(MODULES) is not None:
        return _sentence_transformers(files)
    if find(CONFIG) is not None and files.json(CONFIG).get("model_type") == M_CLIP:
        return _m_clip(files)
    return None


class _Files:
    """The files of one model, remembered in the order in which they were asked for."""

    def __init__(self, find: Find, model: str) -> None:
        self._find = find
        self._model = model
        self.used: dict[str, Path] = {}

    def path(self, *names: str) -> Path:
        """Return the first of some files that is there."""
        for name in names:
            path = self.used.get(name) or self._find(name)
            if path is not None:
                self.used[name] = path
                return path
        hint = f"; {_FETCH}" if self._model.startswith(HUB) else ""
        raise ConfigError(f"model {self._model} has no {' or '.join(names)}{hint}")

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self._find(name) is not None

    def base(self, model: str) -> str:
        """Return the name of the configuration of the model of the hub that another one is of."""
        name = f"{model}/{CONFIG}"
        path = self._find(name) or hub_file(model, CONFIG)
        if path is None:
            raise ConfigError(
                f"model {self._model} has no {name}, the configuration of the model that it is "
                f"made of; put it there, or {_FETCH}"
            )
        self.used[name] = path
        return name

    def json(self, name: str, kind: type = dict) -> Any:
        """Return what a JSON file says."""
        path = self.path(name)
        try:
            said = json.loads(path.read_bytes())
        except ValueError:
            said = None
        if not isinstance(said, kind):
            raise ConfigError(f"{path} is not the JSON file that it should be; copy it again")
        return said

    def refuse(self, name: str, key: str, value: object, accepted: str) -> ConfigError:
        """Return the error of a value that is not done here."""
        return ConfigError(f"{name} of model {self._model} has {key} {value!r}; known: {accepted}")

    def positive(self, name: str, config: Mapping[str, Any], *keys: str) -> int:
        """Return the first of some keys that a configuration has: a count."""
        found = [config[key] for key in keys if key in config]
        if not found or not isinstance(found[0], int) or found[0] < 1:
            raise self.refuse(name, " or ".join(keys), (found or [None])[0], "a positive number")
        return int(found[0])


def _sentence_transformers(files: _Files) -> TextLayout:
    folders = _part_folders(files)
    root = folders["Transformer"]
    weights = files.path(*(root + name for name in _WEIGHTS))
    pooling = folders["Pooling"] + CONFIG
    _require_mean(files, pooling, files.json(pooling))
    dense = folders["Dense"] + CONFIG
    said = files.json(dense)
    activation = str(said.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation.rsplit(".", maxsplit=1)[-1] != "Identity":
        raise files.refuse(dense, "activation_function", activation, "Identity")
    if said.get("use_residual"):
        raise files.refuse(dense, "use_residual", True, "false")  # noqa: FBT003  # what it says
    _require_no_prompt(files)
    linear = files.path(*(folders["Dense"] + name for name in _WEIGHTS))
    return TextLayout(
        weights=weights,
        prefix="",
        config=files.path(root + CONFIG),
        tokenizer=files.path(root + "tokenizer.json"),
        max_tokens=_sentence_length(files, root),
        linear=linear,
        linear_prefix="linear.",
        has_bias=bool(said.get("bias", True)),
        width=files.positive(dense, said, "in_features"),
        dim=files.positive(dense, said, "out_features"),
        files=files.used,
    )


def _part_folders(files: _Files) -> dict[str, str]:
    """Return where the parts of a model lie, each as a prefix of its files' names."""
    wanted = ["Transformer", "Pooling", "Dense"]
    parts = {}
    for part in files.json(MODULES, list):
        kind, path = (str(part.get(key, "")) if isinstance(part, dict) else "" for key in _PART)
        parts[kind.rsplit(".", maxsplit=1)[-1]] = f"{path}/" if path else ""
    if [name for name in parts if name != "Normalize"] != wanted:  # all vectors are normalised
        raise files.refuse(MODULES, "parts", list(parts), ", ".join(wanted))
    return parts


def _require_mean(files: _Files, name: str, pooling: Mapping[str, Any]) -> None:
    """Refuse all but the mean, in the words of older and newer releases."""
    prefix = "pooling_mode_"
    older = [key for key in pooling if key.startswith(prefix)]
    default = [key.removeprefix(prefix) for key in older if pooling[key]] if older else "mean"
    newer = pooling.get("pooling_mode", default)
    modes = [newer] if isinstance(newer, str) else newer
    if [mode.removesuffix("_tokens") for mode in modes] != ["mean"]:
        raise files.refuse(name, "pooling", modes, "mean")


def _require_no_prompt(files: _Files) -> None:
    name = "config_sentence_transformers.json"
    if files.has(name) and (prompt := files.json(name).get("default_prompt_name")) is not None:
        raise files.refuse(name, "default_prompt_name", prompt, "null")


def _sentence_length(files: _Files, root: str) -> int:
    """Return the length of texts in tokens: newer releases leave it to the tokenizer."""
    name = root + "sentence_bert_config.json"
    said = files.json(name)
    if said.get("do_lower_case"):
        raise files.refuse(name, "do_lower_case", True, "false")  # noqa: FBT003  # what it says
    length = said.get("max_seq_length")
    if length is None:
        length = files.json(root + "tokenizer_config.json").get("model_max_length")
    most = _positions(files, root + CONFIG)
    return min(int(length), most) if length else most


def _positions(files: _Files, name: str) -> int:
    config = files.json(name)
    return files.positive(name, config, "max_position_embeddings") - unused_positions(config)


def unused_positions(config: Mapping[str, Any]) -> int:
    """Return how many positions a transformer has that no token is ever at."""
    return config.get("pad_token_id", 1) + 1 if config.get("model_type") in _ROBERTA else 0


def _m_clip(files: _Files) -> TextLayout:
    said = files.json(CONFIG)
    weights = files.path(*_WEIGHTS)
    base = files.base(str(said.get("modelBase", "xlm-roberta-large")))
    return TextLayout(
        weights=weights,
        prefix="transformer.",
        config=files.path(base),
        tokenizer=files.path("tokenizer.json"),
        max_tokens=_positions(files, base),
        linear=weights,
        linear_prefix="LinearTransformation.",
        has_bias=True,
        width=files.positive(CONFIG, said, "transformerDimensions", "transformerDimSize"),
        dim=files.positive(CONFIG, said, "numDims", "imageDimSize"),
        files=files.used,
    )
