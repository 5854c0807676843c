"""Train the tiny CLIP of the demo: ``python -m cah_dask.demo.train [--out FOLDER]``.

An ordinary open_clip model: a small ResNet, and a two-layer transformer over CLIP's own tokens.
The usual contrast of pictures with captions needs very many pairs before either tower has anything
to tell the other. Here the truth is known, so both learn to point at it: every scene has a place
in the common space, made of one axis for each colour, shape, count, position and background; one
more axis stands for texts that describe no scene. The cosine of a picture and a caption is then the
weighted share of the scene that the caption gets right.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save
from torch.nn.functional import normalize

from cah_dask.demo.captions import LANGUAGES, camera_name, caption
from cah_dask.demo.card import CARD_FILE, MODEL_DIR, WEIGHTS_FILE, examine, write_card
from cah_dask.demo.pictures import random_picture
from cah_dask.demo.world import (
    BACKGROUNDS,
    COLOURS,
    MAX_COUNT,
    POSITIONS,
    SHAPES,
    Scene,
    draw,
    random_scene,
)
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.storage import write_atomic

CONFIG_FILE = "open_clip_config.json"

AXES: dict[str, tuple[float, tuple[Any, ...]]] = {
    "colour": (0.30, tuple(COLOURS)),
    "shape": (0.35, tuple(SHAPES)),
    "count": (0.13, tuple(range(1, MAX_COUNT + 1))),
    "position": (0.11, tuple(POSITIONS)),
    "background": (0.11, tuple(BACKGROUNDS)),
}
"""Weight of each attribute of a scene in the similarity (their sum is 1), and its values."""

DIM = sum(len(values) for _, values in AXES.values()) + 1
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 4,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}

SEED = 1
N_DRAWN = 8192
"""Pictures drawn for training; each is seen several times."""
STEPS = 1000
N_CAMERA = 8
"""Camera names among the texts of a step."""
BATCH = 64
PEAK_RATE = 4e-3
THREADS = len(os.sched_getaffinity(0))

Transform = Callable[[Image.Image], torch.Tensor]


def place(scene: Scene) -> torch.Tensor:
    """Return the point of a scene in the common space: ``(DIM,)``, a unit vector."""
    point = torch.zeros(DIM)
    start = 0
    for name, (weight, values) in AXES.items():
        point[start + values.index(getattr(scene, name))] = weight**0.5
        start += len(values)
    return point


def nowhere() -> torch.Tensor:
    """Return the point of texts that describe no scene: ``(DIM,)``, orthogonal to all scenes."""
    return torch.eye(DIM)[-1]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures to learn from."""

    pixels: torch.Tensor
    """``(n, 3, side, side)`` float32, preprocessed."""
    places: torch.Tensor
    """``(n, DIM)`` float32."""


def draw_gallery(n_drawn: int, transform: Transform, rng: random.Random) -> Gallery:
    """Draw pictures of random scenes."""
    pictures = [random_picture(random_scene(rng), rng) for _ in range(n_drawn)]
    pixels = [transform(draw(picture.scene, picture.size, picture.seed)) for picture in pictures]
    return Gallery(torch.stack(pixels), torch.stack([place(picture.scene) for picture in pictures]))


def train(n_steps: int, n_drawn: int) -> Any:
    """Return a trained open_clip model; its towers learn side by side, neither from the other."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    rng = random.Random(SEED)
    library = open_clip()
    model = library.CLIP(**CONFIG["model_cfg"])
    model.visual.to(memory_format=torch.channels_last)  # a third faster
    gallery = draw_gallery(n_drawn, _transform(library), rng)
    tokenizer = library.SimpleTokenizer(context_length=model.context_length)
    is_used = torch.zeros(model.vocab_size, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=n_steps, pct_start=0.1
    )
    for step in range(n_steps):
        tokens, places = _texts(list(LANGUAGES)[step % len(LANGUAGES)], tokenizer, rng)
        is_used[tokens] = True
        chosen = torch.randint(n_drawn, (BATCH,))
        seen = model.encode_image(gallery.pixels[chosen], normalize=True)
        loss = _distance(seen, gallery.places[chosen])
        loss = loss + _distance(encode_short(model, tokens), places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        model.token_embedding.weight[~is_used] = 0.0
    return model.eval()


def _transform(library: Any) -> Transform:
    settings = CONFIG["preprocess_cfg"] | {"size": CONFIG["model_cfg"]["vision_cfg"]["image_size"]}
    transform: Transform = library.transform.image_transform_v2(
        library.transform.PreprocessCfg(**settings), is_train=False
    )
    return transform


def _texts(language: str, tokenizer: Any, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of captions and camera names, cut to the longest, and their places."""
    scenes = [random_scene(rng) for _ in range(BATCH)]
    texts = [caption(scene, language, rng) for scene in scenes]
    texts += [camera_name(rng) for _ in range(N_CAMERA)]
    tokens = tokenizer(texts)
    length = int((tokens != 0).sum(1).max())
    return tokens[:, :length], torch.stack([*map(place, scenes), *[nowhere()] * N_CAMERA])


def encode_short(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what `encode_text` returns for texts padded to the full length, in half the time.

    ``(n, length)`` tokens give ``(n, DIM)`` unit vectors; causal attention sees no padding anyway.
    """
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    last = hidden[torch.arange(len(tokens)), tokens.argmax(1)]
    return normalize(model.ln_final(last) @ model.text_projection, dim=-1)


def _distance(points: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return 1 - (points * places).sum(1).mean()


def save_model(model: Any, folder: Path) -> None:
    """Write configuration and weights, as open_clip reads them; float16, so 6 MB and no more."""
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_atomic(folder / CONFIG_FILE, json.dumps(CONFIG, indent=2).encode() + b"\n")
    write_atomic(folder / WEIGHTS_FILE, save(weights))


def main() -> None:
    """Train, save, examine and describe the model."""
    parser = argparse.ArgumentParser(description="Train the tiny CLIP of the demo.")
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="folder to write to")
    folder = parser.parse_args().out
    started = time.perf_counter()
    save_model(train(STEPS, N_DRAWN), folder)
    minutes = (time.perf_counter() - started) / 60
    made = f"{N_DRAWN} drawn pictures, {STEPS} steps, {minutes:.1f} minutes, {THREADS} thread(s)"
    write_card(folder, made, examine(folder, THREADS))
    print((folder / CARD_FILE).read_text(encoding="utf-8"))  # noqa: T201  # a command


if __name__ == "__main__":
    main()
