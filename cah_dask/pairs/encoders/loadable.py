"""Whether a model can be loaded, found out before anything is fetched for it.

The weights file is looked at first. Then the model is built without memory for its weights (torch's
meta device), without the network, and compared with the file, in a process of its own: the driver
needs no torch. What was found sound once is not looked at again.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.models import ModelFiles, checksums
from cah_dask.pairs.encoders.open_clip_import import open_clip

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header (little-endian)."""
_TIMEOUT_S = 600.0


def require_loadable(model: ModelFiles) -> None:
    """Refuse a model that a worker could not load.

    Raises
    ------
    ConfigError
        In one line: what is missing or wrong, and what to do.
    """
    name, weights = model.library_name, model.weights
    if weights.suffix == ".safetensors":
        _require_whole(weights)
    seal = _seal(model)
    if seal.exists():
        return
    command = [sys.executable, "-m", "cah_dask.pairs.encoders.loadable", name, str(weights)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(  # noqa: S603  # our own command
        command,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = (
            done.stdout.strip() or (done.stderr.strip().splitlines() or ["it ended silently"])[-1]
        )
        raise ConfigError(f"model {name.removeprefix('local-dir:')} cannot be loaded: {said}")
    _remember(seal)


def _require_whole(weights: Path) -> None:
    """Compare the size of a safetensors file with what its header promises."""
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


def _seal(model: ModelFiles) -> Path:
    """Return the file that says that a model was found sound with these libraries."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    builds = "-".join(version(library) for library in ("open_clip_torch", "torch"))
    name = [model.kind.value, "" if model.folder else model.library_name]
    digest = hashlib.sha256(json.dumps([name, checksums(model), builds]).encode()).hexdigest()
    return cache / "cah_dask" / f"loadable-{digest[:32]}"


def _remember(seal: Path) -> None:
    try:
        seal.parent.mkdir(parents=True, exist_ok=True)
        seal.touch()
    except OSError as error:  # then it is looked at each time
        logging.getLogger(__name__).info("%s cannot be written: %s", seal, error)


def main(name: str, weights: str) -> None:
    """Build the model, compare it with its weights, and say in one line what is wrong."""
    logging.disable()
    warnings.simplefilter("ignore")
    library = open_clip()
    import torch
    from open_clip.factory import load_checkpoint

    try:
        library.get_tokenizer(name)
        with torch.device("meta"):
            model = library.create_model(
                name, load_weights=False, pretrained_text=False, device="meta"
            )
        load_checkpoint(model, weights)
    except Exception as error:  # noqa: BLE001  # whatever stands in the way of loading it
        print(_plain(error))  # noqa: T201
        sys.exit(1)


def _plain(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "transformers" in text and (isinstance(error, ImportError) or "install" in text):
        return "its text tower is one of Hugging Face; run: pip install transformers"
    if isinstance(error, OSError) or "tokenizer" in text or "Offline" in text:
        return (
            f"a file of its text tower or tokenizer is neither in the model's folder nor in the "
            f"local cache ({text[:160]}); fetch it on a node with internet"
        )
    return f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    main(*sys.argv[1:])
