"""Lists of what a run must not fetch or keep: their contents are fixed when it starts.

Every worker reads them anew, and a resumed run reads them again. A list that has changed meanwhile
would split a release into rows judged by one list and rows judged by another, so it is refused.
"""

from functools import cache
from pathlib import Path

import msgspec

from cah_dask.candidates.exclusion import load_exclusion, path_of
from cah_dask.errors import ConfigError, RunError
from cah_dask.run.config import Config
from cah_dask.storage import side_file


def pin_lists(config: Config) -> Config:
    """Read all lists of a configuration once, and write down what they hold.

    Returns
    -------
    Config
        With ``lists_sha256`` complete.

    Raises
    ------
    InputError
        If a list of `dedup.exclude` is missing or damaged.
    ConfigError
        If ``lists_sha256`` is given and a list is another one.
    """
    load_exclusion(config.dedup.exclude)
    paths = [*map(path_of, config.dedup.exclude), *map(Path, config.download.hash_lists)]
    found = {str(path): side_file(path).sha256 for path in paths}
    for name, wanted in config.lists_sha256.items():
        if found.get(name) != wanted:
            raise ConfigError(
                f"lists_sha256 wants {name} with SHA-256 {wanted}, "
                f"but it is {found.get(name, 'no list of this configuration')}"
            )
    return msgspec.structs.replace(config, lists_sha256=found)


def require_pinned(config: Config) -> None:
    """Refuse lists that are not those that the run was started with; a process looks once.

    Raises
    ------
    RunError
        It names the list.
    """
    _require(tuple(config.lists_sha256.items()))


@cache
def _require(pinned: tuple[tuple[str, str], ...]) -> None:
    for name, wanted in pinned:
        if not Path(name).is_file() or side_file(Path(name)).sha256 != wanted:
            raise RunError(
                f"{name} is missing or has changed since the run was started; restore it, or start "
                "a new run with the new list"
            )
