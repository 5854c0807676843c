"""Files in which a model in ONNX's format keeps weights outside itself, without the package onnx.

The numbers are those of the fields in onnx.proto, which is protobuf.
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cah_dask.errors import ConfigError

_WITHIN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
"""By message, and by the number of a field: the message there that may tell of such a file."""
_KEY, _VALUE = 1, 2


def weight_files(path: Path) -> list[Path]:
    """Return the files of weights that a model names, each once; what is no model names none.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        names = dict.fromkeys(_locations(data, "model", 0, len(data)))
    found = [path.parent / name for name in names]
    for each in found:
        if not each.is_file():
            raise ConfigError(f"{path} keeps weights in {each}, which is no file")
    return found


def _locations(data: mmap.mmap, message: str, start: int, stop: int) -> Iterator[str]:
    if message == "external":
        entry = {number: data[a:b] for number, a, b in _fields(data, start, stop)}
        if entry.get(_KEY) == b"location":
            yield os.fsdecode(entry.get(_VALUE, b""))
        return
    for number, a, b in _fields(data, start, stop):
        if within := _WITHIN[message].get(number):
            yield from _locations(data, within, a, b)


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields that have a length, as far as they are sound."""
    while start < stop:
        tag, start = _number(data, start, stop)
        size = 0
        match tag & 7:
            case 0:
                _, start = _number(data, start, stop)
            case 1:
                size = 8
            case 2:
                size, start = _number(data, start, stop)
            case 5:
                size = 4
            case _:
                return
        if start + size > stop:
            return
        if tag & 7 == 2:
            yield tag >> 3, start, start + size
        start += size


def _number(data: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    """Return a number in seven bits a byte, and where it ends: beyond `stop` if it is cut off."""
    found = shift = 0
    while start < stop:
        byte = data[start]
        start += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, start
        shift += 7
    return 0, stop + 1
