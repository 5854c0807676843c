"""Models in ONNX's format, which models of Keras, scikit-learn and torch become by conversion."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from cah_dask.classify.hooks import Arrays, Scored
from cah_dask.classify.models.arguments import (
    converted,
    existing,
    require_installed,
    the_picture,
    the_text,
)
from cah_dask.classify.models.onnx_file import OnnxFile
from cah_dask.errors import ConfigError, RecordError
from cah_dask.pairs.encoders.forward import Pieces, Rows
from cah_dask.pairs.scores.numbers import softmax as softmax_of
from cah_dask.pairs.scores.onnx_weights import weight_files
from cah_dask.pairs.scores.options import OnnxInput
from cah_dask.pairs.scores.pictures import normalised

_NAME = "Onnx"


class OnnxScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a score stands."""

    output: str = ""
    """Name of an output of the model. Default: the first that holds floats."""
    column: int = 0
    """Number of the score in a row of the output."""


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    scores: list[str] | dict[str, OnnxScore]
    input: OnnxInput | None


class Onnx:
    """Scores items by a model that onnxruntime runs, on the CPU or by CUDA.

    Inputs are the arrays of an item by their names; a single input takes a single array, whatever
    their names. An input of strings takes texts. What has room for one item is given one at a time.

    Parameters
    ----------
    file
        The model.
    scores
        Names of the scores, as many as a row of the first output of floats has numbers; or name ->
        `OnnxScore`.
    softmax
        Take the softmax of each row of an output before.
    vectors
        Name of an output whose rows are given as vectors.
    input
        For pictures, uint8 `(height, width, 3)`: how the model wants them (`OnnxInput`).

    Raises
    ------
    ConfigError
        If the file cannot be read, has no such output or column, or takes or gives what is no
        tensor; or if CUDA is asked for and not to be had.
    """

    def __init__(
        self,
        *,
        file: str,
        scores: Sequence[str] | Mapping[str, Any],
        softmax: bool = False,
        vectors: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002  # as `embed.scores` calls it
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        require_installed(_NAME, "safety", "onnxruntime")
        options = converted(_NAME, {"scores": scores, "input": input}, _Options)
        self._file = OnnxFile(existing(_NAME, file), device=device, threads=threads)
        self._scores = _places(self._file, options.scores)
        self.names = list(self._scores)
        self.dim = _dim(self._file, vectors)
        self._softmax = softmax
        self._vectors = [] if vectors is None else [vectors]
        self._picture = options.input
        self._pieces = Pieces(_is_full)

    @staticmethod
    def files(*, file: str, **_: Any) -> list[Path]:
        """Return the file of the model and those of its weights; raise ConfigError without one."""
        path = existing(_NAME, file)
        return [path, *weight_files(path)]

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        """Return `(n, scores)`, and `(n, dim)` vectors if they are wanted.

        Raises
        ------
        RecordError
            If an item has other arrays than the model takes.
        """
        n = len(self.names)
        found = np.empty((0, n + self.dim), np.float32)
        if batch:
            inputs = {name: self._input(name, batch) for name in self._file.inputs}
            rows = np.arange(len(batch))
            groups = np.split(rows, len(rows)) if self._file.is_single else [rows]
            parts = [self._pieces(lambda each: self._run(inputs, each), group) for group in groups]
            found = np.concatenate(parts)
        return Scored(found[:, :n], found[:, n:] if self.dim else None)

    def _input(self, name: str, batch: Sequence[Arrays]) -> npt.NDArray[Any]:
        """Return an input of the model for all items of a batch."""
        arrays = [self._file.array(name, each) for each in batch]
        if self._file.takes_texts(name):
            return self._file.texts(name, [the_text({name: each}) for each in arrays])
        if self._picture is not None:
            arrays = [normalised(the_picture({name: each}), self._picture) for each in arrays]
        return self._file.numbers(name, arrays)

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]], rows: Rows) -> npt.NDArray[np.float32]:
        """Return scores and vectors side by side."""
        outputs = dict.fromkeys([each.output for each in self._scores.values()] + self._vectors)
        tables = self._file.run(list(outputs), inputs, rows)
        vectors = [tables[name] for name in self._vectors]
        if self._softmax:
            tables = {k: softmax_of(table).astype(np.float32) for k, table in tables.items()}
        columns = [_column(tables[place.output], place) for place in self._scores.values()]
        return np.concatenate([np.stack(columns, axis=1), *vectors], axis=1, dtype=np.float32)


def _places(
    file: OnnxFile, scores: Sequence[str] | Mapping[str, OnnxScore]
) -> dict[str, OnnxScore]:
    """Return where each score stands, in an output by its name."""
    if not scores:
        raise ConfigError(f"{_NAME} has no scores; name one or more")
    first = file.first_floats()
    if isinstance(scores, Mapping):
        found = {k: OnnxScore(output=v.output or first, column=v.column) for k, v in scores.items()}
        for name, place in found.items():
            if 0 < file.width(place.output) <= place.column or place.column < 0:
                raise ConfigError(
                    f"{_NAME}: score {name} is column {place.column} of output {place.output}, "
                    f"which has {file.width(place.output)}, the first of which is 0"
                )
        return found
    width = file.width(first)
    if len(set(scores)) < len(scores) or width not in (0, len(scores)):
        raise ConfigError(
            f"{_NAME} has {len(scores)} names of scores ({', '.join(scores)}); output {first} has "
            f"{width or 'some'} numbers, and needs one name for each"
        )
    return {name: OnnxScore(output=first, column=k) for k, name in enumerate(scores)}


def _dim(file: OnnxFile, vectors: str | None) -> int:
    if vectors is None:
        return 0
    if not (width := file.width(vectors)):
        raise ConfigError(
            f"{_NAME}: output {vectors} does not say how long a vector is; convert the model with "
            "shapes that are fixed but for the batch"
        )
    return width


def _column(table: npt.NDArray[Any], place: OnnxScore) -> npt.NDArray[Any]:
    if place.column >= table.shape[1]:
        raise RecordError(
            f"output {place.output} gave {table.shape[1]} numbers, so no column {place.column}"
        )
    return table[:, place.column]


def _is_full(error: Exception) -> bool:
    """Tell by what onnxruntime says; it has no type for it."""
    said = str(error)
    return "Failed to allocate memory" in said or "bad_alloc" in said
