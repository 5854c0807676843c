"""What of a run is done already: its parts, and whether what they need is still there."""

from collections.abc import Sequence
from pathlib import Path

from cah_dask.release.layout import part_path
from cah_dask.run.folder import Existing, JobFolder
from cah_dask.run.plan import Unit
from cah_dask.run.stages import DOWNLOAD, EMBED, PACK
from cah_dask.storage import Receipt, SideFile


class RunParts(Existing):
    """The parts of a run and of its release, and the image shards that belong to them."""

    def __init__(self, folder: JobFolder, unfinished_release: Path) -> None:
        super().__init__(folder)
        self._unfinished_release = unfinished_release
        self._shards: dict[str, set[str]] = {}
        for name in self.names:
            if name.endswith(".h5"):
                self._shards.setdefault(name.rpartition("-")[0], set()).add(name)

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
        folder, _, stem = unit.part.removesuffix(".parquet").rpartition("/")
        wanted = {f"{folder}/{file.name}" for file in side}
        for name in self._shards.pop(f"{folder}/{stem}", set()) - wanted:
            (self.folder.path / name).unlink(missing_ok=True)

    def _lacks_images(self, unit: Unit, receipt: Receipt) -> bool:
        """Whether images that are still to be embedded are gone: the list is downloaded again."""
        folder = unit.part.rpartition("/")[0]
        embedded = Unit(EMBED, unit.wave, unit.bucket, unit.number).part in self.names
        return not embedded and any(
            f"{folder}/{side.name}" not in self.names for side in receipt.side
        )
