"""Scores of stored vectors: small networks that others trained on the image vectors of a CLIP.

They are linear layers with or without a normalisation before them, so numpy is enough for them, and
a worker without a GPU scores millions of rows that were embedded long ago.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.towers import Embeddings
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.options import HeadKind

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
"""Of 32 bits each."""
Weights: TypeAlias = Mapping[str, Floats]

_ALL = 1_000


@dataclass(frozen=True, slots=True)
class Layout:
    """What is around the linear layers of a head, which stand in its file in their order."""

    norm: Callable[[dict[str, Floats]], tuple[Floats, Floats] | None]
    """Takes the weights of the normalisation out; returns what vectors are multiplied with first,
    and what is added then."""
    n_plain: int
    """So many layers at the end follow each other, and the output, without a ReLU."""
    is_probability: bool
    """Whether a sigmoid is last."""
    trained_on: str = ""
    """The one tag of open_clip whose vectors it understands."""


def _standard(weights: dict[str, Floats]) -> tuple[Floats, Floats]:
    mean, variance = (weights.pop(f"norm.{name}").ravel() for name in ("mean", "variance"))
    factor = 1 / np.sqrt(variance)
    return factor, -mean * factor


def _batch_norm(weights: dict[str, Floats]) -> tuple[Floats, Floats]:
    weights.pop("norm.num_batches_tracked", None)
    factor = weights.pop("norm.weight") / np.sqrt(weights.pop("norm.running_var"))
    return factor, weights.pop("norm.bias") - weights.pop("norm.running_mean") * factor


def _none(_: dict[str, Floats]) -> None:
    return None


LAYOUTS: dict[HeadKind, Layout] = {
    "laion-nsfw": Layout(_standard, 1, is_probability=True, trained_on="openai"),
    "laion-nsfw-h14": Layout(_none, 2, is_probability=False, trained_on="laion2b_s32b_b79k"),
    "laion-aesthetic": Layout(_none, _ALL, is_probability=False, trained_on="openai"),
    "datacomp-nsfw": Layout(_batch_norm, 1, is_probability=True, trained_on="openai"),
    "mlp": Layout(_none, 1, is_probability=True),
}
"""LAION's `punsafe` for ViT-B/32 and ViT-L/14 (CLIP-based-NSFW-Detector) and for ViT-H-14, its
improved aesthetic predictor, DataComp's NSFW head (dataset2metadata; its BatchNorm has an eps of
0), and ReLU networks of your own."""


class Head:
    """A network that gives one number to each vector.

    Raises
    ------
    ConfigError
        If weights are not in the layout of their kind; it names `path`.
    """

    def __init__(self, path: Path, kind: HeadKind, weights: Weights) -> None:
        self._layout = LAYOUTS[kind]
        rest = dict(weights)
        try:
            self._norm = self._layout.norm(rest)
        except KeyError as error:
            raise ConfigError(f"{path} has no {error.args[0]}, which {kind} needs") from error
        self._layers = _linear_layers(rest)
        if rest or not _fit(self._layers):
            odd = f"it has {min(rest)}" if rest else "its layers do not lead to one number"
            raise ConfigError(f"{path} has not the layout of {kind}: {odd}")
        self.dim = int(self._layers[0][0].shape[1])

    def score(self, images: Embeddings) -> Scores:
        """Return one score for each image vector.

        Parameters
        ----------
        images
            ``(n, dim)`` float32, rows L2-normalised.

        Returns
        -------
        ndarray
            ``(n,)`` float32: a probability, or whatever the head was trained to give.
        """
        values: Floats = images
        if self._norm is not None:
            values = values * self._norm[0] + self._norm[1]
        for number, (weight, bias) in enumerate(self._layers):
            values = values @ weight.T + bias
            if number < len(self._layers) - self._layout.n_plain:
                values = np.maximum(values, 0)
        scores = values[:, 0]
        if self._layout.is_probability:
            scores = (1 + np.tanh(scores / 2)) / 2
        return scores.astype(np.float32)


def _linear_layers(weights: dict[str, Floats]) -> list[tuple[Floats, Floats]]:
    """Take all linear layers out of some weights, in the order of the numbers in their names."""
    names = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return [
        (weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias"))
        for name in names
        if f"{name}.bias" in weights and weights[f"{name}.weight"].ndim == 2
    ]


def _fit(layers: list[tuple[Floats, Floats]]) -> bool:
    widths = [bias.size for _, bias in layers]
    return (
        bool(layers)
        and widths[-1] == 1
        and all(weight.shape[0] == width for (weight, _), width in zip(layers, widths, strict=True))
        and [weight.shape[1] for weight, _ in layers[1:]] == widths[:-1]
    )


def read_head(path: Path, kind: HeadKind) -> Head:
    """Read a head.

    Raises
    ------
    ConfigError
        If the file cannot be read, holds more than tensors, or not those of its kind.
    """
    return Head(path, kind, _read_weights(path))


def _read_weights(path: Path) -> Weights:
    try:
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        found = read(path)
        return {name: np.asarray(value, np.float32) for name, value in found.items()}
    except ImportError as error:
        raise ConfigError(f"{path} needs {error.name}; run: pip install {error.name}") from error
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} holds more than tensors, and pickled code is never run; save its state_dict "
            "as safetensors"
        ) from error
    except Exception as error:
        raise ConfigError(f"{path} holds no weights: {' '.join(str(error).split())}") from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    found: Mapping[str, Any] = load_file(path)
    return found


def _read_torch(path: Path) -> Mapping[str, Any]:
    import torch

    found = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in found.items()}
