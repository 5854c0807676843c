import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.charset import decoded

RUSSIAN = "Кошка сидит на заборе возле старого дома, и это фотография её хозяина."
JAPANESE = "古い家の隣の塀に座っている猫の写真です。飼い主が撮りました。"
CHINESE = "猫坐在老房子旁边的篱笆上, 这是主人拍的照片, 非常可爱的小猫咪。"
KOREAN = "오래된 집 옆 울타리에 앉아 있는 고양이 사진입니다."
GREEK = "Γάτα κάθεται στον φράχτη δίπλα στο σπίτι."
HEBREW = "חתול יושב על הגדר ליד הבית."
FORMOSAN = "中文網頁沒有聲明, 這是貓的照片。"
FRENCH = "Un café à la crème brûlée 5 €"

LABELS_OF = json.loads(Path(__file__).with_name("whatwg_labels.json").read_text("utf-8"))
"""All labels of the Encoding Standard (encoding.spec.whatwg.org), by the codec that is nearest to
what each means there. Two encodings are left out: replacement and x-user-defined hold no text."""


@pytest.mark.parametrize("codec", LABELS_OF)
def test_all_labels_of_the_web_are_known(codec):
    body = bytes(range(128, 256)) * 2 + "Zürich".encode(codec, "ignore")
    expected = body.decode(codec, "replace")
    for label in LABELS_OF[codec].split():
        for written in (label, label.upper(), f"' {label} '"):
            assert decoded(body, f"text/html; charset={written}") == expected, written


@pytest.mark.parametrize("label", ["replacement", "iso-2022-kr", "hz-gb-2312", "x-user-defined"])
def test_a_label_that_stands_for_no_text_counts_for_nothing(label):
    assert decoded(FRENCH.encode(), f"text/html; charset={label}") == FRENCH


@pytest.mark.parametrize(
    ("text", "codec", "labels"),
    [
        (RUSSIAN, "cp1251", ["windows-1251", "CP1251", '"Windows-1251"', "win-1251, windows-1251"]),
        (RUSSIAN, "koi8-r", ["KOI8-R"]),
        (JAPANESE + "①", "cp932", ["Shift_JIS", "x-sjis"]),
        (JAPANESE, "euc_jp", ["EUC-JP"]),
        (JAPANESE, "iso2022_jp", ["ISO-2022-JP"]),
        (CHINESE + "镕", "gb18030", ["GB2312", "gbk"]),
        ("“แมว” 5 €…", "cp874", ["TIS-620", "ISO-8859-11", "windows-874"]),
        ("Кіт ґ €", "mac-cyrillic", ["x-mac-cyrillic", "X-Mac-Ukrainian"]),
        (KOREAN + "똠", "cp949", ["EUC-KR", "ks_c_5601-1987"]),
        (FRENCH, "cp1252", ["ISO-8859-1", "latin1", "us-ascii"]),
        (FRENCH, "utf-16-le", ["utf-16"]),
        (FRENCH, "utf-8", ["utf8", "UTF-8"]),
    ],
)
def test_a_label_means_what_it_means_to_browsers(text, codec, labels):
    body = text.encode(codec)
    for label in labels[:3]:
        assert decoded(body, f"text/html; CharSet = {label}; x=y") == text


@pytest.mark.parametrize("declares", [
    "<META content='text/html;charset={}' HTTP-EQUIV=Content-Type>", "<meta charset={}>",
    "<!-- <meta charset=koi8-r> --><meta charset=unknown><meta charset='{}'>",
])  # fmt: skip
def test_a_page_may_say_its_charset(declares):
    page = declares.format("windows-1251") + RUSSIAN
    for content_type in ("", "text/html", "text/html; charset=unknown"):
        assert decoded(page.encode("cp1251"), content_type) == page
    late = " " * 8192 + declares.format("koi8-r") + RUSSIAN
    assert decoded(late.encode("cp1251")) == late


def test_a_mark_counts_before_a_header_and_a_header_before_a_meta():
    page = f"<meta charset=windows-1251>{JAPANESE}"
    assert decoded(page.encode(), "text/html; charset=utf-8") == page
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        assert decoded(mark + page.encode(codec), "text/html; charset=koi8-r") == page


def test_a_page_that_can_say_utf_16_is_not_in_utf_16():
    page = f"<meta charset=utf-16>{FRENCH}"
    assert decoded(page.encode()) == page


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        *((JAPANESE, "utf-8"), (JAPANESE, "cp932"), (JAPANESE, "euc_jp"), (CHINESE, "gb18030")),
        *((RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (KOREAN, "cp949"), (FRENCH, "cp1252")),
        *((GREEK, "cp1253"), (GREEK, "iso8859-7"), (HEBREW, "cp1255"), (FORMOSAN, "big5")),
    ],
)
def test_of_a_page_that_says_nothing_the_charset_is_guessed(text, codec):
    page = f"<p>{text * 3}</p>"
    assert decoded(page.encode(codec)) == page


def test_a_lie_costs_the_characters_that_it_is_about():
    assert (
        decoded("<p>A кот".encode("cp1251"), "text/html; charset=utf-8")
        == "<p>A \ufffd\ufffd\ufffd"
    )


LABELS = st.sampled_from(
    ["utf-8", "utf-16", "utf-7", "gb2312", "big5", "shift_jis", "iso-2022-jp", "hz-gb-2312",
     "rot13", "base64", "euc-kr", "latin1", "x-user-defined", "idna", "\ud800", "é", "",
     "unicode-escape"]
)  # fmt: skip


@given(st.binary(), LABELS, LABELS)
def test_any_bytes_with_any_labels_are_some_text_that_can_be_written(body, in_header, in_meta):
    meta = f"<meta charset={in_meta}>".encode(errors="ignore")
    text = decoded(meta + body, f"text/html; charset={in_header}")
    assert text.encode()
