"""Classifiers of Hugging Face from a folder: scores, cut texts, and what is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cah_dask.classify.hooks import arrays_of
from cah_dask.classify.models.text_classifier import TextClassifier
from cah_dask.errors import ConfigError, RecordError
from tests.classifiers import LABELS, LENGTH, changed, text_classifier
from tests.hostile import Trap
from tests.text_models import TEXTS, transformers

LONG = "red " * 300
MANY = [*TEXTS, LONG, "dogs " * 9, "cat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return text_classifier(tmp_path / "model")


def classifier(folder: Path, **arguments: Any) -> TextClassifier:
    return TextClassifier(folder=str(folder), device="cpu", **arguments)


def scores(folder: Path, texts: list[str] = MANY, **arguments: Any) -> np.ndarray:
    return classifier(folder, **arguments)([arrays_of(text) for text in texts]).scores


def logits(folder: Path, texts: list[str]) -> torch.Tensor:
    """What the library gives for texts one by one."""
    library = transformers()
    model = library.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    file = str(folder / "tokenizer.json")
    tokenizer = library.PreTrainedTokenizerFast(tokenizer_file=file, model_max_length=LENGTH)
    with torch.inference_mode():
        tokens = [tokenizer(text, truncation=True, return_tensors="pt") for text in texts]
        return torch.cat([model(input_ids=each["input_ids"]).logits for each in tokens])


def test_scores_are_those_of_the_library(folder: Path):
    found = scores(folder)
    assert np.allclose(found, logits(folder, MANY).softmax(dim=1), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1
    assert classifier(folder).names == list(LABELS)


@pytest.mark.parametrize("budget", [1, 50, 100_000])
def test_scores_do_not_depend_on_how_texts_share_batches(folder: Path, budget: int):
    assert np.allclose(scores(folder, batch_tokens=budget), scores(folder), atol=1e-5)


def test_a_model_of_several_labels_at_once_gives_each_a_probability(tmp_path: Path):
    folder = text_classifier(tmp_path / "m", problem_type="multi_label_classification")
    assert np.allclose(scores(folder), logits(folder, MANY).sigmoid(), atol=1e-5)


def test_a_regression_gives_its_number(tmp_path: Path):
    folder = text_classifier(tmp_path / "m", labels=["quality"])
    assert np.allclose(scores(folder), logits(folder, MANY), atol=1e-4)


def test_some_labels_may_be_asked_for_by_names_of_ones_own(folder: Path):
    chosen = classifier(folder, scores={"nothing": "none", "beasts": "animals"})
    found = chosen([arrays_of(text) for text in MANY]).scores
    assert chosen.names == ["nothing", "beasts"]
    assert np.array_equal(found, scores(folder)[:, [2, 0]])


def test_a_limit_of_the_tokenizer_counts(folder: Path):
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 3}))
    assert classifier(folder)([arrays_of("cat cat cat")]).notes == {"cut_texts": 1}
    names = [path.name for path in TextClassifier.files(folder=str(folder))]
    assert "tokenizer_config.json" in names


def test_texts_that_are_cut_are_counted(folder: Path):
    scorer = classifier(folder)
    assert scorer([arrays_of(text) for text in [*TEXTS, LONG, LONG]]).notes == {"cut_texts": 2}
    assert scorer([arrays_of(text) for text in TEXTS]).notes == {}
    shorter = classifier(folder, max_tokens=3)
    assert shorter([arrays_of("cat"), arrays_of("cat cat cat")]).notes == {"cut_texts": 1}


def test_weights_in_several_files_are_read(folder: Path):
    weights = load_file(folder / "model.safetensors")
    names: dict[str, dict[str, Any]] = {f"model-{k}.safetensors": {} for k in range(2)}
    for number, (name, tensor) in enumerate(weights.items()):
        names[f"model-{number % 2}.safetensors"][name] = tensor
    places = {name: file for file, tensors in names.items() for name in tensors}
    expected = scores(folder)
    for file, tensors in names.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert np.array_equal(scores(folder), expected)
    found = {path.name for path in TextClassifier.files(folder=str(folder))}
    assert found == {"config.json", "tokenizer.json", "model.safetensors.index.json", *names}
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no model-1\.safetensors, which"):
        classifier(folder)


def without_classifier(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: each for name, each in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def with_code(folder: Path) -> None:
    changed(folder / "config.json", model_type="own", architectures=["Own"], auto_map={
        "AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own",
    })  # fmt: skip
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def config(**values: Any) -> Callable[[Path], object]:
    return lambda folder: changed(folder / "config.json", **values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "has no config.json"),
        (without("tokenizer.json"), "has no tokenizer.json"),
        (without("model.safetensors"), "has no model.safetensors"),
        (as_pickle, "pytorch_model.bin is a pickle, which is not read: save it as safetensors"),
        (cut, "it was cut while it was copied"),
        (without_classifier, "has no weights classifier.dense.bias; is it a model that was never"),
        (with_code, "cannot be loaded: "),
        (config(vocab_size=9), "cannot be loaded: "),
        (config(model_type="none-such"), "cannot be loaded: "),
        (config(id2label={"0": "a", "1": "a", "2": "b"}), "has a label twice: a, a, b"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer: "),
        (lambda folder: (folder / "config.json").write_text("[1"), "is no configuration; copy it"),
    ],
)
def test_a_folder_that_cannot_work_is_one_line(
    folder: Path, spoil: Callable[[Path], object], message: str
):
    spoil(folder)
    with pytest.raises(ConfigError) as caught:
        classifier(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists(), "no code of the folder is run"


def test_a_pickle_among_the_files_is_not_opened(folder: Path, tmp_path: Path):
    torch.save(Trap(tmp_path / "sprung"), folder / "pytorch_model.bin")
    scores(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": {"a": "dogs"}}, "has no label 'dogs'; its labels are animals, colours, none"),
        ({"max_tokens": LENGTH + 1}, f"max_tokens {LENGTH + 1}; .* takes 1 to {LENGTH}"),
        ({"max_tokens": 0}, "has max_tokens 0"),
        ({"precision": "fp8"}, "Invalid enum value 'fp8'"),
    ],
)
def test_wrong_arguments_are_one_line(folder: Path, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        classifier(folder, **arguments)


def test_an_unknown_label_is_known_without_loading_the_model(folder: Path):
    with pytest.raises(ConfigError, match="has no label 'dogs'; its labels are animals, colours"):
        TextClassifier.files(folder=str(folder), scores={"a": "dogs"})


def test_a_missing_folder_is_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="none-such is no folder; it needs one with the model's"):
        classifier(tmp_path / "none-such")


def test_an_item_that_is_no_text_is_told_of(folder: Path):
    with pytest.raises(RecordError, match=r"not uint8 of shape \(4, 4, 3\)"):
        classifier(folder)([{"data": np.zeros((4, 4, 3), np.uint8)}])
