"""Labels of languages, as DataComp finds them."""

import sys

import fasttext
import gcld3
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cah_dask.candidates.language import Detector, LanguageOptions
from cah_dask.curate.texts import assets
from cah_dask.curate.texts.languages import Cld3, FastText
from cah_dask.errors import ConfigError
from cah_dask.storage import file_sha256
from tests.curate.texts.lid import LID_FTZ

CLD3 = Cld3()
FASTTEXT = FastText(LID_FTZ, assets.LID_FTZ)
PEER_CLD3 = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
PEER_FASTTEXT = fasttext.load_model(str(LID_FTZ))
TEXTS = st.lists(st.none() | st.text(max_size=60), max_size=4)
ENGLISH = (
    "An old wooden boat lies on the beach at low tide, its blue paint faded by years of sun and "
    "salt. Two fishermen mend their nets nearby while children chase gulls across wet sand. "
    "Behind them, white cottages climb a steep hill toward the church, whose bell rings every "
    "hour. Smoke drifts from chimneys, laundry flaps between balconies, and somebody plays an "
    "accordion inside the corner tavern. Autumn has come early this year, so the orchards above "
    "town already glow yellow and red."
)
GERMAN = (
    "Der alte Bahnhof wurde im vergangenen Sommer gründlich renoviert und beherbergt jetzt ein "
    "kleines Museum für Spielzeug. Besucher finden dort Puppenhäuser, Dampfmaschinen aus Blech "
    "sowie eine riesige Modelleisenbahn, die sonntags fährt. Im Keller zeigt eine Werkstatt, wie "
    "früher Holztiere geschnitzt wurden."
)
BOTH = {f"{GERMAN[:260]} {ENGLISH}": "en", f"{ENGLISH} {GERMAN[:270]}": "de"}
"""Texts of more than 700 bytes whose language changes with the limit; CLD3's label at 1000."""


def labels(detector, texts):
    return detector.labels(pa.array(texts, pa.string())).to_pylist()


@given(TEXTS)
@example(["", None, " ", "\0", "\n", *BOTH])
def test_cld3_is_asked_as_datacomp_asks_it(texts):
    expected = [
        text if text is None else PEER_CLD3.FindLanguage(text=text.replace("\n", " ")).language
        for text in texts
    ]
    assert labels(CLD3, texts) == expected


def test_the_limit_of_cld3_is_1000_bytes():
    assert labels(CLD3, list(BOTH)) == ["en", "de"]
    assert labels(Cld3(0, 700), list(BOTH)) == ["de", "en"]


def test_cld3_with_no_least_length_finds_a_language_in_nothing():
    assert labels(CLD3, ["", "1234"]) == ["ja", "ja"]
    assert labels(Cld3(5, 1000), ["", "1234"]) == ["und", "und"]


def test_the_label_of_a_split_is_not_that_of_datacomp():
    split = Detector(LanguageOptions())
    assert split.classify("1234").lang != labels(CLD3, ["1234"])[0]


@given(TEXTS)
@example(["", None, " ", "\0", "a\nb", "\n", "__label__de Hund", "犬の写真", ENGLISH])
def test_fasttext_is_asked_as_datacomp_asks_it(texts):
    expected = [
        text
        if text is None
        else PEER_FASTTEXT.predict(text.replace("\n", " "))[0][0].split("__label__")[1]
        for text in texts
    ]
    assert labels(FASTTEXT, texts) == expected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("two brown dogs playing in the green grass", "en"),
        ("two brown dogs\nplaying in the green grass", "en"),
        ("Ein schöner Tag im tiefen Schwarzwald", "de"),
        ("Фотография красивого кота на подоконнике", "ru"),
        ("北京的秋天红叶满山", "zh"),
    ],
)
def test_both_detectors_know_what_is_plain(text, label):
    assert labels(FASTTEXT, [text]) == labels(CLD3, [text]) == [label]


def test_words_that_are_labels_say_nothing_to_fasttext():
    german = "Ein schöner Tag im tiefen Schwarzwald"
    assert labels(FASTTEXT, [f"__label__ru {german}"]) == ["de"]
    assert labels(FASTTEXT, ["__label__de __label__ru"]) == labels(FASTTEXT, [""])


def test_texts_that_repeat_have_their_labels_each():
    texts = ["Ein schöner Tag im Wald", None, "the green grass of home"] * 3
    assert labels(FASTTEXT, texts) == ["de", None, "en"] * 3


def test_detectors_have_different_names_and_say_what_they_are():
    names = CLD3.name, Cld3(5, 2000).name, FASTTEXT.name
    assert names == ("cld3_0_1000", "cld3_5_2000", "fasttext")
    assert "cld3-py" in CLD3.version
    assert assets.LID_FTZ.sha256 in FASTTEXT.version
    assert "fasttext-predict" in FASTTEXT.version


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path):
    path = tmp_path / "lid.bin"
    path.write_text("no model")
    with pytest.raises(ConfigError, match=r"lid\.bin is no fastText model: [^\n]+$"):
        FastText(path, assets.Asset("lid", file_sha256(path), ""))


def test_another_model_than_the_filter_asks_for_is_refused():
    with pytest.raises(ConfigError, match=r"^lid\.176\.bin: .* has SHA-256 8f3472cf"):
        FastText(LID_FTZ, assets.LID_BIN)


def test_what_to_install_is_said_where_fasttext_is_not(monkeypatch, tmp_path):
    model = tmp_path / "lid.ftz"
    model.write_bytes(LID_FTZ.read_bytes())
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(ConfigError, match=r"pip install 'cah_dask\[curate\]'"):
        FastText(model, assets.LID_FTZ)
