"""Hooks that misbehave, by what the body of a record says."""

import contextlib
import ctypes
import os
import signal
import sys
from collections import UserDict
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


libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


def fork():
    os.fork()


def leave_one_behind(seconds: str):
    """End with a program, and a copy of this process, that live on and hold what they inherited."""
    os.system(f"sleep {seconds} &")
    if os.fork() == 0:
        signal.pause()
    os._exit(1)


def copied() -> str:
    """Return the numbers of this process, and of a copy of it that waits for nothing."""
    if (copy := os.fork()) == 0:
        signal.pause()
    return f"{os.getpid()} {copy}"


class UntoldError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing is told")


class Lazy(UserDict):
    """A mapping whose arrays cannot be made."""

    def __getitem__(self, name):
        raise OSError(f"{name} is gone")


def raises(error: BaseException):
    raise error


class Bytes(bytes):
    pass


DOES: dict[str, Any] = {
    "loop": loop,
    "stubborn": stubborn,
    "once": once,
    "exit": lambda: sys.exit(3),
    "crash": lambda: ctypes.string_at(0),
    "fork": fork,
    "much": lambda: len(bytearray(300 << 20)),
    "much_in_native_code": lambda: libc.memset(libc.malloc(300 << 20), 1, 300 << 20),
    "surrogate": lambda: raises(ValueError("half a \ud800 character")),
    "untold": lambda: raises(UntoldError()),
    "escape": lambda: sys.stdout.write("red \x1b[31m\n"),
    "leave": leave_one_behind,
    "print": lambda: sys.stdout.write("words " * 10_000),
}
GIVES = {"bytes": Bytes(b"of a class"), "none": None, "number": 7, "object": np.array([object()])}


def read(record):
    word, *arguments = record.body.decode().split()
    if word == "raise":
        raise ValueError("no such thing")
    if word in DOES:
        DOES[word](*arguments)
    if word == "copy":
        return copied()
    return GIVES.get(word, word)


def odd_arrays(item):
    x = np.zeros(3)
    odd = {"a": {"a": x}, "half": {"\ud800": x}, "lazy": Lazy(x=x), "empty": {}, "numbered": {3: x}}
    return odd[item]


class Dies:
    def __init__(self) -> None:
        sys.stderr.write("no library\x1b[31m here\n")
        os._exit(1)


class Exits:
    def __init__(self) -> None:
        sys.exit(3)


def printing(record):
    DOES["escape"]()
    return record.body


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
