"""Texts in batches that are cut to their longest: no vector may change by it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.pairs.encoders.load import load_model
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.tokens import batches, text_reader
from cah_dask.pairs.encoders.towers import Embeddings
from cah_dask.pairs.options import EmbedOptions
from tests.pairs.encoders.conftest import TEXT_TOWERS

CONTEXT = 16
TEXTS = [
    "",
    "a",
    "!!",
    "zz top",
    "a red cat",
    "bb!?",
    "word " * 40,
    "one two three",
    "x " * 13,
    "y",
]
SAVES = {"causal", "causal, pooled at its end token", *(t for t in TEXT_TOWERS if "Hugging" in t)}
"""Towers in which a text needs no padding."""


def at_full_length(folder: Path) -> Embeddings:
    library, torch = open_clip(), pytest.importorskip("torch")
    model = library.create_model_from_pretrained(f"local-dir:{folder}", return_transform=False)
    tokens = library.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.inference_mode():
        return torch.nn.functional.normalize(model.eval().encode_text(tokens), dim=-1).numpy()


@pytest.mark.parametrize("tower", TEXT_TOWERS)
def test_cut_texts_have_the_vectors_of_texts_at_full_length(
    tower: str, open_clip_model: Callable[[str], Path]
):
    folder = open_clip_model(tower)
    model = load_model(str(folder), EmbedOptions(batch_size=2))
    assert np.abs(model.encode_texts(TEXTS).vectors - at_full_length(folder)).max() <= 1e-5


@pytest.mark.parametrize("tower", TEXT_TOWERS)
def test_only_towers_that_do_not_see_padding_are_cut(
    tower: str, open_clip_model: Callable[[str], Path]
):
    library, name = open_clip(), f"local-dir:{open_clip_model(tower)}"
    reader = text_reader(library.create_model(name, load_weights=False, pretrained_text=False))
    lengths = reader.lengths(library.get_tokenizer(name)(TEXTS))
    assert lengths.max() == CONTEXT
    assert (lengths.min() < CONTEXT) == (tower in SAVES)


@pytest.mark.parametrize("tower", ["causal", "Hugging Face, mean"])
@pytest.mark.parametrize(("letters", "n_cut"), [(13, 0), (14, 0), (15, 1), (40, 1)])
def test_texts_over_the_context_length_are_counted(
    tower: str, letters: int, n_cut: int, open_clip_model: Callable[[str], Path]
):
    spaced = " ".join("abcdefghijklm"[i % 13] for i in range(letters))  # a token each
    words = spaced if tower == "causal" else spaced.replace(" ", "")[1:]  # and one for the start
    model = load_model(str(open_clip_model(tower)), EmbedOptions())
    assert model.encode_texts(["short", words, "", words]).n_cut == 2 * n_cut


def test_an_exclamation_mark_is_no_padding(open_clip_model: Callable[[str], Path]):
    model = load_model(str(open_clip_model("causal")), EmbedOptions())
    texts = ["!?" * 6, "!? " * 20, "! " * 14, "! " * 15]
    assert [model.encode_texts([text]).n_cut for text in texts] == [0, 1, 0, 1]


@given(st.lists(st.integers(1, 77), min_size=1), st.integers(1, 400))
def test_batches_hold_every_text_once_and_keep_within_the_budget(lengths: list[int], budget: int):
    found = list(batches(np.array(lengths), budget))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for rows in found:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or len(rows) * longest <= budget
