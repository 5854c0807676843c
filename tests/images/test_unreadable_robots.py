"""What could not be read is not "allows": robots.txt in every way that a server may send it."""

import asyncio
import contextlib
import gzip
import itertools
import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import brotli
import pytest

from cah_dask.codings import read_text
from cah_dask.images.download import download_list
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.web.fetch import ROBOTS_BYTES
from tests.hostile import picture
from tests.images.downloads import download, options, statuses
from tests.rawserver import RawServer, mutated_answers, odd_answers
from tests.webserver import WebServer

RULES = b"User-agent: *\nDisallow: /\n"
PICTURE = picture()
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n" + PICTURE


class RobotsServer(RawServer):
    """Gives its nth answer for robots.txt of the host hN.test, and a picture for all else."""

    def __init__(self, answers: list[bytes]) -> None:
        super().__init__(answers)
        self.pictures: Counter[int] = Counter()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            host = request.partition(b"Host: h")[2].partition(b".")[0]
            path = request.split(b" ")[1]
            self.pictures[int(host)] += path.endswith(b".jpg")
            there = IMAGE if path.endswith(b".jpg") else answer("200 OK", RULES)
            writer.write(self._answers[int(host)] if path == b"/robots.txt" else there)
            await writer.drain()
        writer.close()


def outcomes(answers: list[bytes], folder: Path) -> list[str]:
    """Ask for one picture of a host for each answer; return the statuses."""
    with RobotsServer(answers) as server:
        given = DownloadOptions(
            contact="me@lab.example",
            resolve={"*.test": "127.0.0.1"},
            allow_addresses=("127.0.0.1/32",),
            allow_ports=(server.port,),
            hosts=HostOptions(spacing_s=0, backoff_s=0, address_concurrency=32),
            retries=0,
            read_timeout_s=5,
            total_timeout_s=20,
            decoders=1,
            alarm_share=0,
        )
        urls = [f"http://h{n}.test:{server.port}/ok.jpg" for n in range(len(answers))]
        made = download_list(urls, folder / "a.h5", given, DecodeOptions())
    found = statuses(made)
    assert [server.pictures[n] > 0 for n in range(len(answers))] == [s == "ok" for s in found]
    return found


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "plain": RULES,
    "gzip": gzip.compress(RULES),
    "gzip stored": gzip.compress(RULES, compresslevel=0),
    "gzip twice": gzip.compress(gzip.compress(RULES)),
    "gzip members": gzip.compress(RULES[:9]) + gzip.compress(RULES[9:]),
    "zlib": zlib.compress(RULES),
    "deflate": raw_deflate(RULES),
    "brotli": brotli.compress(RULES),
    "utf-16": RULES.decode().encode("utf-16"),
    "long": RULES + b"# more\n" * 100_000,
    "gzip long": gzip.compress(RULES + b"# more\n" * 100_000),
}
NAMED = {  # packings that a label makes readable, and what says so
    "gzip": {"gzip", "gzip stored", "gzip twice", "gzip members", "gzip long"},
    "X-GZip": {"gzip", "gzip stored", "gzip twice", "gzip members", "gzip long"},
    "gzip, gzip": {"gzip twice"},
    "deflate": {"zlib", "deflate"},
    "br": {"brotli"},
}
SELF_EVIDENT = {"plain", "long", "utf-16", "zlib"} | NAMED["gzip"]
LABELS = [
    "",
    *NAMED,
    "identity",
    "zstd",
    "compress",
    "utf-8",
    "none",
    ", ,",
    "gzip, br, deflate, br",
]
DAMAGED = {
    "picture": PICTURE,
    **{f"{name} cut": PACKED[name][:-9] for name in ("gzip", "gzip stored", "zlib", "brotli")},
    **{
        f"brotli stored, cut at {at}": b"\x8b\r\x80\n\n" + RULES[:at]
        for at in range(11, RULES.index(b"Disallow"), 3)
    },
    "gzip damaged": PACKED["gzip"][:20] + b"\xff\xff" + PACKED["gzip"][22:],
    "gzip head": b"\x1f\x8b",
    "zeros": bytes(ROBOTS_BYTES + 9),
    "zstd": bytes.fromhex("28b52ffd205cd90000") + RULES,
    "binary": random.Random(0).randbytes(300),
    "compress": b"\x1f\x9d\x90" + random.Random(1).randbytes(50),
    "utf-16 without its mark": RULES.decode().encode("utf-16-le"),
}


def framed(body: bytes, way: str) -> tuple[bytes, bytes]:
    """Return headers that say how long a body is, and the body as it is sent."""
    match way:
        case "length":
            return b"Content-Length: %d\r\n" % len(body), body
        case "close":
            return b"", body
        case "chunks":
            halves = [body[: len(body) // 2], body[len(body) // 2 :]]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves if half)
            return b"Transfer-Encoding: chunked\r\n", chunks + b"0\r\n\r\n"
        case "cut":
            return b"Content-Length: %d\r\n" % (len(body) + 99), body
        case "cut chunks":
            return b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b" % (len(body) + 9, body)
        case "bad chunks":
            return b"Transfer-Encoding: chunked\r\n", b"zz\r\n%b" % body
    raise ValueError(way)


def answer(
    status: str, body: bytes, coding: str = "", way: str = "length", headers: bytes = b""
) -> bytes:
    length, sent = framed(body, way)
    coded = f"Content-Encoding: {coding}\r\n".encode() if coding else b""
    return b"HTTP/1.1 %b\r\n%b%b%b\r\n%b" % (status.encode(), coded, length, headers, sent)


SUCCESSES = ["200 OK", "201 Created", "203 Non-Authoritative", "226 IM Used", "299 What"]
UNAVAILABLE = ["400 No", "401 No", "403 No", "404 No", "410 Gone", "418 Tea", "451 No", "499 X"]
UNREACHABLE = [
    *("206 Partial", "300 Many", "301 Moved", "302 Found", "304 Not Modified", "307 T", "308 P"),
    *("429 Slow", "500 No", "503 Busy", "599 X", "101 Switching", "600 What", "999 What"),
]
WHOLE, BROKEN = ["length", "close", "chunks"], ["cut", "cut chunks", "bad chunks"]
HEADERS = [
    b"",
    b"X-Long: " + b"a" * 9_000 + b"\r\n",
    b"X-Many: a\r\n" * 200,
    b"X-Blank : a\r\n",
    b"X-Folded: a\r\n b\r\n",
    b"X-Latin: caf\xe9\r\n",
    b"No colon\r\n",
    b"X-Nul: \0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Location: /elsewhere.txt\r\n",
]


def test_rules_are_read_in_whatever_packing_they_come(tmp_path: Path):
    readable = [
        (status, body, label, way)
        for status, body, label, way in itertools.product(SUCCESSES, PACKED, LABELS, WHOLE)
        if (body in SELF_EVIDENT or body in NAMED.get(label, ())) and label.count(",") < 3
    ]
    drawn = random.Random(1).sample(readable, 250)
    answers = [answer(status, PACKED[body], label, way) for status, body, label, way in drawn]
    found = outcomes(answers, tmp_path)
    assert {case: s for case, s in zip(drawn, found, strict=True) if s != "robots"} == {}


def test_what_cannot_be_read_allows_nothing(tmp_path: Path):
    """Unpackable, cut, partial, or no success at all."""
    cases = [
        *itertools.product(SUCCESSES, DAMAGED, LABELS, WHOLE),
        *itertools.product(SUCCESSES, PACKED.keys() - {"long"}, LABELS, BROKEN),
        *itertools.product(UNREACHABLE, PACKED, LABELS, WHOLE),
    ]
    drawn, bodies = random.Random(2).sample(cases, 400), PACKED | DAMAGED
    answers = [answer(status, bodies[body], label, way) for status, body, label, way in drawn]
    found = outcomes(answers, tmp_path)
    allowed = {"robots_unreachable", "disconnected", "http_429", "http_5xx"}
    assert {case: s for case, s in zip(drawn, found, strict=True) if s not in allowed} == {}


def test_no_answer_but_a_missing_file_allows_what_its_rules_forbid(tmp_path: Path):
    """Whatever the status, the headers, the packing and the framing."""
    statuses, bodies, chance = [*SUCCESSES, *UNREACHABLE], PACKED | DAMAGED, random.Random(3)
    parts: tuple[Sequence[Any], ...] = (statuses, list(bodies), LABELS, WHOLE + BROKEN, HEADERS)
    drawn = [tuple(map(chance.choice, parts)) for _ in range(400)]
    answers = [answer(status, bodies[body], *more) for status, body, *more in drawn]
    found = outcomes(answers, tmp_path)
    assert [case for case, status in zip(drawn, found, strict=True) if status == "ok"] == []


def test_no_damage_to_an_answer_makes_it_allow(tmp_path: Path):
    """Odd answers, with the rules for their body; a 4xx or a 204 that comes out may allow."""
    length, ours = b"%d" % len(picture()), b"%d" % len(RULES)
    odd = [
        one.partition(b"\r\n\r\n")[0].replace(length, ours) + b"\r\n\r\n" + RULES
        for one in [*odd_answers(), *mutated_answers(400, seed=4)]
    ]
    found = outcomes(odd, tmp_path)
    fetched = [one for one, status in zip(odd, found, strict=True) if status == "ok"]
    assert [one for one in fetched if one.split()[1][:1] != b"4"] == []


def test_a_file_that_is_not_there_or_empty_allows_all(tmp_path: Path):
    empty = ["200 OK", "204 No Content", "205 Reset"]
    answers = [
        *(answer(status, RULES, way=way) for status in UNAVAILABLE for way in WHOLE),
        *(answer(status, b"") for status in empty),
        answer("200 OK", gzip.compress(b""), "gzip"),
        answer("200 OK", b"", "gzip"),
        answer("200 OK", b"<html>\xe9 not here</html>"),
    ]
    assert set(outcomes(answers, tmp_path)) == {"ok"}


@pytest.mark.parametrize(
    ("pack", "coding"),
    [
        (gzip.compress, "gzip"),
        (zlib.compress, "deflate"),
        (raw_deflate, "deflate"),
        (brotli.compress, "br"),
        (lambda data: gzip.compress(gzip.compress(data)), "gzip"),
    ],
)
def test_a_bomb_costs_no_more_than_a_long_file(pack, coding):
    bomb = pack(RULES + b"\n" * 100_000_000)
    assert len(bomb) < ROBOTS_BYTES
    tracemalloc.start()
    text = read_text(bomb, coding, ROBOTS_BYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text is not None
    assert text.startswith(RULES)
    assert len(text) == ROBOTS_BYTES
    assert peak < 6 * ROBOTS_BYTES


def test_a_host_whose_rules_cannot_be_read_is_not_asked_for_them_for_ever(tmp_path: Path):
    with WebServer() as web:
        web.robots["a.test"] = b"\x1f\x8b"
        hosts = HostOptions(spacing_s=0, max_failures=4, rest_s=0.1)
        urls = [web.url(f"/ok-{n}.jpg") for n in range(40)]
        made, _ = download(urls, tmp_path, options(web, hosts=hosts, retries=3, alarm_share=0))
        found = Counter(statuses(made))
        assert found.keys() == {"robots_unreachable", "host_suspended"}
        assert web.hits["a.test", "/robots.txt"] <= 6
        assert len(web.log) == web.hits["a.test", "/robots.txt"]


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_what_is_cut_at_the_limit_loses_its_last_line(tmp_path: Path, coding: str):
    """`Allow: /x` would otherwise become `Allow: /`, which is as long as what it is to allow."""
    last = b"Allow: /"
    filling = b"#" * (ROBOTS_BYTES - len(RULES) - len(last) - 1) + b"\n"
    text = RULES + filling + last + b"x\n"
    body = gzip.compress(text) if coding else text
    assert text[:ROBOTS_BYTES].endswith(b"\nAllow: /")
    assert outcomes([answer("200 OK", body, coding)], tmp_path) == ["robots"]
