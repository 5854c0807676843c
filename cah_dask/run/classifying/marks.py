"""Marks of the archives that a worker's model is at work on: one that stays tells that it ended.

A model may end its process in ways of which nothing in that process can tell: a crash, an exit,
the memory of its node. A worker may be ended from outside, too.
"""

import shutil
import uuid
from pathlib import Path

from cah_dask.errors import RetryableError
from cah_dask.run.task import Task

FOLDER = "at-work"

_FOR_REASON = 2
_AT_ALL = 3
"""Workers that an archive may cost, for a reason that is known or at all: then it is given up."""


class Mark:
    """That of one attempt at one archive."""

    def __init__(self, task: Task) -> None:
        self._folder = Path(task.run_dir) / FOLDER
        self._name = task.part.stem
        self._archive = task.unit.archive
        self._path = self._folder / f"{self._name}.{uuid.uuid4().hex[:8]}"
        self._is_set = False

    def set(self) -> None:
        """Tell that the model is at work from now on."""
        if not self._is_set:
            self._is_set = True
            self.tell("")

    def tell(self, why: str) -> None:
        """Tell why this process ends now."""
        self._folder.mkdir(exist_ok=True)
        self._path.write_text(why, encoding="utf-8", errors="replace")

    def remove(self) -> None:
        """Tell that the model came to the end of the archive."""
        self._path.unlink(missing_ok=True)

    def require_few(self) -> None:
        """Raise RetryableError if this archive has cost too many workers."""
        found = [path.read_text(encoding="utf-8") for path in self._folder.glob(f"{self._name}.*")]
        reasons = [reason for reason in found if reason]
        if len(reasons) >= _FOR_REASON or len(found) >= _AT_ALL:
            why = reasons[0] if reasons else "their process died without a word"
            raise RetryableError(
                f"{len(found)} workers ended while the model was at work on {self._archive}: {why}"
            )


def forget_all(run_dir: Path) -> None:
    """Forget what earlier drivers of a job saw."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
