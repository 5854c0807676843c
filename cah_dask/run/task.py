"""What a worker is told about one unit, and what it answers; the same for every job.

A task never raises to the scheduler: it returns a small record of what became of it, for the driver
to judge.
"""

import contextlib
import platform
import threading
import time
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import resolve_name

import msgspec

from cah_dask.counts import Counts
from cah_dask.errors import AlarmError, ConfigError, DamageError, RunError
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One unit as a worker gets it; what else it must know is added by each kind of job."""

    run_dir: str
    """Where the parts of the job lie."""
    unit: Unit
    config_hash: str
    """Of the settings that the unit's part depends on."""
    is_last_attempt: bool = False

    @property
    def part(self) -> Path:
        """Where the unit's part will lie."""
        return Path(self.run_dir) / self.unit.part

    def receipt(self, counts: Counts, started: float, **details: object) -> Receipt:
        """Return the receipt of this unit, finished now."""
        return Receipt(
            stage=self.unit.stage.name,
            unit=self.unit.name,
            config=self.config_hash,
            counts=counts,
            versions=versions(),
            seconds=round(time.perf_counter() - started, 3),
            **details,  # type: ignore[arg-type]  # inputs, side and so on: checked by Receipt's users
        )


class Done(msgspec.Struct, frozen=True):
    """The unit's part is committed, by this attempt or an earlier one."""

    receipt: Receipt
    seconds: float
    worker: str
    peak_mb: int = 0
    """Most memory that the worker process took meanwhile; 0 if the system does not tell."""


class Failed(msgspec.Struct, frozen=True):
    """The unit is not done. ``is_fatal`` faults, such as a full disk, stop the run.

    ``damaged`` is the path of a file that was found to be damaged.
    """

    message: str
    detail: str = ""
    is_fatal: bool = False
    worker: str = ""
    """Host and name of the worker, as in `Done`; empty if the task was lost with its workers."""
    damaged: str = ""
    is_alarm: bool = False
    """Whether the fault may be that of one node alone."""


def run_task(task: Task, worker: str) -> Done | Failed:
    """Do one unit here, by the function of its stage; `worker` is what this worker is called."""
    started = time.perf_counter()
    try:
        with _PEAKS.watched() as peak:
            receipt = resolve_name(task.unit.stage.task)(task)
    except DamageError as error:
        return Failed(str(error), is_fatal=True, worker=worker, damaged=str(error.path))
    except AlarmError as error:
        return Failed(str(error), is_fatal=True, is_alarm=True, worker=worker)
    except (RunError, ConfigError) as error:
        return Failed(str(error), is_fatal=True, worker=worker)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  # the one place: an unknown fault, native code's
        # too (Rust's panics are no Exceptions), costs an attempt
        message = f"{type(error).__name__}: {error}"
        return Failed(message, detail=traceback.format_exc(), worker=worker)
    return Done(receipt, time.perf_counter() - started, worker, peak.mb)


class Peak:
    """The most memory that this process took while a block was at work, once that has ended."""

    mb = 0


class Peaks:
    """Peaks of the memory of this process, whose blocks may overlap in several threads.

    Linux keeps one, which begins anew with each block (proc(5), clear_refs).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[Peak] = set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[Peak]:
        """Yield the peak of a block; it is 0 where the system does not tell."""
        peak = Peak()
        with self._lock:
            self._look()
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self._watched.add(peak)
        try:
            yield peak
        finally:
            with self._lock:
                self._look()
                self._watched.remove(peak)

    def _look(self) -> None:
        now = _peak_mb()
        for peak in self._watched:
            peak.mb = max(peak.mb, now)


def _peak_mb() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return 0


_PEAKS = Peaks()

_LIBRARIES = (
    *(
        "cah_dask",
        "ada-url",
        "aiohttp",
        "cld3-py",
        "cykooz-resizer",
        "fasttext-predict",
        "fastwarc",
    ),
    *("ftfy", "h5py"),
    *("numpy", "onnxruntime", "open_clip_torch", "pillow", "protego", "pyarrow", "resiliparse"),
    *("tokenizers", "torch", "transformers", "zarr"),
)


@cache
def versions() -> dict[str, str]:
    """Return the versions of everything that can change a result."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):  # CPU nodes may lack torch
            found[name] = version(name)
    return found
