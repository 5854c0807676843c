"""The world that the demo's pictures show: a few equal shapes in one colour on a plain background.

Pictures are drawn from a scene and a seed, with jitter in place, size, colour and light, so that no
two are equal and the same seed always gives the same bytes. All shapes lie in the central square of
a picture: CLIP preprocessing crops to it.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (215, 40, 40),
    "orange": (240, 135, 20),
    "yellow": (245, 220, 50),
    "green": (40, 160, 70),
    "blue": (40, 80, 205),
    "purple": (135, 50, 165),
    "black": (22, 22, 22),
    "white": (244, 244, 244),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (240, 240, 240),
    "grey": (145, 145, 145),
    "black": (22, 22, 22),
    "pink": (250, 185, 200),
}
POSITIONS: dict[str, Point] = {
    "centre": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
}
"""Middle of the group of shapes, as shares of the side of the central square."""

MAX_COUNT = 4
_RADIUS = {1: 0.17, 2: 0.145, 3: 0.12, 4: 0.095}
"""Of one shape, by how many there are, as a share of the side of the central square."""

_SUPERSAMPLING = 2
_MEAN_LIGHT = 32


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows and a caption says: `count` equal shapes in one place."""

    shape: str
    colour: str
    count: int
    position: str
    background: str

    def looks_like(self, other: "Scene") -> bool:
        """Return whether both show the same shape in the same colour."""
        return (self.shape, self.colour) == (other.shape, other.colour)


def random_scene(rng: random.Random) -> Scene:
    """Return a scene whose colour differs from its background."""
    background = rng.choice(list(BACKGROUNDS))
    return Scene(
        shape=rng.choice(list(SHAPES)),
        colour=rng.choice([colour for colour in COLOURS if colour != background]),
        count=rng.randint(1, MAX_COUNT),
        position=rng.choice(list(POSITIONS)),
        background=background,
    )


def different_scene(scene: Scene, rng: random.Random) -> Scene:
    """Return a scene of another shape or colour; half of them differ in nothing else."""
    kind = rng.random()
    if kind < 0.25:
        return replace(scene, shape=rng.choice([s for s in SHAPES if s != scene.shape]))
    if kind < 0.5:
        taken = (scene.colour, scene.background)
        return replace(scene, colour=rng.choice([c for c in COLOURS if c not in taken]))
    other = random_scene(rng)
    return different_scene(scene, rng) if other.looks_like(scene) else other


def draw(scene: Scene, size: tuple[int, int], seed: int) -> Image.Image:
    """Return an RGB picture of `scene`, ``size`` = (width, height) in pixels.

    The same arguments always give the same pixels; another seed gives another picture.
    """
    rng = random.Random(seed)
    mask = _mask(scene, size, rng)
    front = Image.new("RGB", size, _jitter(COLOURS[scene.colour], 16, rng))
    back = Image.new("RGB", size, _jitter(BACKGROUNDS[scene.background], 12, rng))
    return ImageChops.add(Image.composite(front, back, mask), _light(size, seed), 1, -_MEAN_LIGHT)


def _mask(scene: Scene, size: tuple[int, int], rng: random.Random) -> Image.Image:
    width, height = (_SUPERSAMPLING * side for side in size)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    for x, y in _places(scene, rng):
        radius = _RADIUS[scene.count] * rng.uniform(0.85, 1.1) * side
        turn = rng.uniform(-0.2, 0.2)
        for outline in SHAPES[scene.shape]():
            pen.polygon(
                [
                    (left + x * side + radius * u, top + y * side + radius * v)
                    for u, v in (_turned(point, turn) for point in outline)
                ],
                fill=255,
            )
    return mask.reduce(_SUPERSAMPLING)


def _places(scene: Scene, rng: random.Random) -> list[Point]:
    """Return the middle of each shape: one place, a row, a column, or around the centre."""
    x, y = POSITIONS[scene.position]
    if scene.count == 1:
        offsets = [(0.0, 0.0)]
    elif scene.position == "centre":
        start = rng.uniform(0, math.tau)
        angles = [start + math.tau * k / scene.count for k in range(scene.count)]
        offsets = [(0.19 * math.cos(angle), 0.19 * math.sin(angle)) for angle in angles]
    else:
        steps = [(k - (scene.count - 1) / 2) * 0.9 / scene.count for k in range(scene.count)]
        is_row = scene.position in ("top", "bottom")
        offsets = [(step, 0.0) if is_row else (0.0, step) for step in steps]
    return [(x + dx + rng.gauss(0, 0.012), y + dy + rng.gauss(0, 0.012)) for dx, dy in offsets]


def _turned(point: Point, angle: float) -> Point:
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _jitter(colour: Colour, amount: int, rng: random.Random) -> Colour:
    red, green, blue = (channel + rng.randint(-amount, amount) for channel in colour)
    return red, green, blue


def _light(size: tuple[int, int], seed: int) -> Image.Image:
    """Return a soft slope of light with film grain, to be added after subtracting its mean."""
    rng = np.random.default_rng(seed)
    width, height = size
    (left, right), (top, bottom) = rng.integers(0, 25, (2, 2))
    across = np.linspace(left, right, width).astype(np.uint8)
    down = np.linspace(top, bottom, height).astype(np.uint8)[:, None]
    grain = rng.integers(0, 17, (height, width), dtype=np.uint8)
    grey = Image.fromarray(across + down + grain)
    return Image.merge("RGB", (grey, grey, grey))


def _regular(corners: int, radii: tuple[float, ...] = (1.0,)) -> list[Point]:
    """Return corners on circles of the given radii in turn, the first one at the top."""
    return [
        (
            radii[k % len(radii)] * math.sin(math.tau * k / corners),
            -radii[k % len(radii)] * math.cos(math.tau * k / corners),
        )
        for k in range(corners)
    ]


def _heart() -> list[Point]:
    angles = [math.tau * k / 40 for k in range(40)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in angles
    ]


SHAPES: dict[str, Callable[[], list[list[Point]]]] = {
    "circle": lambda: [_regular(48)],
    "square": lambda: [[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]],
    "triangle": lambda: [_regular(3, (1.15,))],
    "star": lambda: [_regular(10, (1.15, 0.48))],
    "heart": lambda: [_heart()],
    "cross": lambda: [
        [(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)],
        [(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)],
    ],
}
"""Outlines around the origin with radius about 1; a shape is the union of its outlines."""
