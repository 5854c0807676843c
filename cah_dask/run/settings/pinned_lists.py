"""Lists of what a run must not fetch or keep, or only takes: fixed when it starts.

Every worker reads them anew, or maps what the driver made of large ones; a resumed run reads them
again. A list that has changed meanwhile
would split a release into rows judged by one list and rows judged by another, so it is refused.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec

from cah_dask.blocklists.exclusion import Exclusion, load_exclusion, path_of
from cah_dask.blocklists.hashlists import HashLists, load_hash_lists
from cah_dask.blocklists.mapped import (
    folder_name,
    is_written,
    map_exclusion,
    map_hash_lists,
    write_exclusion,
    write_hash_lists,
)
from cah_dask.candidates.subset import check_subset, read_subset
from cah_dask.errors import ConfigError, DamageError, RunError
from cah_dask.keys import Keys
from cah_dask.run.settings import identity
from cah_dask.run.settings.config import Config
from cah_dask.storage import side_file

Pinned: TypeAlias = tuple[tuple[str, str], ...]
"""Files with the SHA-256 that they had when the run was started."""

LARGE_BYTES = 16_000_000
"""Size of files from which on they are mapped: about a million entries, 16 MB in each worker."""


def pin_lists(config: Config) -> Config:
    """Read all lists of a configuration once, and write down what they hold.

    Returns
    -------
    Config
        With ``lists_sha256`` complete.

    Raises
    ------
    InputError
        If a list of `dedup.exclude`, or `extract.table.subset`, is missing or damaged.
    ConfigError
        If ``lists_sha256`` is given and a list is another one.
    """
    load_exclusion(config.dedup.exclude)
    paths = [*map(path_of, config.dedup.exclude), *map(Path, config.download.hash_lists)]
    if subset := config.extract.table.subset:
        check_subset(Path(subset))
        paths.append(Path(subset))
    found = {str(path): side_file(path).sha256 for path in paths}
    for name, wanted in config.lists_sha256.items():
        if found.get(name) != wanted:
            raise ConfigError(
                f"lists_sha256 wants {name} with SHA-256 {wanted}, "
                f"but it is {found.get(name, 'no list of this configuration')}"
            )
    return msgspec.structs.replace(config, lists_sha256=found)


def map_lists(config: Config, folder: Path) -> None:
    """Write large lists to `folder` as workers map them, unless they are there and sound.

    Raises
    ------
    RunError
        If a list is not the one that the run was started with, or the disk is full.
    """
    use = _exclusion(config)
    if use.is_large and not _is_sound(map_exclusion, folder / use.name):
        with _unchanged(use.pinned):
            write_exclusion(folder / use.name, load_exclusion(use.entries))
    use = _hash_lists(config)
    if use.is_large and not _is_sound(map_hash_lists, folder / use.name):
        with _unchanged(use.pinned):
            write_hash_lists(folder / use.name, load_hash_lists(use.entries))
            load_hash_lists.cache_clear()  # the driver needs them no more


def _is_sound(read: Callable[[Path], object], folder: Path) -> bool:
    try:
        read(folder)
    except DamageError:
        return False
    return True


def read_exclusion(config: Config, folder: Path | None = None) -> Exclusion | None:
    """Have this process read the lists of `dedup.exclude`; None if there are none.

    A process reads them once, for its first task, which may be hours after the driver looked at
    them. So they are compared with those of the start, before and after. What `map_lists` has
    written to `folder` is mapped instead.

    Raises
    ------
    RunError
        If a list is not the one that the run was started with; it names the list.
    DamageError
        If what is mapped is not what was written; the next start writes it again.
    """
    return _read_exclusion(_exclusion(config), folder) if config.dedup.exclude else None


def read_hash_lists(config: Config, folder: Path | None = None) -> HashLists:
    """Have this process read its hash lists, as `read_exclusion` does for its first download."""
    return _read_hash_lists(_hash_lists(config), folder)


def subset_of(config: Config) -> Keys | None:
    """Have this process read `extract.table.subset`, as `read_exclusion` does; None without one."""
    name = config.extract.table.subset
    return _read_subset(name, _pinned(config, [Path(name)])) if name else None


@cache
def _read_subset(name: str, pinned: Pinned) -> Keys:
    with _unchanged(pinned):
        return read_subset(Path(name))


@dataclass(frozen=True, slots=True)
class _Use:
    """The lists of one option, as the run was started with them."""

    entries: tuple[str, ...]
    pinned: Pinned
    name: str
    """What the folder is called in which they are mapped."""

    @property
    def is_large(self) -> bool:
        """Whether they are worth it; what has no pins cannot be told from other lists."""
        return sum(Path(path).stat().st_size for path, _ in self.pinned) >= LARGE_BYTES


def _exclusion(config: Config) -> _Use:
    entries = config.dedup.exclude
    name = folder_name(identity.exclude_contents(config))
    return _Use(entries, _pinned(config, map(path_of, entries)), f"exclude-{name}")


def _hash_lists(config: Config) -> _Use:
    paths = config.download.hash_lists
    name = folder_name(identity.hash_list_contents(config))
    return _Use(paths, _pinned(config, map(Path, paths)), f"hashes-{name}")


def _pinned(config: Config, paths: Iterable[Path]) -> Pinned:
    """Return the pins of some lists; a run that was begun without pins has none."""
    names = {str(path) for path in paths}
    return tuple(item for item in config.lists_sha256.items() if item[0] in names)


@cache
def _read_exclusion(use: _Use, folder: Path | None) -> Exclusion:
    if folder is not None and is_written(folder / use.name):
        return map_exclusion(folder / use.name)
    with _unchanged(use.pinned):
        return load_exclusion(use.entries)


@cache
def _read_hash_lists(use: _Use, folder: Path | None) -> HashLists:
    if folder is not None and is_written(folder / use.name):
        return map_hash_lists(folder / use.name)
    with _unchanged(use.pinned):
        return load_hash_lists(use.entries)


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
