"""Train a small classifier of texts, and write it in the layout of Hugging Face.

    python examples/texts/train.py runs/shapes-model

It tells of which shape a text on drawings is. Ten seconds on a CPU; real ones come from elsewhere.
"""

import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordLevelTrainer

from cah_dask.demo.captions import caption
from cah_dask.demo.world import SHAPES, random_scene
from cah_dask.pairs.encoders.open_clip_import import open_clip

open_clip()  # transformers need torchvision, which this imports beside a torch without CUDA, too
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402

N_STEPS, BATCH_SIZE, LENGTH = 120, 32, 128
LABELS = list(SHAPES)


def main(folder: Path) -> None:
    """Train, and write config.json, model.safetensors and tokenizer.json."""
    rng = random.Random(11)
    torch.manual_seed(11)
    torch.set_num_threads(1)
    tokenizer = trained_tokenizer([example(rng)[0] for _ in range(500)])
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=128, max_position_embeddings=LENGTH,
        id2label=dict(enumerate(LABELS)), pad_token_id=0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(N_STEPS):
        texts, labels = zip(*(example(rng) for _ in range(BATCH_SIZE)), strict=True)
        tokens = tokenizer.encode_batch(texts)
        ids, mask = (torch.tensor([getattr(each, name) for each in tokens]) for name in
                     ("ids", "attention_mask"))  # fmt: skip
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor(labels)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    print(f"wrote {folder}; the last loss was {loss.item():.3f}")


def example(rng: random.Random) -> tuple[str, int]:
    """Return one to six sentences on a shape, and which one it is."""
    shape = rng.choice(LABELS)
    scenes = (random_scene(rng) for _ in iter(int, 1))
    told = [
        next(scene for scene in scenes if scene.shape == shape) for _ in range(rng.randint(1, 6))
    ]
    return " ".join(f"{caption(scene, 'en', rng)}." for scene in told), LABELS.index(shape)


def trained_tokenizer(texts: list[str]) -> Tokenizer:
    """Return a tokenizer that knows the words of some texts."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
