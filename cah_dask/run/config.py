"""One configuration for a run: the options of all stages, read from YAML, checked, explained.

Precedence: package default < site file < file < `--set key=value`. Unknown keys are errors that
name the accepted ones; nothing is converted silently.
"""

import ast
import copy
import difflib
import hashlib
import inspect
import itertools
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from cah_dask.candidates.dedup import DedupOptions
from cah_dask.candidates.extract import ExtractOptions
from cah_dask.errors import ConfigError
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.pairs.models import EmbedOptions, public_name
from cah_dask.pairs.select import SelectOptions
from cah_dask.release.layout import PackOptions
from cah_dask.run.sites import defaults, forbids_crawling, merge
from cah_dask.run.slurm import JobOptions, SlurmOptions
from cah_dask.run.stages import PACK, SELECT


class PoolOptions(JobOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Worker processes of one kind: on this machine, or in Slurm jobs when a partition is named."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """Worker processes on this machine, one task each; unused with a partition. Default: its
    processors for `cpu`, its GPUs (at least one) for `gpu`."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    """Threads that a task may use inside its worker."""


class PoolsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pools of a run: cpu does extract, dedup, download and pack; gpu does embed."""

    cpu: PoolOptions = PoolOptions()
    """Workers that parse, download and pack."""
    gpu: PoolOptions = PoolOptions(threads=4)
    """Workers that hold the model; without a GPU they run it on the processor."""
    io: PoolOptions | None = None
    """Workers that download, where nodes with a way to the internet are not those that compute.
    Default: the cpu pool downloads."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a run is told."""

    run_dir: str
    """Run folder: all that the run reads again or publishes. Run the same command to resume."""
    inputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """WAT archives: files, globs, http(s) urls, or `wat.paths(.gz)` lists of them."""
    archives_per_wave: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 300
    """Archives that are extracted and deduplicated together; the next wave is extracted while this
    one downloads."""
    keep_images: bool = True
    """Keep the image shards after their images are embedded."""
    staged_gb: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    """Downloads pause while more than this many GB (1e9 bytes) of images wait to be embedded."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Attempts at one task before it is given up and named at the end of the run."""
    max_lost_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the archives that a release may lack because their server refused them or did not
    answer. Each time the same command runs it asks for them again."""
    lists_sha256: dict[str, str] = {}
    """SHA-256 of each file of `dedup.exclude` and `download.hash_lists`. Filled in at the start, so
    that a run cannot go on with other lists."""
    extract: ExtractOptions = ExtractOptions()
    """Archives to candidates."""
    dedup: DedupOptions = DedupOptions()
    """Candidates to fetch lists."""
    download: DownloadOptions = DownloadOptions()
    """Fetch lists to images."""
    decode: DecodeOptions = DecodeOptions()
    """What a picture must be, and how it is stored."""
    embed: EmbedOptions = EmbedOptions()
    """Images and texts to similarities."""
    select: SelectOptions = SelectOptions()
    """Similarities to the pairs of a release."""
    pack: PackOptions = PackOptions()
    """Sizes of the published files."""
    pools: PoolsOptions = PoolsOptions()
    """Where tasks run."""
    slurm: SlurmOptions = SlurmOptions()
    """How to deal with Slurm, when a pool names a partition."""
    site: str | None = None
    """Site file whose values lie beneath this file's, such as configs/sites/lumi.yaml; its path is
    seen from this file's folder, or from where the command runs."""


OPERATIONAL = (
    "run_dir",
    "keep_images",
    "staged_gb",
    "max_attempts",
    "max_lost_share",
    "pools",
    "slurm",
    "site",
    "download.crawl",
    "download.requests_per_s",
    "download.bytes_per_s",
    "download.connections",
    "download.contact",
    "download.about_url",
    "download.nameservers",
    "download.decoders",
    "download.hosts.spacing_s",
    "download.hosts.concurrency",
    "download.hosts.address_concurrency",
    "download.alarm_hosts",
    "download.alarm_share",
    "download.alarm_dns_share",
    "embed.device",
)
"""Keys (with all below them) that change how a run works but not what it publishes, but for the
device: another kind moves a similarity by about 1e-7."""

OF_THE_RELEASE = ("select", "pack")
"""Keys (with all below them) that a finished run may change: it makes another release then."""

_MOVED = {"embed.thresholds": "select.thresholds"}


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
    return _load(_read_yaml(path), path, overrides)


def load_machine(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Return a configuration of which only pools and Slurm count; without a file the defaults.

    Raises
    ------
    ConfigError
        As for `load`.
    """
    if path is not None:
        return load(path, overrides).config
    return _load({"run_dir": ".", "inputs": ["none"]}, Path("--set"), overrides).config


def _load(tree: dict[str, Any], path: Path, overrides: Sequence[str]) -> Loaded:
    origins = dict.fromkeys(_leaves(tree), str(path))
    for override in overrides:
        key = _apply(tree, override)
        origins = {k: v for k, v in origins.items() if not k.startswith(f"{key}.")}
        origins[key] = f"--set {override}"
    if isinstance(tree.get("site"), str):
        tree = _above_site(tree, origins, path.parent)
    _require_known_keys(tree, Config, "")
    try:
        return Loaded(msgspec.convert(tree, Config), origins)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_plain(_with_entry(str(error), tree))}") from error


def _with_entry(message: str, tree: dict[str, Any]) -> str:
    """Name the entry of a mapping that msgspec calls ``[...]``, by converting each alone."""
    where, dots, _ = message.partition("[...]")
    if not dots:
        return message
    trimmed: Any = copy.deepcopy(tree)
    entries = trimmed
    for name in where.rpartition("$.")[2].split("."):
        entries = entries[name]
    for key, value in dict(entries).items() if isinstance(entries, dict) else ():
        entries.clear()
        entries[key] = value
        try:
            msgspec.convert(trimmed, Config)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return message.replace(dots, f".{key}")
    return message


def _above_site(tree: dict[str, Any], origins: dict[str, str], folder: Path) -> dict[str, Any]:
    """Lay a configuration above the site file that it names; add the origins of what shows."""
    path = folder / tree["site"]
    path = path if path.exists() else Path(tree["site"])
    if not path.exists():
        raise ConfigError(f"site file {path} does not exist, neither here nor in {folder}/")
    below = defaults(_read_yaml(path), path)
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
    struct = _struct_of(kind)
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


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the Struct that a type hint means, looking into Annotated and Optional."""
    if get_origin(kind) is Annotated:
        return _struct_of(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        found = [_struct_of(arm) for arm in get_args(kind)]
        return next((arm for arm in found if arm is not None), None)
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _plain(message: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.embed.batch_size`" into our word order."""
    text, _, where = message.partition(" - at `$")
    text = text[:1].lower() + text[1:]
    return f"{where.strip('`.')}: {text}" if where.strip("`.") else text


def result_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide what is published, by dotted key."""
    return {key: value for key, value in settings(config).items() if not _is_in(key, OPERATIONAL)}


def run_settings(config: Config) -> dict[str, Any]:
    """Return those of the `result_settings` that a run keeps from its start to its end."""
    found = result_settings(config)
    return {key: value for key, value in found.items() if not _is_in(key, OF_THE_RELEASE)}


def _is_in(key: str, groups: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)


def published_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a report may show to anybody, by dotted key.

    They decide what is published and tell nothing of the place: no path, host or address of ours.
    """
    shown = result_settings(config)
    for key in (
        "inputs", "lists_sha256", "dedup.exclude", "download.hash_lists", "download.resolve",
        "download.ca_file", "download.allow_addresses", "download.deny_addresses",
        "download.allow_ports",
    ):  # fmt: skip
        shown.pop(key, None)
    shown["embed.model"] = public_name(config.embed.model)
    return shown


def settings(config: Config) -> dict[str, Any]:
    """Return every setting by dotted key, as plain JSON values."""
    return dict(_flatten(msgspec.to_builtins(config), Config, ""))


def _flatten(tree: Mapping[str, Any], kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(_struct_of(kind), include_extras=True)
    for name, value in tree.items():
        if _struct_of(hints[name]) is not None and isinstance(value, dict):
            yield from _flatten(value, hints[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def config_hash(config: Config) -> str:
    """Return the first 16 hex digits of the SHA-256 of all settings that decide a release.

    Files count by what they hold, wherever they lie: the model by its weights, lists by their own
    checksums. Archives are told apart in what they give.
    """
    return _hash(config, result_settings(config))


def run_hash(config: Config) -> str:
    """Return the like of `config_hash` for the settings that a run keeps."""
    return _hash(config, run_settings(config))


def _hash(config: Config, known: dict[str, Any]) -> str:
    for key in ("inputs", "embed.model", "dedup.exclude", "download.hash_lists"):
        known.pop(key, None)
    known["lists_sha256"] = sorted(config.lists_sha256.values())
    return _digest(known)[:16]


def variants(config: Config) -> dict[str, str]:
    """Return, for each stage of which a run may have several variants, the name of this one."""
    select = _digest(msgspec.to_builtins(config.select))[:8]
    return {SELECT.name: select, PACK.name: config_hash(config)}


def _digest(values: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()


def render(loaded: Loaded) -> str:
    """Return the complete configuration as YAML, each line with the origin of its value."""
    lines: list[str] = []
    groups: list[str] = []
    for key, value in settings(loaded.config).items():
        if key == "site":
            continue  # all its values are here
        *path, name = key.split(".")
        if path != groups:
            common = next(
                (i for i, pair in enumerate(zip(path, groups, strict=False)) if pair[0] != pair[1]),
                min(len(path), len(groups)),
            )
            lines += [f"{'  ' * i}{path[i]}:" for i in range(common, len(path))]
            groups = path
        lines.append(f"{'  ' * len(path)}{name}: {_inline(value)}  # {_origin(loaded, key)}")
    return "\n".join(lines) + "\n"


def _origin(loaded: Loaded, key: str) -> str:
    """Return where the value of a key came from; that of a mapping from its first entry."""
    origins = loaded.origins
    own = (origins[name] for name in (key, *_parents(key)) if name in origins)
    entries = (origin for name, origin in origins.items() if name.startswith(f"{key}."))
    return next(own, None) or next(entries, "default")


def _inline(value: Any) -> str:
    """Return a value as YAML on one line, escaping what PyYAML would not read back as it wrote."""
    text = _flow(value)
    is_plain = "\n" not in text and yaml.safe_load(text) == value
    return text if is_plain else _flow(value, default_style='"', allow_unicode=False)


def _flow(value: Any, **style: Any) -> str:
    options = {"default_flow_style": True, "allow_unicode": True, "width": 10**6, **style}
    text: str = yaml.safe_dump(value, **options)
    return text.removesuffix("\n...\n").removesuffix("\n")


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def explained(key: str) -> list[tuple[str, str, str]]:
    """Return what `explain` says of an option, or of all options of a group; "" means all.

    Raises
    ------
    ConfigError
        If there is no such option.
    """
    options = list(explain())
    found = [each for each in options if not key or f"{each[0]}.".startswith(f"{key}.")]
    if not found:
        close = difflib.get_close_matches(key, [name for name, _, _ in options], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `cah config explain`"
        raise ConfigError(f"no option is called {key}; {hint}")
    return found


def explain(
    kind: type[msgspec.Struct] = Config, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, description) of every option, in order."""
    hints = get_type_hints(kind, include_extras=True)
    descriptions = _field_docstrings(kind)
    for field in msgspec.structs.fields(kind):
        struct = _struct_of(hints[field.name])
        if struct is not None:
            yield from explain(struct, f"{prefix}{field.name}.")
            continue
        default = "required" if field.required else _text(field)
        yield f"{prefix}{field.name}", default, descriptions.get(field.name, "")


def _text(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return _inline(msgspec.to_builtins(value))


def _field_docstrings(kind: type) -> dict[str, str]:
    """Return the string literal that follows each field of a class or of those it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(msgspec.Struct)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in itertools.pairwise(statements):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found
