"""The demo's multilingual text tower: its training, its files, and the one that ships."""

import random
import re

import numpy as np
import pytest
import torch

from cah_dask.demo import exam
from cah_dask.demo.captions import LANGUAGES
from cah_dask.demo.card import CARD_FILE, read_thresholds
from cah_dask.demo.text_card import MODEL_DIR, WEIGHTS_FILE
from cah_dask.demo.train_text import make_tokenizer, save_model, train
from cah_dask.pairs.encoders.load import load_encoders, load_model
from cah_dask.pairs.encoders.models import file_sha256, locate, model_folder, public_name
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.schema import SPLITS, Split

CARD = (MODEL_DIR / CARD_FILE).read_text(encoding="utf-8")
NAME = "tiny-multilingual"
TEXTS = ["Drei rote Kreise", "一个红色的圆形", "IMG_2041", ""]


@pytest.fixture(scope="module")
def answers():
    texts: dict[Split, str] = {"multi": NAME, "nolang": NAME}
    encoders = {"tiny": EncoderOptions(image="tiny", texts=texts)}
    (encoder,) = load_encoders(EmbedOptions(encoders=encoders))
    return exam.answer(exam.questions(180, seed=30_000), encoder)


def stated(label: str) -> list[float]:
    """Return the numbers in a row of one of the card's tables."""
    row = re.search(rf"^\| {label} \|((?: [\d.]+ \|)+)$", CARD, re.MULTILINE)
    assert row is not None
    return [float(cell) for cell in row[1].strip(" |").split("|")]


def test_a_saved_tower_says_what_it_said_when_it_was_trained(tmp_path):
    model = train(n_steps=2, n_drawn=64)
    save_model(model, tmp_path)
    with torch.inference_mode():
        wanted = model.encode(TEXTS).numpy()
    found = load_model(str(tmp_path), EmbedOptions(device="cpu")).encode_texts(TEXTS)
    np.testing.assert_allclose(found.vectors, wanted, atol=1e-5)
    assert found.n_cut == 0


def test_the_vocabulary_is_the_same_each_time():
    one, two = (make_tokenizer(random.Random(5)).to_str() for _ in range(2))
    assert one == two


def test_the_tower_that_ships_is_the_one_of_its_card():
    folder = model_folder(NAME)
    assert folder is not None
    assert folder.samefile(MODEL_DIR)
    assert public_name(NAME) == NAME
    assert locate(NAME).dim == 28
    assert file_sha256(MODEL_DIR / WEIGHTS_FILE) in CARD
    assert sum(path.stat().st_size for path in MODEL_DIR.rglob("*")) < 300_000
    assert read_thresholds(MODEL_DIR) == {split: stated(f"`{split}`")[0] for split in SPLITS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_understood(answers, language):
    auc, precision, recall = stated(language)
    assert exam.auc(answers, language) == pytest.approx(auc, abs=0.01)
    assert min(auc, precision, recall) >= 0.99


def test_the_thresholds_keep_right_captions_and_nothing_else(answers):
    is_other = answers.split != "en"
    thresholds = read_thresholds(MODEL_DIR)
    floor = np.array([thresholds[split] for split in answers.split.tolist()], np.float32)
    is_kept = answers.similarity >= floor
    assert is_other.sum() > 300
    assert (is_kept == answers.is_match)[is_other].mean() >= 0.99


def test_camera_names_match_nothing(answers):
    is_camera = answers.language == exam.CAMERA
    assert (answers.split[is_camera] != "en").sum() > 150
    assert answers.similarity[is_camera].max() < 0.5
