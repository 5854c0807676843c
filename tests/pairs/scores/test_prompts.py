"""Zero-shot scores: by label, whatever the order, and no two prompts run together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.towers import Texts
from cah_dask.pairs.scores.options import PromptsOptions
from cah_dask.pairs.scores.prompts import PromptScorer, read_prompts

SETS = Path(__file__).parents[3] / "cah_dask" / "pairs" / "scores" / "prompts"

FORWARD = """
safe: [a cat, a dog, a tree]
unsafe: [a gun, a knife]
young: [a child]
"""
BACKWARD = """
young: [a child]
unsafe: [a knife, a gun]
safe: [a tree, a dog, a cat]
"""


class Axes:
    """A text tower that gives each text an axis of its own."""

    dim = 8
    known = ("a cat", "a dog", "a tree", "a gun", "a knife", "a child")

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        return Texts(np.eye(self.dim, dtype=np.float32)[[self.known.index(t) for t in texts]])


def prompts(folder: Path, text: str) -> dict[str, list[str]]:
    path = folder / "set.yaml"
    path.write_text(text)
    return read_prompts(path)


def score(folder: Path, text: str, images: np.ndarray, **options) -> np.ndarray:
    chosen = PromptsOptions(file="set.yaml", **options)
    return PromptScorer(chosen, prompts(folder, text), Axes()).score(images)


def test_the_score_is_the_share_of_the_prompts_of_a_label(tmp_path: Path):
    cosines = np.array([[0.9, 0.1, 0.0, 0.8, 0.3, 0.2, 0, 0]], np.float32)
    found = score(tmp_path, FORWARD, cosines, label="unsafe", scale=2.0)
    weights = np.exp(2 * cosines[0, :6].astype(float))
    assert found == pytest.approx([weights[3:5].sum() / weights.sum()], abs=1e-6)
    assert found.dtype == np.float32


def test_with_top_it_is_how_many_of_the_nearest_prompts_have_the_label(tmp_path: Path):
    cosines = np.array(
        [[0.9, 0.8, 0.0, 0.1, 0.1, 0.0, 0, 0],  # a cat, a dog
         [0.9, 0.0, 0.0, 0.8, 0.1, 0.0, 0, 0],  # a cat, a gun
         [0.0, 0.0, 0.0, 0.9, 0.8, 0.0, 0, 0]],  # a gun, a knife
        np.float32,
    )  # fmt: skip
    assert score(tmp_path, FORWARD, cosines, label="unsafe", top=2).tolist() == [0, 1, 2]
    assert score(tmp_path, FORWARD, cosines, label="unsafe", top=1).tolist() == [0, 0, 1]


@pytest.mark.parametrize("label", ["safe", "unsafe", "young"])
@pytest.mark.parametrize("top", [None, 1, 2, 3])
def test_the_order_of_labels_and_prompts_changes_nothing(tmp_path: Path, label, top):
    """crawling@home drew its under-age border by the position of prompts in a list."""
    images = np.random.default_rng(1).uniform(0, 1, (50, 8)).astype(np.float32)
    images[:10, :6] = 0.5  # ties
    one = score(tmp_path, FORWARD, images, label=label, top=top)
    assert np.array_equal(one, score(tmp_path, BACKWARD, images, label=label, top=top))
    assert len(np.unique(one)) > 1


def test_a_new_prompt_of_another_label_leaves_each_prompt_its_label(tmp_path: Path):
    cosines = np.array([[0.1, 0.2, 0.3, 0.9, 0.8, 0.0, 0, 0]], np.float32)
    longer = FORWARD.replace("[a cat, a dog, a tree]", "[a cat, a tree]")
    for text in (FORWARD, longer):
        assert score(tmp_path, text, cosines, label="unsafe", top=2).tolist() == [2]


@pytest.mark.parametrize("path", sorted(SETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_all_prompts_of_a_set_of_the_package_are_distinct_and_whole(path: Path):
    """A forgotten comma joined two prompts of crawling@home and moved its border by one."""
    found = [prompt for each in read_prompts(path).values() for prompt in each]
    assert len({prompt.casefold() for prompt in found}) == len(found)
    lines = [line for line in path.read_text().splitlines() if line.lstrip().startswith("- ")]
    assert sorted(line.strip()[2:] for line in lines) == sorted(found)


def test_python_joins_two_prompts_without_a_comma_and_a_set_does_not(tmp_path: Path):
    assert len(eval('["an animal" "fashion"]')) == 1
    with pytest.raises(ConfigError, match="cannot be read: while parsing a flow sequence"):
        prompts(tmp_path, 'safe: ["an animal" "fashion"]\nunsafe: [a gun]\n')


@pytest.mark.parametrize(
    "text",
    [
        "safe:\n  - an animal\n    fashion\nunsafe:\n  - a gun\n",
        'safe:\n  - "an animal\n    fashion"\nunsafe:\n  - a gun\n',
        "safe: [an animal\n  fashion]\nunsafe: [a gun]\n",
    ],
)
def test_a_forgotten_dash_is_an_error_not_one_long_prompt(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"set\.yaml, line \d: a prompt goes over several lines"):
        prompts(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("safe: [a cat, a dog]\nunsafe: [A Cat]\n", "has the prompt 'A Cat' twice"),
        ("safe: [a cat]\n", "two labels or more"),
        ("safe: []\nunsafe: [a gun]\n", "each with a list of prompts"),
        ("safe: [1]\nunsafe: [a gun]\n", "is no set of prompts"),
        ("- a cat\n- a dog\n", "is no set of prompts"),
        ("no: [a cat]\nunsafe: [a gun]\n", "is no set of prompts"),
        ("safe: {", "cannot be read"),
    ],
)
def test_what_is_no_set_is_refused_in_one_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        prompts(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
