"""A file in ONNX's format: what it takes and gives, and one run of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cah_dask.classify.hooks import Arrays
from cah_dask.classify.models.arguments import the_array
from cah_dask.errors import ConfigError, RecordError
from cah_dask.pairs.encoders.forward import Rows
from cah_dask.pairs.scores.onnx import CUDA, session

_TEXTS = "tensor(string)"
_FLOATS = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
_NUMBERS = _FLOATS | {
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxFile:
    """A model that onnxruntime has opened.

    Raises
    ------
    ConfigError
        If it cannot be opened, takes what is no tensor, or batches of one size other than 1; or if
        CUDA is asked for and not to be had.
    """

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        self._path = path
        self._session = _opened(path, device, threads)
        self._inputs = {each.name: each for each in self._session.get_inputs()}
        self._outputs = {each.name: each for each in self._session.get_outputs()}
        for name, described in self._inputs.items():
            if described.type not in (*_NUMBERS, _TEXTS):
                raise ConfigError(
                    f"{path} has an input {name} of {described.type}; known: "
                    f"{', '.join((*_NUMBERS, _TEXTS))}"
                )
        sizes = {each.shape[0] for each in self._inputs.values() if each.shape}
        fixed = {size for size in sizes if isinstance(size, int)}
        if fixed - {1}:
            raise ConfigError(
                f"{path} takes batches of {max(fixed)} and no others; convert it with a batch of "
                "any size, or of 1"
            )
        self.is_single = bool(fixed)
        """Whether it takes one item at a time."""

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return list(self._inputs)

    def takes_texts(self, name: str) -> bool:
        """Tell whether an input is one of strings."""
        return bool(self._inputs[name].type == _TEXTS)

    def first_floats(self) -> str:
        """Return the name of the first output that holds floats; raise ConfigError without one."""
        for name, described in self._outputs.items():
            if described.type in _FLOATS:
                return str(name)
        given = ", ".join(f"{name} of {each.type}" for name, each in self._outputs.items())
        hint = "; scikit-learn models are converted with options={'zipmap': False}"
        raise ConfigError(
            f"{self._path} gives no tensor of floats, but {given}{hint if 'map' in given else ''}"
        )

    def width(self, output: str) -> int:
        """Return how many numbers a row of an output has; 0 if it does not say.

        Raises
        ------
        ConfigError
            If there is no such output, or it holds no numbers.
        """
        if output not in self._outputs:
            raise ConfigError(
                f"{self._path} has no output {output!r}; its outputs are {', '.join(self._outputs)}"
            )
        described = self._outputs[output]
        if described.type not in _NUMBERS:
            raise ConfigError(
                f"output {output} of {self._path} is {described.type}; one of numbers is needed"
            )
        sizes = described.shape[1:]
        return int(np.prod(sizes)) if all(isinstance(size, int) for size in sizes) else 0

    def array(self, name: str, arrays: Arrays) -> npt.NDArray[Any]:
        """Return the array of an item that is for an input; raise RecordError without one."""
        if len(self._inputs) == 1:
            return the_array(arrays)
        if name not in arrays:
            raise RecordError(
                f"{self._path} takes {', '.join(self._inputs)}; an item has {', '.join(arrays)}"
            )
        return arrays[name]

    def texts(self, name: str, texts: Sequence[str]) -> npt.NDArray[np.object_]:
        """Return a batch of texts for an input."""
        return np.array(texts, np.object_).reshape(-1, *[1] * (len(self._inputs[name].shape) - 1))

    def numbers(self, name: str, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return a batch of arrays for an input.

        Raises
        ------
        RecordError
            If one is of another type or shape than the input or the rest of the batch.
        """
        described = self._inputs[name]
        for array in arrays:
            if not _fits(array, described):
                raise RecordError(
                    f"input {name} of {self._path} is {described.type} of shape "
                    f"{described.shape[1:]}; an item has {array.dtype} of shape {list(array.shape)}"
                )
            if array.shape != arrays[0].shape:
                raise RecordError(
                    f"items of a batch have the shapes {arrays[0].shape} and {array.shape}; "
                    "`prepare` has to make them of one"
                )
        return np.stack(arrays).astype(_NUMBERS[described.type], copy=False)

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]], rows: Rows
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return outputs, ``(len(rows), width)`` each, for rows of the inputs.

        Raises
        ------
        RecordError
            If an output has another number of rows.
        """
        given = self._session.run(outputs, {name: each[rows] for name, each in inputs.items()})
        tables = {}
        for name, values in zip(outputs, given, strict=True):
            table = np.asarray(values, np.float32)
            if table.shape[:1] != (len(rows),):
                raise RecordError(
                    f"output {name} of {self._path} has shape {table.shape} for {len(rows)} items"
                )
            tables[name] = table.reshape(len(rows), -1)
        return tables


def _fits(array: npt.NDArray[Any], described: Any) -> bool:
    """Tell whether an array of one item is for an input; sizes that are no numbers may be any."""
    wanted = described.shape[1:]
    return (
        len(array.shape) == len(wanted)
        and np.can_cast(array.dtype, _NUMBERS[described.type], "same_kind")
        and all(
            size == asked or not isinstance(asked, int)
            for size, asked in zip(array.shape, wanted, strict=True)
        )
    )


def _opened(path: Path, device: str, threads: int) -> Any:
    try:
        opened = session(path, device=device, threads=threads)
    except Exception as error:  # whatever it finds in the file
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{path} cannot be loaded: {said}") from error
    if device == "cuda" and CUDA not in opened.get_providers():
        raise ConfigError(
            f"device is cuda, but onnxruntime has only {', '.join(opened.get_providers())} here; "
            "install onnxruntime-gpu in its place, or set the device to auto"
        )
    return opened
