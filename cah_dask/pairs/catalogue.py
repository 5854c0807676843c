"""Encoders that people use, by name: their towers, thresholds and licences."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from cah_dask.errors import ConfigError
from cah_dask.pairs.options import EmbedOptions, EncoderOptions, Name, Sha256
from cah_dask.schema import Split

DEFAULT = "laion5b"
"""The preset that is used where nothing is said."""

FILE = "preset.yaml"
"""The file by which a folder of fetched models is one."""


class PresetEncoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One encoder of a preset."""

    image: str
    texts: dict[Split, str] = {}
    thresholds: dict[Split, Annotated[float, msgspec.Meta(ge=-1, le=1)]] = {}
    """Published ones; a split without one has to be calibrated."""
    source: str = ""
    """Where the thresholds were published."""

    @property
    def options(self) -> EncoderOptions:
        """The encoder as a configuration has it."""
        return EncoderOptions(image=self.image, texts=self.texts)


class FetchedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that was fetched into a folder."""

    origin: str
    """What it is called where it comes from."""
    checksums: dict[str, Sha256]
    """SHA-256 of its files, by their names within it."""


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A choice of encoders; the first one decides what is kept, unless `select.encoder` is set."""

    what: str
    """One line of what it is for."""
    licence: str
    """Of the weights; empty if it is not known here."""
    is_commercial: bool = True
    """Whether the licence of the weights allows commercial use, as far as it is known."""
    encoders: dict[Name, PresetEncoder]
    """None where a text tower alone was fetched."""
    models: dict[str, FetchedModel] = {}
    """Of a folder of fetched models: what lies in it, by the names of the models' folders."""

    @property
    def sources(self) -> list[str]:
        """All models of all encoders, each once."""
        names = (name for each in self.encoders.values() for name in each.options.models)
        return list(dict.fromkeys(names))

    @property
    def terms(self) -> str:
        """The licence, and what it forbids."""
        return self.licence if self.is_commercial else f"{self.licence} (no commercial use)"


@cache
def presets() -> dict[str, Preset]:
    """Return all presets of the package by name."""
    folder = files("cah_dask") / "pairs" / "presets"
    paths = sorted(Path(str(path)) for path in folder.iterdir() if path.name.endswith(".yaml"))
    return {path.stem: read(path) for path in paths}


def find(model: str) -> Preset | None:
    """Return the preset that is called so, or that a folder of fetched models holds; else None."""
    if model in presets():
        return presets()[model]
    path = Path(model).expanduser() / FILE
    return _in_folder(path) if path.is_file() else None


def of(options: EmbedOptions) -> Preset | None:
    """Return the preset that options name, if they do."""
    return None if options.encoders else find(options.model or DEFAULT)


def published_thresholds(encoder: EncoderOptions) -> dict[Split, float]:
    """Return the thresholds that presets have for the very towers of an encoder.

    The default preset's count first: 0.28 for English, not LAION-400M's 0.30.
    """
    known: dict[Split, float] = {}
    for preset in (presets()[DEFAULT], *presets().values()):
        for each in preset.encoders.values():
            for split, threshold in each.thresholds.items():
                towers = (encoder.image, encoder.text(split))
                if towers == (each.image, each.options.text(split)):
                    known.setdefault(split, threshold)
    return known


def licence(options: EmbedOptions, preset: Preset | None) -> tuple[str, bool]:
    """Return the licence of a run's models, and whether it allows commercial use.

    Parameters
    ----------
    options
        As `resolve` returned them.
    preset
        The one that they came from; without one, a licence is known only if it forbids something.
    """
    if preset is None:
        terms, is_commercial = known_licence(options.models)
    else:
        terms, is_commercial = preset.terms, preset.is_commercial
    return options.licence or terms, is_commercial


def known_licence(models: Sequence[str]) -> tuple[str, bool]:
    """Return the licence of models that forbids commercial use, if presets name one; else ""."""
    found = [each for each in presets().values() if {*each.sources} & {*models}]
    terms = [each.terms for each in found if not each.is_commercial]
    return ", ".join(dict.fromkeys(terms)), not terms


def fetched(folder: Path) -> FetchedModel | None:
    """Return what was fetched as this folder of a model, if it was."""
    path = folder.resolve().with_name(FILE)
    return read(path).models.get(folder.resolve().name) if path.is_file() else None


def _in_folder(path: Path) -> Preset:
    """Read a preset whose models are paths relative to it."""
    preset = read(path)

    def place(model: str) -> str:
        return str(path.parent / model)

    encoders = {
        name: msgspec.structs.replace(
            encoder,
            image=place(encoder.image),
            texts={split: place(model) for split, model in encoder.texts.items()},
        )
        for name, encoder in preset.encoders.items()
    }
    return msgspec.structs.replace(preset, encoders=encoders)


def read(path: Path) -> Preset:
    """Read a preset from a file.

    Raises
    ------
    ConfigError
        If it is none.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), Preset)
    except (OSError, ValueError, yaml.YAMLError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(f"{path} is no preset: {' '.join(str(error).split())}") from error
