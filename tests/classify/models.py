"""Models of numpy alone, and hooks around them."""

from pathlib import Path

import numpy as np

from cah_dask.classify.hooks import Scored
from tests import runs


class Lengths:
    """Scores a text by its length, and gives a vector of how often it has some letters."""

    names = ("length", "vowels")
    dim = 3

    def __init__(self, *, device: str, threads: int, by: float = 1.0) -> None:
        self.where = (device, threads)
        self.by = by

    def __call__(self, batch) -> Scored:
        texts = [bytes(item["text"]) for item in batch]
        if any(b"bad" in text for text in texts):
            raise ValueError("a bad text")
        scores = [
            [
                len(text) * self.by,
                float("nan") if b"nan" in text else sum(map(text.count, b"aeiou")),
            ]
            for text in texts
        ]
        vectors = [[text.count(letter) for letter in b"abc"] for text in texts]
        return Scored(
            np.array(scores, np.float32).reshape(-1, 2),
            np.array(vectors, np.float32).reshape(-1, 3),
        )


def vowels(text: bytes) -> float:
    """Count vowels; some texts have no number."""
    return float("nan") if b"nan" in text else sum(map(text.count, b"aeiou"))


class Wrong(Lengths):
    """Gives what the config says."""

    def __init__(self, *, gives: str, **where) -> None:
        super().__init__(**where)
        self.gives = gives

    def __call__(self, batch):
        n = len(batch)
        return {
            "none": None,
            "integers": Scored(np.zeros((n, 2), np.int32), np.zeros((n, 3), np.float32)),
            "flat": Scored(np.zeros(n, np.float32), np.zeros((n, 3), np.float32)),
            "no vectors": Scored(np.zeros((n, 2), np.float32)),
        }[self.gives]


def text(record):
    """Return the body as a text, unless it says that it is not wanted."""
    found = record.body.decode()
    return None if found.startswith("skip") else found


def long_enough(scores, least):
    """Keep by the length."""
    if scores["length"] == 7:
        raise ValueError("seven")
    return scores["length"] >= least


def nonsense(scores):
    """Give no bool."""
    return f"{len(scores)} scores"


class Waiting(Lengths):
    """Waits at its first batch until a file is there."""

    def __init__(self, *, file: str, **where) -> None:
        super().__init__(**where)
        self.file = file

    def __call__(self, batch) -> Scored:
        Path(f"{self.file}.asked").touch()
        if not runs.wait_for(Path(self.file).exists):
            raise RuntimeError("nobody made the file")
        return super().__call__(batch)


class NoCall:
    """Can be built, and not called."""

    def __init__(self, **where) -> None:
        self.where = where


class Named(Lengths):
    """Has the names that the config says."""

    def __init__(self, *, names, **where) -> None:
        super().__init__(**where)
        self.names = names


class Unbuildable(Lengths):
    """Can be imported, and not built."""

    def __init__(self, **where) -> None:
        super().__init__(**where)
        raise OSError("no library")


class Telling(Lengths):
    """Fails for some texts, and tells of its files then and in its notes."""

    def __init__(self, *, weights: list[str], **where) -> None:
        super().__init__(**where)
        self.file, *_ = weights

    def __call__(self, batch) -> Scored:
        if any(b"bad" in bytes(item["text"]) for item in batch):
            raise ValueError(f"cannot read {self.file}")
        return super().__call__(batch)._replace(notes={f"read {self.file}": len(batch)})


class Hanging(Lengths):
    """Never comes to an end with a text that says so."""

    def __call__(self, batch) -> Scored:
        while any(b"bad" in bytes(item["text"]) for item in batch):
            pass
        return super().__call__(batch)
