"""Write a WARC archive of a small web of drawings: what the examples read.

    python examples/archive.py runs/drawings.warc.gz

200 pages tell of a shape each, two of three in English and the others in German, and show a picture
of it; urls say which shape it is. Every tenth picture is missing (404), every tenth was cut off in
the middle.
"""

import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from cah_dask.demo.captions import caption
from cah_dask.demo.pictures import random_picture
from cah_dask.demo.world import SHAPES, Scene, random_scene

N_PAGES = 200
_DATE = "2026-01-01T00:00:00Z"


def main(path: Path) -> None:
    """Write the archive, one gzip member for each record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(gzip.compress(record, mtime=0) for record in records()))


def records() -> Iterator[bytes]:
    """Yield a page and a picture of each of the scenes."""
    rng = random.Random(7)
    for number in range(N_PAGES):
        scene = random_scene(rng)
        url = f"http://drawings.example/{scene.shape}/{number:03}"
        page = html(about(scene.shape, "de" if number % 3 == 2 else "en", rng), f"{url}.jpg")
        yield response(f"{url}.html", "200 OK", "text/html; charset=utf-8", page.encode())
        picture = random_picture(scene, rng).encode()
        if number % 10 == 4:
            yield response(f"{url}.jpg", "404 Not Found", "text/html", b"<html>No such picture")
        else:
            cut = len(picture) // 2 if number % 10 == 9 else len(picture)
            yield response(f"{url}.jpg", "200 OK", "image/jpeg", picture[:cut])


def about(shape: str, language: str, rng: random.Random) -> list[str]:
    """Return sentences on pictures of one shape."""
    scenes = [random_scene(rng) for _ in range(6)]
    told = (Scene(shape, s.colour, s.count, s.position, s.background) for s in scenes)
    return [f"{caption(scene, language, rng)}." for scene in told]


def html(sentences: list[str], picture: str) -> str:
    """Return a page with a menu and a footer, which are no part of its main text."""
    menu = "".join(f"<li><a href='/{shape}'>{shape}</a></li>" for shape in SHAPES)
    paragraphs = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return (
        f"<!doctype html><html><head><title>Drawings</title></head><body><nav><ul>{menu}</ul></nav>"
        f"<article>{paragraphs}<img src='{picture}'></article><footer>All rights reserved</footer>"
    )


def response(url: str, status: str, content_type: str, body: bytes) -> bytes:
    """Return a record of what a server answered."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: {_DATE}\r\n"
        f"Content-Type: application/http;msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
