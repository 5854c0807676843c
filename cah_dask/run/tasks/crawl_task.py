"""What a worker is told about one unit of a crawl, and what its unit reads."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from cah_dask.groups import buckets_of
from cah_dask.release.layout import Slice
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, Stage
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.storage import read_part, read_receipt


class CrawlTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit of a crawl; its data lie in the run folder."""

    config: Config
    place: str = ""
    """Where the archive of the unit lies now."""
    inputs: tuple[str, ...] = ()
    late_waves: tuple[int, ...] = ()
    """Waves of the bucket whose late texts dedup makes lists of, the unit's own last."""
    release: str = ""
    """The unfinished release that pack writes to."""
    slices: tuple[Slice, ...] = ()
    lists_at_once: int = 1

    @property
    def folder(self) -> RunFolder:
        """The run folder as seen from this worker."""
        return RunFolder(Path(self.run_dir))

    def part_of(self, stage: Stage) -> Path:
        """Return the part of the same fetch list, or bucket, in another stage."""
        unit = self.unit
        return Path(self.run_dir) / Unit(stage, unit.wave, unit.bucket, unit.number).part

    @property
    def lists_part(self) -> str:
        """The dedup part that holds the unit's fetch list."""
        return Unit(DEDUP, self.unit.wave, self.unit.bucket).part

    def fetch_list(self, columns: list[str] | None = None) -> pa.Table:
        """Return the unit's fetch list, `schema.SAMPLES`, or some columns of it."""
        path = Path(self.run_dir) / self.lists_part
        return read_part(path, row_group=self.unit.number, columns=columns)

    def group_units(self) -> Iterator[Unit]:
        """Yield the units of the unit's bucket group: of each bucket dedup, then lists by stage."""
        wave = self.unit.wave
        for bucket in buckets_of(self.unit.number, self.config.dedup.buckets):
            dedup = Unit(DEDUP, wave, bucket)
            yield dedup
            notes = read_receipt(Path(self.run_dir) / dedup.part).counts.notes
            for stage, n_lists in (
                (DOWNLOAD, notes["lists"]),
                (EMBED, notes["lists"] + notes["late_lists"]),
            ):
                yield from (Unit(stage, wave, bucket, number) for number in range(n_lists))
