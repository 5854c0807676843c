"""Zero-shot scores: which prompts of a set a picture is nearest to, by the vectors of a CLIP.

A set is a YAML file of labels and their prompts. What a prompt means is said by its label, never by
its place in a list, so sets may be sorted and extended freely. crawling@home drew the border of its
categories at index 19 of a list that a forgotten comma had made one shorter, and so took its first
pornographic category for a safe one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.towers import Embeddings, TextTower
from cah_dask.pairs.scores.files import Shelf
from cah_dask.pairs.scores.numbers import Scores, softmax
from cah_dask.pairs.scores.options import PromptsOptions

SHELF = Shelf("prompts", ".yaml")
"""The sets of the package."""


def read_prompts(path: Path) -> dict[str, list[str]]:
    """Read a set of prompts.

    Returns
    -------
    dict
        Label -> prompts, both sorted, so that the order in the file counts for nothing.

    Raises
    ------
    ConfigError
        If it is no such set, holds a prompt twice, or a prompt that goes over several lines: YAML
        would silently join two prompts where a dash is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    prompts = as_prompts(str(path), tree)
    _require_whole_lines(path, yaml.compose(text, yaml.SafeLoader))
    return prompts


def as_prompts(name: str, tree: Any) -> dict[str, list[str]]:
    """Check a set of prompts, which `name` stands for in errors; return it as `read_prompts`.

    Raises
    ------
    ConfigError
        If it is no such set, or holds a prompt twice.
    """
    if not _is_set(tree):
        raise ConfigError(
            f"{name} is no set of prompts; it needs two labels or more, each with a list of prompts"
        )
    seen: set[str] = set()
    for prompt in (prompt for prompts in tree.values() for prompt in prompts):
        if prompt.casefold() in seen:
            raise ConfigError(f"{name} has the prompt {prompt!r} twice; leave one of them out")
        seen.add(prompt.casefold())
    return {label: sorted(tree[label]) for label in sorted(tree)}


def _is_set(tree: object) -> bool:
    return (
        isinstance(tree, dict)
        and len(tree) >= 2
        and all(isinstance(label, str) for label in tree)
        and all(isinstance(prompts, list) and prompts for prompts in tree.values())
        and all(isinstance(p, str) and p.strip() for prompts in tree.values() for p in prompts)
    )


def _require_whole_lines(path: Path, tree: Any) -> None:
    for _, prompts in tree.value:
        for prompt in prompts.value:
            first, last = prompt.start_mark.line, prompt.end_mark.line
            if first != last:
                raise ConfigError(
                    f"{path}, line {first + 1}: a prompt goes over several lines; is a dash "
                    "missing before the next one?"
                )


def require_label(option: str, label: str, prompts: dict[str, list[str]]) -> None:
    """Raise ConfigError if a set has no such label."""
    if label not in prompts:
        raise ConfigError(f"{option}: the set has no label {label}; it has {', '.join(prompts)}")


class PromptScorer:
    """Gives image vectors a score by the prompts of a set that they are nearest to."""

    def __init__(
        self, options: PromptsOptions, prompts: dict[str, list[str]], tower: TextTower
    ) -> None:
        self._options = options
        self._has_label = np.array(
            [label == options.label for label, each in prompts.items() for _ in each]
        )
        self._prompts = tower.encode_texts([p for each in prompts.values() for p in each]).vectors

    def score(self, images: Embeddings) -> Scores:
        """Return one score for each image vector.

        Parameters
        ----------
        images
            ``(n, dim)`` float32, rows L2-normalised.

        Returns
        -------
        ndarray
            ``(n,)`` float32: the softmax of all prompts, summed over those of the label; or, with
            `top`, how many of so many nearest prompts have the label.
        """
        cosines = images @ self._prompts.T
        if self._options.top is not None:
            nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : self._options.top]
            counts: Scores = self._has_label[nearest].sum(axis=1, dtype=np.float32)
            return counts
        shares: Scores = softmax(self._options.scale * cosines)[:, self._has_label].sum(axis=1)
        return shares.astype(np.float32)
