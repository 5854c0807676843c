"""The folder of a job, and the right to make its output: one job at a time has it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cah_dask.errors import ConfigError
from cah_dask.run.folder import lock
from cah_dask.run.folder.job_folder import LOCK_FILE, JobFolder
from cah_dask.run.stages import Stage


class OutputFolder(JobFolder):
    """The folder of a job that makes an output.

    Parameters
    ----------
    beside
        Folder beside the output, the same for all jobs that make it; it holds the lock.
    """

    def __init__(self, path: Path, stages: tuple[Stage, ...], beside: Path) -> None:
        super().__init__(path, stages)
        self._lock = beside / LOCK_FILE

    @contextlib.contextmanager
    def held(
        self,
        say: Callable[[str], None] = lambda _: None,
        begin: Callable[[], None] = lambda: None,
        *,
        option: str = "run_dir",
    ) -> Iterator[None]:
        """Be the one driver of this folder and of its output, as `JobFolder.held` says."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            self._lock.with_name(f"{LOCK_FILE}.flock").touch()
        except OSError as error:
            raise ConfigError(
                f"{self._lock.parent} cannot be written ({error.strerror}); set `to`"
            ) from error
        with lock.held(self._lock, say):
            try:
                with super().held(say, begin, option=option):
                    yield
            finally:
                self._unlock()

    def forget(self) -> None:
        """Delete it, once all is done, and the folders that it lies in if nothing else does."""
        super().forget()
        self._unlock()

    def _unlock(self) -> None:
        for name in (LOCK_FILE, f"{LOCK_FILE}.flock"):
            self._lock.with_name(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a job that is not done lies there
            self._lock.parent.rmdir()
