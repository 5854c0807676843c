"""Whether a model can be loaded, found out before anything is fetched for it.

The weights files are looked at first. Then the model is built without memory for its weights
(torch's meta device), without the network, and compared with the files, in a process of its own:
the driver needs no torch. A class of your own is built there and asked for a vector. What was found
sound once is not looked at again.
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
from typing import Any

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.clip_config import local_text_tower, require_sane_preprocess
from cah_dask.pairs.encoders.custom import require_working
from cah_dask.pairs.encoders.models import OPEN_CLIP_CONFIG, Kind, ModelFiles, checksums, locate
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.text_tower import require_fitting
from cah_dask.pairs.encoders.weights import require_whole
from cah_dask.storage import write_atomic

_TIMEOUT_S = 600.0
_LIBRARIES = ("open_clip_torch", "tokenizers", "torch", "transformers")


def require_loadable(model: ModelFiles) -> None:
    """Refuse a model that a worker could not load.

    Raises
    ------
    ConfigError
        In one line: what is missing or wrong, and what to do.
    """
    for path in model.files.values():
        if path.suffix == ".safetensors":
            require_whole(path)
    if OPEN_CLIP_CONFIG in model.files:
        require_sane_preprocess(model.files[OPEN_CLIP_CONFIG])
    _ask(model, "load")


def image_space(model: ModelFiles) -> str:
    """Return the hex SHA-256 of a model's image tower: equal ones give equal image vectors.

    Weights are compared in half precision, as the same tower is stored in one or the other.

    Raises
    ------
    ConfigError
        If its weights cannot be read.
    """
    return _ask(model, "images")


def _ask(model: ModelFiles, what: str) -> str:
    """Have a process of its own look at a model, unless one did so before."""
    seal = _seal(model, what)
    if seal.exists():
        return seal.read_text()
    command = [sys.executable, "-m", __name__, what, model.kind, model.library_name]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(  # noqa: S603  # our own command
        [*command, str(model.weights)],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    said = done.stdout.strip()
    if done.returncode:
        said = said or (done.stderr.strip().splitlines() or ["it ended silently"])[-1]
        name = model.library_name.removeprefix("local-dir:")
        raise ConfigError(f"model {name} cannot be loaded: {said}")
    _remember(seal, said)
    return said


def _seal(model: ModelFiles, what: str) -> Path:
    """Return the file that says what was found of a model with these libraries."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    builds = [version(library) for library in _LIBRARIES]
    name = [what, model.kind, "" if model.folder else model.library_name]
    digest = hashlib.sha256(json.dumps([name, checksums(model), builds]).encode()).hexdigest()
    return cache / "cah_dask" / f"model-{digest[:32]}"


def _remember(seal: Path, said: str) -> None:
    try:
        seal.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(seal, said.encode())
    except OSError as error:  # then it is looked at each time
        logging.getLogger(__name__).info("%s cannot be written: %s", seal, error)


def main(what: str, kind: str, name: str, weights: str) -> None:
    """Look at a model, and say in one line what was found, or what is wrong."""
    logging.disable()
    warnings.simplefilter("ignore")
    try:
        if what == "images":
            print(_image_digest(Path(weights)))  # noqa: T201
        elif kind == Kind.CUSTOM:
            require_working(name)
        elif kind == Kind.OPEN_CLIP:
            _load_open_clip(name, weights)
        elif layout := locate(name).text:
            require_fitting(layout)
    except ConfigError as error:
        print(error)  # noqa: T201
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  # whatever stands in the way of loading it
        print(_plain(error))  # noqa: T201
        sys.exit(1)


def _load_open_clip(name: str, weights: str) -> None:
    library = open_clip()
    import torch
    from open_clip.factory import load_checkpoint

    library.get_tokenizer(name)
    with torch.device("meta"):
        model = library.create_model(
            name,
            load_weights=False,
            pretrained_text=False,
            device="meta",
            **local_text_tower(_folder(name)),
        )
    if Path(weights).suffix not in (".npz", ".npy"):  # of big_vision, under other names
        _require_same_positions(model, Path(weights))
    load_checkpoint(model, weights)


def _folder(name: str) -> Path | None:
    path = name.removeprefix("local-dir:")
    return None if path == name else Path(path)


def _require_same_positions(model: Any, path: Path) -> None:
    """Refuse weights of another image size or context length: open_clip would stretch them."""
    weights = _open_clip_weights(path)
    for name, wanted in model.state_dict().items():
        if not name.endswith(("positional_embedding", "pos_embed")) or name not in weights:
            continue
        found = weights[name].shape
        if found[-1] == wanted.shape[-1] and found != wanted.shape:
            raise ConfigError(
                f"{path} has {name} of shape {tuple(found)}, its config asks for "
                f"{tuple(wanted.shape)}; image_size or context_length is that of another model"
            )


def _open_clip_weights(path: Path) -> dict[str, Any]:
    """Return weights as open_clip reads them: from a checkpoint of a training, too."""
    open_clip()
    from open_clip.factory import load_state_dict

    return dict(load_state_dict(str(path), weights_only=True))


def _image_digest(weights: Path) -> str:
    tower: dict[str, Any] = {
        name: tensor
        for name, tensor in _open_clip_weights(weights).items()
        if name.startswith("visual.")
    }
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update((tensor.half() if tensor.is_floating_point() else tensor).numpy().tobytes())
    if not tower:
        raise ConfigError(f"{weights} has no image tower (no weights visual.*)")
    return digest.hexdigest()


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
