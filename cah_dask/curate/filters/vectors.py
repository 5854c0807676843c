"""Predicates over stored vectors."""

from typing import ClassVar, cast

from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.texts.assets import require
from cah_dask.curate.vectors.centroids import Index, is_near, load_array, load_centroids


class NearestCentroid(Predicate, frozen=True, kw_only=True):
    """Whether the centroid with the largest inner product with a vector is one of some."""

    COST: ClassVar[int] = 500
    array: str = "l14/image"
    """The vectors: ``ENCODER/image`` or ``ENCODER/text``."""
    centroids: str = "centroids"
    """The asset, a ``.npy`` of ``(k, dim)``."""
    targets: str = "targets"
    """The asset that lists the wanted centroids by their indices, a ``.npy`` of integers."""

    @property
    def vectors(self) -> list[str]:
        """The array."""
        return [self.array]

    @property
    def assets(self) -> list[str]:
        """Centroids and targets."""
        return [self.centroids, self.targets]

    def test(self, tools: Tools) -> Test:
        """Return the search."""
        centroids, targets = (require(*tools.assets[name]) for name in self.assets)
        known, wanted = load_centroids(centroids), cast("Index", load_array(targets))
        return lambda batch: is_near(batch.vectors[self.array], known, wanted)
