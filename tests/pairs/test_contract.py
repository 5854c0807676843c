"""Every kind of tower keeps the contract that the package ships."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cah_dask.pairs.contract import ImageTowerContract, TextTowerContract
from cah_dask.pairs.encoders.load import load_model
from cah_dask.pairs.encoders.towers import Texts
from cah_dask.pairs.options import EmbedOptions
from tests.encoders import HashTowers
from tests.text_models import m_clip, sentence_transformers

OPTIONS = EmbedOptions(device="cpu", batch_size=8)


class TestHashTowers(ImageTowerContract, TextTowerContract):
    @pytest.fixture
    def tower(self) -> Any:
        return HashTowers()


@pytest.fixture(scope="module")
def clip(random_model: Path) -> Any:
    return load_model(str(random_model), OPTIONS)


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_model("tiny", OPTIONS)


@pytest.fixture(scope="module", params=[sentence_transformers, m_clip])
def text_tower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(request.param(tmp_path_factory.mktemp("text"))), OPTIONS)


class TestOpenClip(ImageTowerContract, TextTowerContract):
    @pytest.fixture
    def tower(self, clip: Any) -> Any:
        return clip


class TestTiny(ImageTowerContract, TextTowerContract):
    @pytest.fixture
    def tower(self, tiny: Any) -> Any:
        return tiny


class TestTextTowers(TextTowerContract):
    @pytest.fixture
    def tower(self, text_tower: Any) -> Any:
        return text_tower


class Broken(HashTowers):
    """Breaks each promise on demand."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.calls = 0

    def preprocess(self, image: Image.Image) -> Any:
        if self.fault == "it draws on its argument":
            image.paste((0, 0, 0), (0, 0, 1, 1))
        return super().preprocess(image)

    def encode_images(self, images: Any) -> Any:
        return self._spoilt(super().encode_images(images))

    def encode_texts(self, texts: Any) -> Texts:
        if self.fault == "it needs a text":
            texts = [texts[0], *texts[1:]]
        vectors = super().encode_texts(texts).vectors
        n_cut = len(texts) if self.fault == "it counts all as cut" else 0
        return Texts(self._spoilt(vectors), n_cut)

    def _spoilt(self, vectors: Any) -> Any:
        self.calls += 1
        faults = {
            "float64": lambda: vectors.astype(np.float64),
            "no unit vectors": lambda: vectors * np.float32(1.01),
            "a lost row": lambda: vectors[1:],
            "another length": lambda: np.pad(vectors, ((0, 0), (0, 1))),
            "it depends on the batch": lambda: vectors * np.sign(len(vectors) - 1.5),
            "it depends on the place": lambda: (
                vectors * np.where(np.arange(len(vectors)) == 0, -1, 1)[:, None]
            ),
            "it changes": lambda: vectors * np.float32((-1) ** self.calls),
            "NaN": lambda: vectors * np.float32("nan"),
        }
        return faults.get(self.fault, lambda: vectors)()


def kept(contract: Any, tower: Any) -> bool:
    """Whether a tower passes all tests of a contract."""
    tests = [name for name in dir(contract) if name.startswith("test_")]
    try:
        for name in tests:
            getattr(contract(), name)(tower)
    except (AssertionError, IndexError):
        return False
    return True


BOTH = [
    "float64", "no unit vectors", "a lost row", "another length", "it depends on the batch",
    "it depends on the place", "it changes", "NaN",
]  # fmt: skip


@pytest.mark.parametrize("fault", [*BOTH, "it draws on its argument"])
def test_an_image_tower_that_breaks_a_promise_is_found(fault: str):
    assert kept(ImageTowerContract, Broken(""))
    assert not kept(ImageTowerContract, Broken(fault))


@pytest.mark.parametrize("fault", [*BOTH, "it needs a text", "it counts all as cut"])
def test_a_text_tower_that_breaks_a_promise_is_found(fault: str):
    assert kept(TextTowerContract, Broken(""))
    assert not kept(TextTowerContract, Broken(fault))
