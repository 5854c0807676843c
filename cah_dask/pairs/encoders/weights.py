"""Weights from files that cannot run code, into modules that they fit."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from cah_dask.errors import ConfigError

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header (little-endian)."""
_NOT_WEIGHTS = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
"""Stored by some releases of transformers; a mean of tokens needs none of them."""


def require_whole(weights: Path) -> None:
    """Compare the size of a safetensors file with what its header promises.

    Raises
    ------
    ConfigError
        If it was cut, or is no such file.
    """
    size = weights.stat().st_size
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(min(length, size)))
            tensors = [part for name, part in header.items() if name != "__metadata__"]
            end = max((part["data_offsets"][1] for part in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{weights} is no safetensors file; copy it again") from error
    if size != _LENGTH_BYTES + length + end:
        raise ConfigError(
            f"{weights} has {size:,} bytes, its header promises {_LENGTH_BYTES + length + end:,}; "
            "it was cut while it was copied"
        )


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors of a weights file by name, mapped into memory where that is possible.

    Raises
    ------
    ConfigError
        If a pickle holds more than tensors: what it would run when it is read is not run.
    """
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return dict(load_file(path))
    is_mapped = zipfile.is_zipfile(path)
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped))
    except (UnpicklingError, EOFError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is no file of tensors only (torch.load with weights_only refuses it); "
            "save the weights as safetensors, or copy the file again"
        ) from error


def fill(module: Any, weights: Mapping[str, Any], prefix: str, path: Path) -> None:
    """Put those weights whose names begin with a prefix into a torch module.

    Raises
    ------
    ConfigError
        If one is missing, of another shape, or has no place in the module.
    """
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_NOT_WEIGHTS)
    }
    wanted = module.state_dict()
    if missing := wanted.keys() - found:
        raise ConfigError(
            f"{path} has no weights {prefix}{min(missing)}, which its config asks for"
        )
    if strangers := found.keys() - wanted:
        raise ConfigError(
            f"{path} has weights {prefix}{min(strangers)}, which its config knows nothing of"
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise ConfigError(
                f"{path} has {prefix}{name} of shape {tuple(tensor.shape)}, "
                f"its config asks for {tuple(wanted[name].shape)}"
            )
    is_meta = any(parameter.is_meta for parameter in module.parameters())
    module.load_state_dict(found, assign=is_meta)  # nothing can be copied to where no memory is
