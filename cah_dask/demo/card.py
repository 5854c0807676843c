"""The model card of the tiny CLIP: its exam, its thresholds, and every figure in words."""

import json
from pathlib import Path

import msgspec

from cah_dask.demo import exam
from cah_dask.demo.captions import LANGUAGES
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.models import embedding_dim, file_sha256
from cah_dask.pairs.options import EmbedOptions
from cah_dask.schema import Split
from cah_dask.storage import write_atomic

MODEL_DIR = Path(__file__).parent / "model"
WEIGHTS_FILE = "open_clip_model.safetensors"
THRESHOLDS_FILE = "thresholds.json"
CARD_FILE = "README.md"

CALIBRATION_SEED = 2
EXAM_SEED = 3
N_ASKED = 2400
"""Pictures drawn to choose the thresholds, and as many others for the exam."""


class Figures(msgspec.Struct, frozen=True):
    """What an exam found; `auc_of` is by language."""

    thresholds: dict[Split, float]
    auc: float
    auc_of: dict[str, float]
    precision: float
    recall: float


def examine(folder: Path, threads: int) -> Figures:
    """Choose thresholds on one set of new pictures, and measure on another."""
    (encoder,) = load_encoders(EmbedOptions(model=str(folder)), threads=threads)
    known = exam.answer(exam.questions(N_ASKED, CALIBRATION_SEED), encoder)
    answers = exam.answer(exam.questions(N_ASKED, EXAM_SEED), encoder)
    thresholds = exam.best_thresholds(known)
    precision, recall = exam.precision_recall(answers, thresholds)
    return Figures(
        thresholds=thresholds,
        auc=exam.auc(answers),
        auc_of={language: exam.auc(answers, language) for language in LANGUAGES},
        precision=precision,
        recall=recall,
    )


def read_thresholds(folder: Path) -> dict[Split, float]:
    """Return the thresholds that belong to the model in a folder."""
    return msgspec.json.decode((folder / THRESHOLDS_FILE).read_bytes(), type=dict[Split, float])


def write_card(folder: Path, made: str, figures: Figures) -> None:
    """Write the thresholds, and a card that states every figure; `made` tells of the training."""
    weights = folder / WEIGHTS_FILE
    thresholds = json.dumps(figures.thresholds, indent=2)
    write_atomic(folder / THRESHOLDS_FILE, f"{thresholds}\n".encode())
    card = _CARD.format(
        dim=embedding_dim(str(folder)),
        megabytes=weights.stat().st_size / 1e6,
        made=made,
        sha256=file_sha256(weights),
        n_asked=N_ASKED,
        auc=figures.auc,
        auc_rows=_rows({name: f"{auc:.4f}" for name, auc in figures.auc_of.items()}),
        threshold_rows=_rows({f"`{name}`": str(v) for name, v in figures.thresholds.items()}),
        precision=figures.precision,
        recall=figures.recall,
    )
    write_atomic(folder / CARD_FILE, card.encode())


def _rows(cells: dict[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in cells.items())


_CARD = """\
# The demo's CLIP

Knows pictures of one to four equal shapes on a plain background, and captions of them in English,
German, French, Spanish, Russian and Chinese; nothing else. It lets tests and the demo go the whole
way of the big models on a machine without internet. Not for any other use.

An ordinary open_clip model (`local-dir:` of this folder): a ResNet for 64 px, a text transformer of
width 32 over CLIP's tokens, vectors of {dim} numbers, float16 weights, {megabytes:.1f} MB.
Embeddings of tokens that no caption uses are zero.

Made by `python -m cah_dask.demo.train`: {made}.
The same seed gives slightly different weights on different hardware.

SHA-256 of `open_clip_model.safetensors`: `{sha256}`

## Exam

{n_asked} pictures that were never seen, as files of all four formats, each with a right caption, a
wrong one and a camera name. The wrong one names another shape or colour; half of these are right in
everything else. AUC is how often a right caption scores above a wrong one.

| captions | AUC |
|---|---|
| all | {auc:.4f} |
{auc_rows}

Thresholds, chosen for the fewest errors on {n_asked} other pictures:

| split | keep from |
|---|---|
{threshold_rows}

With these, precision is {precision:.4f} and recall {recall:.4f}, camera names included.
"""
