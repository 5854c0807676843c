"""Where the files of scores lie, and whether they are those that a run was started with."""

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
    require_pinned(option, path, options.sha256)
    return path


def require_pinned(option: str, path: Path, wanted: str) -> None:
    """Raise ConfigError if a file is another one than wanted; "" wants any."""
    if wanted not in ("", file_sha256(path)):
        raise ConfigError(
            f"{option}: {path} has SHA-256 {file_sha256(path)}, it should have {wanted}; restore "
            "it, or leave sha256 out to take another one"
        )


def _shipped(shelf: Shelf) -> dict[str, Path]:
    folder = Path(str(files("cah_dask"))) / "pairs" / "scores" / shelf.folder
    found = sorted(folder.glob(f"*{shelf.suffix}"))
    return {path.name.removesuffix(shelf.suffix): path for path in found}
