"""Arguments of models from a config, and what a model is given of an item."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy.typing as npt
from PIL import Image

from cah_dask.classify.hooks import Arrays
from cah_dask.errors import ConfigError, RecordError

_Options = TypeVar("_Options", bound=msgspec.Struct)


def converted(name: str, given: Mapping[str, Any], kind: type[_Options]) -> _Options:
    """Return arguments as a struct; `name` stands for the model in errors.

    Raises
    ------
    ConfigError
        If one is unknown, or of the wrong type or range.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


def existing(name: str, file: str) -> Path:
    """Return the path of a file.

    Raises
    ------
    ConfigError
        If there is none.
    """
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"{name}: {path} is no file")
    return path


def require_installed(name: str, extra: str, *modules: str) -> None:
    """Raise ConfigError if a module is not installed; `extra` of the package brings it."""
    for module in modules:
        if find_spec(module) is None:
            raise ConfigError(
                f"{name} needs {module}, which is not installed; run: pip install "
                f"'cah_dask[{extra}]'"
            )


def the_array(arrays: Arrays) -> npt.NDArray[Any]:
    """Return the array of an item that has one.

    Raises
    ------
    RecordError
        If it has several, or none.
    """
    if len(arrays) != 1:
        raise RecordError(f"one array is taken, not {len(arrays)} ({', '.join(arrays)})")
    return next(iter(arrays.values()))


def the_picture(arrays: Arrays) -> Image.Image:
    """Return the picture of an item that has one, red, green and blue.

    Raises
    ------
    RecordError
        If it has another array, or several.
    """
    pixels = the_array(arrays)
    if pixels.dtype != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise RecordError(
            f"a picture is uint8 of shape (height, width, 3), not {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    return Image.fromarray(pixels)


def the_text(arrays: Arrays) -> str:
    """Return the text of an item that has one, in UTF-8.

    Raises
    ------
    RecordError
        If it has another array, or several.
    """
    text = the_array(arrays)
    if text.dtype != "uint8" or text.ndim != 1:
        raise RecordError(
            f"a text is UTF-8 as uint8 of shape (bytes,), not {text.dtype} of shape {text.shape}"
        )
    return text.tobytes().decode("utf-8", "replace")
