"""Where the files of scores lie, and whether they are those that a run was started with."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, Protocol

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.models import file_sha256


class Shelf(NamedTuple):
    """Where files of a kind lie in the package, and how their names end."""

    folder: str
    suffix: str


class InFile(Protocol):
    """Options of a score that a file decides."""

    @property
    def file(self) -> str:
        """A path, or what the package calls one of its own."""

    @property
    def sha256(self) -> str:
        """As `options.Pin`."""


def locate(option: str, options: InFile, shelf: Shelf | None = None) -> Path:
    """Return the path of a file; `option` names it in errors.

    Parameters
    ----------
    shelf
        Where the package has such files, if it has.

    Raises
    ------
    ConfigError
        If there is no such file, or another one than at the start.
    """
    shipped = {} if shelf is None else _shipped(shelf)
    path = shipped.get(options.file, Path(options.file).expanduser())
    if not path.is_file():
        hint = f", and none of the package ({', '.join(shipped)})" if shipped else ""
        raise ConfigError(f"{option}: {path} is no file{hint}")
    require_pinned(option, [path], options.sha256)
    return path


def require_pinned(option: str, paths: Sequence[Path], wanted: str) -> None:
    """Raise ConfigError if files are others than wanted; "" wants any."""
    if wanted not in ("", digest(paths)):
        raise ConfigError(
            f"{option}: {', '.join(map(str, paths))} has SHA-256 {digest(paths)}, it should have "
            f"{wanted}; restore it, or leave sha256 out to take another one"
        )


def digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file, hex; of several files that of all theirs."""
    found = [file_sha256(path) for path in paths]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def is_shipped(name: str, shelf: Shelf) -> bool:
    """Tell whether a file is one of the package, by its name there."""
    return name in _shipped(shelf)


def _shipped(shelf: Shelf) -> dict[str, Path]:
    folder = Path(str(files("cah_dask"))) / "pairs" / "scores" / shelf.folder
    found = sorted(folder.glob(f"*{shelf.suffix}"))
    return {path.name.removesuffix(shelf.suffix): path for path in found}
