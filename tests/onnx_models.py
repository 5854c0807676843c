"""Tiny models in ONNX's format, written byte by byte: the mean of each channel of a picture."""

from pathlib import Path

_FLOAT = 1


def write_channel_means(path: Path, *, side: int) -> Path:
    """Write a model that takes ``(n, 3, side, side)`` and gives ``(n, 3)``."""
    graph = (
        _message(1, _node("x", "pooled", "GlobalAveragePool"))
        + _message(1, _node("pooled", "y", "Flatten"))
        + _text(2, "means")
        + _message(11, _value("x", 3, side, side))
        + _message(12, _value("y", 3))
    )
    operators = _message(8, _text(1, "") + _number(2, 13))
    path.write_bytes(_number(1, 8) + operators + _message(7, graph))
    return path


def _node(source: str, target: str, operator: str) -> bytes:
    return _text(1, source) + _text(2, target) + _text(4, operator)


def _value(name: str, *sizes: int) -> bytes:
    batch = _message(1, _text(2, "n"))
    shape = batch + b"".join(_message(1, _number(1, size)) for size in sizes)
    return _text(1, name) + _message(2, _message(1, _number(1, _FLOAT) + _message(2, shape)))


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
