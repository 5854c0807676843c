"""Lists of what a run must not fetch or keep: their contents are fixed when it starts.

Every worker reads them anew, and a resumed run reads them again. A list that has changed meanwhile
would split a release into rows judged by one list and rows judged by another, so it is refused.
"""

import contextlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec

from cah_dask.blocklists.exclusion import Exclusion, load_exclusion, path_of
from cah_dask.blocklists.hashlists import load_hash_lists
from cah_dask.errors import ConfigError, RunError
from cah_dask.run.settings.config import Config
from cah_dask.storage import side_file

Pinned: TypeAlias = tuple[tuple[str, str], ...]
"""Files with the SHA-256 that they had when the run was started."""


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


def read_exclusion(config: Config) -> Exclusion | None:
    """Have this process read the lists of `dedup.exclude`; None if there are none.

    A process reads them once, for its first task, which may be hours after the driver looked at
    them. So they are compared with those of the start, before and after.

    Raises
    ------
    RunError
        If a list is not the one that the run was started with; it names the list.
    """
    entries = config.dedup.exclude
    return _read_exclusion(entries, _pinned(config, map(path_of, entries)))


def read_hash_lists(config: Config) -> None:
    """Have this process read its hash lists, as `read_exclusion` does for its first download.

    Raises
    ------
    RunError
        If a list is not the one that the run was started with; it names the list.
    """
    paths = config.download.hash_lists
    _read_hash_lists(paths, _pinned(config, map(Path, paths)))


def _pinned(config: Config, paths: Iterable[Path]) -> Pinned:
    """Return the pins of some lists; a run that was begun without pins has none."""
    names = {str(path) for path in paths}
    return tuple(item for item in config.lists_sha256.items() if item[0] in names)


@cache
def _read_exclusion(entries: tuple[str, ...], pinned: Pinned) -> Exclusion | None:
    with _unchanged(pinned):
        return load_exclusion(entries) if entries else None


@cache
def _read_hash_lists(paths: tuple[str, ...], pinned: Pinned) -> None:
    with _unchanged(pinned):
        load_hash_lists(paths)


@contextlib.contextmanager
def _unchanged(pinned: Pinned) -> Iterator[None]:
    _compare(pinned)
    try:
        yield
    finally:
        _compare(pinned)


def _compare(pinned: Pinned) -> None:
    for name, wanted in pinned:
        if not Path(name).is_file() or side_file(Path(name)).sha256 != wanted:
            raise RunError(
                f"{name} is missing or has changed since the run was started; restore it, or start "
                "a new run with the new list"
            )
