"""Hooks that misbehave, by what the body of a record says."""

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np


def read(record):
    word = record.body.decode()
    match word.partition(" ")[0]:
        case "raise":
            raise ValueError("no such thing")
        case "exit":
            sys.exit(3)
        case "loop":
            while True:
                pass
        case "stubborn":
            while True:
                try:
                    while True:
                        pass
                except BaseException:  # noqa: BLE001, S110
                    pass
        case "crash":
            ctypes.string_at(0)
        case "once":
            mark = Path(word.partition(" ")[2])
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), 9)
        case "print":
            print("words " * 10_000)
        case "none":
            return None
        case "number":
            return 7
        case "object":
            return np.array([object()])
    return word


class Scaled:
    def __init__(self, by: int = 1) -> None:
        self.by = by

    def __call__(self, item):
        return {"x": np.arange(len(item), dtype="i2") * self.by}


def one_more(item, more):
    return {"x": np.array([len(item) + more])}


def no_arguments():
    return None


def sleepy(record):
    time.sleep(record)
