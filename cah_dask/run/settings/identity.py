"""What a run is known by: the settings that decide what it gives, and their hashes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from cah_dask.blocklists.exclusion import split_entry
from cah_dask.pairs.resolve import identity as identity_of_models
from cah_dask.pairs.scores.describe import with_file_names, without_files
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.structs import struct_of
from cah_dask.run.stages import PACK, SELECT

OPERATIONAL = (
    "run_dir",
    "keep_images",
    "staged_gb",
    "compact",
    "quota_files",
    "max_attempts",
    "max_lost_share",
    "report",
    "performance_report",
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
    "download.hosts.of",
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


OF_SCORES = ("embed.scores", "embed.prompts", "select.heads", "select.words")
"""Keys of scores, which count by what their files hold."""


def result_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide what is published, by dotted key."""
    return {key: value for key, value in settings(config).items() if not _is_in(key, OPERATIONAL)}


def run_settings(config: Config) -> dict[str, Any]:
    """Return those of the `result_settings` that a run keeps from its start to its end."""
    found = result_settings(config)
    found = {key: value for key, value in found.items() if not _is_in(key, OF_THE_RELEASE)}
    return _without_places(config, found)


def _without_places(config: Config, found: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which files count by what they hold, wherever they lie.

    Archives are told apart by their names and in what they give (`RunFolder.archives`).
    """
    for key in (
        "inputs", "lists_sha256", "embed.model", "embed.checksums", "embed.names", "embed.licence",
        "download.archives", "download.archives_root", "download.index",
    ):  # fmt: skip
        found.pop(key, None)
    found["embed.encoders"] = list(identity_of_models(config.embed).items())  # in their order
    for key in OF_SCORES:
        if key in found:
            found[key] = without_files(found[key])
    found["dedup.exclude"] = exclude_contents(config)
    found["download.hash_lists"] = hash_list_contents(config)
    if subset := config.extract.table.subset:
        found["extract.table.subset"] = config.lists_sha256.get(subset, subset)
    return found


def exclude_contents(config: Config) -> list[str]:
    """Return the entries of `dedup.exclude` with what they hold in place of their paths, sorted."""
    digests = config.lists_sha256
    entries = [split_entry(entry) for entry in config.dedup.exclude]
    return sorted(f"{kind}:{digests.get(str(path), path)}{path.suffix}" for kind, path in entries)


def hash_list_contents(config: Config) -> list[str]:
    """Return what each file of `download.hash_lists` holds, sorted."""
    paths = map(Path, config.download.hash_lists)
    return sorted(config.lists_sha256.get(str(path), str(path)) for path in paths)


def _is_in(key: str, groups: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)


def new_lists(config: Config, before: Config) -> list[str]:
    """Return the files of `dedup.exclude` and `download.hash_lists` that hold something new."""
    known = set(before.lists_sha256.values())
    return [path for path, digest in config.lists_sha256.items() if digest not in known]


def published_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a report may show to anybody, by dotted key.

    They decide what is published and tell nothing of the place: no path, host or address of ours.
    """
    shown = result_settings(config)
    for key in (
        "inputs", "lists_sha256", "dedup.exclude", "download.hash_lists", "download.resolve",
        "download.ca_file", "download.allow_addresses", "download.deny_addresses",
        "download.allow_ports", "download.archives", "download.archives_root", "download.index",
        "embed.model", "embed.checksums",
        "embed.names",
    ):  # fmt: skip
        shown.pop(key, None)
    for key in OF_SCORES:
        shown[key] = with_file_names(shown[key])
    if subset := config.extract.table.subset:
        digest = config.lists_sha256.get(subset, "unknown")
        shown["extract.table.subset"] = f"{Path(subset).name}, SHA-256 {digest}"
    shown["embed.encoders"] = {
        name: {
            "image": config.embed.names.get(each.image, ""),
            "texts": {split: config.embed.names.get(m, "") for split, m in each.texts.items()},
        }
        for name, each in config.embed.encoders.items()
    }
    return shown


def settings(config: Config) -> dict[str, Any]:
    """Return every setting by dotted key, as plain JSON values."""
    return dict(_flatten(msgspec.to_builtins(config), Config, ""))


def _flatten(tree: Mapping[str, Any], kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(struct_of(kind), include_extras=True)
    for name, value in tree.items():
        if struct_of(hints[name]) is not None and isinstance(value, dict):
            yield from _flatten(value, hints[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def config_hash(config: Config) -> str:
    """Return the first 16 hex digits of the SHA-256 of all settings that decide a release.

    Files count by what they hold, wherever they lie: the model by its weights, lists by their own
    checksums. Archives are told apart in what they give.
    """
    return _digest(_without_places(config, result_settings(config)))[:16]


def run_hash(config: Config) -> str:
    """Return the like of `config_hash` for the settings that a run keeps."""
    return _digest(run_settings(config))[:16]


def run_id(config: Config, archives: Sequence[str]) -> str:
    """Return what tells a run from those with other settings or archives, whatever it selects."""
    return _digest([run_hash(config), sorted(archives)])[:16]


def variants(config: Config) -> dict[str, str]:
    """Return, for each stage of which a run may have several variants, the name of this one."""
    select = msgspec.to_builtins(config.select)
    select |= {name: without_files(select[name]) for name in ("heads", "words")}
    return {SELECT.name: _digest(select)[:8], PACK.name: config_hash(config)}


def is_of(variants: Mapping[str, str], stage: str, unit: str) -> bool:
    """Tell whether a unit, by its name, belongs to these variants; those of most stages do."""
    variant = variants.get(stage)
    return variant is None or unit.startswith(f"{variant}/")


def _digest(values: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()
