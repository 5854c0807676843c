"""How well a model tells matching from mismatching captions of pictures it has never seen.

All goes the way of a run: encoded picture files, the `Encoder`, the language detector. Mismatching
are captions of another shape or colour, half of them right in everything else, and camera names.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cah_dask.candidates.language import NO_LANGUAGE, Detector
from cah_dask.candidates.text import is_filename
from cah_dask.demo.captions import LANGUAGES, camera_name, caption
from cah_dask.demo.pictures import Picture, random_picture
from cah_dask.demo.world import different_scene, random_scene
from cah_dask.images.picture.decode import open_rgb
from cah_dask.pairs.embed import similarity
from cah_dask.pairs.encoders.towers import Embeddings, Encoder
from cah_dask.schema import Split

CAMERA = "camera"
"""Stands for the language of camera names."""

_BATCH = 64

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """A picture and three texts: a right caption, a wrong one, and a camera name."""

    picture: Picture
    language: str
    right: str
    wrong: str
    camera: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Similarities that a model gave: one item of each array for each text asked about."""

    similarity: npt.NDArray[np.float32]
    is_match: Mask
    language: npt.NDArray[np.str_]
    """A key of `LANGUAGES`, or `CAMERA`."""
    split: npt.NDArray[np.str_]
    """What the language detector takes the text for."""


def questions(n_pictures: int, seed: int) -> list[Question]:
    """Return a question about each of some random pictures, the languages taking turns."""
    rng = random.Random(seed)
    languages = list(LANGUAGES)
    asked = []
    for number in range(n_pictures):
        scene = random_scene(rng)
        language = languages[number % len(languages)]
        asked.append(
            Question(
                picture=random_picture(scene, rng),
                language=language,
                right=caption(scene, language, rng),
                wrong=caption(different_scene(scene, rng), language, rng),
                camera=camera_name(rng),
            )
        )
    return asked


def answer(asked: Sequence[Question], encoder: Encoder) -> Answers:
    """Let a model answer: the right texts first, then the wrong ones, then the camera names."""
    batches = (asked[start : start + _BATCH] for start in range(0, len(asked), _BATCH))
    images = np.concatenate([_encode_pictures(batch, encoder) for batch in batches])
    texts = [
        *(question.right for question in asked),
        *(question.wrong for question in asked),
        *(question.camera for question in asked),
    ]
    spoken = [question.language for question in asked]
    detector = Detector()
    splits = [_split(text, detector) for text in texts]
    return Answers(
        similarity=similarity(np.tile(images, (3, 1)), _encode_texts(texts, splits, encoder)),
        is_match=np.arange(len(texts)) < len(asked),
        language=np.array([*spoken, *spoken, *[CAMERA] * len(asked)]),
        split=np.array(splits),
    )


def _encode_pictures(asked: Sequence[Question], encoder: Encoder) -> Embeddings:
    pictures = (open_rgb(question.picture.encode()) for question in asked)
    return encoder.image.encode_images([encoder.image.preprocess(each) for each in pictures])


def _encode_texts(texts: Sequence[str], splits: Sequence[Split], encoder: Encoder) -> Embeddings:
    """Embed each text by the tower of its split."""
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    for split in set(splits):
        places = [place for place, found in enumerate(splits) if found == split]
        found = encoder.texts[split].encode_texts([texts[place] for place in places])
        vectors[places] = found.vectors
    return vectors


def _split(text: str, detector: Detector) -> Split:
    return NO_LANGUAGE.split if is_filename(text) else detector.classify(text).split


def auc(answers: Answers, language: str | None = None) -> float:
    """Return how often a right caption scores above a wrong one: 1 is perfect, 0.5 is chance.

    Camera names take no part, as they are too easy; `language` leaves only its own captions.
    """
    spoken = answers.language != CAMERA if language is None else answers.language == language
    right = answers.similarity[spoken & answers.is_match]
    wrong = np.sort(answers.similarity[spoken & ~answers.is_match])
    rank = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(rank.mean() / 2 / len(wrong))


def best_thresholds(answers: Answers) -> dict[Split, float]:
    """Return for each split the similarity that parts right from wrong with the fewest errors.

    Any caption may be one that the detector is not sure of, so nolang is judged by all of them.
    """
    return {
        "en": _best_threshold(answers, answers.split == "en"),
        "multi": _best_threshold(answers, answers.split == "multi"),
        "nolang": _best_threshold(answers, np.ones(len(answers.split), bool)),
    }


def _best_threshold(answers: Answers, chosen: Mask) -> float:
    order = np.argsort(answers.similarity[chosen])
    cosines = answers.similarity[chosen][order]
    is_match = answers.is_match[chosen][order]
    # errors[k]: those of rejecting the k lowest and keeping all others
    errors = np.append(0, np.cumsum(is_match)) + np.append(np.cumsum(~is_match[::-1])[::-1], 0)
    fewest = np.flatnonzero(errors == errors.min())
    low, high = max(fewest[0] - 1, 0), min(fewest[-1], len(cosines) - 1)
    return round(float(cosines[low] + cosines[high]) / 2, 3)


def precision_recall(answers: Answers, thresholds: dict[Split, float]) -> tuple[float, float]:
    """Return the share of kept texts that are right, and the share of right texts that are kept."""
    floor = np.array([thresholds[split] for split in answers.split.tolist()], np.float32)
    is_kept = answers.similarity >= floor
    n_good = int((is_kept & answers.is_match).sum())
    return n_good / int(is_kept.sum()), n_good / int(answers.is_match.sum())
