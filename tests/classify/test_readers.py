"""Pictures and main texts out of records, whatever their headers say."""
# ruff: noqa: RUF001  # other scripts are meant

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cah_dask.archives.responses import Response, Responses
from cah_dask.classify.hook_process import payload_of
from cah_dask.classify.readers.image import Pictures
from cah_dask.classify.readers.text import MainTexts
from cah_dask.errors import ConfigError
from tests.hostile import bomb, broken, encoded, picture
from tests.warcs import chunked, response, write_warc


def record(body: bytes, mime: str = "text/html", content_type: str = "") -> Response:
    """Of a resource, which has no headers but the type of its record."""
    said = content_type or mime
    return Response(
        0, "resource", "http://a.test/", "", "", None, (), mime, ("", ""), body, content_type=said
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_is_told_by_its_bytes(kind: str):
    pixels = Pictures(side=32)(record(picture(kind), "text/html"))
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", bomb(), broken(), picture()[:900], picture(size=(20, 90)), b"\x89PNG\r\n"],
)
def test_what_is_no_picture_worth_having_is_not_wanted(body: bytes):
    assert Pictures()(record(body, "image/jpeg")) is None


def stripes(width: int, height: int) -> bytes:
    """Draw a picture of which the left third is red, the middle green and the right blue."""
    image = Image.new("RGB", (width, height), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, width // 3, height))
    image.paste((0, 255, 0), (width // 3, 0, 2 * width // 3, height))
    return encoded(image, "PNG")


def test_a_picture_is_cut_squashed_or_left_in_its_shape():
    body = record(stripes(288, 96))
    cut, squashed, whole = (Pictures(side=64, fit=fit)(body) for fit in ("crop", "squash", "whole"))
    assert cut is not None
    assert (cut[:, 2:-2] == (0, 255, 0)).all()
    assert squashed is not None
    assert squashed[32, [3, 32, 60]].argmax(axis=1).tolist() == [0, 1, 2]
    assert whole is not None
    assert whole.shape == (64, 192, 3)


def test_a_small_picture_is_made_larger_to_the_square_alone():
    body = record(stripes(99, 66))
    enlarged, whole = (Pictures(side=224, fit=fit)(body) for fit in ("crop", "whole"))
    assert enlarged is not None
    assert enlarged.shape == (224, 224, 3)
    assert whole is not None
    assert whole.shape == (66, 99, 3)


def test_a_cut_picture_is_the_middle_of_what_open_clip_resizes():
    image = Image.open(io.BytesIO(picture(size=(300, 224))))
    pixels = Pictures(side=224)(record(encoded(image, "PNG")))
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(image.crop((38, 0, 262, 224))))


def test_limits_of_pictures_are_those_of_the_download():
    body = record(picture(size=(96, 72)), "image/jpeg")
    assert Pictures(min_side_px=72)(body) is not None
    assert Pictures(min_side_px=73)(body) is None
    assert Pictures(formats=["PNG"])(body) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit": "pad"}, "Pictures has fit 'pad'; known: crop, squash, whole"),
        ({"quality": 3}, "Pictures has no argument quality; use side and fit"),
        ({"side": 4}, "Pictures: Expected `int` >= 16 - at `$.side_px`"),
        ({"colour": 1}, "Pictures: Object contains unknown field `colour`"),
    ],
)
def test_wrong_arguments_of_pictures_are_one_line(arguments, message: str):
    with pytest.raises(ConfigError) as caught:
        Pictures(**arguments)
    assert str(caught.value) == message


SENTENCES = {
    "en": "The lighthouse stands at the end of the harbour, and the keeper climbs its stairs.",
    "de": "Der Leuchtturm steht über dem Hafen, und der Wärter steigt über die Treppe hinauf.",
    "ru": "Маяк стоит в конце гавани, и смотритель поднимается по лестнице каждый вечер.",
    "ja": "灯台は港の端に立っていて、番人は毎晩その階段を上って明かりをともします。",
    "zh": "灯塔矗立在港口的尽头,守塔人每天晚上都会爬上楼梯点亮灯火。",
    "el": "Ο φάρος στέκεται στο τέλος του λιμανιού και ο φύλακας ανεβαίνει τις σκάλες.",
}


def page(text: str, meta: str = "") -> str:
    paragraphs = f"<p>{text}</p>\n" * 4
    return (
        f"<!DOCTYPE html><html><head>{meta}<title>x</title><script>var a = 1;</script></head><body>"
        f"<nav><ul><li><a href='/'>Menu</a></li></ul></nav><article><h1>Title</h1>{paragraphs}"
        f"</article><footer>Imprint</footer></body></html>"
    )


def test_the_main_text_leaves_menus_scripts_and_footers_out():
    text = MainTexts()(record(page(SENTENCES["en"]).encode()))
    assert text == " ".join(["Title", *[SENTENCES["en"]] * 4])
    assert text.payload == "\n\n".join(["Title", *[SENTENCES["en"]] * 4])


def test_what_is_stored_of_a_text_is_its_payload_and_of_a_picture_its_file():
    body = record(page(SENTENCES["de"]).encode())
    text = MainTexts()(body)
    assert payload_of(text, body.body) == "\n\n".join(["Title", *[SENTENCES["de"]] * 4]).encode()
    file = picture()
    assert payload_of(Pictures()(record(file)), file) == file


def test_all_text_of_a_page_may_be_asked_for():
    text = MainTexts(main_content=False)(record(page(SENTENCES["en"]).encode()))
    assert text is not None
    assert text.startswith("Menu Title")
    assert text.endswith("Imprint")


ENCODED = [
    ("en", "utf-8"), ("de", "iso-8859-1"), ("de", "windows-1252"), ("ru", "windows-1251"),
    ("ru", "koi8-r"), ("ja", "shift_jis"), ("ja", "euc-jp"), ("ja", "iso-2022-jp"), ("zh", "gbk"),
    ("zh", "big5"), ("el", "iso-8859-7"), ("ja", "utf-8"),
]  # fmt: skip


def simplified(lang: str, charset: str) -> str:
    """The sentence, with the letters that a charset has."""
    return SENTENCES[lang].encode(charset, "ignore").decode(charset)


@pytest.mark.parametrize(("lang", "charset"), ENCODED)
def test_charsets_of_the_header_and_of_the_page_are_read(lang: str, charset: str):
    sentence = simplified(lang, charset)
    by_header = record(page(sentence).encode(charset), content_type=f"text/html; charset={charset}")
    meta = f"<meta charset='{charset}'>"
    by_page = record(page(sentence, meta).encode(charset), content_type="text/html")
    for each in (by_header, by_page):
        text = MainTexts()(each)
        assert text == " ".join(["Title", *[sentence] * 4])


@pytest.mark.parametrize("lie", ["iso-8859-1", "utf-16", "shift_jis", "none-such", "\xff", "'"])
@pytest.mark.parametrize("lang", ["de", "ru", "zh"])
def test_a_charset_that_lies_about_utf_8_is_not_believed(lang: str, lie: str):
    body = page(SENTENCES[lang], f"<meta charset='{lie}'>").encode()
    text = MainTexts()(record(body, content_type=f"text/html; charset={lie}"))
    assert text == " ".join(["Title", *[SENTENCES[lang]] * 4])


def test_what_is_called_utf_8_and_is_not_is_read_as_it_looks():
    body = page(SENTENCES["ru"], "<meta charset='utf-8'>").encode("windows-1251")
    text = MainTexts()(record(body, content_type="text/html; charset=utf-8"))
    assert text == " ".join(["Title", *[SENTENCES["ru"]] * 4])


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "utf-8"])
def test_a_byte_order_mark_is_believed_first(charset: str):
    body = ("\ufeff" + page(SENTENCES["ru"])).encode(charset)
    text = MainTexts()(record(body, content_type="text/html; charset=koi8-r"))
    assert text == " ".join(["Title", *[SENTENCES["ru"]] * 4])


def test_a_page_that_was_cut_within_a_letter_is_still_utf_8():
    body = f"<html><body><p>{SENTENCES['ru']} я".encode()[:-1]
    text = MainTexts()(record(body, content_type="text/html; charset=windows-1251"))
    assert text == f"{SENTENCES['ru']} \ufffd"


@pytest.mark.parametrize("lang", SENTENCES)
def test_only_texts_of_the_languages_that_are_wanted(lang: str):
    body = record(f"<html><body><p>{SENTENCES[lang]}".encode())
    assert MainTexts(languages=[lang])(body) is not None
    assert MainTexts(languages=[other for other in SENTENCES if other != lang])(body) is None


def test_only_texts_of_the_length_that_is_wanted():
    body = record(b"<html><body><p>Twelve chars")
    assert MainTexts(min_chars=12, max_chars=12)(body) == "Twelve chars"
    assert MainTexts(min_chars=13)(body) is None
    assert MainTexts(max_chars=11)(body) is None


def test_what_has_no_type_is_html_if_it_looks_so():
    begin = b" \n<!-- a --><!DOCTYPE html>"
    assert MainTexts()(record(begin + b"<p>Text", mime="")) == "Text"
    assert MainTexts()(record(b"%PDF-1.4 <html>", mime="")) is None
    assert MainTexts()(record(b"<html>Text", mime="application/pdf")) is None
    assert MainTexts()(record(b"<!---->" * 100_000, mime="")) is None


def test_plain_text_is_taken_as_it_is():
    text = MainTexts()(record(b"Zwei  Zeilen\nund ein <b>", mime="text/plain"))
    assert text == "Zwei Zeilen und ein <b>"
    assert text.payload == "Zwei  Zeilen\nund ein <b>"


@pytest.mark.parametrize(
    "body",
    [
        b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000,
        b"</div>" * 100_000 + b"<div>" * 50_000 + b"deep",
        b"<div></p>" * 100_000 + b"deep",
        b"<span><div></span>" * 50_000 + b"deep",
        b"<p><b>" * 20_000 + b"deep",
    ],
)
@pytest.mark.timeout(60)  # with a time that grows with the square of the depth it is minutes
def test_elements_nested_without_end_cost_what_they_are_long(body: bytes):
    text = MainTexts()(record(b"<html><body>" + body))
    assert text is None or text.endswith("deep")


@pytest.mark.timeout(60)
def test_a_page_of_100_mb_is_looked_at_as_far_as_is_said():
    body = b"<html><body><p>" + b"word " * 20_000_000
    text = MainTexts(max_bytes=100_015)(record(body))
    assert text == ("word " * 20_000).strip()


def test_records_that_are_packed_are_read_unpacked(tmp_path: Path):
    html = page(SENTENCES["de"]).encode()
    packed = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")]
    sent = [("Content-Type", "text/html"), ("Transfer-Encoding", "chunked")]
    bomb_of_zeros = gzip.compress(b"\0" * 50_000_000)
    archive = write_warc(
        tmp_path / "a.warc.gz",
        [
            response("http://a.test/1", gzip.compress(html), packed),
            response("http://a.test/2", chunked(html), sent),
            response("http://a.test/3", bomb_of_zeros, packed),
            response("http://a.test/4", picture(), {"Content-Type": "text/plain"}),
        ],
    )
    records = list(Responses(archive))
    expected = " ".join(["Title", *[SENTENCES["de"]] * 4])
    assert [MainTexts(min_chars=20)(each) for each in records[:3]] == [expected, expected, None]
    assert [Pictures(side=16)(each) is None for each in records] == [True, True, True, False]


@given(st.binary(max_size=300), st.sampled_from(["text/html", "", "text/plain", "image/png"]))
def test_no_bytes_raise(body: bytes, mime: str):
    text = MainTexts()(record(b"<html>" + body, mime))
    assert text is None or isinstance(text.payload, str)
    assert Pictures()(record(picture()[:100] + body, mime)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": "en"}, "MainTexts has languages 'en'; it takes a list such as"),
        ({"languages": ["en", False]}, r"MainTexts has languages \['en', False\]"),
        ({"min_chars": 9, "max_chars": 8}, "min_chars 9 and max_chars 8; no text is so long"),
        ({"language": {"min_bytes": "x"}}, "MainTexts: language: Expected `int`, got `str`"),
    ],
)
def test_wrong_arguments_of_texts_are_one_line(arguments, message: str):
    with pytest.raises(ConfigError, match=message):
        MainTexts(**arguments)
