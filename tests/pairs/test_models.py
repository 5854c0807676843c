"""Encoders: the contract every one keeps, and mistakes found before a GPU is asked for."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cah_dask.errors import ConfigError
from cah_dask.pairs import models
from cah_dask.pairs.models import EmbedOptions, Encoder, load_encoder, resolve
from tests.encoders import HashEncoder


def options(model: Path | str, **changes) -> EmbedOptions:
    return EmbedOptions(**{"model": str(model), **changes})


@pytest.fixture(scope="module")
def random_encoder(random_model: Path) -> Encoder:
    return load_encoder(options(random_model), threads=2)


@pytest.fixture(scope="module")
def tiny_encoder() -> Encoder:
    return load_encoder(options("tiny"), threads=2)


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 40), colour).save(file, "PNG")
    return file.getvalue()


class EncoderContract:
    """What every encoder promises; subclass it with an `encoder` fixture to check your own."""

    images = (picture("red"), picture("green"), picture("blue"))
    texts = ("a cat", "ein Hund", "", "три красных круга", "word " * 500)

    def test_vectors_are_unit_float32_rows(self, encoder: Encoder):
        for vectors in (encoder.encode_images(self.images), encoder.encode_texts(self.texts)):
            assert vectors.dtype == np.float32
            assert vectors.shape[1] == encoder.dim
            assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_an_embedding_does_not_depend_on_its_batch(self, encoder: Encoder):
        together = encoder.encode_images(self.images)
        alone = np.concatenate([encoder.encode_images([image]) for image in self.images])
        assert np.allclose(together, alone, atol=1e-5)
        together = encoder.encode_texts(self.texts)
        alone = np.concatenate([encoder.encode_texts([text]) for text in self.texts])
        assert np.allclose(together, alone, atol=1e-5)

    def test_the_same_input_gives_the_same_bits(self, encoder: Encoder):
        first, second = (encoder.encode_images(self.images).tobytes() for _ in range(2))
        assert first == second

    def test_it_names_itself_and_its_weights(self, encoder: Encoder):
        assert encoder.name
        assert len(encoder.weights_sha256) == 64


class TestHashEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        return HashEncoder()


class TestOpenClipEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, random_encoder: Encoder) -> Encoder:
        return random_encoder


class TestTinyModel(EncoderContract):
    @pytest.fixture
    def encoder(self, tiny_encoder: Encoder) -> Encoder:
        return tiny_encoder


def test_bf16_moves_vectors_a_little(random_model: Path):
    exact = load_encoder(options(random_model)).encode_images(EncoderContract.images)
    rounded = load_encoder(options(random_model, precision="bf16"))
    assert np.allclose(exact, rounded.encode_images(EncoderContract.images), atol=0.05)


def test_resolving_pins_weights(random_model: Path):
    pinned = resolve(options(random_model))
    assert pinned.weights_sha256 == models.file_sha256(random_model / "open_clip_model.safetensors")
    assert resolve(pinned) == pinned


def test_the_dimension_is_known_without_loading_weights(random_model: Path):
    assert models.embedding_dim(options(random_model)) == 16
    assert models.embedding_dim(options("ViT-B-32-quickgelu/openai")) == 512


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("openclip", "unknown model 'openclip'; known: tiny, a folder with"),
        ("ViT-B-32-quickgelu/openia", "such as ViT-B-32-quickgelu/openai"),
        ("ViT-B-32/openai", "use ViT-B-32-quickgelu/openai"),
        ("/nowhere/at/all", "has no open_clip_config.json"),
    ],
)
def test_an_unknown_model_is_refused_with_what_is_known(model: str, message: str):
    with pytest.raises(ConfigError, match=message):
        resolve(options(model))


def test_missing_weights_are_named(random_model: Path, tmp_path: Path):
    (tmp_path / "open_clip_config.json").write_bytes(
        (random_model / "open_clip_config.json").read_bytes()
    )
    with pytest.raises(ConfigError, match=r"has no weights; it needs open_clip_model\.safetensors"):
        resolve(options(tmp_path))


def test_other_weights_than_the_config_names_are_refused(random_model: Path):
    with pytest.raises(ConfigError, match=r"embed\.weights_sha256 wants 0000"):
        resolve(options(random_model, weights_sha256="0" * 64))
