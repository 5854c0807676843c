"""Code that users bring: what Python can import, named ``module:name``, and its files."""

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cah_dask.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def is_name(name: str) -> bool:
    """Tell whether a name is ``module:name``."""
    return _NAME.fullmatch(name) is not None


def import_named(name: str) -> Any:
    """Import a class or a function from the working directory or where Python looks for modules.

    Raises
    ------
    ConfigError
        If it cannot be imported.
    """
    module_name, _, wanted = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module_name), wanted)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise ConfigError(
            f"{name} cannot be imported from {here} or PYTHONPATH: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error


def source_files(name: str, also: Iterable[str | Path]) -> Mapping[str, Path]:
    """Return the source file of a class or a function, and others that it needs, by their names.

    Parameters
    ----------
    also
        Paths, relative ones to the folder of the source.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    found = import_named(name)
    source = getattr(sys.modules.get(getattr(found, "__module__", "")), "__file__", None)
    if source is None:
        raise ConfigError(f"{name} has no source file, so nothing tells it from another one")
    files = {Path(source).name: Path(source)}
    for each in also:
        files[str(each)] = Path(source).parent / each
        if not files[str(each)].is_file():
            raise ConfigError(f"{name} names a file that is missing: {files[str(each)]}")
    return files
