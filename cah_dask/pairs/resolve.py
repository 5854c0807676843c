"""Which models a run uses: names looked up, files pinned, mistakes refused at once."""

import hashlib
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from cah_dask.errors import ConfigError
from cah_dask.pairs import catalogue
from cah_dask.pairs.encoders.loadable import image_space, require_loadable
from cah_dask.pairs.encoders.models import (
    Kind,
    ModelFiles,
    checksums,
    locate,
    model_folder,
    public_name,
)
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.scores.checks import resolve_scores, scores_as_pinned
from cah_dask.schema import SPLITS


def resolve(options: EmbedOptions) -> EmbedOptions:
    """Pin the models, and refuse now what would only fail on a GPU node hours later.

    Returns
    -------
    EmbedOptions
        With encoders and checksums set and no `model`, so that a resumed run and every worker use
        the very same models.

    Raises
    ------
    ConfigError
        For an unknown model, missing or unexpected files or ones that cannot be loaded.
    """
    if find_spec("open_clip") is None:
        raise ConfigError("open_clip is not installed; run: pip install 'cah_dask[clip]'")
    if options.model is not None and options.encoders:
        raise ConfigError("embed.model and embed.encoders are both given; leave one of them out")
    encoders = options.encoders or _encoders_of(options)
    options = msgspec.structs.replace(options, model=None, encoders=encoders)
    found = {model: locate(model) for model in options.models}
    for name, encoder in encoders.items():
        _require_towers(name, encoder, found)
    pinned = {}
    for model, files in found.items():
        pinned[model] = checksums(files)
        _require_as_fetched(files, pinned[model])
        _require_as_pinned(model, pinned[model], options.checksums.get(model, {}))
        require_loadable(files)
    if strangers := options.checksums.keys() - pinned:
        raise ConfigError(
            f"embed.checksums names {min(strangers)}, which is no model of this configuration; "
            f"its models are {', '.join(pinned)}"
        )
    for name, encoder in encoders.items():
        _require_one_space(name, encoder, found)
    encoders = {
        name: msgspec.structs.replace(encoder, dim=found[encoder.image].dim)
        for name, encoder in encoders.items()
    }
    options = resolve_scores(options)
    names = {model: options.names.get(model) or _name(model, found[model]) for model in found}
    return msgspec.structs.replace(options, encoders=encoders, checksums=pinned, names=names)


def _encoders_of(options: EmbedOptions) -> dict[str, EncoderOptions]:
    """Return the encoders of a preset, or the one that is a single model."""
    preset = catalogue.of(options)
    if preset is not None and not preset.encoders:
        raise ConfigError(
            f"{options.model} holds a text tower alone; name it in embed.encoders.NAME.texts"
        )
    if preset is not None:
        return {name: each.options for name, each in preset.encoders.items()}
    model = options.model or ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", public_name(model)).strip("-._")[:64] or "model"
    return {name: EncoderOptions(image=model)}


def _name(model: str, files: ModelFiles) -> str:
    """Return what a model is called in what is published: one that was fetched as on the hub."""
    fetched = catalogue.fetched(files.folder) if files.folder else None
    return public_name(model) if fetched is None else fetched.origin


def _require_as_fetched(files: ModelFiles, found: dict[str, str]) -> None:
    fetched = catalogue.fetched(files.folder) if files.folder else None
    for name, digest in fetched.checksums.items() if fetched else ():
        if found.get(name) != digest:
            odd = "is damaged" if name in found else "is not there"
            raise ConfigError(
                f"{files.folder}/{name} {odd}; remove it if it is there, and run the same "
                "`cah models fetch` again or copy the folder anew"
            )


def _require_as_pinned(model: str, found: dict[str, str], wanted: dict[str, str]) -> None:
    for name, digest in wanted.items():
        if found.get(name) != digest:
            has = f"has SHA-256 {found[name]}" if name in found else "is no file of it"
            raise ConfigError(f"{name} of {model} {has}, embed.checksums wants {digest}")


def _require_towers(name: str, encoder: EncoderOptions, found: dict[str, ModelFiles]) -> None:
    """Refuse an image model without an image tower, and texts of another length than images."""
    image = found[encoder.image]
    if not image.has_images:
        raise ConfigError(
            f"encoder {name}: {encoder.image} is a text tower alone; name it in "
            f"embed.encoders.{name}.texts, and the model of its images as image"
        )
    for split in SPLITS:
        model = encoder.text(split)
        if not found[model].has_texts:
            raise ConfigError(
                f"encoder {name}: {model} is an image tower alone; name the model of its texts "
                f"in embed.encoders.{name}.texts.{split}"
            )
        if found[model].dim != image.dim:
            raise ConfigError(
                f"encoder {name}: texts of {model} ({split}) have {found[model].dim} numbers, "
                f"images of {encoder.image} have {image.dim}: they are not of one space"
            )


def _require_one_space(name: str, encoder: EncoderOptions, found: dict[str, ModelFiles]) -> None:
    """Refuse texts of a model that has an image tower of its own, unless it is the same one."""
    for split, model in encoder.texts.items():
        image, text = found[encoder.image], found[model]
        if Kind.CUSTOM in (image.kind, text.kind) or model == encoder.image:
            continue  # the author says so
        if text.has_images and image_space(text) != image_space(image):
            raise ConfigError(
                f"encoder {name}: {model} ({split}) was trained with another image tower than that "
                f"of {encoder.image}: they are not of one space; make it an encoder of its own"
            )


def is_as_pinned(options: EmbedOptions, pinned: EmbedOptions) -> bool:
    """Tell whether options say nothing else than resolved ones, without looking for the models."""

    def towers(encoders: Iterable[EncoderOptions]) -> list[list[str]]:
        return [_towers(each) for each in encoders]

    given = options.encoders or _encoders_of(options)
    is_fetched = options.model is not None and all(  # a folder of fetched models, which is gone
        Path(model).is_relative_to(Path(options.model).expanduser()) for model in pinned.models
    )
    return (
        (is_fetched or towers(given.values()) == towers(pinned.encoders.values()))
        and (options.batch_size, options.precision) == (pinned.batch_size, pinned.precision)
        and options.checksums.items() <= pinned.checksums.items()
        and options.names.items() <= pinned.names.items()
        and scores_as_pinned(options, pinned)
    )


def identity(options: EmbedOptions) -> dict[str, Any]:
    """Return what tells the models of resolved options from others, wherever their folders lie."""

    def known(model: str) -> str:
        """Return a hash of the files; a name of open_clip also says which architecture it is."""
        name = model if model_folder(model) is None else ""
        files = sorted(options.checksums.get(model, {}).items())
        return hashlib.sha256(msgspec.json.encode([name, files])).hexdigest()[:16]

    return {
        name: {"image": known(each.image), "texts": {s: known(each.text(s)) for s in SPLITS}}
        for name, each in options.encoders.items()
    }


def _towers(encoder: EncoderOptions) -> list[str]:
    """Return the model of the images, and that of the texts of each split."""
    return [encoder.image, *map(encoder.text, SPLITS)]


def with_names_of(options: EmbedOptions, before: EmbedOptions) -> EmbedOptions:
    """Return resolved options in which models and encoders are called as before, if they are so."""
    if list(identity(options).values()) != list(identity(before).values()):
        return options
    encoders = dict(zip(before.encoders, options.encoders.values(), strict=True))
    names = {
        model: before.names[old]
        for new, known in zip(options.encoders.values(), before.encoders.values(), strict=True)
        for model, old in zip(_towers(new), _towers(known), strict=True)
    }
    renamed = dict(zip(options.encoders, before.encoders, strict=True))
    prompts = {
        name: msgspec.structs.replace(each, encoder=renamed.get(each.encoder or "", each.encoder))
        for name, each in options.prompts.items()
    }
    return msgspec.structs.replace(options, encoders=encoders, names=names, prompts=prompts)
