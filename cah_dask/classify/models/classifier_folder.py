"""The folder of a classifier of texts: its files, labels and length, told without loading it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.layouts import unused_positions
from cah_dask.pairs.encoders.weights import require_whole

NAME = "TextClassifier"
"""What errors call the model."""

CONFIG, TOKENIZER, _WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
"""Of weights in several files."""
_TOKENIZER_CONFIG = "tokenizer_config.json"
_NO_LIMIT = 1_000_000
"""Tokenizers without a limit say 1e30."""


def folder_files(folder: Path) -> list[Path]:
    """Return the files that decide what a classifier gives.

    Raises
    ------
    ConfigError
        If one of them is missing, or was cut.
    """
    if not folder.is_dir():
        raise ConfigError(f"{NAME}: {folder} is no folder; it needs one with the model's files")
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise ConfigError(f"{NAME}: {folder} has no {name}")
    weights = [folder / name for name in _weights(folder)]
    for each in weights:
        require_whole(each)
    others = [path for name in (_INDEX, _TOKENIZER_CONFIG) if (path := folder / name).is_file()]
    return [folder / CONFIG, folder / TOKENIZER, *others, *weights]


def _weights(folder: Path) -> list[str]:
    """Return the names of the files of the weights."""
    if (folder / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if not (folder / _INDEX).is_file():
        pickle = min((path.name for path in folder.glob("*.bin")), default="")
        hint = f"; {pickle} is a pickle, which is not read: save it as safetensors"
        raise ConfigError(f"{NAME}: {folder} has no {_WEIGHTS}{hint if pickle else ''}")
    try:
        names = set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / _INDEX} is no index of weights; copy it again") from error
    if lost := [name for name in sorted(names) if not (folder / name).is_file()]:
        raise ConfigError(f"{NAME}: {folder} has no {lost[0]}, which its {_INDEX} names")
    return sorted(names)


def said_labels(folder: Path) -> list[str]:
    """Return the labels that a configuration names, in any order."""
    try:
        said = json.loads((folder / CONFIG).read_bytes())
        return [str(label) for label in said.get("id2label", {}).values()]
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / CONFIG} is no configuration; copy it again") from error


def label_places(folder: Path, wanted: Mapping[str, str], labels: Sequence[str]) -> list[int]:
    """Return the number of each label that is wanted."""
    if labels and (unknown := [label for label in wanted.values() if label not in labels]):
        raise ConfigError(
            f"{NAME}: {folder} has no label {unknown[0]!r}; its labels are {', '.join(labels)}"
        )
    return [labels.index(label) for label in wanted.values()] if labels else []


def token_limit(folder: Path, config: Any, wanted: int | None) -> int:
    """Return how many tokens of a text are read."""
    positions = getattr(config, "max_position_embeddings", None)
    most = positions - unused_positions(config.to_dict()) if positions else None
    if wanted is not None and (wanted < 1 or (most is not None and wanted > most)):
        raise ConfigError(f"{NAME} has max_tokens {wanted}; {folder} takes 1 to {most or 'any'}")
    path = folder / _TOKENIZER_CONFIG
    said = json.loads(path.read_bytes()).get("model_max_length") if path.is_file() else None
    limits = [limit for limit in (most, wanted, said) if limit and limit < _NO_LIMIT]
    if not limits:
        raise ConfigError(f"{NAME}: {folder} does not say how long a text may be; set max_tokens")
    return int(min(limits))
