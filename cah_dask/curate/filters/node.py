"""What a predicate is, and how predicates are joined: `all`, `any`, `not`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import msgspec
import numpy as np

from cah_dask.curate.pools.pool import Batch, Mask
from cah_dask.curate.texts.assets import Asset
from cah_dask.errors import ConfigError

Test: TypeAlias = Callable[[Batch], Mask]
"""Tells of each row of a batch whether it is kept."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What predicates need beside their batch."""

    assets: Mapping[str, tuple[Asset, Path]] = field(default_factory=dict)
    """What files must be, and where they lie, by the names that a filter gives them."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What whole-pool nodes were resolved to: by their key, and by group."""


class Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A leaf of a filter; its fields are the keys that YAML may have."""

    COST: ClassVar[int] = 1
    """Rank of the time that a row takes, from cheap to dear; the cheaper is asked first."""

    @property
    def cost(self) -> int:
        """The same, where it depends on what is asked."""
        return self.COST

    @property
    def columns(self) -> list[str]:
        """Columns that it looks at, in which no cell may be empty."""
        return []

    @property
    def sparse_columns(self) -> list[str]:
        """Columns that it looks at, in which an empty cell just does not match."""
        return []

    @property
    def vectors(self) -> list[str]:
        """Arrays that it looks at, such as ``l14/image``."""
        return []

    @property
    def assets(self) -> list[str]:
        """Names of the assets that it needs."""
        return []

    @property
    def detectors(self) -> list[str]:
        """What it finds labels with, with versions, for manifests."""
        return []

    @property
    def files(self) -> list[str]:
        """Lists that it reads, which tell one filter from another by what they hold."""
        return []

    def require_valid(self) -> None:
        """Check what its types cannot say.

        Raises
        ------
        ConfigError
            Without the name of the predicate.
        """

    def test(self, tools: Tools) -> Test:
        """Load what it needs, once, and return what tells rows from rows."""
        raise NotImplementedError


class Node(Protocol):
    """A predicate, or others joined."""

    @property
    def cost(self) -> int:
        """Rank of its dearest predicate."""

    def leaves(self) -> Iterator[Predicate]:
        """Yield its predicates."""

    def test(self, tools: Tools) -> Test:
        """Return what tells rows from rows."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A predicate as a node."""

    predicate: Predicate

    @property
    def cost(self) -> int:
        """Rank of the predicate."""
        return self.predicate.cost

    def leaves(self) -> Iterator[Predicate]:
        """Yield the predicate."""
        yield self.predicate

    def test(self, tools: Tools) -> Test:
        """Return its test."""
        return self.predicate.test(tools)


@dataclass(frozen=True, slots=True)
class Joined:
    """Nodes of which all must hold, or any: the cheap ones are asked first."""

    nodes: tuple[Node, ...]
    is_all: bool

    @property
    def cost(self) -> int:
        """Rank of the dearest node."""
        return max((node.cost for node in self.nodes), default=0)

    def leaves(self) -> Iterator[Predicate]:
        """Yield the predicates of all nodes."""
        for node in self.nodes:
            yield from node.leaves()

    def test(self, tools: Tools) -> Test:
        """Return a test that asks a node only for the rows that are still open."""
        tests = [node.test(tools) for node in by_cost(self.nodes)]

        def test(batch: Batch) -> Mask:
            is_open = np.ones(len(batch), bool)
            for each in tests:
                if not is_open.any():
                    break
                found = each(batch.where(is_open))
                is_open[is_open] = found if self.is_all else ~found
            return is_open if self.is_all else ~is_open

        return test


@dataclass(frozen=True, slots=True)
class Negated:
    """A node that must not hold."""

    node: Node

    @property
    def cost(self) -> int:
        """Rank of the node."""
        return self.node.cost

    def leaves(self) -> Iterator[Predicate]:
        """Yield the predicates of the node."""
        yield from self.node.leaves()

    def test(self, tools: Tools) -> Test:
        """Return the opposite test."""
        test = self.node.test(tools)
        return lambda batch: ~test(batch)


def by_cost(nodes: tuple[Node, ...]) -> list[Node]:
    """Return nodes from cheap to dear, equal ones in their order."""
    return sorted(nodes, key=lambda node: node.cost)


def parse(tree: Any, predicates: Mapping[str, type[Predicate]], where: str) -> Node:
    """Read a node: a mapping with one key, ``all``, ``any``, ``not`` or the name of a predicate.

    Parameters
    ----------
    where
        Of what it is part, for messages, such as ``keep.all[2]``.

    Raises
    ------
    ConfigError
        In one line: what was found, what is accepted.
    """
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ConfigError(f"{where}: expected one predicate, such as `chars: {{above: 5}}`")
    ((name, value),) = tree.items()
    where = f"{where}.{name}"
    if name in ("all", "any"):
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list of predicates")
        nodes = [parse(node, predicates, f"{where}[{at}]") for at, node in enumerate(value)]
        return Joined(tuple(nodes), is_all=name == "all")
    if name == "not":
        return Negated(parse(value, predicates, where))
    if name not in predicates:
        known = ", ".join(["all", "any", "not", *sorted(predicates)])
        raise ConfigError(f"{where}: there is no predicate {name}; there are {known}")
    return Leaf(_predicate(predicates[name], value, where))


def _predicate(kind: type[Predicate], value: Any, where: str) -> Predicate:
    accepted = kind.__struct_encode_fields__
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping of {', '.join(accepted)}")
    if unknown := [key for key in value if key not in accepted]:
        raise ConfigError(f"{where}: unknown key {unknown[0]}; there are {', '.join(accepted)}")
    try:
        made = msgspec.convert(value, kind)
        made.require_valid()
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return made
