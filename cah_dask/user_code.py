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
    """Return the sources of a class or a function, and files that it needs, by their names.

    The sources are that of the module that is named and that of the module that defines it.

    Parameters
    ----------
    also
        Paths, relative ones to the folder of the source that defines it.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    defining = getattr(import_named(name), "__module__", "")
    modules = (sys.modules.get(each) for each in (defining, name.partition(":")[0]))
    found = (getattr(module, "__file__", None) for module in modules)
    sources = list(dict.fromkeys(Path(file) for file in found if file is not None))
    if not sources:
        raise ConfigError(f"{name} has no source file, so nothing tells it from another one")
    files: dict[str, Path] = {}
    for source in sources:
        files[str(source) if source.name in files else source.name] = source
    for each in also:
        files[str(each)] = sources[0].parent / each
        if not files[str(each)].is_file():
            raise ConfigError(f"{name} names a file that is missing: {files[str(each)]}")
    return files
