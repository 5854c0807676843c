"""The shipped model: it is the one of its card, and as good as the card says."""

import re

import pytest

from cah_dask.demo import exam
from cah_dask.demo.captions import LANGUAGES
from cah_dask.demo.card import CARD_FILE, MODEL_DIR, WEIGHTS_FILE, read_thresholds
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.models import file_sha256, model_folder
from cah_dask.pairs.options import EmbedOptions
from cah_dask.schema import SPLITS

CARD = (MODEL_DIR / CARD_FILE).read_text(encoding="utf-8")
N_PICTURES = 180


def stated(label):
    """Return the number in a row of one of the card's tables."""
    row = re.search(rf"^\| {label} \| ([\d.]+) \|$", CARD, re.MULTILINE)
    assert row is not None
    return float(row[1])


@pytest.fixture(scope="module")
def encoder():
    return load_encoders(EmbedOptions(model="tiny"), threads=2)[0]


@pytest.fixture(scope="module")
def answers(encoder):
    return exam.answer(exam.questions(N_PICTURES, seed=20_000), encoder)


def test_tiny_means_the_model_of_this_package():
    folder = model_folder("tiny")
    assert folder is not None
    assert folder.samefile(MODEL_DIR)


def test_the_card_names_the_weights_that_are_shipped():
    assert file_sha256(MODEL_DIR / WEIGHTS_FILE) in CARD
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 7e6


def test_the_card_states_the_thresholds_that_are_used():
    thresholds = read_thresholds(MODEL_DIR)
    assert thresholds == {split: stated(f"`{split}`") for split in SPLITS}


def test_new_pictures_give_the_auc_of_the_card(answers):
    assert stated("all") >= 0.995
    assert exam.auc(answers) == pytest.approx(stated("all"), abs=0.005)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_understood(answers, language):
    assert exam.auc(answers, language) == pytest.approx(stated(language), abs=0.01)


def test_the_thresholds_keep_right_captions_and_nothing_else(answers):
    precision, recall = exam.precision_recall(answers, read_thresholds(MODEL_DIR))
    assert precision >= 0.98
    assert recall >= 0.98


def test_camera_names_match_nothing(answers):
    assert answers.similarity[answers.language == exam.CAMERA].max() < 0.5
