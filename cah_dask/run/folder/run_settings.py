"""What a run was told: its configuration and its archives, as the run folder keeps them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from cah_dask.errors import ConfigError, DamageError
from cah_dask.pairs.select import SelectOptions
from cah_dask.run.settings import identity, loading, render
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.loading import Loaded
from cah_dask.storage import write_atomic

CONFIG_FILE = "config.yaml"
ARCHIVES_FILE = "archives.jsonl"


def read_config(run_dir: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a run was started with, some keys changed.

    Raises
    ------
    ConfigError
        If the folder is no run folder.
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{run_dir} is not a run folder: it has no {CONFIG_FILE}")
    return loading.load(path, overrides).config


def read_archives(run_dir: Path) -> list[str]:
    """Return the names of the archives of a run in canonical order.

    Raises
    ------
    DamageError
        If the list of them is lost or damaged.
    """
    path = run_dir / ARCHIVES_FILE
    try:
        lines = path.read_bytes().split(b"\n")
        return [msgspec.json.decode(line, type=str) for line in lines if line]
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamageError(path, f"{error}; restore it or set run_dir to a new folder") from error


def write_settings(run_dir: Path, loaded: Loaded, archives: Sequence[str]) -> None:
    """Keep what a run was told, and what this release of it is told."""
    path = run_dir / CONFIG_FILE
    if not path.exists():
        lines = b"".join(msgspec.json.encode(name) + b"\n" for name in archives)
        write_atomic(run_dir / ARCHIVES_FILE, lines)
    elif (before := read_config(run_dir)).select.is_settled_from(loaded.config.select) and (
        before.pack == loaded.config.pack
    ):
        return
    else:
        of_release = {key: getattr(loaded.config, key) for key in identity.OF_THE_RELEASE}
        config = msgspec.structs.replace(before, **of_release)
        loaded = msgspec.structs.replace(loaded, config=config)
    write_atomic(path, render.render(loaded).encode())


def settle(run_dir: Path, select: SelectOptions) -> None:
    """Keep the thresholds that were found for this release of a run."""
    path = run_dir / CONFIG_FILE
    loaded = loading.load(path)
    config = msgspec.structs.replace(loaded.config, select=select)
    write_atomic(path, render.render(msgspec.structs.replace(loaded, config=config)).encode())


def require_same(run_dir: Path, config: Config, archives: Sequence[str]) -> None:
    """Raise ConfigError if a run was started with another configuration, or other archives.

    Settings of a release and of the machine may be others.
    """
    begun = read_config(run_dir)
    if changed := identity.new_lists(config, begun):
        raise ConfigError(
            f"run folder {run_dir} was started with other lists ({', '.join(changed)} is not "
            "what it was); restore them or set run_dir to a new folder"
        )
    before, now = identity.run_settings(begun), identity.run_settings(config)
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"run folder {run_dir} was started with {key}: {before.get(key)!r}, now it "
                f"is {now.get(key)!r}; restore it or set run_dir to a new folder"
            )
    if read_archives(run_dir) != list(archives):
        raise ConfigError(
            f"{run_dir} was begun with other inputs a moment ago; run the same command again"
        )
