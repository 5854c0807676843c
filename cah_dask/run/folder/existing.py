"""What of a run is done already: its parts, and whether what they need is still there."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cah_dask.release.layout import part_path
from cah_dask.run.folder.compaction import REQUESTS_FOLDER, own_files
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.folder.journal import key
from cah_dask.run.folder.listing import SHARD, Listing
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt


class WithRelease(Existing):
    """The parts of a job and of the release that it makes, whose stage has no folder of its own."""

    def __init__(self, folder: JobFolder, unfinished_release: Path) -> None:
        super().__init__(folder)
        self._unfinished_release = unfinished_release

    def has(self, unit: Unit) -> bool:
        """Tell whether the unit's part is there."""
        return super().has(unit) if unit.stage.folder else self.path_of(unit).exists()

    def path_of(self, unit: Unit) -> Path:
        """Return where the unit's part is, if it is there."""
        if unit.stage.folder:
            return super().path_of(unit)
        return part_path(self._unfinished_release, unit.number)

    def known(self, unit: Unit) -> Receipt | None:
        """Return what the journal says; an older release may have had the same part as this one."""
        return super().known(unit) if unit.stage.folder else None

    def drop(self, unit: Unit) -> None:
        """Have a damaged part made again."""
        if unit.stage.folder:
            super().drop(unit)
        else:
            self.path_of(unit).unlink()


class RunParts(WithRelease):
    """The parts of a run and of its release, and the image shards that belong to them.

    Parameters
    ----------
    compacted
        All compacted parts, by their stage; logs by `REQUESTS_FOLDER`.
    """

    def __init__(
        self,
        folder: JobFolder,
        unfinished_release: Path,
        compacted: Listing,
        *,
        keep_images: bool = True,
    ) -> None:
        self._compacted = compacted
        super().__init__(folder, unfinished_release)
        self._keep_images = keep_images

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that is done, else None."""
        receipt = super().__call__(unit)
        name = unit.name
        if unit.stage == EMBED and receipt is not None and not self._keep_images:
            self._drop_images(unit)
        if unit.stage != DOWNLOAD:
            return receipt
        folder = name.rpartition("/")[0]
        sides = receipt.side if receipt is not None else ()
        wanted = {key(DOWNLOAD.name, f"{folder}/{side.name}") for side in sides}
        shards = self.listing.shards(DOWNLOAD.name, name)
        if receipt is not None and not wanted <= shards and not self._is_there(EMBED, name):
            # images that are still to be embedded are gone: the list is downloaded again
            self.folder.void(DOWNLOAD.name, name)
            self.path_of(unit).unlink()
            receipt = None
        if shards - wanted or (receipt is None and shards):
            self._drop_orphans(self.path_of(unit), receipt)
        return receipt

    def _look(self) -> Listing:
        """List what there is, compacted or not; what compacting left is deleted."""
        for _ in self._own_files(REQUESTS_FOLDER, REQUESTS_FOLDER):
            pass
        own = (
            (stage.name, self._own_files(stage.name, stage.folder))
            for stage in self.folder.stages
            if stage.folder
        )
        return Listing(own, self._compacted)

    def _own_files(self, stage: str, folder: str) -> Iterator[str]:
        return own_files(self.folder.path, folder, partial(self._compacted.has, stage))

    def _drop_images(self, unit: Unit) -> None:
        """Delete the images of an embedded list that a killed driver did not live to delete."""
        if self.listing.shards(DOWNLOAD.name, unit.name):
            part = self.folder.path / Unit(DOWNLOAD, unit.wave, unit.bucket, unit.number).part
            self._drop_orphans(part, None)

    def _drop_orphans(self, part: Path, receipt: Receipt | None) -> None:
        """Delete image shards of attempts that died before their part was published."""
        wanted = {side.name for side in receipt.side} if receipt else set()
        for path in part.parent.glob(f"{part.stem}-*{SHARD}"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)
