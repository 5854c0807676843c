"""Lists of what a run must not fetch or keep: their contents are fixed when it starts.

Every worker reads them anew, and a resumed run reads them again. A list that has changed meanwhile
would split a release into rows judged by one list and rows judged by another, so it is refused.
"""

from functools import cache
from pathlib import Path

import msgspec

from cah_dask.candidates.exclusion import load_exclusion, path_of
from cah_dask.errors import ConfigError, RunError
from cah_dask.images.hashlists import load_hash_lists
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


def require_hash_lists(config: Config) -> None:
    """Have this process read its hash lists, and refuse any that the run was not started with.

    A process reads them once, for its first download, which may be hours after `require_pinned`
    looked at them; so they are compared again, before and after.

    Raises
    ------
    RunError
        It names the list.
    """
    names = {str(Path(path)) for path in config.download.hash_lists}
    pinned = tuple(item for item in config.lists_sha256.items() if item[0] in names)
    _read_hash_lists(config.download.hash_lists, pinned)


@cache
def _read_hash_lists(paths: tuple[str, ...], pinned: tuple[tuple[str, str], ...]) -> None:
    _compare(pinned)
    load_hash_lists(paths)
    _compare(pinned)


@cache
def _require(pinned: tuple[tuple[str, str], ...]) -> None:
    _compare(pinned)


def _compare(pinned: tuple[tuple[str, str], ...]) -> None:
    for name, wanted in pinned:
        if not Path(name).is_file() or side_file(Path(name)).sha256 != wanted:
            raise RunError(
                f"{name} is missing or has changed since the run was started; restore it, or start "
                "a new run with the new list"
            )
