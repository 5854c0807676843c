"""Labels of languages, each by one detector with fixed limits.

Two detectors disagree, and one with other limits disagrees with itself: a label belongs into a
column named after its detector, and none is derived from another. These two are those of DataComp:
fastText's lid.176 in its basic, text-based and image-based filters, CLD3 with (0, 1000) bytes in
its LAION-2B filter. `candidates.language` decides splits by CLD3 with other limits.

Detectors get a text with blanks for newlines and tell only their first label, however sure they
are of it.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from cah_dask.candidates.language import UNKNOWN, identifier
from cah_dask.curate.texts.arrays import answers
from cah_dask.curate.texts.assets import Asset, require
from cah_dask.errors import ConfigError

DATACOMP_MIN_BYTES = 0
DATACOMP_MAX_BYTES = 1000
"""Limits of CLD3 in DataComp's reproduction of LAION-2B (``baselines/apply_filter.py``)."""

_LABEL = "__label__"


class Detector(Protocol):
    """Finds the language of texts; one per process, and made there."""

    name: str
    """What its column is called after, such as ``cld3_0_1000``."""
    version: str
    """Model and library, for manifests."""

    def labels(self, texts: pa.Array) -> pa.Array:
        """Return the label of each of ``(n,)`` texts, ``(n,)`` strings; null for a null."""


class Cld3:
    """CLD3, which looks at texts of `min_bytes` and more, and at `max_bytes` of them.

    Notes
    -----
    With `min_bytes` 0 even an empty text has a language, Japanese.
    """

    def __init__(
        self, min_bytes: int = DATACOMP_MIN_BYTES, max_bytes: int = DATACOMP_MAX_BYTES
    ) -> None:
        self.name = f"cld3_{min_bytes}_{max_bytes}"
        self.version = f"CLD3 of {library('cld3')}"
        self._find = identifier(min_bytes, max_bytes)

    def labels(self, texts: pa.Array) -> pa.Array:
        """Return CLD3's labels, such as ``en`` and ``ru-Latn``; see `Detector.labels`."""
        return answers(texts, self._label, pa.string())

    def _label(self, text: str) -> str:
        found = self._find(_line(text))
        return UNKNOWN if found is None else str(found.language)  # pycld3 of a text without letters


class FastText:
    """A fastText model that labels languages, such as lid.176.

    Parameters
    ----------
    model
        ``.bin`` or ``.ftz``.
    asset
        What the file must be; DataComp's is `assets.LID_BIN`.

    Raises
    ------
    ConfigError
        If the file is another one or no model, or fasttext-predict is not installed.

    Notes
    -----
    A text without any word of the model gets the label of an empty one. Words that begin with
    ``__label__`` are none.
    """

    def __init__(self, model: Path, asset: Asset) -> None:
        self.name = "fasttext"
        self._predict = _model(require(asset, model))
        self.version = f"{asset.name}, SHA-256 {asset.sha256}, by {library('fasttext')}"

    def labels(self, texts: pa.Array) -> pa.Array:
        """Return the model's labels, such as ``en``; see `Detector.labels`."""
        return answers(texts, self._label, pa.string())

    def _label(self, text: str) -> str:
        # not by `predict` of the wrapper, which fails with NumPy 2 in Facebook's own build
        found = self._predict(_line(text) + "\n", 1, 0.0, "strict")
        return found[0][1].removeprefix(_LABEL) if found else UNKNOWN


def _line(text: str) -> str:
    return text.replace("\n", " ")


@cache
def _model(path: Path) -> Callable[[str, int, float, str], list[tuple[float, str]]]:
    """Load a model, once in a process: lid.176.bin is 126 MB."""
    try:
        import fasttext  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ConfigError(
            "fasttext-predict is not installed, and a filter asks for fastText's languages: "
            "pip install 'cah_dask[curate]'"
        ) from error
    try:
        model: Any = fasttext.load_model(str(path))
    except (ValueError, MemoryError) as error:
        raise ConfigError(f"{path} is no fastText model: {error}") from error
    return model.f.predict  # type: ignore[no-any-return]


def library(detector: Literal["cld3", "fasttext"]) -> str:
    """Return the distribution that a detector comes from, with its version."""
    names = {"cld3": _CLD3, "fasttext": _FASTTEXT}
    return _installed(*names[detector])


_CLD3 = ("cld3-py", "gcld3", "pycld3")
_FASTTEXT = ("fasttext-predict", "fasttext")


def _installed(*names: str) -> str:
    """Return the first of some distributions that is installed, with its version."""
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "an unknown build"
