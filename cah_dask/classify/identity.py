"""What hooks are known by: their names, their arguments, and what their files hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cah_dask.classify.options import ClassifyOptions, HookOptions
from cah_dask.storage import file_sha256
from cah_dask.user_code import import_named, source_files


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


def identity(options: ClassifyOptions) -> dict[str, Any]:
    """Return what the hooks are known by: their names, arguments and the SHA-256 of their files."""
    return {
        key: {
            "use": hook.use,
            "arguments": hook.arguments,
            "files": {Path(name).name: file_sha256(path) for name, path in files(hook).items()},
        }
        for key, hook in options.hooks.items()
    }
