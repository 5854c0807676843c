import random

import pytest

from cah_dask.demo.world import (
    BACKGROUNDS,
    COLOURS,
    MAX_COUNT,
    POSITIONS,
    SHAPES,
    Scene,
    draw,
    random_scene,
)

RED_STAR = Scene("star", "red", 1, "centre", "white")


def test_the_same_seed_draws_the_same_pixels():
    assert draw(RED_STAR, (120, 80), 7).tobytes() == draw(RED_STAR, (120, 80), 7).tobytes()


def test_no_two_seeds_draw_the_same_pixels():
    assert len({draw(RED_STAR, (96, 96), seed).tobytes() for seed in range(50)}) == 50


@pytest.mark.parametrize("size", [(96, 96), (200, 100), (100, 200)])
def test_a_picture_has_the_size_asked_for_and_its_shapes_in_the_central_square(size):
    picture = draw(Scene("square", "black", 4, "right", "white"), size, 3).convert("L")
    box = picture.point(lambda value: 255 * (value < 110)).getbbox()
    assert box is not None
    left, top, right, bottom = box

    side = min(size)
    assert picture.size == size
    assert left >= (size[0] - side) / 2
    assert right <= (size[0] + side) / 2
    assert top >= (size[1] - side) / 2
    assert bottom <= (size[1] + side) / 2


def test_random_scenes_reach_every_value_and_never_hide_a_shape_on_its_own_colour():
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(2000)]

    assert {scene.shape for scene in scenes} == set(SHAPES)
    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert {scene.count for scene in scenes} == set(range(1, MAX_COUNT + 1))
    assert {scene.position for scene in scenes} == set(POSITIONS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert all(scene.colour != scene.background for scene in scenes)
