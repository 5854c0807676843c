"""What hooks are known by: their names, their arguments, and what their files hold."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cah_dask.classify.options import ClassifyOptions, HookOptions
from cah_dask.errors import ConfigError
from cah_dask.user_code import import_named, source_files

Digests: TypeAlias = dict[str, dict[str, str]]
"""By hook, and by the name of a file: its SHA-256, hex."""


def files(hook: HookOptions) -> Mapping[str, Path]:
    """Return the files that decide what a hook does, by their names.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    found = import_named(hook.use)
    named = getattr(found, "files", ())
    also = named(**hook.arguments) if callable(named) else named
    return source_files(hook.use, also)


def digests(options: ClassifyOptions, keys: Iterable[str] | None = None) -> Digests:
    """Return what the files of some hooks hold, by default of all."""
    hooks = options.hooks
    return {
        key: _by_name(files(hooks[key]).values())
        for key in (hooks if keys is None else keys)
        if key in hooks
    }


def _by_name(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their names; later ones of one name are numbered."""
    found: dict[str, str] = {}
    n_named = Counter[str]()
    for path in paths:
        n_named[path.name] += 1
        number = n_named[path.name]
        found[path.name if number == 1 else f"{path.name} ({number})"] = _sha256(path)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(options: ClassifyOptions, found: Digests) -> dict[str, Any]:
    """Return what the hooks are known by, wherever their files lie."""
    return {
        key: {"use": hook.use, "arguments": hook.arguments, "files": found[key]}
        for key, hook in options.hooks.items()
    }


def require_same(options: ClassifyOptions, expected: Digests, keys: Iterable[str]) -> None:
    """Raise ConfigError if the files of some hooks are not those that the job began with."""
    for key, found in digests(options, keys).items():
        changed = [name for name, digest in found.items() if digest != expected[key].get(name)]
        if changed:
            raise ConfigError(
                f"{key}: {changed[0]} on {os.uname().nodename} is not what it was when the job "
                "began; run the same command again"
            )
