"""What of a job is done already: its parts, and whether what they need is still there."""

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cah_dask.errors import DamageError
from cah_dask.release.layout import part_path
from cah_dask.run.folder.compaction import REQUESTS_FOLDER, own_files
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.folder.journal import LastLines, key
from cah_dask.run.folder.listing import SHARD, Listing, files_under
from cah_dask.run.stages import DOWNLOAD, EMBED, Stage
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, read_receipt

logger = logging.getLogger(__name__)


class Existing:
    """Receipts of the parts that exist: from the journal where it has them, else from the parts.

    A part that a killed driver did not live to write down is added to the journal. A line without
    its part is voided before anything is done, and that is on the disk: so a line is never older
    than the part, however the driver dies that has the part made again.
    """

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self.listing = self._look()
        self._lines = LastLines(folder.journal_file)
        self._gone: set[tuple[str, str]] = set()  # since the listing
        self._variants = folder.variants()
        folder.void_lost(self._lines, self.listing)

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that is done, else None.

        With a part of a list that is gone go those made from it, as `JobFolder.set_aside` says.
        """
        if not self.has(unit):
            for later, name in self._made_from(unit):
                if self._is_there(later, name):
                    self.folder.move_aside(later, name)
                    self._gone.add((later.name, name))
            return None
        known = self.known(unit)
        if known is not None:
            return known
        receipt = self._read(unit)
        if receipt is not None:
            self.folder.commit(unit, Done(receipt, receipt.seconds or 0.0, ""))
        return receipt

    def _look(self) -> Listing:
        """List what there is of all stages."""
        return Listing(
            (stage.name, files_under(self.folder.path / stage.folder))
            for stage in self.folder.stages
            if stage.folder
        )

    def has(self, unit: Unit) -> bool:
        """Tell whether the unit's part is there."""
        return self._is_there(unit.stage, unit.name)

    def _made_from(self, unit: Unit) -> Iterator[tuple[Stage, str]]:
        return self.folder.made_from(unit.stage, unit.name, self._variants)

    def _is_there(self, stage: Stage, name: str) -> bool:
        return self.listing.has(stage.name, name) and (stage.name, name) not in self._gone

    def path_of(self, unit: Unit) -> Path:
        """Return where the unit's part is, if it is there."""
        return self.folder.path / unit.part

    def known(self, unit: Unit) -> Receipt | None:
        """Return what the journal says of a unit; None if it is not to be believed."""
        return self.folder.receipt_of(unit, self._lines)

    def drop(self, unit: Unit) -> None:
        """Have a damaged part made again."""
        made_from = ((stage.name, name) for stage, name in self._made_from(unit))
        self._gone |= {(unit.stage.name, unit.name), *made_from}
        self.folder.set_aside(unit.stage, unit.name)

    def drop_all(self, stage: Stage) -> None:
        """Have all parts of a stage made again."""
        shutil.rmtree(self.folder.path / stage.folder, ignore_errors=True)
        self.listing.forget(stage.name)
        self.folder.void_lost(self._lines, self.listing)

    def _read(self, unit: Unit) -> Receipt | None:
        """Read the receipt of a part; a damaged one is made again."""
        try:
            return read_receipt(self.path_of(unit))
        except DamageError as error:
            logger.warning("%s; it is made again", error)
        self.drop(unit)
        return None


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
