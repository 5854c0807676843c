"""What hooks did well, which tells hooks that are broken from records that are bad."""

import contextlib
from pathlib import Path

from cah_dask.storage import write_atomic


class Proof:
    """One record or item of a job for which its hooks work; known to all workers by a file.

    Parameters
    ----------
    path
        The file; without one, what is known is known here only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: bytes | None = None

    @property
    def is_mine(self) -> bool:
        """Whether something was added here, so that nothing has to be added any more."""
        return self._known is not None

    def add(self, data: bytes) -> None:
        """Learn for what the hooks work."""
        self._known = data
        if self._path is not None and not self._path.exists():
            write_atomic(self._path, data)

    def known(self) -> bytes | None:
        """Return for what they work, here or on any worker; None if they never did."""
        if self._known is None and self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._path.read_bytes()
        return self._known
