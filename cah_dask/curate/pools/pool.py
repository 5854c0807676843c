"""The pool as filters see it: files, columns by our names, vectors, and batches of both."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BATCH_ROWS = 1 << 16
"""Rows of a batch without vectors."""
VECTOR_ROWS = 1 << 13
"""Rows of a batch with vectors: 13 MB of an array of 768 dimensions in float16."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Vectors: TypeAlias = npt.NDArray[np.floating]
"""``(n, dim)``, float16 or float32."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one part of a pool, some of their columns and some of their vectors."""

    part: str
    """Path of the file, relative to the pool; for a run the path that the part was published
    under."""
    rows: npt.NDArray[np.int64]
    """Their numbers in the part."""
    table: pa.Table
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """By ``ENCODER/image`` and ``ENCODER/text``."""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: Mask) -> "Batch":
        """Return the rows that a mask chooses."""
        if mask.all():
            return self
        vectors = {name: each[mask] for name, each in self.vectors.items()}
        return Batch(self.part, self.rows[mask], self.table.filter(pa.array(mask)), vectors)


class Pool(Protocol):
    """Pairs in numbered units: a file each, or the lists of a bucket group of a run."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def kind(self) -> str:
        """What it is, in a word or two."""

    @property
    def units(self) -> Sequence[str]:
        """Name of each unit, in order."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns, by our names."""

    @property
    def vectors(self) -> Mapping[str, int]:
        """Length of the vectors by ``ENCODER/image`` and ``ENCODER/text``."""

    @property
    def most_rows(self) -> int:
        """Rows that it has at most."""

    @property
    def fingerprint(self) -> str:
        """What tells its rows from those of other pools, hex."""

    def stamp(self, number: int) -> str:
        """Return what tells a unit from what it was before, or from another one, at a glance."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know, such as files that are none of it."""

    def batches(
        self, number: int, columns: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Yield the rows of a unit in order, with some of their columns and vectors.

        Parameters
        ----------
        columns
            At least one.

        Raises
        ------
        InputError
            If a file is not what the pool promised.
        """


def fingerprint_of(files: Iterable[tuple[str, bytes | int]]) -> str:
    """Return a hash of names and of what tells the content of each from another."""
    digest = hashlib.sha256()
    for name, what in files:
        digest.update(f"{name}\0{what!r}\0".encode())
    return digest.hexdigest()
