"""A model run on a batch: in pieces that fit in memory, and in float32 where less is not enough."""

import copy
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.pairs.encoders.towers import Embeddings

Rows: TypeAlias = npt.NDArray[np.intp]
"""Which of the inputs of a batch."""

Features: TypeAlias = Callable[[Any, Any, Rows], Any]
"""Runs ``(model, dtype of its inputs, rows)``; returns a tensor of shape ``(len(rows), dim)``."""

Finish: TypeAlias = Callable[[Any], Embeddings]
"""Makes float32 of shape ``(n, any)`` of features, on the CPU."""

logger = logging.getLogger(__name__)


class Forward:
    """Runs a torch module.

    A batch that does not fit into the memory of a GPU is halved, and so is every later one. Vectors
    that overflow in half precision are made again in float32; those that are not finite then
    either stay so, for the caller to count.
    """

    def __init__(self, model: Any, dtype: Any, finish: Finish | None = None) -> None:
        self._model = model
        self._dtype = dtype
        self._finish = finish or _unit
        self._exact: Any = None
        self._pieces = Pieces(_is_full_of_torch)

    def __call__(self, features: Features, n: int) -> Embeddings:
        """Return the unit vectors of a batch of `n`, or what `finish` makes, in its order.

        Raises
        ------
        torch.OutOfMemoryError
            If a single one does not fit.
        """
        import torch

        rows = np.arange(n)
        with torch.inference_mode():
            vectors = self._in_pieces(features, self._model, self._dtype, rows)
            failed = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(failed) and self._dtype != torch.float32:
                self._exact = self._exact or copy.deepcopy(self._model).float()
                vectors[failed] = self._in_pieces(features, self._exact, torch.float32, failed)
        return vectors

    def _in_pieces(self, features: Features, model: Any, dtype: Any, rows: Rows) -> Embeddings:
        return self._pieces(lambda piece: self._finish(features(model, dtype, piece)), rows)


class Pieces:
    """Runs batches whole, or in as many pieces as the memory asks for.

    Parameters
    ----------
    is_full
        Tells of an exception whether it says that the memory did not suffice, and makes room.
    """

    def __init__(self, is_full: Callable[[Exception], bool]) -> None:
        self._is_full = is_full
        self._number = 1

    def __call__(self, run: Callable[[Rows], Embeddings], rows: Rows) -> Embeddings:
        """Return what `run` gives for rows, piece by piece; raise what it raises."""
        while True:
            pieces = np.array_split(rows, min(self._number, len(rows)))
            try:
                return np.concatenate([run(piece) for piece in pieces])
            except Exception as error:
                if not self._is_full(error) or len(pieces) == len(rows):
                    raise
            self._number *= 2
            logger.warning("out of memory; batches are run in %d pieces", self._number)


def _is_full_of_torch(error: Exception) -> bool:
    import torch

    is_full = isinstance(error, torch.OutOfMemoryError)
    if is_full:
        torch.cuda.empty_cache()
    return is_full


def _unit(features: Any) -> Embeddings:
    import torch

    vectors: Embeddings = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return vectors
