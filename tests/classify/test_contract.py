"""Every model, reader and default of classify keeps the contract that the package ships."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cah_dask.archives.responses import Response
from cah_dask.classify.contract import (
    KeepContract,
    ModelContract,
    PrepareContract,
    ReadContract,
)
from cah_dask.classify.hooks import Arrays, Scored, arrays_of
from cah_dask.classify.models.onnx import Onnx
from cah_dask.classify.models.pictures import PictureScores
from cah_dask.classify.models.text_classifier import TextClassifier
from cah_dask.classify.models.zero_shot import ZeroShot
from cah_dask.classify.readers.image import Pictures
from cah_dask.classify.readers.text import MainTexts
from tests.classifiers import iris_like, sklearn_onnx, sklearn_text_onnx, text_classifier
from tests.hostile import picture
from tests.onnx_models import write_channel_means
from tests.text_models import TEXTS

PROMPTS = {"circles": ["three red circles"], "squares": ["a blue square", "two green squares"]}


def response(body: bytes, mime: str) -> Response:
    known = "response", "http://a.test/", "", "", 200, (("Content-Type", mime),), mime, ("", "")
    return Response(0, *known, body, content_type=mime)


def pictures(side: int) -> list[Arrays]:
    random = np.random.default_rng(4)
    colours = random.integers(0, 256, (5, 1, 1, 3), np.uint8)
    noise = random.integers(0, 60, (5, side, side, 3), np.uint8)
    return [{"data": each} for each in noise // 2 + colours // 2]


def texts() -> list[Arrays]:
    return [arrays_of(text) for text in [*TEXTS, "red " * 300, "dogs " * 9]]


def numbers() -> list[Arrays]:
    return [{"x": row} for row in iris_like(6)[0]]


def zero_shot(_: Path) -> ZeroShot:
    return ZeroShot(model="tiny", prompts=PROMPTS, vectors=True, device="cpu")


def onnx_of_pictures(folder: Path) -> Onnx:
    file = write_channel_means(folder / "means.onnx", side=8)
    std = [255, 255, 255]
    asked = {"layout": "nchw", "channels": "rgb", "mean": [0, 0, 0], "std": std, "side": 8}
    return Onnx(file=str(file), scores=["r", "g", "b"], vectors="y", input=asked, device="cpu")


def onnx_of_numbers(folder: Path) -> Onnx:
    file, _ = sklearn_onnx(folder / "numbers.onnx")
    return Onnx(file=str(file), scores=["a", "b", "c"], device="cpu")


def onnx_of_texts(folder: Path) -> Onnx:
    file, _ = sklearn_text_onnx(folder / "texts.onnx")
    return Onnx(file=str(file), scores=["colours", "animals"], device="cpu")


def classifier(folder: Path) -> TextClassifier:
    return TextClassifier(folder=str(text_classifier(folder / "model")), device="cpu")


def nsfw(_: Path) -> PictureScores:
    return PictureScores(scores={"nsfw": {"model": "opennsfw"}}, device="cpu")


MODELS: dict[str, tuple[Callable[[Path], Any], list[Arrays]]] = {
    "zero_shot": (zero_shot, pictures(64)),
    "onnx_of_pictures": (onnx_of_pictures, pictures(30)),
    "onnx_of_numbers": (onnx_of_numbers, numbers()),
    "onnx_of_texts": (onnx_of_texts, texts()),
    "classifier": (classifier, texts()),
    "nsfw": (nsfw, pictures(256)),
}


@pytest.fixture(scope="module", params=MODELS)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    build, batch = MODELS[request.param]
    return build(tmp_path_factory.mktemp(request.param)), batch


class TestModels(ModelContract):
    @pytest.fixture
    def model(self, shipped: Any) -> Any:
        return shipped[0]

    @pytest.fixture
    def batch(self, shipped: Any) -> Any:
        return shipped[1]


HTML = b"<html><body><p>" + b"Three red circles are in the middle of the picture. " * 9 + b"</p>"


class TestPictures(ReadContract):
    @pytest.fixture
    def read(self) -> Any:
        return Pictures(side=32)

    @pytest.fixture
    def record(self) -> Response:
        return response(picture(), "image/jpeg")


class TestMainTexts(ReadContract):
    @pytest.fixture
    def read(self) -> Any:
        return MainTexts(languages=["en"])

    @pytest.fixture
    def record(self) -> Response:
        return response(HTML, "text/html")


class TestDefaults(PrepareContract):
    @pytest.fixture(params=["a text", b"bytes", np.arange(6).reshape(2, 3)])
    def item(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def prepare(self) -> Any:
        return arrays_of


class TestKeep(KeepContract):
    @pytest.fixture
    def keep(self) -> Any:
        return lambda scores: scores["cat"] > scores["dog"]

    @pytest.fixture
    def names(self) -> list[str]:
        return ["cat", "dog"]


class Sums:
    """Scores an item by its sum; breaks each promise on demand."""

    dim = 0

    def __init__(self, fault: str = "") -> None:
        self.names = ["sum", "sum"] if fault == "a name twice" else ["sum"]
        self.fault = fault
        self.calls = 0

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        self.calls += 1
        scores = np.array([[each["x"].sum()] * len(self.names) for each in batch], np.float32)
        scores = scores.reshape(len(batch), len(self.names))
        faults: dict[str, Callable[[], Any]] = {
            "float64": lambda: scores.astype(np.float64),
            "a lost row": lambda: scores[1:],
            "needs an item": lambda: scores / len(batch[0]),
            "depends on the batch": lambda: scores * len(batch),
            "depends on the place": lambda: scores * np.arange(len(batch), dtype="f")[:, None],
            "sorts": lambda: np.sort(scores, axis=0),
            "changes": lambda: scores * np.float32((-1) ** self.calls),
            "NaN": lambda: scores * np.float32("nan"),
        }
        if self.fault == "writes":
            for each in batch:
                each["x"][...] += 1
        found = faults.get(self.fault, lambda: scores)()
        return Scored(found, scores if self.fault == "vectors of no length" else None)


FAULTS = [
    "a name twice", "float64", "a lost row", "needs an item", "depends on the batch",
    "depends on the place", "sorts", "changes", "NaN", "writes", "vectors of no length",
]  # fmt: skip


def keeps_model_contract(model: Any) -> bool:
    values = {"model": model, "batch": [{"x": np.array([n, 3.0 - n * n])} for n in range(4)]}
    return kept(ModelContract, values)


def kept(contract: Any, fixtures: dict[str, Any]) -> bool:
    """Whether all tests of a contract pass."""
    tests = [test for name, test in vars(contract).items() if name.startswith("test_")]
    try:
        for test in tests:
            names = [name for name in test.__annotations__ if name != "return"]
            test(contract(), **{name: fixtures[name] for name in names})
    except (AssertionError, LookupError, TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_breaks_a_promise_is_found(fault: str):
    assert keeps_model_contract(Sums())
    assert not keeps_model_contract(Sums(fault))


class Lines:
    """Reads the length of a body; breaks each promise on demand."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.n_read = 0

    def __call__(self, record: Response) -> str | None:
        self.n_read += 1
        if self.fault == "raises" and b"\0" in record.body:
            raise ValueError(record.body)
        if self.fault == "wants nothing":
            return None
        remembered = self.n_read if self.fault == "remembers" else 0
        return str(len(record.body) + remembered)


@pytest.mark.parametrize("fault", ["raises", "wants nothing", "remembers"])
def test_a_reader_that_breaks_a_promise_is_found(fault: str):
    record = response(HTML, "text/html")
    assert kept(ReadContract, {"read": Lines(), "record": record})
    assert not kept(ReadContract, {"read": Lines(fault), "record": record})


def draws_on_it(item: Any) -> Arrays:
    item += 1
    return {"data": item}


def test_a_prepare_that_breaks_a_promise_is_found():
    item = np.arange(3)
    hooks = [lambda item: {"data": item.astype(object)}, draws_on_it, lambda _: {}]
    assert kept(PrepareContract, {"prepare": arrays_of, "item": item})
    assert not any(kept(PrepareContract, {"prepare": each, "item": item}) for each in hooks)


def test_a_keep_that_breaks_a_promise_is_found():
    hooks = [lambda scores: scores["a"], lambda scores: scores.pop("a") > 0]
    assert kept(KeepContract, {"keep": lambda scores: scores["a"] > 0, "names": ["a"]})
    assert not any(kept(KeepContract, {"keep": each, "names": ["a"]}) for each in hooks)
