"""Models of your own: a class that Python can import, named ``module:Class``.

docs/encoders.md says what it must offer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cah_dask.errors import ConfigError
from cah_dask.pairs.options import EmbedOptions
from cah_dask.user_code import import_named, is_name, source_files


def is_custom(model: str) -> bool:
    """Tell whether a model's name is ``module:Class``."""
    return is_name(model) and not model.startswith("hf:")


def custom_class(model: str) -> Any:
    """Import a class that is a tower.

    Raises
    ------
    ConfigError
        If it cannot be imported, or does not say what a tower has to say.
    """
    found = import_named(model)
    dim = getattr(found, "dim", None)
    if not isinstance(dim, int) or dim < 1:
        raise ConfigError(f"{model} has no class attribute dim, the length of its vectors")
    if not has_images(found) and not has_texts(found):
        raise ConfigError(
            f"{model} has neither encode_texts nor preprocess and encode_images; "
            "it needs those of a text tower or of an image tower, or all three"
        )
    return found


def has_images(custom: Any) -> bool:
    """Tell whether a class is an image tower."""
    return all(callable(getattr(custom, name, None)) for name in ("preprocess", "encode_images"))


def has_texts(custom: Any) -> bool:
    """Tell whether a class is a text tower."""
    return callable(getattr(custom, "encode_texts", None))


def custom_files(model: str) -> Mapping[str, Path]:
    """Return the source file of a class and the files that it names, by their names.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    return source_files(model, getattr(import_named(model), "files", ()))


def require_working(model: str) -> None:
    """Build a model on the CPU and have it embed one text and one picture.

    Raises
    ------
    ConfigError
        If what it gives is no unit vector of its length.
    """
    dim = custom_class(model).dim
    try:
        given = _one_of_each(custom_class(model)(EmbedOptions(device="cpu")))
    except Exception as error:  # whatever the class does
        raise ConfigError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    for name, vectors in given.items():
        found = np.asarray(vectors)
        if found.shape != (1, dim) or found.dtype != np.float32:
            raise ConfigError(
                f"{name} of {model} gives {found.dtype} of shape {found.shape} for one input, "
                f"float32 of shape (1, {dim}) is needed"
            )
        if not abs(float(np.linalg.norm(found)) - 1) < 1e-2:
            raise ConfigError(
                f"{name} of {model} gives a vector of length {np.linalg.norm(found):.3g}; "
                "it has to be a unit vector"
            )


def _one_of_each(tower: Any) -> dict[str, Any]:
    """Return the vectors of one text and one picture, by the method that gives them."""
    given = {}
    if has_texts(tower):
        given["encode_texts"] = tower.encode_texts(["a text"]).vectors
    if has_images(tower):
        picture = tower.preprocess(Image.new("RGB", (320, 240), "red"))
        given["encode_images"] = tower.encode_images([picture])
    return given
