import gzip
import random

import pytest

from cah_dask.errors import RetryableError
from cah_dask.images.archived.captures import Capture, seconds_of
from cah_dask.images.archived.cdx import CdxLines, is_cdx

URL = "http://pictures.test/a%20b/1.jpg?x=1"
DIGEST = "B2LTWWPUOYAH7UIPQ7ZUPQ4VMBSVC36A"
DATE = "20240531011749"
CAPTURE = Capture(
    URL,
    seconds_of(DATE),
    200,
    is_revisit=False,
    digest=DIGEST,
    archive="some/a.warc.gz",
    offset=1234,
)

CLASSIC = (
    f"test,pictures)/a%20b/1.jpg?x=1 {DATE} {URL} image/jpeg 200 {DIGEST} - - 555 1234 "
    "some/a.warc.gz"
)
NINE = f"test,pictures)/a b {DATE} {URL} image/jpeg 200 {DIGEST} - 1234 some/a.warc.gz"
CDXJ = (
    f'test,pictures)/a%20b/1.jpg?x=1 {DATE} {{"url": "{URL}", "mime": "image/jpeg", '
    f'"status": "200", "digest": "sha1:{DIGEST}", "length": "555", "offset": "1234", '
    '"filename": "some/a.warc.gz"}'
)
COMMON_CRAWL = CDXJ.replace("sha1:", "").replace('"filename"', '"languages": "eng", "filename"')


def captures(path, text: str) -> tuple[list[Capture], CdxLines]:
    path.write_text(text)
    lines = CdxLines(str(path))
    return list(lines), lines


@pytest.mark.parametrize(
    "text",
    [
        f" CDX N b a m s k r M S V g\n{CLASSIC}\n",
        CLASSIC,
        f"{CLASSIC} - - -\n",
        f" CDX N b a m s k r V g\r\n{NINE.replace('/a b', '/a%20b')}\r\n",
        f" CDX a b V g k s\n{URL} {DATE} 1234 some/a.warc.gz {DIGEST} 200\n",
        f"!OpenWayback-CDXJ 1.0\n{CDXJ}\n\n",
        f"{COMMON_CRAWL}\n",
        COMMON_CRAWL.replace('"1234"', "1234").replace('"200"', "200"),
    ],
)
def test_every_kind_of_cdx_file_tells_the_same(tmp_path, text):
    found, lines = captures(tmp_path / "x.cdx", text)
    assert [each._replace(digest=each.digest.removeprefix("sha1:")) for each in found] == [CAPTURE]
    assert (lines.n_lines, lines.n_bad, lines.errors) == (1, 0, [])


def test_revisits_and_resources_are_told_by_type_and_status(tmp_path):
    revisit = CLASSIC.replace("image/jpeg 200", "warc/revisit -")
    resource = CLASSIC.replace("image/jpeg 200", "image/jpeg -")
    found, _ = captures(tmp_path / "x.cdx", f"{revisit}\n{resource}\n")
    assert [(each.status, each.is_revisit) for each in found] == [(0, True), (200, False)]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        CLASSIC.replace(" 1234 ", " 12x "),
        CLASSIC.replace(" 1234 ", " -5 "),
        CLASSIC.replace("some/a.warc.gz", "-"),
        CLASSIC.replace("200", "ok"),
        CDXJ[:-1],
        CDXJ.replace('"offset": "1234", ', ""),
        f"{DATE} {{}}",
        ' {"url": 1}',
        CLASSIC.replace(" 1234 ", f" {1 << 63} "),
        CDXJ.replace('"1234"', f'"{1 << 64}"'),
        CDXJ.replace('"1234"', str(1 << 64)),
        CDXJ.replace('"1234"', "[" * 100_000),
        CDXJ.replace('"mime"', f'"more": {"[" * 100_000}, "mime"'),
        CDXJ.replace("a.warc", "a\\u0000.warc"),
        CLASSIC.replace("a.warc", "a\0.warc"),
        "x" * (3 << 20),
    ],
)
def test_a_line_that_names_no_record_is_counted_and_costs_no_other(tmp_path, line):
    found, lines = captures(tmp_path / "x.cdx", f"{CLASSIC}\n{line}\n{CDXJ}\n")
    assert [each.offset for each in found] == [1234, 1234]
    assert (lines.n_lines, lines.n_bad) == (3, 1)


def test_any_bytes_give_captures_or_are_counted(tmp_path):
    chance = random.Random(4)
    text = f" CDX N b a m s k r M S V g\n{CLASSIC}\n{CDXJ}\n".encode()
    for _ in range(300):
        data = bytearray(text)
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path = tmp_path / "x.cdx"
        path.write_bytes(data)
        lines = CdxLines(str(path))
        assert len(list(lines)) + lines.n_bad == lines.n_lines


def test_what_is_readable_of_a_damaged_file_is_used(tmp_path):
    members = [gzip.compress(f"{CLASSIC}\n".encode() * 100) for _ in range(3)]
    path = tmp_path / "cdx-00000.gz"
    path.write_bytes(b"".join(members)[:-20])
    lines = CdxLines(str(path))
    assert 200 <= len(list(lines)) < 300
    (error,) = lines.errors
    assert "unreadable after" in error


def test_a_file_that_is_not_there_may_be_there_later(tmp_path):
    with pytest.raises(RetryableError, match="out of reach from here"):
        list(CdxLines(str(tmp_path / "gone.cdx")))


def test_cdx_files_are_told_by_their_names():
    names = ("a.cdx", "b/a.cdxj", "a.cdx.gz", "https://h.test/cdx-00012.gz?x=1", "cdx-00012.gz")
    assert all(map(is_cdx, names))
    assert not any(map(is_cdx, ("a.warc.gz", "cdx.warc.gz", "a.cdx/b.warc.gz", "xcdx-1.gz")))
