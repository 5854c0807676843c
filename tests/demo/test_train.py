import random

import numpy as np
import pytest
import torch

from cah_dask.demo.exam import Answers, auc, best_thresholds, precision_recall
from cah_dask.demo.train import DIM, encode_short, nowhere, place, save_model, train
from cah_dask.demo.world import Scene, random_scene
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.options import EmbedOptions
from cah_dask.schema import Split

STAR = Scene("star", "red", 2, "left", "white")


@pytest.fixture(scope="module")
def model():
    return train(n_steps=2, n_drawn=4)


def test_the_similarity_of_two_places_is_the_weighted_share_that_scenes_have_in_common():
    other = Scene("star", "blue", 2, "top", "white")
    assert float(place(STAR) @ place(STAR)) == pytest.approx(1)
    assert float(place(STAR) @ place(other)) == pytest.approx(0.35 + 0.13 + 0.11)


def test_nowhere_is_far_from_all_scenes():
    rng = random.Random(0)
    places = torch.stack([place(random_scene(rng)) for _ in range(100)])
    assert torch.count_nonzero(places @ nowhere()) == 0
    assert float(nowhere().norm()) == 1


def test_short_texts_are_encoded_as_open_clip_encodes_padded_ones(model):
    tokens = open_clip().SimpleTokenizer(context_length=77)(["a red star", "two blue hearts left"])
    length = int((tokens != 0).sum(1).max())
    with torch.inference_mode():
        short = encode_short(model, tokens[:, :length])
        padded = model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(short, padded, atol=1e-5, rtol=0)


def test_a_saved_model_is_loaded_like_any_other(model, tmp_path):
    save_model(model, tmp_path)
    (encoder,) = load_encoders(EmbedOptions(model=str(tmp_path)))
    tokens = open_clip().SimpleTokenizer(context_length=77)(["a red star"])
    with torch.inference_mode():
        wanted = model.encode_text(tokens, normalize=True)
    np.testing.assert_allclose(
        encoder.texts["en"].encode_texts(["a red star"]).vectors, wanted, atol=5e-3
    )
    assert encoder.dim == DIM


def test_tokens_of_no_caption_have_no_embedding(model):
    weight = model.token_embedding.weight
    n_used = int(weight.abs().sum(1).count_nonzero())
    assert 0 < n_used < 1000


def answers(similarity, is_match):
    n = len(similarity)
    return Answers(
        np.array(similarity, np.float32), np.array(is_match), np.array(["en"] * n),
        np.array(["en", "multi"] * (n // 2)),
    )  # fmt: skip


def test_auc_counts_ties_as_half():
    assert auc(answers([0.9, 0.5, 0.5, 0.1], [True, True, False, False])) == 0.875


def test_a_threshold_lies_in_the_middle_of_the_gap():
    found = best_thresholds(answers([0.9, 0.8, 0.5, 0.2], [True, True, False, False]))
    assert found == {"en": 0.7, "multi": 0.5, "nolang": 0.65}


def test_precision_and_recall_count_what_the_thresholds_keep():
    some = answers([0.9, 0.4, 0.8, 0.1], [True, True, False, False])
    thresholds: dict[Split, float] = {"en": 0.5, "multi": 0.5, "nolang": 0.5}
    assert precision_recall(some, thresholds) == (0.5, 0.5)
