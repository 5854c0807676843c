"""The model card of the demo's multilingual text tower: its exam beside the frozen image tower."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec

from cah_dask.demo import exam
from cah_dask.demo.captions import LANGUAGES
from cah_dask.demo.card import (
    CALIBRATION_SEED,
    CARD_FILE,
    EXAM_SEED,
    N_ASKED,
    THRESHOLDS_FILE,
)
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.models import TINY, file_sha256
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.schema import SPLITS, Split
from cah_dask.storage import write_atomic

MODEL_DIR = Path(__file__).parent / "model-multilingual"
WEIGHTS_FILE = "model.safetensors"


class LanguageFigures(msgspec.Struct, frozen=True):
    """What an exam found of the captions of one language."""

    auc: float
    precision: float
    recall: float


class TextFigures(msgspec.Struct, frozen=True):
    """What an exam found; precision and recall of all include camera names."""

    thresholds: dict[Split, float]
    of_all: LanguageFigures
    of: dict[str, LanguageFigures]
    """By language, without camera names."""


def examine(folder: Path, threads: int) -> TextFigures:
    """Choose thresholds on one set of new pictures, and measure on another.

    The tower embeds all texts, English ones too; the pictures are embedded by the tiny CLIP.
    """
    towers = EncoderOptions(image=TINY, texts=dict.fromkeys(SPLITS, str(folder)))
    (encoder,) = load_encoders(EmbedOptions(encoders={TINY: towers}), threads=threads)
    known = exam.answer(exam.questions(N_ASKED, CALIBRATION_SEED), encoder)
    answers = exam.answer(exam.questions(N_ASKED, EXAM_SEED), encoder)
    thresholds = exam.best_thresholds(known)
    return TextFigures(
        thresholds=thresholds,
        of_all=_figures(answers, thresholds),
        of={language: _figures(_only(answers, language), thresholds) for language in LANGUAGES},
    )


def _figures(answers: exam.Answers, thresholds: dict[Split, float]) -> LanguageFigures:
    precision, recall = exam.precision_recall(answers, thresholds)
    return LanguageFigures(exam.auc(answers), precision, recall)


def _only(answers: exam.Answers, language: str) -> exam.Answers:
    chosen = answers.language == language
    return replace(
        answers,
        similarity=answers.similarity[chosen],
        is_match=answers.is_match[chosen],
        language=answers.language[chosen],
        split=answers.split[chosen],
    )


def write_card(folder: Path, made: str, figures: TextFigures) -> str:
    """Write the thresholds, and a card that states every figure; return the card."""
    thresholds = json.dumps(figures.thresholds, indent=2)
    write_atomic(folder / THRESHOLDS_FILE, f"{thresholds}\n".encode())
    weights = folder / WEIGHTS_FILE
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    card = _CARD.format(
        vocabulary=json.loads((folder / "config.json").read_bytes())["vocab_size"],
        kilobytes=size / 1e3,
        made=made,
        sha256=file_sha256(weights),
        n_asked=N_ASKED,
        rows="\n".join(
            f"| {name} | {each.auc:.4f} | {each.precision:.4f} | {each.recall:.4f} |"
            for name, each in {"all": figures.of_all, **figures.of}.items()
        ),
        threshold_rows="\n".join(f"| `{name}` | {v} |" for name, v in figures.thresholds.items()),
    )
    write_atomic(folder / CARD_FILE, card.encode())
    return card


_CARD = """\
# The demo's multilingual text tower

Speaks the space of the demo's CLIP (`tiny`): it knows captions of one to four equal shapes on a
plain background in German, French, Spanish, Russian, Chinese and English; nothing else. It lets
tests and the demo go the way of mCLIP on a machine without internet. Not for any other use.

In the layout of `clip-ViT-B-32-multilingual-v1`: a DistilBERT of two layers and width 32 over
{vocabulary} word pieces, the mean of its tokens, a linear layer without bias to 28 numbers;
float32, {kilobytes:.0f} kB. sentence-transformers reads it, too.

Made by `python -m cah_dask.demo.train_text`: {made}. The CLIP's
towers were frozen: a caption of a scene learned the vector that the image tower gives to a drawing
of it, a camera name that of the text tower.

SHA-256 of `model.safetensors`: `{sha256}`

## Exam

{n_asked} pictures that were never seen, as files of all four formats, each with a right caption, a
wrong one and a camera name. The wrong one names another shape or colour; half of these are right in
everything else. AUC is how often a right caption scores above a wrong one. Precision and recall are
with the thresholds below; those of all captions include camera names, which match nothing.

| captions | AUC | precision | recall |
|---|---|---|---|
{rows}

Thresholds, chosen for the fewest errors on {n_asked} other pictures:

| split | keep from |
|---|---|
{threshold_rows}
"""
