"""What is published tells no path of the machines that it was made on, only last names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BEGINS = r"(?:~[\w.-]*|\.\.?)?/"
# Behind a letter no search for a url begins anew: the time would be the square of a word's length.
_URL_OR_PATH = re.compile(
    rf"""(?<![A-Za-z])[A-Za-z][\w+.-]*://[^\s'"<>]+"""
    rf"""|(?<='){_BEGINS}[^']+(?=')|(?<="){_BEGINS}[^"]+(?=")"""
    rf"""|(?<![\w/.~-]){_BEGINS}[^\s'"`,;:()<>\[\]{{}}]+"""
)


def in_text(text: str) -> str:
    """Return a text with paths shortened to their last names; urls of the web stay."""
    return _URL_OR_PATH.sub(_shortened, text)


def _shortened(found: re.Match[str]) -> str:
    path = found[0].removeprefix("file://")
    return found[0] if "://" in path else _last_name(path)


def in_value(value: Any) -> Any:
    """Return a value of a config with the paths in it shortened to their last names.

    A path is what is absolute, or begins with `~`, wherever it lies, and what is there.
    """
    if isinstance(value, Mapping):
        return {in_value(key): in_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [in_value(each) for each in value]
    if not isinstance(value, str):
        return value
    is_path = value.startswith(("/", "~")) or ("/" in value and _is_there(value))
    return _last_name(value) if is_path else in_text(value)


def _is_there(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _last_name(path: str) -> str:
    return Path(path).name or path
