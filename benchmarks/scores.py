"""What scores cost: models on pictures, heads on vectors, words in texts.

    OMP_NUM_THREADS=1 python benchmarks/scores.py [--repeats 5]

Prints CPU seconds for a million of each, the median and the extremes of the repeats. Weights of the
heads are random, in their real shapes; pictures are drawn, 256 pixels wide.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cah_dask.pairs.scores.heads import Head
from cah_dask.pairs.scores.options import HeadKind, PictureOptions, WordsOptions
from cah_dask.pairs.scores.pictures import load_picture_scorer
from cah_dask.pairs.scores.words import SHELF, count_words, read_words

PICTURES, VECTORS, TEXTS = 64, 10_000, 10_000
HEADS: dict[str, tuple[HeadKind, tuple[int, ...]]] = {
    "punsafe, ViT-B/32": ("mlp", (512, 32, 32, 1)),
    "punsafe and DataComp's, ViT-L/14": ("mlp", (768, 64, 512, 256, 1)),
    "aesthetic, ViT-L/14": ("laion-aesthetic", (768, 1024, 128, 64, 16, 1)),
    "nsfw, ViT-H/14": ("laion-nsfw-h14", (1024, 1024, 2048, 1024, 256, 128, 16, 1)),
}


def head(kind: HeadKind, widths: tuple[int, ...]) -> Head:
    """Return a head with random weights."""
    random = np.random.default_rng(0)
    weights = {}
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        weights[f"{number}.weight"] = random.standard_normal((after, before), np.float32)
        weights[f"{number}.bias"] = random.standard_normal(after, np.float32)
    return Head(Path("random"), kind, weights)


def report(what: str, n: int, repeats: int, work: Callable[[], object]) -> None:
    """Print a row of the table."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append((time.process_time() - start) / n * 1e6)
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    digits = 0 if middle > 100 else 1
    print(f"| {what} | {low:,.{digits}f}, {middle:,.{digits}f}, {high:,.{digits}f} |")


def main() -> None:
    """Measure all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    random = np.random.default_rng(0)
    print("| score | CPU s a million (min, median, max) |\n|---|---|")
    noise = random.integers(0, 256, (PICTURES, 32, 32, 3), np.uint8)
    pictures = [Image.fromarray(each).resize((256, 256)) for each in noise]
    scorer = load_picture_scorer("nsfw", PictureOptions(model="opennsfw"))
    report(
        "`opennsfw`",
        PICTURES,
        repeats,
        lambda: scorer.score([scorer.preprocess(picture) for picture in pictures]),
    )
    for name, (kind, widths) in HEADS.items():
        made = head(kind, widths)
        vectors = random.standard_normal((VECTORS, widths[0]), np.float32)
        report(f"head: {name}", VECTORS, repeats, partial(made.score, vectors))
    path = Path(__file__).parent.parent / "cah_dask/pairs/scores" / SHELF.folder / "children-en.txt"
    words, options = read_words(path), WordsOptions(file=str(path))
    texts = [f"a little picture of a house in the garden behind tree {n}" for n in range(TEXTS)]
    report(
        "words: `children-en`, 12 words a text",
        TEXTS,
        repeats,
        lambda: count_words(words, options, texts, ["en"] * TEXTS),
    )


if __name__ == "__main__":
    main()
