"""Predicates over numbers: scores, sizes of images, samples."""

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.pools.pool import Batch, Mask
from cah_dask.curate.pools.uids import keys_of
from cah_dask.curate.uid_hashes import is_drawn
from cah_dask.errors import ConfigError, InputError

WIDTH, HEIGHT = "original_width", "original_height"


class Limits(Predicate, frozen=True, kw_only=True):
    """A predicate that compares a number with limits, all of which must hold."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def require_valid(self) -> None:
        """Check that there is a limit."""
        if all(each is None for each in (self.above, self.at_least, self.below, self.at_most)):
            raise ConfigError("expected a limit: above, at_least, below or at_most")

    def holds(self, values: npt.NDArray[np.generic]) -> Mask:
        """Tell which values keep the limits; floating-point ones are compared in float32."""
        limit = np.float32 if values.dtype.kind == "f" else np.float64
        mask = np.ones(len(values), bool)
        if self.above is not None:
            mask &= values > limit(self.above)
        if self.at_least is not None:
            mask &= values >= limit(self.at_least)
        if self.below is not None:
            mask &= values < limit(self.below)
        if self.at_most is not None:
            mask &= values <= limit(self.at_most)
        return mask


def numbers(batch: Batch, column: str) -> npt.NDArray[np.generic]:
    """Return a column of numbers, of floating-point ones as float32.

    Raises
    ------
    InputError
        If it holds anything else.
    """
    kind = batch.table.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"{batch.part}: column {column} holds {kind}, not numbers")
    values: npt.NDArray[np.generic] = batch.table[column].to_numpy()
    return values.astype(np.float32) if values.dtype.kind == "f" else values


class Score(Limits, frozen=True, kw_only=True):
    """Whether a number of the row, such as a similarity, keeps limits."""

    column: str = "similarity"

    @property
    def columns(self) -> list[str]:
        """The column."""
        return [self.column]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002  # of `Predicate`
        """Return the comparison."""
        return lambda batch: self.holds(numbers(batch, self.column))


class _Size(Limits, frozen=True, kw_only=True):
    @property
    def columns(self) -> list[str]:
        """Width and height before any resizing."""
        return [WIDTH, HEIGHT]


class MinSide(_Size, frozen=True, kw_only=True):
    """Whether the shorter side of the image, in pixels, keeps limits."""

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the comparison."""
        return lambda batch: self.holds(np.minimum(numbers(batch, WIDTH), numbers(batch, HEIGHT)))


class MaxSide(_Size, frozen=True, kw_only=True):
    """Whether the longer side of the image, in pixels, keeps limits."""

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the comparison."""
        return lambda batch: self.holds(np.maximum(numbers(batch, WIDTH), numbers(batch, HEIGHT)))


class Aspect(_Size, frozen=True, kw_only=True):
    """Whether the longer side over the shorter one keeps limits."""

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the comparison; it is one of float64, as DataComp's."""

        def test(batch: Batch) -> Mask:
            sides = [numbers(batch, name).astype(np.float64) for name in (WIDTH, HEIGHT)]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.maximum(*sides) / np.minimum(*sides)
            mask = np.ones(len(batch), bool)
            for limit, compare in (
                (self.above, np.greater),
                (self.at_least, np.greater_equal),
                (self.below, np.less),
                (self.at_most, np.less_equal),
            ):
                if limit is not None:
                    mask &= compare(ratio, limit)
            return mask

        return test


class Sample(Predicate, frozen=True, kw_only=True):
    """A share of the pool by a hash of the uid: a smaller share is part of a larger one."""

    COST: ClassVar[int] = 2
    fraction: Annotated[float, msgspec.Meta(gt=0, le=1)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    """Another one draws another sample."""

    @property
    def columns(self) -> list[str]:
        """The uid."""
        return ["uid"]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the drawing."""

        def test(batch: Batch) -> Mask:
            return is_drawn(keys_of(batch.table["uid"], batch.part), self.fraction, self.seed)

        return test
