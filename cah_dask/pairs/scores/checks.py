"""Scores and rules of a configuration: files pinned, mistakes refused before anything runs."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.models import model_folder
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.scores import prompts, words
from cah_dask.pairs.scores.files import digest, locate
from cah_dask.pairs.scores.heads import LAYOUTS, read_head
from cah_dask.pairs.scores.options import (
    HeadOptions,
    PictureOptions,
    PromptsOptions,
    WordsOptions,
)
from cah_dask.pairs.scores.pictures import picture_files, require_working
from cah_dask.pairs.scores.rules import require_known
from cah_dask.pairs.select import SelectOptions


def resolve_scores(options: EmbedOptions) -> EmbedOptions:
    """Pin what gives scores where pictures are embedded; what has no pin yet is tried out.

    Raises
    ------
    ConfigError
        In one line, for the first that is missing, unexpected or does not work.
    """
    return msgspec.structs.replace(
        options,
        scores={name: _picture(f"embed.scores.{name}", e) for name, e in options.scores.items()},
        prompts={
            name: _prompts(f"embed.prompts.{name}", each, options)
            for name, each in options.prompts.items()
        },
    )


def _picture(option: str, options: PictureOptions) -> PictureOptions:
    paths = picture_files(option, options)
    if not options.sha256:
        require_working(option, options)
    return msgspec.structs.replace(options, sha256=digest(paths))


def _prompts(option: str, options: PromptsOptions, embed: EmbedOptions) -> PromptsOptions:
    path = locate(option, options, prompts.SHELF)
    prompts.require_label(option, options.label, prompts.read_prompts(path))
    encoder = options.encoder or next(iter(embed.encoders))
    _require_encoder(option, encoder, embed)
    return msgspec.structs.replace(options, encoder=encoder, sha256=digest([path]))


def scores_as_pinned(options: EmbedOptions, pinned: EmbedOptions) -> bool:
    """Tell whether the scores of options are those of resolved ones, without looking for files."""

    def is_as(given: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
        return list(given) == list(found) and all(
            msgspec.structs.replace(each, sha256=each.sha256 or found[name].sha256) == found[name]
            for name, each in given.items()
        )

    prompts = {
        name: each if each.encoder else msgspec.structs.replace(each, encoder=found.encoder)
        for name, each in options.prompts.items()
        if (found := pinned.prompts.get(name))
    }
    return is_as(options.scores, pinned.scores) and (
        len(prompts) == len(options.prompts) and is_as(prompts, pinned.prompts)
    )


def complete_scores(options: SelectOptions, embed: EmbedOptions) -> SelectOptions:
    """Pin heads and word lists, name the encoder of each head, and check all rules.

    Parameters
    ----------
    embed
        As `resolve` returned them.

    Raises
    ------
    ConfigError
        In one line, for the first that is wrong.
    """
    names = [*embed.score_names, *options.heads, *options.words]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ConfigError(f"two scores are called {twice[0]}; give one of them another name")
    completed = msgspec.structs.replace(
        options,
        heads={name: _head(f"select.heads.{name}", e, embed) for name, e in options.heads.items()},
        words={name: _words(f"select.words.{name}", e) for name, e in options.words.items()},
    )
    require_known(options.drop, names)
    return completed


def _head(option: str, options: HeadOptions, embed: EmbedOptions) -> HeadOptions:
    encoder = options.encoder or next(iter(embed.encoders))
    if options.encoder is None and len(embed.encoders) > 1:
        raise ConfigError(
            f"{option} needs `encoder`, the one whose vectors the head was trained on; this run "
            f"has {', '.join(embed.encoders)}"
        )
    _require_encoder(option, encoder, embed)
    path, model = locate(option, options), embed.encoders[encoder].image
    wanted, dim = LAYOUTS[options.kind].trained_on, read_head(path, options.kind).dim
    if dim != embed.encoders[encoder].dim:
        raise ConfigError(
            f"{option}: {path} takes vectors of {dim} numbers, those of encoder {encoder} have "
            f"{embed.encoders[encoder].dim}"
        )
    is_named = model_folder(model) is None and ":" not in model
    if wanted and is_named and not model.endswith(f"/{wanted}"):
        raise ConfigError(
            f"{option}: heads of kind {options.kind} understand vectors of models tagged {wanted}, "
            f"not those of {model}, whatever their length"
        )
    return msgspec.structs.replace(options, encoder=encoder, sha256=digest([path]))


def _words(option: str, options: WordsOptions) -> WordsOptions:
    path = locate(option, options, words.SHELF)
    words.read_words(path)
    return msgspec.structs.replace(options, sha256=digest([path]))


def _require_encoder(option: str, encoder: str, embed: EmbedOptions) -> None:
    if encoder not in embed.encoders:
        raise ConfigError(
            f"{option} names the encoder {encoder}; this run has {', '.join(embed.encoders)}"
        )
