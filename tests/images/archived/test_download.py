"""Every outcome there is, from one list out of archives."""

import gzip
import hashlib
from pathlib import Path

import msgspec
import pytest

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.images.picture.decode import open_rgb
from cah_dask.run.indexing.job import IndexJob
from tests import warcs
from tests.archived import OPTIONS, make_index, take
from tests.hostile import broken, picture
from tests.warcs import response, revisit, write_warc

JPEG = {"Content-Type": "image/jpeg"}
NEW, OLD = "2024-05-31T01:17:49Z", "2016-01-01T00:00:00Z"


def url(name: str, host: str = "pictures.test") -> str:
    return f"http://{host}/{name}"


def redirect(name: str, to: str, **others) -> bytes:
    return response(url(name), b"moved", {"Location": to, **others}, 302)


def sent(name: str, body: bytes, status: int = 200, **headers: str) -> bytes:
    """Return a response to a picture's url; a header is spelt with _ for -."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return response(url(name), body, {**JPEG, **named}, status)


PICTURE = {name: picture(seed=at) for at, name in enumerate("abcdefghi")}
OUTCOMES: dict[str, tuple[bytes, str]] = {
    "plain.jpg": (sent("plain.jpg", PICTURE["a"]), "ok"),
    "chunked.jpg": (
        sent("chunked.jpg", warcs.chunked(PICTURE["b"]), Transfer_Encoding="chunked"), "ok",
    ),
    "packed.jpg": (sent("packed.jpg", gzip.compress(PICTURE["c"]), Content_Encoding="gzip"), "ok"),
    "long.jpg": (sent("long.jpg", PICTURE["d"], Content_Length="9999999"), "ok"),
    "short.jpg": (sent("short.jpg", PICTURE["e"], Content_Length="10"), "ok"),
    "as-html.jpg": (sent("as-html.jpg", PICTURE["f"], Content_Type="text/html"), "ok"),
    "resource.jpg": (response(url("resource.jpg"), PICTURE["g"], JPEG, kind="resource"), "ok"),
    "part.jpg": (sent("part.jpg", PICTURE["h"], 206), "ok"),
    "404.jpg": (sent("404.jpg", b"gone", 404), "http_404"),
    "410.jpg": (sent("410.jpg", b"", 410), "http_410"),
    "403.jpg": (sent("403.jpg", PICTURE["a"], 403), "http_403"),
    "418.jpg": (sent("418.jpg", b"", 418), "http_4xx"),
    "500.jpg": (sent("500.jpg", b"", 500), "http_5xx"),
    "204.jpg": (sent("204.jpg", b"", 204), "http_other"),
    "page.jpg": (sent("page.jpg", b"<html>" * 9, Content_Type="text/html"), "bad_type"),
    "text.jpg": (sent("text.jpg", b"<html>" * 9), "decode_format"),
    "empty.jpg": (sent("empty.jpg", b""), "empty"),
    "big.jpg": (sent("big.jpg", b"x" * 1_000_001), "too_big"),
    "bomb.jpg": (
        sent("bomb.jpg", gzip.compress(bytes(30 << 20)), Content_Encoding="gzip"), "too_big",
    ),
    "broken.png": (sent("broken.png", broken()), "decode_error"),
    "cut.jpg": (sent("cut.jpg", PICTURE["a"][:-400]), "decode_truncated"),
    "small.jpg": (sent("small.jpg", picture(size=(20, 20))), "too_small"),
    "noai.jpg": (sent("noai.jpg", PICTURE["a"], X_Robots_Tag="noai"), "optout"),
    "tdm.jpg": (sent("tdm.jpg", PICTURE["a"], TDM_Reservation="1"), "optout"),
    "signal.jpg": (sent("signal.jpg", PICTURE["a"], Content_Signal="ai-train=no"), "optout"),
    "listed.jpg": (sent("listed.jpg", picture(seed=99)), "hash_listed"),
    "no-http.jpg": (warcs.record("response", url("no-http.jpg"), b"what?"), "http_other"),
    "moved.jpg": (redirect("moved.jpg", "/plain.jpg#x"), "ok"),
    "moved-twice.jpg": (redirect("moved-twice.jpg", "moved.jpg"), "ok"),
    "moved-away.jpg": (redirect("moved-away.jpg", "//other.test/1.jpg"), "ok"),
    "moved-off.jpg": (redirect("moved-off.jpg", "/never-seen.jpg"), "not_archived"),
    "moved-nowhere.jpg": (redirect("moved-nowhere.jpg", ""), "redirect_invalid"),
    "moved-file.jpg": (redirect("moved-file.jpg", "file:///etc/passwd"), "redirect_invalid"),
    "moved-round.jpg": (redirect("moved-round.jpg", "/moved-round.jpg"), "redirect_limit"),
    "moved-noai.jpg": (redirect("moved-noai.jpg", "/plain.jpg", **{"X-Robots-Tag": "noai"}),
                       "optout"),
    "moved-out.jpg": (redirect("moved-out.jpg", "http://out.test/1.jpg"), "optout"),
    "again.jpg": (revisit(url("again.jpg"), (url("1.jpg", "other.test"), NEW)), "ok"),
    "again-self.jpg": (revisit(url("again-self.jpg"), ("", ""), warcs.digest(PICTURE["i"])), "ok"),
    "again-alike.jpg": (
        revisit(url("again-alike.jpg"), (url("plain.jpg"), ""), warcs.digest(PICTURE["a"])), "ok",
    ),
    "again-304.jpg": (revisit(url("again-304.jpg"), (url("plain.jpg"), NEW), status=304), "ok"),
    "again-404.jpg": (revisit(url("again-404.jpg"), (url("404.jpg"), NEW), status=404), "http_404"),
    "again-no-word.jpg": (revisit(url("again-no-word.jpg"), ("", "")), "not_archived"),
    "again-lost.jpg": (revisit(url("again-lost.jpg"), (url("never-seen.jpg"), NEW)),
                       "not_archived"),
    "again-other.jpg": (revisit(url("again-other.jpg"), (url("1.jpg", "other.test"), OLD)),
                        "not_archived"),
    "again-itself.jpg": (revisit(url("again-itself.jpg"), (url("again-itself.jpg"), NEW)),
                         "not_archived"),
    "again-moved.jpg": (
        warcs.record("revisit", url("again-moved.jpg"),
                     warcs.http(b"", {"Location": "/plain.jpg"}, 301)),
        "ok",
    ),
    "again-noai.jpg": (
        warcs.record("revisit", url("again-noai.jpg"), warcs.http(b"", {"X-Robots-Tag": "noai"}),
                     fields={"WARC-Refers-To-Target-URI": url("plain.jpg")}),
        "optout",
    ),
}  # fmt: skip
OTHERS = {
    url("never-seen.jpg"): "not_archived",
    url("1.jpg", "out.test"): "optout",
    "ftp://pictures.test/x.jpg": "bad_url",
    "http://[/x.jpg": "bad_url",
    url("published.jpg"): "changed",
}
ELSEWHERE = [
    response(url("1.jpg", "other.test"), picture(seed=50), JPEG),
    response(url("1.jpg", "out.test"), picture(seed=51), JPEG),
    response(url("published.jpg"), picture(seed=52), JPEG),
    response("dns:pictures.test", b"1.2.3.4", kind="resource"),
]
EXPECTED = {url(name): status for name, (_, status) in OUTCOMES.items()} | OTHERS


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("archives")
    records = [record for record, _ in OUTCOMES.values()]
    older = response(
        url("again-self.jpg"), PICTURE["i"], JPEG, status=203, fields={"WARC-Date": OLD}
    )
    return [
        write_warc(folder / "a.warc.gz", records[::2], requests=True),
        write_warc(folder / "b.warc", records[1::2], gzip=False),
        write_warc(folder / "c.warc.gz", [*ELSEWHERE, older]),
    ]


@pytest.fixture(scope="module")
def index(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> IndexJob:
    return make_index(tmp_path_factory.mktemp("made") / "index", sources)


def limits(folder: Path) -> dict:
    """Return lists of what may not be kept, and what was published of a url."""
    listed, hosts = folder / "md5.txt", folder / "hosts.txt"
    listed.write_text(hashlib.md5(picture(seed=99)).hexdigest() + "\n")
    hosts.write_text("out.test\n")
    return {
        "exclusion": load_exclusion([f"md5:{listed}", f"host:{hosts}"]),
        "published": {url("published.jpg"): frozenset(["0" * 64])},
    }


def test_every_record_ends_its_url_in_the_status_that_the_web_would(index, tmp_path):
    made, images = take(list(EXPECTED), index, tmp_path / "x.h5", **limits(tmp_path))
    found = dict(zip(EXPECTED, made.outcomes["status"].to_pylist(), strict=True))
    assert found == EXPECTED
    assert made.counts.kept == len(images) == list(EXPECTED.values()).count("ok")
    assert made.errors == ()
    assert all(open_rgb(image).size == (96, 72) for image in images[:8])


def test_the_outcomes_tell_of_the_capture(index, tmp_path):
    names = [
        "plain.jpg",
        "moved-away.jpg",
        "again.jpg",
        "404.jpg",
        "resource.jpg",
        "again-self.jpg",
    ]
    urls = [*map(url, names), url("never-seen.jpg")]
    made, _ = take(urls, index, tmp_path / "x.h5")
    rows = made.outcomes.to_pylist()
    other = url("1.jpg", "other.test")
    assert [row["final_url"] for row in rows] == [urls[0], other, urls[2], *urls[3:6], None]
    assert [row["http_status"] for row in rows] == [200, 200, 200, 404, None, 203, None]
    dates = [row["fetched_at"].strftime("%Y-%m-%dT%H:%M:%SZ") for row in rows]
    assert dates == [NEW] * 5 + [OLD, "1970-01-01T00:00:00Z"]
    assert {row["fetch_ms"] for row in rows} == {0}
    assert [row["attempts"] for row in rows] == [1] * 6 + [0]
    assert rows[0]["sha256"] == hashlib.sha256(PICTURE["a"]).hexdigest()
    assert rows[0]["n_bytes"] == len(PICTURE["a"])


def test_redirects_are_followed_as_far_as_they_may_be(index, tmp_path):
    options = msgspec.structs.replace(OPTIONS, max_redirects=1)
    made, _ = take([url("moved.jpg"), url("moved-twice.jpg")], index, tmp_path / "x.h5", options)
    assert made.outcomes["status"].to_pylist() == ["ok", "redirect_limit"]
    assert made.outcomes["final_url"].to_pylist()[1] == url("moved.jpg")


def test_what_sites_reserve_counts_unless_an_option_says_otherwise(index, tmp_path):
    options = msgspec.structs.replace(
        OPTIONS, opt_outs=(), respect_tdm=False, respect_content_signal=False
    )
    urls = [url(name) for name in ("noai.jpg", "tdm.jpg", "signal.jpg", "moved-noai.jpg")]
    made, _ = take(urls, index, tmp_path / "x.h5", options)
    assert made.counts.kept == 4


def test_the_same_archives_give_the_same_bytes(index, sources, tmp_path):
    urls = list(EXPECTED)
    made, _ = take(urls, index, tmp_path / "1.h5")
    options = msgspec.structs.replace(OPTIONS, decoders=3)
    other = make_index(tmp_path / "index", sources[::-1], buckets=1, seed=3)
    again, _ = take(urls, other, tmp_path / "2.h5", options)
    assert made.outcomes.equals(again.outcomes)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_the_newest_capture_that_holds_a_picture_is_taken(tmp_path):
    dates = ["2019-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]
    records = [
        response(url("x.jpg"), picture(seed=at), JPEG, fields={"WARC-Date": date})
        for at, date in enumerate(dates)
    ]
    records.append(
        response(url("x.jpg"), b"gone", JPEG, 404, fields={"WARC-Date": "2023-01-01T00:00:00Z"})
    )
    index = make_index(tmp_path / "index", [write_warc(tmp_path / "x.warc.gz", records)])
    made, _ = take([url("x.jpg")], index, tmp_path / "x.h5")
    assert made.outcomes["sha256"].to_pylist() == [hashlib.sha256(picture(seed=1)).hexdigest()]


def test_a_url_is_found_under_the_other_scheme(tmp_path):
    secure = [url(name).replace("http:", "https:") for name in ("1.jpg", "2.jpg", "3.jpg")]
    records = [
        response(secure[0], picture(seed=1), JPEG),
        response(url("2.jpg"), b"", {"Location": secure[1]}, 301),
        response(secure[1], picture(seed=2), JPEG),
        response(url("3.jpg"), b"", {"Location": secure[2]}, 301),
    ]
    index = make_index(tmp_path / "index", [write_warc(tmp_path / "x.warc.gz", records)])
    urls = [*map(url, ("1.jpg", "2.jpg", "3.jpg")), *secure]
    made, _ = take(urls, index, tmp_path / "x.h5")
    assert made.outcomes["status"].to_pylist() == ["ok", "ok", "not_archived"] * 2


def test_an_archive_that_is_gone_costs_its_own_urls(sources, tmp_path):
    copies = [tmp_path / Path(source).name for source in sources]
    for copy, source in zip(copies, sources, strict=True):
        copy.write_bytes(Path(source).read_bytes())
    index = make_index(tmp_path / "index", [str(copy) for copy in copies])
    copies[1].unlink()
    names = list(OUTCOMES)
    made, _ = take([url(name) for name in names], index, tmp_path / "x.h5")
    found = dict(zip(names, made.outcomes["status"].to_pylist(), strict=True))
    elsewhere = {"again-self.jpg"}  # a capture of it is in another archive
    assert {found[name] for name in set(names[1::2]) - elsewhere} == {"archive_lost"}
    assert found["plain.jpg"] == "ok"
    (error,) = made.errors
    assert error.startswith("1 archive out of reach or damaged: b.warc is out of reach")


@pytest.mark.parametrize(
    ("damage", "lost", "is_packed"),
    [
        *((lambda data: data[: len(data) // 2], set("2345"), packed) for packed in (True, False)),
        *((lambda data: data[:-5], set("5"), packed) for packed in (True, False)),
        *((lambda _: b"", set("012345"), packed) for packed in (True, False)),
        (lambda data: data[:1900] + b"\0\xff\0\xff" + data[1904:], set("1"), True),
    ],
)
def test_what_an_archive_does_not_hold_any_more_is_lost(tmp_path, damage, lost, is_packed):
    records = [response(url(f"{n}.jpg"), picture(seed=n), JPEG) for n in range(6)]
    path = tmp_path / "x.warc"
    index = make_index(tmp_path / "index", [write_warc(path, records, gzip=is_packed)])
    path.write_bytes(damage(path.read_bytes()))
    made, _ = take([url(f"{n}.jpg") for n in range(6)], index, tmp_path / "x.h5")
    statuses = made.outcomes["status"].to_pylist()
    assert statuses == ["archive_lost" if n in lost else "ok" for n in "012345"]
    (error,) = made.errors
    assert error.startswith("1 archive out of reach or damaged: x.warc: at byte ")


def test_every_archive_that_is_lost_is_named(tmp_path):
    paths = [tmp_path / f"{n}.warc.gz" for n in range(3)]
    for n, path in enumerate(paths):
        write_warc(path, [response(url(f"{n}.jpg"), picture(seed=n), JPEG)])
    index = make_index(tmp_path / "index", [str(path) for path in paths])
    paths[0].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:-9])
    made, _ = take([url(f"{n}.jpg") for n in range(3)], index, tmp_path / "x.h5")
    assert made.outcomes["status"].to_pylist() == ["archive_lost", "ok", "archive_lost"]
    (error,) = made.errors
    assert error.startswith("2 archives out of reach or damaged: 0.warc.gz is out of reach")
    assert "2.warc.gz: at byte " in error
    assert str(tmp_path) not in error


def test_another_archive_in_the_place_of_an_indexed_one_gives_no_wrong_picture(tmp_path):
    records = [response(url(f"{n}.jpg"), picture(seed=n), JPEG) for n in range(9)]
    path = tmp_path / "x.warc.gz"
    index = make_index(tmp_path / "index", [write_warc(path, records)])
    write_warc(path, records[1:])
    made, _ = take([url(f"{n}.jpg") for n in range(9)], index, tmp_path / "x.h5")
    assert made.counts.rejected == {"not_archived": 9}
