"""Filter files: YAML with a tree of predicates, its parameters and its assets."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from cah_dask.curate.filters import lists, numbers, texts, vectors, whole
from cah_dask.curate.filters.node import Joined, Node, Predicate, parse
from cah_dask.curate.texts.assets import KNOWN, Asset, digest, require
from cah_dask.errors import ConfigError

PREDICATES: Mapping[str, type[Predicate]] = {
    "aspect": numbers.Aspect,
    "chars": texts.Chars,
    "hashes": lists.Hashes,
    "host": lists.Host,
    "is": lists.Is,
    "language": texts.Language,
    "license": lists.License,
    "max_side": numbers.MaxSide,
    "min_side": numbers.MinSide,
    "near_duplicate": lists.NearDuplicate,
    "nearest_centroid": vectors.NearestCentroid,
    "page": lists.Page,
    "phrases": texts.PhraseList,
    "regex": texts.Regex,
    "sample": numbers.Sample,
    "score": numbers.Score,
    "top_fraction": whole.TopFraction,
    "uids": lists.Uids,
    "urls": lists.Urls,
    "wordnet_entity": texts.WordnetEntity,
    "words": texts.Words,
}

_PARAMETER = re.compile(r"\$(\w+)")


class AssetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file that this package does not know."""

    file: str
    sha256: str = ""
    """What it must be, hex. Default: what it is at the start."""
    origin: str = ""
    """Where it comes from, in a line, for whoever lacks it."""


class FilterFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A filter as it stands in YAML."""

    keep: dict[str, Any]
    """The tree of what is kept."""
    about: str = ""
    """One line of what it is for."""
    parameters: dict[str, int | float | str] = {}
    """Values by name, which the tree takes as ``$name``; `--set name=value` gives others."""
    assets: dict[str, str | AssetOptions] = {}
    """Where files lie that predicates name, by those names; `--asset name=path` says it, too."""
    nulls: Literal["fail", "drop"] = "fail"
    """What becomes of a row with an empty cell, or NaN, where a predicate needs a value."""


class Rule(msgspec.Struct, frozen=True):
    """One part of what must hold, as counts name it."""

    name: str
    node: Node


class Filter(msgspec.Struct, frozen=True):
    """A filter with its parameters filled in."""

    rules: tuple[Rule, ...]
    """All must hold; in the order in which rows are asked, from cheap to dear."""
    nulls: Literal["fail", "drop"]
    source: str
    """The file with its parameters filled in, as JSON: equal for equal filters."""

    def leaves(self) -> list[Predicate]:
        """Return all predicates."""
        return [leaf for rule in self.rules for leaf in rule.node.leaves()]

    @property
    def assets(self) -> list[str]:
        """Names of the assets that it needs."""
        return sorted({name for leaf in self.leaves() for name in leaf.assets})

    @property
    def whole(self) -> list[whole.TopFraction]:
        """The predicates that depend on the whole pool."""
        return [leaf for leaf in self.leaves() if isinstance(leaf, whole.TopFraction)]


def shipped() -> dict[str, Path]:
    """Return the filters of the package by name."""
    folder = files("cah_dask.curate") / "baselines"
    found = [Path(str(each)) for each in folder.iterdir() if each.name.endswith(".yaml")]
    return {path.stem: path for path in sorted(found)}


def load_filter(
    name: str, parameters: Mapping[str, str] | None = None, assets: Mapping[str, str] | None = None
) -> FilterFile:
    """Read a filter file, or one of the package by its name.

    Parameters
    ----------
    parameters, assets
        Instead of those in the file.

    Raises
    ------
    ConfigError
        In one line: what was found, what is accepted.
    """
    read = read_file(name)
    known = read.parameters
    if unknown := [key for key in parameters or {} if key not in known]:
        there = ", ".join(known) or "none"
        raise ConfigError(f"{name} has no parameter {unknown[0]}; it has {there}")
    try:
        given = {key: yaml.safe_load(value) for key, value in (parameters or {}).items()}
    except yaml.YAMLError as error:
        raise ConfigError(f"a parameter is no YAML: {' '.join(str(error).split())}") from error
    placed = {name: _placed(read.assets.get(name), path) for name, path in (assets or {}).items()}
    return msgspec.structs.replace(read, parameters=known | given, assets=read.assets | placed)


def _placed(known: str | AssetOptions | None, path: str) -> str | AssetOptions:
    """Return an asset that lies elsewhere; what it must be stays."""
    return msgspec.structs.replace(known, file=path) if isinstance(known, AssetOptions) else path


def path_of(name: str) -> Path:
    """Return the path of a filter file, or of one of the package by its name."""
    return shipped().get(name, Path(name))


def read_file(name: str) -> FilterFile:
    """Read a filter file, or one of the package by its name; see `load_filter` for errors."""
    try:
        tree = yaml.safe_load(path_of(name).read_bytes())
    except OSError as error:
        known = ", ".join(shipped())
        raise ConfigError(
            f"{name} is no filter file that can be read, and none of the package ({known})"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    accepted = FilterFile.__struct_fields__
    if not isinstance(tree, dict) or "keep" not in tree:
        raise ConfigError(
            f"{name}: expected a mapping with `keep`; accepted: {', '.join(accepted)}"
        )
    if unknown := [key for key in tree if key not in accepted]:
        raise ConfigError(f"{name}: unknown key {unknown[0]}; there are {', '.join(accepted)}")
    try:
        return msgspec.convert(tree, FilterFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


def made_from(file: FilterFile, name: str = "filter") -> Filter:
    """Return the filter that a file describes; see `load_filter` for errors."""
    tree = _filled(file.keep, file.parameters, name)
    node = parse(tree, PREDICATES, f"{name}: keep")
    nodes = node.nodes if isinstance(node, Joined) and node.is_all else (node,)
    trees = tree["all"] if isinstance(node, Joined) and node.is_all else [tree]
    names = _names([next(iter(each)) for each in trees])
    rules = [Rule(rule, each) for rule, each in zip(names, nodes, strict=True)]
    source = {"keep": tree, "nulls": file.nulls}
    return Filter(
        tuple(sorted(rules, key=lambda rule: rule.node.cost)),
        file.nulls,
        msgspec.json.encode(source, order="sorted").decode(),
    )


def located(file: FilterFile) -> FilterFile:
    """Return a filter whose assets are there, each with its path and its SHA-256.

    Raises
    ------
    ConfigError
        If one is not named, not there, or another one.
    """
    found: dict[str, str | AssetOptions] = {}
    for name in made_from(file).assets:
        asset = KNOWN.get(name)
        given = file.assets.get(name)
        if given is None:
            origin = f"; it comes from {asset.origin}" if asset else ""
            raise ConfigError(f"say where the asset {name} lies: --asset {name}=PATH{origin}")
        options = AssetOptions(file=given) if isinstance(given, str) else given
        path = Path(options.file).expanduser().resolve()
        if asset is None or options.sha256:
            known = asset.files if asset else ()
            asset = Asset(name, options.sha256.lower(), options.origin, known)
        if not asset.sha256:
            try:
                asset = msgspec.structs.replace(asset, sha256=digest(asset, path))
            except OSError as error:
                raise ConfigError(
                    f"asset {name}: {path} cannot be read: {error.strerror}"
                ) from error
        require(asset, path)
        found[name] = AssetOptions(file=str(path), sha256=asset.sha256, origin=asset.origin)
    return msgspec.structs.replace(file, assets=found)


def assets_of(file: FilterFile) -> dict[str, tuple[Asset, Path]]:
    """Return what the assets of a `located` filter must be, and where they lie."""
    found = {}
    for name, options in file.assets.items():
        if isinstance(options, AssetOptions):
            files_ = KNOWN[name].files if name in KNOWN else ()
            asset = Asset(name, options.sha256, options.origin, files_)
            found[name] = (asset, Path(options.file))
    return found


def _filled(tree: Any, parameters: Mapping[str, int | float | str], name: str) -> Any:
    """Return a tree with the values of its parameters."""
    if isinstance(tree, dict):
        return {key: _filled(value, parameters, name) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, parameters, name) for value in tree]
    found = _PARAMETER.fullmatch(tree) if isinstance(tree, str) else None
    if found is None:
        return tree
    if found[1] not in parameters:
        raise ConfigError(f"{name}: ${found[1]} is not among its parameters")
    return parameters[found[1]]


def _names(predicates: list[str]) -> list[str]:
    """Return a name for each rule: that of its predicate, with a number where there are more."""
    seen: dict[str, int] = {}
    names = []
    for predicate in predicates:
        seen[predicate] = seen.get(predicate, 0) + 1
        n = seen[predicate]
        names.append(predicate if n == 1 else f"{predicate}_{n}")
    return names
