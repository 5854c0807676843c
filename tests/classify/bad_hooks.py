"""Hooks that misbehave, by what the body of a record says."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def loop():
    while True:
        pass


def stubborn():
    while True:
        with contextlib.suppress(BaseException):
            loop()


def once(mark: str):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), 9)


DOES: dict[str, Any] = {
    "loop": loop,
    "stubborn": stubborn,
    "once": once,
    "exit": lambda: sys.exit(3),
    "crash": lambda: ctypes.string_at(0),
    "print": lambda: sys.stdout.write("words " * 10_000),
}
GIVES = {"none": None, "number": 7, "object": np.array([object()])}


def read(record):
    word, *arguments = record.body.decode().split()
    if word == "raise":
        raise ValueError("no such thing")
    if word in DOES:
        DOES[word](*arguments)
    return GIVES.get(word, word)


class Scaled:
    def __init__(self, by: int = 1) -> None:
        self.by = by

    def __call__(self, item):
        return {"x": np.arange(len(item), dtype="i2") * self.by}


def one_more(item, more):
    return {"x": np.array([len(item) + more])}


def no_arguments():
    return None


def broken(record):
    raise OSError(f"no library for {record.url}")
