"""Models in a folder that can be carried to machines without internet, with their checksums."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from cah_dask.errors import ConfigError
from cah_dask.pairs import catalogue
from cah_dask.pairs.catalogue import FILE, FetchedModel, Preset, PresetEncoder
from cah_dask.pairs.encoders.contents import Write, contents
from cah_dask.pairs.encoders.custom import is_custom
from cah_dask.pairs.encoders.hub import require_hub
from cah_dask.pairs.encoders.loadable import require_loadable
from cah_dask.pairs.encoders.models import ModelFiles, locate, model_folder
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.resolve import resolve
from cah_dask.storage import TEMPORARY, file_sha256, staged, sweep, write_atomic


def fetch(name: str, to: Path) -> Iterator[tuple[str, Path]]:
    """Fetch a preset or a model from the hub into a folder that `embed.model` takes.

    Each file is whole or absent, `preset.yaml` comes last, and what was fetched before is not asked
    for again. A folder that holds all of it is left as it is.

    Yields
    ------
    tuple
        Each model and its folder, once it is there; nothing if nothing was to be done.

    Raises
    ------
    ConfigError
        If there is no such model, if the hub does not give it, or if the folder holds other files.
    """
    preset = _named(name)
    folders = {model: _folder_name(model) for model in preset.sources}
    wanted = _placed(preset, folders)
    if not _is_to_do(name, wanted, to):
        return
    require_hub()
    sweep(to)
    models = {}
    for model, folder in folders.items():
        files = contents(model, to / folder)
        checksums = {each: _put(to / folder / each, write) for each, write in files.items()}
        models[folder] = FetchedModel(origin=model, checksums=dict(sorted(checksums.items())))
        yield model, to / folder
    if not locate(str(to / folders[preset.sources[0]])).has_images:
        wanted = msgspec.structs.replace(wanted, encoders={})
    text = msgspec.to_builtins(msgspec.structs.replace(wanted, models=models))
    write_atomic(to / FILE, yaml.safe_dump(text, sort_keys=False, allow_unicode=True).encode())


def faults(folder: Path) -> Iterator[str]:
    """Compare a folder of fetched models with its checksums; return what is wrong, file by file.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """
    for name, model in catalogue.read(folder / FILE).models.items():
        for file, digest in model.checksums.items():
            path = folder / name / file
            if not path.is_file():
                yield f"{path} is not there"
            elif file_sha256(path) != digest:
                yield f"{path} is damaged: its bytes are not those that were fetched"


def check(name: str) -> Iterator[tuple[str, ModelFiles]]:
    """Look whether all models of a preset, of a fetched folder or a model of its own can be loaded.

    Yields
    ------
    tuple
        Each model that can, and its files.

    Raises
    ------
    ConfigError
        For the first that cannot, or if they are no models of one space.
    """
    preset = catalogue.find(name)
    if preset is None:
        models = [name]
    else:
        folder = Path(name).expanduser()
        models = [str(folder / each) for each in preset.models] or preset.sources
    for model in models:
        found = locate(model)
        require_loadable(found)
        yield model, found
    if preset is not None and preset.encoders:
        resolve(EmbedOptions(model=name))


def _named(name: str) -> Preset:
    """Return the preset that is called so, or one of a single model."""
    if name in catalogue.presets():
        return catalogue.presets()[name]
    if model_folder(name) is not None or is_custom(name):
        raise ConfigError(f"{name} is on this machine; `cah models fetch` takes what is on the hub")
    licence, is_commercial = catalogue.known_licence([name])
    encoder = PresetEncoder(image=name)
    return Preset(
        what=name,
        licence=licence,
        is_commercial=is_commercial,
        encoders={_folder_name(name)[:64]: encoder},
    )


def _folder_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.removeprefix("hf:")).strip("-._")


def _placed(preset: Preset, folders: dict[str, str]) -> Preset:
    """Return the preset with folders in the place of models."""
    encoders = {
        name: msgspec.structs.replace(
            encoder,
            image=folders[encoder.image],
            texts={split: folders[model] for split, model in encoder.texts.items()},
        )
        for name, encoder in preset.encoders.items()
    }
    return msgspec.structs.replace(preset, encoders=encoders)


def _is_to_do(name: str, wanted: Preset, to: Path) -> bool:
    """Return whether anything is to be fetched; refuse a folder with something else in it."""
    if str(to) in catalogue.presets():
        raise ConfigError(
            f"--to {to} is also what a preset is called; take another folder, such as models/{to}"
        )
    if to.exists() and not to.is_dir():
        raise ConfigError(f"{to} is no folder; give another --to")
    if not (to / FILE).is_file():
        strangers = _entries(to) - {*wanted.sources}
        if strangers:
            raise ConfigError(
                f"{to} holds {min(strangers)}, which is not of {name}; give a new folder with --to"
            )
        return True
    found = catalogue.read(to / FILE)
    if ({*found.models}, found.what) != ({*wanted.sources}, wanted.what):
        raise ConfigError(f"{to} holds {found.what!r}, not {name}; give a new folder with --to")
    return any(True for _ in faults(to))


def _entries(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    names = (path.name for path in folder.iterdir())
    return {name for name in names if not name.startswith(TEMPORARY)}


def _put(target: Path, write: Write) -> str:
    """Write a file unless it is there; refuse another one that is. Return its SHA-256."""
    with staged(target) as path:
        write(path)
        digest = file_sha256(path)
        if target.exists() and file_sha256(target) != digest:
            raise ConfigError(f"{target} is there and is another file; remove it and run again")
    return digest
