"""What a derived release was made of: `manifest.json`, one step for each time rows were chosen.

A step says what rows must hold to, as far as columns tell, so that it can be checked later. It
names no pair that is gone: whatever could tell one would tell it to everybody.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.release.layout import MANIFEST, Layout
from cah_dask.schema import Split


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a column of every pair holds to; of a split only, if it names one.

    Floating-point numbers are compared as float32, as filters do. A pair without a value does not
    hold to it.
    """

    column: str
    at_least: float | None = None
    at_most: float | None = None
    split: Split | None = None

    def __str__(self) -> str:
        bounds = [
            f"{word} {value!r}"
            for word, value in (("at least", self.at_least), ("at most", self.at_most))
            if value is not None
        ]
        of_split = f" of {self.split} texts" if self.split else ""
        return f"`{self.column}`{of_split} is {' and '.join(bounds)}"

    def fits(self, layout: Layout) -> bool:
        """Tell whether a release has such a column, and it holds numbers."""
        at = layout.schema.get_field_index(self.column)
        if at < 0:
            return False
        kind = layout.schema.types[at]
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))

    def is_broken(self, pairs: pa.Table) -> npt.NDArray[np.bool_]:
        """Tell of each pair whether it does not hold to it."""
        column = pairs[self.column]
        holds = column.is_valid().to_numpy()
        values = column.fill_null(0).to_numpy()
        kind = np.float32 if pa.types.is_floating(column.type) else np.float64
        if kind is np.float32:
            values = values.astype(kind)
            holds &= ~np.isnan(values)
        if self.at_least is not None:
            holds &= values >= kind(self.at_least)
        if self.at_most is not None:
            holds &= values <= kind(self.at_most)
        if self.split is not None:
            holds |= pc.not_equal(pairs["split"], self.split).to_numpy()
        is_broken: npt.NDArray[np.bool_] = ~holds
        return is_broken


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One time that rows were chosen."""

    how: str
    """The command, such as ``filter`` or ``redact``."""
    of: Literal["run", "release", "metadata"]
    fingerprint: str
    """Of the source: `Layout.fingerprint` of a release. Empty where rows of it were redacted and
    only guesses of these are needed to compute it."""
    rule: dict[str, Any]
    """By what rows were chosen, as plain JSON values, by no path of ours; empty of steps before
    rows were redacted."""
    counts: Counts
    """Rows of the source, those kept, and the others by reason."""
    limits: tuple[Limit, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All steps from the release or scored samples of a run, the last one last."""

    steps: tuple[Step, ...]

    @property
    def limits(self) -> list[Limit]:
        """What every pair must hold to."""
        return list(dict.fromkeys(limit for step in self.steps for limit in step.limits))

    def encoded(self) -> bytes:
        """Return it as the file holds it."""
        return msgspec.json.format(msgspec.json.encode(self))

    def faults(self, layout: Layout) -> Iterator[str]:
        """Yield what does not agree, as lines."""
        if not self.steps:
            yield f"{MANIFEST}: it has no step"
            return
        for number, step in enumerate(self.steps, 1):
            if not step.counts.is_balanced:
                yield f"{MANIFEST}: the counts of step {number} do not balance"
            if number > 1 and step.of != "release":
                yield f"{MANIFEST}: step {number} begins from a {step.of}, but another is before it"
        for number, (one, other) in enumerate(zip(self.steps, self.steps[1:], strict=False), 1):
            if one.counts.kept != other.counts.seen:
                yield (
                    f"{MANIFEST}: step {number} kept {one.counts.kept} rows, "
                    f"the next one saw {other.counts.seen}"
                )
        if self.steps[-1].counts.kept != layout.rows:
            yield (
                f"{MANIFEST}: it promises {self.steps[-1].counts.kept} rows, the layout "
                f"{layout.rows}"
            )
        for limit in self.limits:
            if not limit.fits(layout):
                yield f"{MANIFEST}: it limits `{limit.column}`, which is no column of numbers"


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of the release in `folder`, or None where none can be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    return None


def steps_before(source: Path) -> Sequence[Step]:
    """Return the steps that led to a source; none if it is a run or the release of one."""
    manifest = read_manifest(source)
    return () if manifest is None else manifest.steps


def redacted(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield steps, the last of which redacts, so that none tells a row which that left out.

    Rules may name rows. The fingerprint of a derived release can be computed by who knows its rows
    but one and guesses that; in those of a run and of metadata there is more that is not known.
    """
    for number, step in enumerate(steps, 1):
        yield msgspec.structs.replace(
            step,
            fingerprint=step.fingerprint if number == 1 else "",
            rule=step.rule if number == len(steps) else {},
        )


def checksum_of(manifest: Manifest) -> str:
    """Return what `Layout.manifest` says of it."""
    return hashlib.sha256(manifest.encoded()).hexdigest()


def manifest_faults(folder: Path, layout: Layout) -> list[str]:
    """Return what is wrong with the manifest of a release, as lines."""
    path = folder / MANIFEST
    if not layout.manifest or not path.is_file():
        return []  # strangers and lost files are told by `check.stray_files`
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"{MANIFEST}: it cannot be read"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != layout.manifest:
        return [f"{MANIFEST}: it is not the one that the layout names"]
    return list(manifest.faults(layout))
