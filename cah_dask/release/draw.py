"""A draw among very many names, the same whatever their order: which lists a page is made from."""

import hashlib
import heapq

SEED = 0
"""That of reports."""


class Draw:
    """Some of many names, as a seed draws them, in its order: no other name changes theirs."""

    def __init__(self, seed: int, most: int) -> None:
        self._seed = seed
        self._most = most
        self._drawn: set[tuple[bytes, str]] = set()

    def add(self, name: str) -> None:
        """Put in a name; twice is the same as once."""
        self._drawn.add((lot(name.encode(), self._seed), name))
        if len(self._drawn) > 2 * self._most:
            self._drawn = set(heapq.nsmallest(self._most, self._drawn))

    @property
    def names(self) -> list[str]:
        """The names drawn from those put in so far."""
        return [name for _, name in heapq.nsmallest(self._most, self._drawn)]


def lot(name: bytes, seed: int) -> bytes:
    """Return what places a name in the order of a seed."""
    return hashlib.blake2b(name, digest_size=8, key=str(seed).encode()).digest()
