"""Scores and rules as others may read them: by no path of ours."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.scores.files import is_shipped
from cah_dask.pairs.scores.prompts import SHELF as PROMPTS
from cah_dask.pairs.scores.words import SHELF as WORDS
from cah_dask.pairs.select import SelectOptions

Plain: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Options of scores by name, as plain JSON values."""


def described(embed: EmbedOptions, select: SelectOptions) -> Iterator[tuple[str, str, str]]:
    """Yield name, meaning and SHA-256 of the file of each score, in the order of their columns.

    Only files of the package are named: the same file elsewhere makes the same release.
    """
    for name, picture in embed.scores.items():
        model = "an ONNX model" if picture.model.endswith(".onnx") else f"`{picture.model}`"
        yield name, f"what {model} says of the picture", picture.sha256
    for name, each in embed.prompts.items():
        how = "share of" if each.top is None else f"of the {each.top} nearest, how many are"
        shipped = f" of the set `{each.file}`" if is_shipped(each.file, PROMPTS) else ""
        yield name, f"prompts{shipped} beside the picture: {how} `{each.label}`", each.sha256
    for name, head in select.heads.items():
        what = f"what a head ({head.kind}) says of the image vector by `{head.encoder}`"
        yield name, what, head.sha256
    for name, words in select.words.items():
        shipped = f"the list `{words.file}`" if is_shipped(words.file, WORDS) else "a list"
        yield name, f"how many words of {shipped} the text holds", words.sha256


def rules_in_words(rules: Mapping[str, Plain]) -> list[str]:
    """Return rules, as plain JSON values, as one line each, in the order of names."""
    lines = []
    for rule, limits in sorted(rules.items()):
        conditions = [
            f"`{name}` is {how} {value}"
            for name, limit in sorted(limits.items())
            for how, value in limit.items()
            if value is not None
        ]
        lines.append(f"`{rule}`: {' and '.join(conditions)}")
    return lines


def without_files(scores: Plain) -> dict[str, dict[str, Any]]:
    """Return scores told apart by what their files hold, wherever these lie."""
    return {
        name: {key: value for key, value in options.items() if not _is_file(key, value)}
        for name, options in scores.items()
    }


def with_file_names(scores: Plain) -> dict[str, dict[str, Any]]:
    """Return scores with the names of their files only."""
    return {
        name: {
            key: Path(value).name if _is_file(key, value) else value
            for key, value in options.items()
        }
        for name, options in scores.items()
    }


def _is_file(key: str, value: Any) -> bool:
    return key == "file" or (key == "model" and value.endswith(".onnx"))
