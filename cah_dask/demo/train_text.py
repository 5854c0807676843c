"""Train the demo's multilingual text tower: ``python -m cah_dask.demo.train_text [--out FOLDER]``.

It has the layout of mCLIP and is made as mCLIP was: a CLIP's towers are frozen, and another text
tower learns to say of captions in every language what they say of a scene. Here that is the vector
which the tiny CLIP's image tower gives to a drawing of the scene; camera names learn from its text
tower.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cah_dask.demo.captions import LANGUAGES, camera_name, caption
from cah_dask.demo.pictures import random_picture
from cah_dask.demo.text_card import MODEL_DIR, examine, write_card
from cah_dask.demo.world import Scene, draw, random_scene
from cah_dask.pairs.encoders.load import load_model
from cah_dask.pairs.encoders.models import TINY
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.text_tower import padded, unit_vectors
from cah_dask.pairs.encoders.towers import Embeddings, Model
from cah_dask.pairs.options import EmbedOptions
from cah_dask.storage import write_atomic

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_TOKENS = 128
CONFIG: dict[str, Any] = {
    "architectures": ["DistilBertModel"],
    "model_type": "distilbert",
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": MAX_TOKENS,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
}

SEED = 1
N_DRAWN = 4096
"""Scenes drawn for training; each is worded anew every time."""
STEPS = 3000
BATCH = 64
N_CAMERA = 8
"""Camera names among the texts of a step."""
PEAK_RATE = 4e-3
N_READ = 12_000
"""Captions from which the vocabulary is taken."""
THREADS = 1
"""More would only wait for each other: a step takes 12 ms."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """A text tower while it is trained."""

    tokenizer: Tokenizer
    transformer: Any
    linear: torch.nn.Linear

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return one unit vector for each text: ``(n, dim)``."""
        tokens = [each.ids for each in self.tokenizer.encode_batch_fast(list(texts))]
        vectors: torch.Tensor = unit_vectors(
            self.transformer, self.linear, *padded(tokens, CONFIG["pad_token_id"])
        )
        return vectors


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the frozen CLIP says of some scenes and camera names."""

    scenes: list[Scene]
    images: torch.Tensor
    """``(n, dim)`` float32: of a drawing of each scene."""
    names: list[str]
    name_vectors: torch.Tensor


def teach(clip: Model, n_drawn: int, rng: random.Random) -> Teacher:
    """Draw scenes, and ask the frozen towers about them."""
    scenes = [random_scene(rng) for _ in range(n_drawn)]
    names = [camera_name(rng) for _ in range(n_drawn)]
    images = [
        _image_vectors(clip, scenes[start : start + BATCH], rng)
        for start in range(0, n_drawn, BATCH)
    ]
    return Teacher(
        scenes,
        torch.from_numpy(np.concatenate(images)),
        names,
        torch.from_numpy(clip.encode_texts(names).vectors),
    )


def _image_vectors(clip: Model, scenes: Sequence[Scene], rng: random.Random) -> Embeddings:
    pictures = [random_picture(scene, rng) for scene in scenes]
    drawn = (draw(each.scene, each.size, each.seed) for each in pictures)
    return clip.encode_images([clip.preprocess(image) for image in drawn])


def make_tokenizer(rng: random.Random) -> Tokenizer:
    """Return word pieces: the words of captions, and letters for whatever else is written.

    It is counted here, as trainers of tokenizers break ties in another way each time.
    """
    tokenizer = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for number in range(N_READ):
        language = list(LANGUAGES)[number % len(LANGUAGES)]
        text = tokenizer.normalizer.normalize_str(caption(random_scene(rng), language, rng))
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    letters = sorted({letter for word in words for letter in word} | set("0123456789_-"))
    joined = [f"##{letter}" for letter in letters if letter.isalnum() and letter < "\u2e80"]
    longer = sorted(word for word in words if len(word) > 1)
    pieces = {piece: number for number, piece in enumerate([*SPECIAL, *letters, *joined, *longer])}
    tokenizer.model = models.WordPiece(pieces, unk_token="[UNK]")
    ends = [(name, pieces[name]) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return tokenizer


def make_model(dim: int, rng: random.Random) -> TextModel:
    """Return a text tower that has learned nothing yet."""
    open_clip()  # transformers imports torchvision, too
    from transformers import DistilBertConfig, DistilBertModel  # noqa: PLC0415

    tokenizer = make_tokenizer(rng)
    config = DistilBertConfig(**CONFIG, vocab_size=tokenizer.get_vocab_size())
    linear = torch.nn.Linear(CONFIG["dim"], dim, bias=False)
    return TextModel(tokenizer, DistilBertModel(config).train(), linear)


def train(n_steps: int, n_drawn: int) -> TextModel:
    """Return a text tower whose captions lie where the frozen CLIP puts their pictures."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    rng = random.Random(SEED)
    clip = load_model(TINY, EmbedOptions(device="cpu"))
    teacher = teach(clip, n_drawn, rng)
    model = make_model(clip.dim, rng)
    parameters = [*model.transformer.parameters(), *model.linear.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=n_steps, pct_start=0.1
    )
    for step in range(n_steps):
        texts, wanted = _lesson(teacher, list(LANGUAGES)[step % len(LANGUAGES)], rng)
        loss = 1 - (model.encode(texts) * wanted).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.transformer.eval()
    return model


def _lesson(teacher: Teacher, language: str, rng: random.Random) -> tuple[list[str], torch.Tensor]:
    """Return captions and camera names, and the vectors that they should have."""
    drawn = rng.choices(range(len(teacher.scenes)), k=BATCH)
    named = rng.choices(range(len(teacher.names)), k=N_CAMERA)
    texts = [caption(teacher.scenes[row], language, rng) for row in drawn]
    texts += [teacher.names[row] for row in named]
    return texts, torch.cat([teacher.images[drawn], teacher.name_vectors[named]])


def save_model(model: TextModel, folder: Path) -> None:
    """Write it in the layout of mCLIP, which is that of sentence-transformers."""
    dim, width = model.linear.weight.shape
    _write_json(folder / "modules.json", _modules())
    _write_json(folder / "config.json", CONFIG | {"vocab_size": model.tokenizer.get_vocab_size()})
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS}
        | {f"{name[1:-1].lower()}_token": name for name in SPECIAL},
    )
    write_atomic(folder / "tokenizer.json", model.tokenizer.to_str().encode())
    _write_weights(folder / "model.safetensors", model.transformer.state_dict())
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    )
    _write_json(
        folder / "2_Dense" / "config.json",
        {
            "in_features": width,
            "out_features": dim,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    weights = {f"linear.{name}": each for name, each in model.linear.state_dict().items()}
    _write_weights(folder / "2_Dense" / "model.safetensors", weights)


def _modules() -> list[dict[str, Any]]:
    parts = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    return [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{name}",
        }
        for number, (name, path) in enumerate(parts.items())
    ]


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2).encode() + b"\n")


def _write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    write_atomic(path, save({name: each.contiguous() for name, each in weights.items()}))


def main() -> None:
    """Train, save, examine and describe the text tower."""
    parser = argparse.ArgumentParser(description="Train the demo's multilingual text tower.")
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="folder to write to")
    folder = parser.parse_args().out
    started = time.process_time()
    save_model(train(STEPS, N_DRAWN), folder)
    minutes = (time.process_time() - started) / 60
    made = f"{N_DRAWN} drawn scenes, {STEPS} steps, {minutes:.1f} CPU minutes"
    print(write_card(folder, made, examine(folder, THREADS)))  # noqa: T201  # a command


if __name__ == "__main__":
    main()
