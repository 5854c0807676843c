"""A configuration read from YAML and checked.

Precedence: package default < site file < file < `--set key=value`. Unknown keys are errors that
name the accepted ones; nothing is converted silently.
"""

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import yaml

from cah_dask.errors import ConfigError
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.sites import defaults, forbids_crawling, merge
from cah_dask.run.settings.structs import struct_of

_MOVED = {
    "embed.thresholds": "select.thresholds",
    "embed.weights_sha256": "embed.checksums",
    "embed.config_sha256": "embed.checksums",
    "embed.name": "embed.names",
}


Kind = TypeVar("Kind", bound=msgspec.Struct)


class Loaded(msgspec.Struct, frozen=True):
    """A configuration and where each value that is not a default came from, by dotted key."""

    config: Config
    origins: dict[str, str]


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a YAML file and apply ``a.b=value`` overrides (values are YAML too).

    Raises
    ------
    ConfigError
        One line: what was found, what is accepted.
    """
    return Loaded(*_load(_read_yaml(path), path, overrides, Config))


def load_as(kind: type[Kind], path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Read a YAML file like `load` does, but the configuration of another job than a run.

    It may name a site file; of what that says it takes what it knows.
    """
    return _load(_read_yaml(path), path, overrides, kind)[0]


def load_machine(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Return a configuration of which only pools and Slurm count; without a file the defaults.

    Raises
    ------
    ConfigError
        As for `load`.
    """
    if path is not None:
        return load(path, overrides).config
    tree = {"run_dir": ".", "inputs": ["none"]}
    return _load(tree, Path("--set"), overrides, Config)[0]


def _load(
    tree: dict[str, Any], path: Path, overrides: Sequence[str], kind: type[Kind]
) -> tuple[Kind, dict[str, str]]:
    """Return a configuration, and where its values came from."""
    origins = dict.fromkeys(_leaves(tree), str(path))
    for override in overrides:
        key = _apply(tree, override)
        origins = {k: v for k, v in origins.items() if not k.startswith(f"{key}.")}
        origins[key] = f"--set {override}"
    if isinstance(tree.get("site"), str):
        tree = _above_site(tree, origins, path.parent, kind)
    _require_known_keys(tree, kind, "")
    try:
        return msgspec.convert(tree, kind), origins
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_plain(_with_entry(str(error), tree, kind))}") from error


def _with_entry(message: str, tree: dict[str, Any], kind: type[msgspec.Struct]) -> str:
    """Name the entries of mappings that msgspec calls ``[...]``, by converting each alone."""
    trimmed: Any = copy.deepcopy(tree)
    named = message
    while "[...]" in named:
        entries = trimmed
        for name in named.partition("[...]")[0].rpartition("$.")[2].split("."):
            entries = entries[name]
        key = _faulty_entry(entries, trimmed, message, kind)
        if key is None:
            return named
        named = named.replace("[...]", f".{key}", 1)
    return named


def _faulty_entry(entries: Any, tree: Any, message: str, kind: type[msgspec.Struct]) -> str | None:
    """Leave of the entries of a tree only the one that is told of by a message; return its key."""
    for key, value in dict(entries).items() if isinstance(entries, dict) else ():
        entries.clear()
        entries[key] = value
        try:
            msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return str(key)
    return None


def _above_site(
    tree: dict[str, Any], origins: dict[str, str], folder: Path, kind: type[msgspec.Struct]
) -> dict[str, Any]:
    """Lay a configuration above the site file that it names; add the origins of what shows."""
    path = folder / tree["site"]
    path = path if path.exists() else Path(tree["site"])
    if not path.exists():
        raise ConfigError(f"site file {path} does not exist, neither here nor in {folder}/")
    known = kind.__struct_fields__
    below = {k: v for k, v in defaults(_read_yaml(path), path).items() if k in known}
    for key in _leaves(below):
        if not any(key == k or k.startswith(f"{key}.") or key.startswith(f"{k}.") for k in origins):
            origins[key] = str(path)
    merged = merge(below, tree)
    if forbids_crawling(below):
        merged = merge(merged, {"download": {"crawl": "forbidden"}})
        origins["download.crawl"] = str(path)
    return merged


class _Loader(yaml.SafeLoader):
    """Reads YAML whose keys are there once, without references: a config needs neither."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # of yaml
            raise yaml.MarkedYAMLError(None, None, "references (*) are not taken", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, str) and name in seen:
                raise yaml.MarkedYAMLError(None, None, f"key {name} is there twice", key.start_mark)
            seen.add(name if isinstance(name, str) else id(key))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(f"config file {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply for a config") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no `key: value` lines; see configs/ for examples")
    return tree


def _apply(tree: dict[str, Any], override: str) -> str:
    key, equals, value = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(
            f"--set {override!r} is not of the form key=value, such as embed.model=tiny"
        )
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override!r}: {name} is a value, not a group of keys")
    try:
        tree[names[-1]] = yaml.load(value, _Loader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML") from error
    return ".".join(names)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _require_known_keys(tree: Any, kind: Any, prefix: str) -> None:
    struct = struct_of(kind)
    if struct is None or not isinstance(tree, dict):
        return
    hints = get_type_hints(struct, include_extras=True)
    for name, value in tree.items():
        if name not in hints:
            if moved := _MOVED.get(f"{prefix}{name}"):
                raise ConfigError(f"{prefix}{name} is called {moved} now")
            close = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"did you mean {prefix}{close[0]}? " if close else ""
            raise ConfigError(
                f"unknown key {prefix}{name}; {hint}accepted here: {', '.join(sorted(hints))}"
            )
        _require_known_keys(value, hints[name], f"{prefix}{name}.")


def _plain(message: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.embed.batch_size`" into our word order."""
    text, _, where = message.partition(" - at `$")
    text = text[:1].lower() + text[1:]
    return f"{where.strip('`.')}: {text}" if where.strip("`.") else text
