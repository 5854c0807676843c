"""A unit of work, and the name of what it leaves behind.

The name says what it works on (archive, wave + bucket + number), never who does it, so the number
of workers changes nothing.
"""

import hashlib
from functools import cached_property
from pathlib import PurePosixPath

import msgspec

from cah_dask.groups import group_name
from cah_dask.run.stages import Kind, Stage


class Unit(msgspec.Struct, frozen=True, dict=True):
    """One task's worth of work and the name of what it will leave behind."""

    stage: Stage
    wave: int = 0
    bucket: int = 0
    number: int = 0
    """Of the list in its bucket, the group in its wave, the shard in the release."""
    archive: str = ""
    variant: str = ""
    """Hash of the settings that may change from release to release, for stages that have any."""

    @cached_property
    def name(self) -> str:
        """Stable name within its stage, such as ``w00000/b00003-l00000``."""
        match self.stage.kind:
            case Kind.ARCHIVE:
                name = f"w{self.wave:05d}/{slug(self.archive)}"
            case Kind.BUCKET:
                name = f"w{self.wave:05d}/b{self.bucket:05d}"
            case Kind.LIST:
                name = f"w{self.wave:05d}/b{self.bucket:05d}-l{self.number:05d}"
            case Kind.GROUP:
                name = group_name(self.wave, self.number)
            case Kind.SHARD:
                name = f"part-{self.number:05d}"
        return f"{self.variant}/{name}" if self.variant else name

    @property
    def part(self) -> str:
        """Path of its part, relative to the run folder (not for pack: see `release.layout`)."""
        return f"{self.stage.folder}/{self.name}.parquet"


_SLUG_BYTES = 80  # file systems take 255 bytes, and names of temporaries are longer


def slug(archive: str) -> str:
    """Return what the part of an archive is called: like its file, and a hash of its name."""
    digest = hashlib.sha256(archive.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = PurePosixPath(archive).name
    for suffix in (".gz", ".wat", ".warc"):
        name = name.removesuffix(suffix)
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return f"{plain.encode()[:_SLUG_BYTES].decode(errors='ignore')}-{digest}"
