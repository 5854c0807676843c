"""Site files: what all runs at one computing centre share, beneath each run's own file.

A site file is overruled by the run's file in everything but one: where it says
``download: {crawl: forbidden}``, no run may say otherwise.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cah_dask.errors import ConfigError

GROUPS = ("slurm", "pools", "download", "compact", "quota_files")
"""What a site file may set: where and how a run works, never what it is about."""


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site file says of itself, under `about`."""

    name: str = ""
    """Short name of the site."""
    description: str = ""
    """What kind of machine it is, and what to know before running there."""
    url: str = ""
    """The site's own documentation."""
    contact: str = ""
    """Who looks after the file."""
    verified: str = "never"
    """When a run was last tried there, and by whom."""


def defaults(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what a site file sets.

    Raises
    ------
    ConfigError
        If it sets what is not the site's to say.
    """
    try:
        msgspec.convert(tree.get("about", {}), About)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: about: {error}") from error
    groups = {name: value for name, value in tree.items() if name != "about"}
    strange = sorted(set(groups) - set(GROUPS))
    if strange:
        accepted = ", ".join(("about", *GROUPS))
        raise ConfigError(f"{path}: unknown key {strange[0]}; accepted in site files: {accepted}")
    return groups


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees in one; where both say something, the upper one counts."""
    merged = dict(below)
    for name, value in above.items():
        lower = merged.get(name)
        both = isinstance(lower, dict) and isinstance(value, dict)
        merged[name] = merge(lower or {}, value) if both else value
    return merged


def forbids_crawling(tree: Mapping[str, Any]) -> bool:
    """Tell whether a site file forbids to crawl from there."""
    download = tree.get("download")
    return isinstance(download, dict) and download.get("crawl") == "forbidden"
