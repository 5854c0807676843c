"""What is planted in the demo's web: every way in which a link can fail, and how often.

Each fault names the one reason under which it must show in the report of a run.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import msgspec
from PIL import Image

from cah_dask.counts import Reject, Status
from cah_dask.demo.pictures import Picture
from cah_dask.demo.wat import Link
from cah_dask.demo.world import draw

MAX_BYTES = 2_000_000
"""The byte cap of the demo's run."""
SLOW_HOST = "slow-tower.demo.example"
"""The one host that leaves requests hanging, so that only its own fetch lists take long."""
INNER_HOST = "inner-court.demo.example"
INNER_ADDRESS = "127.0.0.2"
"""What `INNER_HOST` resolves to; the demo's run may not connect there."""
PRIVATE_FOLDER = "private"
ROBOTS_TXT = f"User-agent: *\nDisallow: /{PRIVATE_FOLDER}/\n"
"""What every host says to robots."""

_OWN_HOST = "http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server gives for one url."""

    status: int = 200
    body: Callable[[], bytes] = bytes
    content_type: str = "image/jpeg"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    fails_first: bool = False
    """The first answer is 503."""
    hangs: bool = False
    """Nothing is ever sent."""
    hangs_up: bool = False
    """The connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something is planted, and the picture that could be there."""

    url: str
    picture: Picture


Answering: TypeAlias = Callable[[Spot], Answer]


def whole(spot: Spot) -> Answer:
    """Give the picture as it should be."""
    picture = spot.picture
    return Answer(body=picture.encode, content_type=f"image/{picture.format.lower()}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Links whose image cannot be had, and why."""

    status: Status
    count: int
    answer: Answering = whole
    origin: str = _OWN_HOST
    folder: str = "pictures"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Links that are no candidates, and why: something about them is changed."""

    reject: Reject
    count: int
    change: Callable[[Link], Link]


@dataclass(frozen=True, slots=True)
class Detour:
    """Links whose image can be had, though not as straight as others."""

    count: int
    answer: Answering


def moved(url: str) -> str:
    """Return where a picture that has moved from `url` is now."""
    return url.replace("/pictures/", "/archive/")


def _code(status: int, **headers: str) -> Answering:
    return lambda _: Answer(status, headers=headers)


def _marked(name: str, value: str) -> Answering:
    return lambda spot: replace(whole(spot), headers={name: value})


def _made(make: Callable[[Picture], bytes]) -> Answering:
    return lambda spot: Answer(body=partial(make, spot.picture))


def _sized(width: int, height: int) -> Answering:
    return lambda spot: whole(replace(spot, picture=replace(spot.picture, size=(width, height))))


def _cut(picture: Picture) -> bytes:
    data = picture.encode()
    return data[: len(data) // 2]


def _broken(picture: Picture) -> bytes:
    """Return a PNG with one bit fallen over, which its checksum tells."""
    data = bytearray(replace(picture, format="PNG").encode())
    data[data.index(b"IDAT") + 200] ^= 1
    return bytes(data)


def _animated(picture: Picture) -> bytes:
    frames = [draw(picture.scene, picture.size, picture.seed + k).quantize(16) for k in range(2)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def _huge(_: Picture) -> bytes:
    """Return 81 million pixels in 10 kB."""
    out = io.BytesIO()
    Image.new("1", (9000, 9000)).save(out, "PNG")
    return out.getvalue()


def _oversize(_: Picture) -> bytes:
    return bytes(MAX_BYTES + 1)


def _page(_: Picture) -> bytes:
    return b"<!doctype html><title>Not found</title><p>This picture has moved.</p>"


def _html(spot: Spot) -> Answer:
    return Answer(body=partial(_page, spot.picture), content_type="text/html")


def _with(**fields: str | None) -> Callable[[Link], Link]:
    return lambda link: msgspec.structs.replace(link, **fields)


FAULTS = (
    # the name, the address, the port
    Fault(Status.DNS_NOT_FOUND, 12, origin="http://{host}.gone.example:{port}"),
    Fault(Status.BLOCKED_ADDRESS, 6, origin=f"http://{INNER_HOST}:{{port}}"),
    Fault(Status.BLOCKED_PORT, 6, origin="http://{host}:9"),
    Fault(Status.CONNECT_REFUSED, 6, origin="http://{host}:{closed_port}"),
    Fault(Status.DISCONNECTED, 6, lambda _: Answer(hangs_up=True)),
    # the answer
    Fault(Status.HTTP_404, 70, _code(404)),
    Fault(Status.HTTP_410, 20, _code(410)),
    Fault(Status.HTTP_403, 20, _code(403)),
    Fault(Status.HTTP_4XX, 8, _code(451)),
    Fault(Status.HTTP_5XX, 12, _code(500)),
    Fault(Status.REDIRECT_LIMIT, 10, lambda spot: Answer(302, headers={"Location": spot.url})),
    Fault(Status.REDIRECT_INVALID, 6, _code(301, Location="ftp://demo.example/picture.jpg")),
    Fault(Status.TIMEOUT, 6, lambda _: Answer(hangs=True), origin=f"http://{SLOW_HOST}:{{port}}"),
    # what the owner wants
    Fault(Status.ROBOTS, 20, folder=PRIVATE_FOLDER),
    Fault(Status.OPTOUT, 20, _marked("X-Robots-Tag", "noai, noimageai")),
    Fault(Status.OPTOUT, 10, _marked("TDM-Reservation", "1")),
    # the body
    Fault(Status.BAD_TYPE, 30, _html),
    Fault(Status.EMPTY, 8, lambda _: Answer()),
    Fault(Status.TOO_BIG, 4, _made(_oversize)),
    # the picture
    Fault(Status.DECODE_FORMAT, 15, _made(_page)),
    Fault(Status.DECODE_TRUNCATED, 20, _made(_cut)),
    Fault(Status.DECODE_ERROR, 15, _made(_broken)),
    Fault(Status.TOO_MANY_PIXELS, 4, _made(_huge)),
    Fault(Status.ANIMATED, 12, _made(_animated)),
    Fault(Status.TOO_SMALL, 40, _sized(60, 40)),
    Fault(Status.TOO_SMALL, 20, _sized(1, 1)),
    Fault(Status.ASPECT, 20, _sized(900, 150)),
)

DETOURS = (
    Detour(60, lambda spot: Answer(302, headers={"Location": moved(spot.url)})),
    Detour(20, lambda spot: replace(whole(spot), delay_s=0.5)),
    Detour(8, lambda spot: replace(whole(spot), fails_first=True)),
    Detour(10, _marked("X-Robots-Tag", "otherbot: noai")),
    Detour(10, lambda spot: replace(whole(spot), content_type="text/html")),
)

FLAWS = (
    Flaw(Reject.NO_TEXT, 60, _with(alt=None)),
    Flaw(Reject.NO_TEXT, 20, _with(alt=" \u00a0 ")),
    Flaw(Reject.SHORT_TEXT, 40, _with(alt="logo")),
    Flaw(Reject.LONG_TEXT, 6, _with(alt="buy red stars " * 200)),
    Flaw(Reject.NO_URL, 6, _with(url="")),
    Flaw(Reject.LONG_URL, 6, _with(url="/pictures/red-star.jpg?session=" + "0" * 2000)),
    Flaw(Reject.SCHEME, 30, _with(url="data:image/gif;base64,")),
    Flaw(Reject.SCHEME, 6, _with(url="javascript:void(0)")),
    Flaw(Reject.BAD_URL, 10, _with(url="http://[gallery/red-star.jpg")),
    Flaw(Reject.PRIVATE_HOST, 8, _with(url="http://localhost/red-star.jpg")),
    Flaw(Reject.FORMAT, 40, _with(url="/pictures/drawing.SVG?v=2")),
)
