"""The command line of a start: `cah init` writes what a checkout has and a wheel carries."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

import cah_dask
from cah_dask.errors import ConfigError
from cah_dask.terminal import tell

init_app = typer.Typer()

_FOLDERS = ("configs", "slurm")
_FILES = ("environment.yml",)
_SITE_EXAMPLE, _SITE = "slurm/site.example.env", "slurm/site.env"


@init_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder that nodes share; made if missing.")],
) -> None:
    """Write configs, site files, launch.sh and environment files into a folder, to start from."""
    files = _files(_origin())
    for name, source in files.items():
        target = folder / name
        if target.exists() and (name != _SITE and target.read_bytes() != source.read_bytes()):
            raise ConfigError(f"{target} is there and another file; name a new folder")
    for name, source in files.items():
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
    tell(f"{folder}: {len(files)} files to start from. Then, in that folder:")
    for line in (
        "set inputs and download.contact in configs/example.yaml",
        "cah config check configs/example.yaml",
        "cah run configs/example.yaml, on this machine; or on Slurm:",
        "fill in configs/sites/generic.yaml and slurm/site.env, name the site file in your config",
        ". slurm/site.env && sbatch slurm/launch.sh configs/example.yaml",
    ):
        tell(f"  {line}")


def _origin() -> Path:
    """Return the folder that has them: within the package if it was installed, else the checkout.

    Raises
    ------
    ConfigError
        If neither has.
    """
    package = Path(cah_dask.__file__).parent
    for folder in (package / "start", package.parent):
        if all((folder / name).is_dir() for name in _FOLDERS):
            return folder
    raise ConfigError("the files to start from are not there; install the package anew")


def _files(origin: Path) -> dict[str, Path]:
    """Return the files by where they go, relative to the new folder."""
    found = [path for name in _FOLDERS for path in sorted((origin / name).rglob("*"))]
    found = [path for path in found if path.is_file()]
    files = {path.relative_to(origin).as_posix(): path for path in found}
    files.pop(_SITE, None)  # of somebody's own
    return {
        **files,
        _SITE: files[_SITE_EXAMPLE],
        **{name: origin / name for name in _FILES},
    }
