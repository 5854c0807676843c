"""Draw a pool as DataComp publishes them: parquet files, and npz with vectors if they are wanted.

Captions have 11 words on average. Three of five are English: common words, and the lemmas of
WordNet, the more often the more senses they have; the others are drawn from six other languages. A
word in sixteen is a name or number that hardly comes again, so a million captions have 960,000
different words. Scores are float16 numbers whose shares are those of DataComp's small pool.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.web_wat import CHINESE, FRENCH, GERMAN, POLISH, RUSSIAN, SPANISH
from cah_dask.curate.texts.assets import LID_FTZ
from cah_dask.curate.texts.languages import Cld3, Detector, FastText

COMMON = """
the of a and in for to with on at by from is new best photo image picture stock vector this it or
free sale how your one two black white red blue home design top vintage set style view
"""
COMMON_SHARE = 0.35
ENGLISH_SHARE = 0.6
RARE_SHARE = 1 / 16
MEAN_WORDS = 11
B32, L14 = (0.247, 0.065), (0.203, 0.076)
"""Mean and deviation: 50 % are above 0.247 and 0.203, 30 % above 0.281 and 0.243."""
DIM = 768

Words = npt.NDArray[np.object_]


def draw_pool(folder: Path, files: int, rows: int, wordnet: Path, lid: Path) -> None:
    """Write a pool.

    Parameters
    ----------
    rows
        Of each file.
    wordnet
        WordNet's ``dict``.
    lid
        fastText's lid.176.ftz.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    english, others = _english(wordnet, rng), _others()
    detectors: list[Detector] = [FastText(lid, LID_FTZ), Cld3()]
    for number in range(files):
        texts = list(_captions(rows, english, others, rng))
        urls = [f"https://www.site{n * n % 9973}.example.org/{number}/{n}.jpg" for n in range(rows)]
        pairs = [(text + url).encode() for text, url in zip(texts, urls, strict=True)]
        columns = {
            "uid": [hashlib.md5(pair).hexdigest() for pair in pairs],
            "url": urls,
            "text": texts,
            "original_width": _sides(rows, rng),
            "original_height": _sides(rows, rng),
            "clip_b32_similarity_score": scores(rows, B32, rng),
            "clip_l14_similarity_score": scores(rows, L14, rng),
            "sha256": [hashlib.sha256(pair).hexdigest() for pair in pairs],
            **{each.name: each.labels(pa.array(texts)) for each in detectors},
        }
        pq.write_table(pa.table(columns), folder / f"{number:032x}.parquet")


def draw_vectors(folder: Path, centroids: npt.NDArray[np.float32]) -> None:
    """Write L/14 image vectors beside each file of a pool, around some centroids."""
    rng = np.random.default_rng(1)
    for path in sorted(folder.glob("*.parquet")):
        near = centroids[rng.integers(0, len(centroids), pq.read_metadata(path).num_rows)]
        vectors = near + rng.normal(0, 0.7 / DIM**0.5, near.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.savez(path.with_suffix(".npz"), l14_img=vectors.astype(np.float16))


def draw_centroids(k: int) -> npt.NDArray[np.float32]:
    """Return centroids ``(k, DIM)``, none quite normalised, as DataComp's are not."""
    rng = np.random.default_rng(2)
    centroids = rng.normal(size=(k, DIM))
    centroids *= rng.uniform(0.92, 1.0, (k, 1)) / np.linalg.norm(centroids, axis=1, keepdims=True)
    return centroids.astype(np.float32)


def scores(n: int, shape: tuple[float, float], rng: np.random.Generator) -> pa.Array:
    """Return float32 scores that are float16 numbers, of a mean and deviation."""
    drawn = rng.normal(*shape, n).clip(-0.2, 0.6).astype(np.float16)
    return pa.array(drawn.astype(np.float32))


def _sides(n: int, rng: np.random.Generator) -> pa.Array:
    return pa.array(rng.lognormal(6.2, 0.6, n).clip(32, 8000).astype(np.int64))


def _english(wordnet: Path, rng: np.random.Generator) -> Words:
    """Return common words, then lemmas by falling number of senses, each in four forms."""
    senses: dict[str, int] = {}
    for part in ("noun", "verb", "adj", "adv"):
        with (wordnet / f"index.{part}").open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith(" "):
                    lemma, _, count, *_ = line.split()
                    senses[lemma] = senses.get(lemma, 0) + int(count)
    lemmas = [lemma for lemma in senses if lemma.isalpha()]
    order = np.argsort([-senses[lemma] - rng.random() for lemma in lemmas])
    ranked = [lemmas[at] for at in order]
    return np.array([(w, w.capitalize(), f"{w}s", f"{w},") for w in ranked], object).ravel()


def _others() -> list[Words]:
    texts = [text.split() for text in (GERMAN, FRENCH, SPANISH, RUSSIAN, POLISH)]
    return [np.array(words, object) for words in (*texts, list(CHINESE))]


def _captions(
    rows: int, english: Words, others: list[Words], rng: np.random.Generator
) -> Iterator[str]:
    lengths = 1 + rng.poisson(MEAN_WORDS - 1, rows)
    ends = np.cumsum(lengths)
    words = _zipf(english, ends[-1], rng)
    common = np.flatnonzero(rng.random(len(words)) < COMMON_SHARE)
    words[common] = _zipf(np.array(COMMON.split(), object), len(common), rng)
    language = rng.integers(0, len(others), rows)
    language[rng.random(rows) < ENGLISH_SHARE] = -1
    of_word = np.repeat(language, lengths)
    for number, vocabulary in enumerate(others):
        here = np.flatnonzero(of_word == number)
        words[here] = rng.choice(vocabulary, len(here))
    rare = np.flatnonzero(rng.random(len(words)) < RARE_SHARE)
    words[rare] = [f"{n:X}" for n in rng.integers(1 << 12, 1 << 36, len(rare))]
    for start, end in zip(ends - lengths, ends, strict=True):
        yield " ".join(words[start:end])


def _zipf(vocabulary: Words, n: int, rng: np.random.Generator) -> Words:
    """Draw words, each as often as the inverse of its place."""
    shares = np.cumsum(1 / (np.arange(len(vocabulary)) + 3))
    drawn: Words = vocabulary[np.searchsorted(shares, rng.random(n) * shares[-1])]
    return drawn
