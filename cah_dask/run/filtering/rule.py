"""By what rows were chosen, as manifests say it: plain JSON values, by no path of ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cah_dask.curate.filters.file import made_from
from cah_dask.curate.filters.node import Leaf, Predicate
from cah_dask.curate.filters.numbers import Score
from cah_dask.curate.filters.whole import ALL, TopFraction
from cah_dask.release.manifest import Limit
from cah_dask.schema import SPLITS, similarity_of

if TYPE_CHECKING:
    from cah_dask.run.filtering.job import FilterJob


class Threshold(msgspec.Struct, frozen=True):
    """What a whole-pool node was resolved to."""

    node: dict[str, Any]
    group: str
    """Empty where there is one group only."""
    threshold: float
    float32: str
    """Its bits, hex."""


def asked_of(job: "FilterJob") -> dict[str, Any]:
    """Return the filter of a job, with checksums of what it reads beside the pool."""
    made = made_from(job.file)
    return {
        **_without_folders(msgspec.json.decode(made.source)),
        "order": [rule.name for rule in made.rules],
        "lists": [[Path(name).name, digest] for name, digest in job.lists.items()],
        "assets": job.assets,
        "columns": dict(job.columns),
        "detectors": sorted({name for leaf in made.leaves() for name in leaf.detectors}),
    }


def rule_of(job: "FilterJob") -> dict[str, Any]:
    """Return the same with the thresholds that were found, once they are."""
    return {**asked_of(job), "thresholds": msgspec.to_builtins(_thresholds(job))}


def _thresholds(job: "FilterJob") -> list[Threshold]:
    return [
        Threshold(msgspec.json.decode(key), group, value, np.float32(value).tobytes()[::-1].hex())
        for key, groups in sorted(job.thresholds.items())
        for group, value in sorted(groups.items())
    ]


def _without_folders(tree: Any) -> Any:
    """Return a filter in which lists go by their names alone."""
    if isinstance(tree, dict):
        return {
            key: Path(value).name
            if key in ("file", "folder") and isinstance(value, str)
            else _without_folders(value)
            for key, value in tree.items()
        }
    return [_without_folders(value) for value in tree] if isinstance(tree, list) else tree


def limits_of(job: "FilterJob") -> Iterator[Limit]:
    """Yield what every kept row holds to, as far as a comparison of one column tells."""
    for rule in made_from(job.file).rules:
        if isinstance(rule.node, Leaf):
            yield from _limits(rule.node.predicate, job)


def _limits(predicate: Predicate, job: "FilterJob") -> Iterator[Limit]:
    if isinstance(predicate, Score):
        if predicate.at_least is not None or predicate.at_most is not None:
            column = _released(predicate.column, job)
            yield Limit(column=column, at_least=predicate.at_least, at_most=predicate.at_most)
    elif isinstance(predicate, TopFraction) and predicate.by in (None, "split"):
        for group, threshold in sorted(job.thresholds[predicate.key].items()):
            split = next((each for each in SPLITS if each == group), None)
            if group == ALL or split is not None:
                column = _released(predicate.column, job)
                yield Limit(column=column, at_least=threshold, split=split)


def _released(column: str, job: "FilterJob") -> str:
    """Return what a release calls a column: of one encoder, the similarity has one name only."""
    layout = job.derivation.layout if job.derivation else None
    if layout and len(layout.encoders) == 1 and column == similarity_of(layout.encoder):
        return "similarity"
    return column
