"""The model hub: what open_clip's names mean, and where their weights lie once fetched."""

import difflib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.open_clip_import import open_clip

HUB = "hf:"
"""What the name of a model of the hub begins with."""

_ADDRESS = "https://huggingface.co"
_HUB_TIMEOUT_S = 5.0


def fetched_weights(model: str) -> Path:
    """Return the weights of ``ARCHITECTURE/TAG``, fetched now if need be.

    Raises
    ------
    ConfigError
        If open_clip knows no such model, if it pairs weights with the wrong activation, or if its
        weights are not to be had.
    """
    look_for_hub()
    _require_known(model)
    library = open_clip()
    name, tag = model.split("/")
    try:
        return Path(library.download_pretrained(library.get_pretrained_cfg(name, tag)))
    except (OSError, ValueError) as error:  # huggingface_hub raises subclasses of both
        raise ConfigError(
            f"the weights of {model} are neither in the local cache nor to be had from the hub; "
            "for machines without internet set embed.model to a folder of `cah models fetch`"
        ) from error


def hub_file(repository: str, name: str) -> Path | None:
    """Return a file of ``ORG/NAME``, fetched now unless it was before; None where there is none.

    A file that was fetched once is not asked for again, so a run goes on with what it began with.

    Raises
    ------
    ConfigError
        If the hub has no such repository, or is in trouble.
    """
    look_for_hub()
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(repository, name)
        if cached is None:
            return Path(hf_hub_download(repository, name))
    except errors.EntryNotFoundError as error:
        is_lost = isinstance(
            error, errors.LocalEntryNotFoundError
        )  # not in the cache, not to reach
        if is_lost and not constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"the hub does not give {name} of {repository}; run it again, what is fetched stays"
            ) from error
        return None
    except (OSError, ValueError) as error:  # huggingface_hub raises subclasses of both
        raise ConfigError(
            f"{name} of hf:{repository} is not to be had from the hub: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return Path(cached) if isinstance(cached, str) else None  # known not to be there


def require_hub() -> None:
    """Refuse to go on without the hub.

    Raises
    ------
    ConfigError
        If it is switched off or out of reach.
    """
    look_for_hub()
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "ON", "YES", "TRUE"):
        raise ConfigError(
            f"the hub {os.environ.get('HF_ENDPOINT') or _ADDRESS} cannot be reached from here, or "
            "HF_HUB_OFFLINE is set; run it on a machine with internet"
        )


def look_for_hub() -> None:
    """Where the model hub is out of reach, have its client say so at once.

    Left alone it asks again for a minute. It reads the variable when it is imported.
    """
    if "HF_HUB_OFFLINE" in os.environ:
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or _ADDRESS)
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        socket.create_connection((hub.hostname or "", port), timeout=_HUB_TIMEOUT_S).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _require_known(model: str) -> None:
    library = open_clip()
    known = [f"{name}/{tag}" for name, tag in library.list_pretrained()]
    if model not in known:
        close = difflib.get_close_matches(model, known, n=3) or ["ViT-B-32-quickgelu/openai"]
        raise ConfigError(
            f"unknown model {model!r}; known: tiny, the presets of `cah models list`, a model's "
            f"folder, or ARCHITECTURE/TAG of open_clip such as {', '.join(close)}"
        )
    name, tag = model.split("/")
    wants = bool(library.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if wants != bool((library.get_model_config(name) or {}).get("quick_gelu", False)):
        raise ConfigError(
            f"model {model!r} pairs weights and architecture of different activations (QuickGELU); "
            f"use {name}-quickgelu/{tag}"
        )
