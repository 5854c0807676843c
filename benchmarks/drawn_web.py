"""A small web to measure a download on: drawn pictures, nginx, a name server, hostile hosts."""

import contextlib
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trustme
from PIL import Image, ImageDraw


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Draw something with the detail of a photograph: noise of all scales, and edges."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (8, 6))
    size = 8
    while size < width:
        size = min(2 * size, width)
        image = image.resize((size, max(1, size * height // width)), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 28 / (1 + size / 120), (image.height, image.width, 3))
        pixels = np.asarray(image, np.float32) + grain.astype(np.float32)
        if size == 16:
            pixels = rng.uniform(30, 225, pixels.shape).astype(np.float32)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = image.resize((width, height))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        reach = int(rng.integers(8, max(9, min(width, height) // 3)))
        color = tuple(int(c) for c in rng.integers(0, 255, 3))
        draw.ellipse((x, y, x + reach, y + reach // 2), fill=color)
    return image


def draw(job: tuple[str, int, Path]) -> str:
    """Draw picture number `seed` of a set; return its name."""
    kind, seed, folder = job
    rng = random.Random(f"{kind} {seed}")
    save: dict[str, Any]
    if kind == "photos":
        width = rng.randrange(1700, 3900)
        name, save = f"{seed}.jpg", {"format": "JPEG", "quality": rng.choice((80, 85, 90))}
    else:
        width = rng.randrange(280, 1200)
        name, save = f"{seed}.jpg", {"format": "JPEG", "quality": rng.choice((75, 80, 85))}
        if seed % 20 < 3:
            width, name, save = rng.randrange(200, 300), f"{seed}.png", {"format": "PNG"}
        elif seed % 20 < 6:
            name, save = f"{seed}.webp", {"format": "WEBP", "quality": 80}
    path = folder / name
    if not path.exists():
        height = round(width * rng.uniform(0.6, 1.0))
        photo(seed, width, height).save(path, **save)
    return name


def draw_set(kind: str, count: int, folder: Path) -> list[str]:
    """Draw a set once; return the names."""
    folder = folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        return list(pool.map(draw, [(kind, seed, folder) for seed in range(count)], chunksize=20))


def draw_hostile(folder: Path) -> None:
    """Write what a decoder should not swallow."""
    folder = folder / "hostile"
    folder.mkdir(exist_ok=True)
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")
    noise = np.random.default_rng(0).integers(0, 255, (3500, 3500, 3), np.uint8)
    Image.fromarray(noise).save(folder / "huge.png", compress_level=0)
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"junk" * 5000)
    (folder / "page.html").write_text("<html>no image</html>")


def hostile_urls(names: list[str], http: int, silent: int) -> list[str]:
    """Return a list of which about 60 % is fine, each url at one of 300 loopback addresses."""
    rng = random.Random(0)
    kinds = {"small": 60, "gone": 12, "refused": 6, "redirect": 5, "noai": 3, "slow": 5}
    files = {"corrupt.jpg": 3, "page.html": 2, "bomb.png": 1, "huge.png": 1}
    urls = []
    for name in names:
        host = f"127.0.{rng.randrange(1, 4)}.{rng.randrange(1, 101)}"
        kind = rng.choices([*kinds, *files, "silent"], [*kinds.values(), *files.values(), 2])[0]
        if kind == "silent":
            urls.append(f"http://{host}:{silent}/{name}")
        elif kind in files:
            urls.append(f"http://{host}:{http}/hostile/{kind}?{name}")
        else:
            urls.append(f"http://{host}:{http}/{kind}/{name}")
    return urls


NGINX = """
worker_processes 2;
daemon off;
pid {work}/nginx.pid;
error_log {work}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    types {{ image/jpeg jpg; image/png png; image/webp webp; text/html html; }}
    access_log off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    sendfile on; tcp_nopush on; keepalive_timeout 65;
    server {{
        listen 0.0.0.0:{http} backlog=4096;
        listen 0.0.0.0:{https} ssl backlog=4096;
        ssl_certificate {work}/server.pem;
        ssl_certificate_key {work}/server.key;
        root {root};
        location /noai/ {{ alias {root}/small/; add_header X-Robots-Tag noai; }}
        location /slow/ {{ alias {root}/small/; limit_rate 8k; }}
        location /redirect/ {{ rewrite ^/redirect/(.*)$ /small/$1 redirect; }}
        location /gone/ {{ return 404; }}
        location /refused/ {{ return 403; }}
    }}
}}
"""


@dataclass(frozen=True)
class Site:
    """A running nginx."""

    http: int
    https: int
    ca_file: str
    bundle: str
    """The system's certificates and ours, for who reads SSL_CERT_FILE."""


@contextlib.contextmanager
def serve(root: Path, http: int, https: int) -> Iterator[Site]:
    """Run nginx over a folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ca = trustme.CA()
        cert = ca.issue_cert("127.0.0.1", "localhost")
        cert.private_key_pem.write_to_path(str(work / "server.key"))
        for blob in cert.cert_chain_pems:
            blob.write_to_path(str(work / "server.pem"), append=True)
        ca.cert_pem.write_to_path(str(work / "ca.pem"))
        system = ssl.get_default_verify_paths().openssl_cafile
        together = Path(system).read_bytes() + ca.cert_pem.bytes()
        (work / "bundle.pem").write_bytes(together)
        (work / "nginx.conf").write_text(
            NGINX.format(work=work, root=root.resolve(), http=http, https=https)
        )
        work.chmod(0o755)
        server = subprocess.Popen(["nginx", "-p", name, "-c", str(work / "nginx.conf")])
        try:
            time.sleep(1)
            if server.poll() is not None:
                raise SystemExit((work / "error.log").read_text() or "nginx does not start")
            yield Site(http, https, str(work / "ca.pem"), str(work / "bundle.pem"))
        finally:
            server.terminate()
            server.wait()


NAME_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', int(sys.argv[1])))
while True:
    asked, peer = server.recvfrom(4096)
    end = asked.index(0, 12) + 5
    is_a = asked[end - 4 : end - 2] == bytes((0, 1))
    head = asked[:2] + bytes((0x81, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0))
    record = bytes((0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1))
    server.sendto(head + asked[12:end] + is_a * record, peer)
"""
"""Says of every name that it is 127.0.0.1."""

SILENCE = """
import socket, sys
server = socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=1024)
held = []
while True: held.append(server.accept())
"""
"""Accepts connections and never answers."""


@contextlib.contextmanager
def running(code: str, port: int) -> Iterator[None]:
    """Run a server on a port."""
    child = subprocess.Popen([sys.executable, "-c", code, str(port)])
    try:
        yield
    finally:
        child.terminate()
        child.wait()
