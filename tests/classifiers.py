"""Small models that classify, made where they are needed: of Hugging Face and of scikit-learn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.text_models import transformers, unigram

LABELS = ("animals", "colours", "none")
LENGTH = 40
"""Tokens of a text that a classifier takes."""


def text_classifier(folder: Path, *, labels: Sequence[str] = LABELS, **config: Any) -> Path:
    """Write an XLM-R classifier with random weights, large enough that texts score differently."""
    library = transformers()
    torch.manual_seed(5)
    tokenizer = unigram()
    settings = library.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=24, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=LENGTH + 2,
        id2label=dict(enumerate(labels)), initializer_range=0.5, **config,
    )  # fmt: skip
    model = library.XLMRobertaForSequenceClassification(settings)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def changed(path: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def iris_like(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points of three clouds, ``(n, 4)`` float32, and to which each belongs."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, n)
    return (random.normal(size=(n, 4)) + 3 * labels[:, None]).astype(np.float32), labels


def sklearn_onnx(path: Path, *, zipmap: bool = False) -> tuple[Path, Any]:
    """Train a scikit-learn model, convert it, and return the file and the model."""
    points, labels = iris_like(200)
    model = LogisticRegression().fit(points, labels)
    converted = to_onnx(model, points[:1], options={"zipmap": zipmap}, target_opset=17)
    path.write_bytes(converted.SerializeToString())
    return path, model


def sklearn_text_onnx(path: Path) -> tuple[Path, Any]:
    """Train a classifier of texts by their words, convert it, and return both."""
    texts = ["red green blue", "a blue cat and dogs", "two dogs", "green and red", "cat", "blue"]
    model = make_pipeline(TfidfVectorizer(token_pattern="[a-zA-Z]+"), LogisticRegression())
    model.fit(texts, [0, 1, 1, 0, 1, 0])
    converted = to_onnx(
        model,
        initial_types=[("text", StringTensorType([None, 1]))],
        options={id(model): {"zipmap": False}, TfidfVectorizer: {"locale": "C"}},
        target_opset=17,
    )
    path.write_bytes(converted.SerializeToString())
    return path, model
