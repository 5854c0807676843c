"""Pictures against prompts, by the small CLIP that knows the demo's drawings."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cah_dask.classify.hooks import Arrays
from cah_dask.classify.models.zero_shot import ZeroShot
from cah_dask.demo.world import COLOURS, SHAPES, Scene, draw, random_scene
from cah_dask.errors import ConfigError, RecordError
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.options import EmbedOptions

SIDE = 64
COUNTED = [("a", ""), ("two", "s"), ("three", "s"), ("four", "s")]
PLURALS = {"cross": "crosse"}
PROMPTS = {
    shape: [
        f"{number} {colour} {PLURALS.get(shape, shape) if end else shape}{end} in the picture"
        for number, end in COUNTED
        for colour in COLOURS
    ]
    for shape in SHAPES
}


def drawings(n: int) -> tuple[list[Arrays], list[Scene]]:
    rng = random.Random(5)
    scenes = [random_scene(rng) for _ in range(n)]
    drawn = [draw(scene, (SIDE, SIDE), seed) for seed, scene in enumerate(scenes)]
    return [{"data": np.asarray(each)} for each in drawn], scenes


def model(prompts: Any = PROMPTS, **arguments: Any) -> ZeroShot:
    return ZeroShot(model="tiny", prompts=prompts, device="cpu", **arguments)


def test_the_label_of_a_drawing_scores_best():
    batch, scenes = drawings(60)
    scorer = model()
    scored = scorer(batch)
    best = [scorer.names[place] for place in scored.scores.argmax(axis=1)]
    assert np.mean([found == scene.shape for found, scene in zip(best, scenes, strict=True)]) > 0.9
    assert np.allclose(scored.scores.sum(axis=1), 1, atol=1e-5)
    assert scored.vectors is None


def expected_cosines(
    prompts: Mapping[str, Sequence[str]], batch: Sequence[Arrays]
) -> dict[str, np.ndarray]:
    """Cosines with the prompts of each label, by the encoder alone."""
    (encoder,) = load_encoders(EmbedOptions(model="tiny", device="cpu"))
    pictures = [encoder.image.preprocess(Image.fromarray(each["data"])) for each in batch]
    vectors = encoder.image.encode_images(pictures)
    return {k: vectors @ encoder.texts["en"].encode_texts(v).vectors.T for k, v in prompts.items()}


UNEVEN = {"red": ["three red circles"], "blue": ["a blue square", "two blue hearts", "blue"]}


def test_scores_are_softmax_of_all_prompts_summed_by_label():
    batch, _ = drawings(4)
    cosines = expected_cosines(UNEVEN, batch)
    weights = {label: np.exp(20.0 * each.astype(float)) for label, each in cosines.items()}
    total = sum(each.sum(axis=1) for each in weights.values())
    scorer = model(UNEVEN, scale=20.0)
    assert scorer.names == ["blue", "red"]
    expected = [weights[label].sum(axis=1) / total for label in scorer.names]
    assert np.allclose(scorer(batch).scores, np.transpose(expected), atol=1e-5)


def test_scores_may_be_the_cosine_with_the_nearest_prompt():
    batch, _ = drawings(4)
    cosines = expected_cosines(UNEVEN, batch)
    found = model(UNEVEN, by="cosine")(batch)
    expected = [cosines[label].max(axis=1) for label in ("blue", "red")]
    assert np.allclose(found.scores, np.transpose(expected), atol=1e-6)


def test_vectors_are_those_of_the_encoder():
    batch, _ = drawings(3)
    (encoder,) = load_encoders(EmbedOptions(model="tiny", device="cpu"))
    pictures = [encoder.image.preprocess(Image.fromarray(each["data"])) for each in batch]
    scorer = model(UNEVEN, vectors=True)
    found = scorer(batch).vectors
    assert found is not None
    assert scorer.dim == encoder.dim
    assert np.allclose(found, encoder.image.encode_images(pictures), atol=1e-6)


def test_sets_of_the_package_and_files_are_prompts_too(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("b: [two]\na: [one]\n")
    assert model("age").names == ["adult", "nobody", "underaged"]
    assert model(str(file)).names == ["a", "b"]
    assert file in ZeroShot.files(model="tiny", prompts=str(file))


def test_it_is_known_by_the_files_of_its_model():
    names = {path.name for path in ZeroShot.files(model="tiny", prompts=UNEVEN)}
    assert names == {"open_clip_model.safetensors", "open_clip_config.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "./no-such-model"}, "model folder no-such-model has no open_clip_config.json"),
        ({"model": "ViT-B-32/openai"}, "ViT-B-32-quickgelu/openai"),
        ({"model": "datacomp"}, "which is several encoders (clip-l14, clip-b32); name"),
        ({"prompts": {"a": ["one"]}}, "it needs two labels or more, each with a list of prompts"),
        ({"prompts": {"a": ["one"], "b": ["ONE"]}}, "has the prompt 'ONE' twice"),
        ({"prompts": "no-such-set"}, "no-such-set is no file, and none of the package"),
        ({"by": "dot"}, "ZeroShot has by 'dot'; known: softmax, cosine"),
        ({"precision": "fp8"}, "ZeroShot: Invalid enum value 'fp8'"),
    ],
)
def test_what_cannot_work_is_one_line(arguments: dict[str, Any], message: str, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = {"model": "tiny", "prompts": UNEVEN, "device": "cpu"} | arguments
    with pytest.raises(ConfigError) as caught:
        ZeroShot(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((64, 64), np.uint8)}, r"not uint8 of shape \(64, 64\)"),
        ({"data": np.zeros((64, 64, 3), np.float32)}, "not float32 of shape"),
        ({"data": np.zeros((16, 90, 3), np.uint8)}, "16 pixels a side, the model takes 64; give"),
        ({}, "one array is taken, not 0"),
    ],
)
def test_an_item_that_is_no_picture_is_told_of(arrays: Arrays, message: str):
    with pytest.raises(RecordError, match=message):
        model(UNEVEN)([arrays])
