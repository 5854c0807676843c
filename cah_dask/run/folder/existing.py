"""What of a run is done already: its parts, and whether what they need is still there."""

from collections.abc import Sequence
from pathlib import Path

from cah_dask.release.layout import part_path
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.folder.listing import SHARD
from cah_dask.run.plan import Unit
from cah_dask.run.stages import DOWNLOAD, EMBED, PACK
from cah_dask.storage import Receipt, SideFile


class RunParts(Existing):
    """The parts of a run and of its release, and the image shards that belong to them."""

    def __init__(self, folder: JobFolder, unfinished_release: Path) -> None:
        super().__init__(folder)
        self._unfinished_release = unfinished_release

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that is done, else None."""
        receipt = super().__call__(unit)
        if unit.stage != DOWNLOAD:
            return receipt
        if receipt is not None and self._lacks_images(unit, receipt):
            self.folder.void(unit.stage.name, unit.name)
            (self.folder.path / unit.part).unlink()
            receipt = None
        self._drop_orphans(unit, receipt.side if receipt is not None else ())
        return receipt

    def path_of(self, unit: Unit) -> Path | None:
        """Return where the unit's part is, or None where it is not."""
        if unit.stage == PACK:
            path = part_path(self._unfinished_release, unit.number)
            return path if path.exists() else None
        return super().path_of(unit)

    def known(self, unit: Unit) -> Receipt | None:
        """Return what the journal says; an older release may have had the same part as this one."""
        return None if unit.stage == PACK else super().known(unit)

    def drop(self, unit: Unit, path: Path) -> None:
        """Have a damaged part made again."""
        if unit.stage == PACK:
            path.unlink()
        else:
            super().drop(unit, path)

    def _drop_orphans(self, unit: Unit, side: Sequence[SideFile]) -> None:
        """Delete image shards of attempts that died before their part was published."""
        folder, _, stem = unit.name.rpartition("/")
        wanted = {file.name for file in side}
        names = [f"{folder}/{name}" for name in wanted]
        if self.listing.has_shards_but(unit.stage.name, unit.name, names):
            for path in (self.folder.path / unit.part).parent.glob(f"{stem}-*{SHARD}"):
                if path.name not in wanted:
                    path.unlink(missing_ok=True)

    def _lacks_images(self, unit: Unit, receipt: Receipt) -> bool:
        """Whether images that are still to be embedded are gone: the list is downloaded again."""
        if self.listing.has(EMBED.name, unit.name):
            return False
        folder = unit.name.rpartition("/")[0]
        return not all(
            self.listing.has(unit.stage.name, f"{folder}/{side.name}") for side in receipt.side
        )
