"""What a user brings to classify records: `read`, `prepare`, a model and `keep`.

A hook is named `module:function` or `module:Class` in the config. A class is built once in each
process, with the arguments of the config; so is a model, with its device and threads besides.

A hook counts by what the source of the module that is named holds, that of the one that defines it,
and the files that its attribute `files` names: paths, relative ones to the folder of the latter, or
a static method that is given the arguments of the config and returns such paths.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cah_dask.archives.responses import Response

Item: TypeAlias = Any
"""What `read` makes of one record."""
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""What one item is for the model, by name; numbers or bools of any shape."""


class Scored(NamedTuple):
    """What a model gives for one batch."""

    scores: npt.NDArray[np.float32]
    """`(n, len(names))`, a row for each item."""
    vectors: npt.NDArray[np.float32] | None = None
    """`(n, dim)`; None if the model gives none."""
    notes: Mapping[str, int] = MappingProxyType({})
    """Counts of what a reader of the report should know, such as texts that were cut."""


class Read(Protocol):
    """Makes an item of a record: a picture, a text, anything that `prepare` knows.

    If an item has an attribute `payload`, a text or bytes, that is stored in place of the item
    where the payload is asked for.
    """

    def __call__(self, record: "Response") -> Item | None:
        """Return the item; None if the record is not wanted."""


class Prepare(Protocol):
    """Makes arrays of an item, on a worker of the cpu pool."""

    def __call__(self, item: Item) -> Arrays:
        """Return what the model is given of one item."""


class Model(Protocol):
    """Scores batches, on a worker of the gpu pool.

    A class: it is built once in a worker as `Class(device=..., threads=..., **arguments)`.
    """

    names: Sequence[str]
    """Of its scores."""
    dim: int
    """Of its vectors; 0 if it gives none."""

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        """Return the scores, and the vectors if any, of each item of a batch in its order."""


class Keep(Protocol):
    """Decides by its scores whether a record is kept."""

    def __call__(self, scores: Mapping[str, float]) -> bool:
        """Return whether a record with these scores is kept."""


def arrays_of(item: Item) -> Arrays:
    """Return the arrays of a text, of bytes or of an array: the default of `prepare`.

    Returns
    -------
    Mapping
        `text`, UTF-8 as uint8; or `data`, bytes as uint8 or the array itself.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(item, str):
        return {"text": np.frombuffer(item.encode("utf-8", "replace"), np.uint8)}
    if isinstance(item, bytes):
        return {"data": np.frombuffer(item, np.uint8)}
    if isinstance(item, np.ndarray):
        return {"data": item}
    kind = type(item).__name__
    raise TypeError(f"an item is a text, bytes or an array, not {kind}; name a hook `prepare`")
