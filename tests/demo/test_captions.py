import random
from dataclasses import replace

import pytest

from cah_dask.demo.captions import LANGUAGES, camera_name, caption
from cah_dask.demo.world import (
    BACKGROUNDS,
    COLOURS,
    MAX_COUNT,
    POSITIONS,
    SHAPES,
    Scene,
    random_scene,
)

ONE = Scene("star", "blue", 1, "top", "white")


def only(scene, language, phrasing):
    """Return the caption of a scene in one given phrasing."""
    words, _ = LANGUAGES[language]
    said = words(scene)
    return phrasing.format(things=said.things, verb=said.verb)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_caption_is_a_function_of_scene_language_and_seed(language):
    assert caption(ONE, language, random.Random(1)) == caption(ONE, language, random.Random(1))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("shape", SHAPES),
        ("colour", COLOURS),
        ("count", range(1, MAX_COUNT + 1)),
        ("position", POSITIONS),
        ("background", BACKGROUNDS),
    ],
)
def test_captions_tell_scenes_apart_by_every_attribute(language, field, values):
    said = {caption(replace(ONE, **{field: value}), language, random.Random(0)) for value in values}
    assert len(said) == len(values)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_several_phrasings(language):
    assert len({caption(ONE, language, random.Random(seed)) for seed in range(50)}) >= 4


@pytest.mark.parametrize(
    ("language", "scene", "things"),
    [
        ("en", Scene("cross", "orange", 1, "top", "grey"), "an orange cross is"),
        ("en", Scene("cross", "green", 3, "top", "grey"), "three green crosses are"),
        ("de", Scene("circle", "red", 1, "top", "grey"), "ein roter Kreis ist"),
        ("de", Scene("heart", "purple", 1, "top", "grey"), "ein violettes Herz ist"),
        ("de", Scene("star", "white", 2, "top", "grey"), "zwei weiße Sterne sind"),
        ("fr", Scene("star", "white", 1, "top", "grey"), "une étoile blanche "),
        ("fr", Scene("cross", "orange", 4, "top", "grey"), "quatre croix orange "),
        ("fr", Scene("square", "blue", 2, "top", "grey"), "deux carrés bleus "),
        ("es", Scene("cross", "yellow", 1, "top", "grey"), "una cruz amarilla "),
        ("es", Scene("heart", "blue", 3, "top", "grey"), "tres corazones azules "),
        ("es", Scene("star", "orange", 2, "top", "grey"), "dos estrellas naranja "),
        ("ru", Scene("star", "blue", 1, "top", "grey"), "одна синяя звезда "),
        ("ru", Scene("star", "red", 2, "top", "grey"), "две красные звезды "),
        ("ru", Scene("heart", "red", 2, "top", "grey"), "два красных сердца "),
        ("zh", Scene("circle", "green", 2, "top", "grey"), "两个绿色的圆形 "),
    ],
)
def test_captions_agree_in_number_and_gender(language, scene, things):
    assert only(scene, language, "{things} {verb}") == things


def test_camera_names_vary_and_name_nothing():
    rng = random.Random(0)
    names = {camera_name(rng) for _ in range(200)}
    scenes = [random_scene(rng) for _ in range(200)]

    assert len(names) > 190
    assert all(any(character.isdigit() for character in name) for name in names)
    assert not names & {caption(scene, "en", rng) for scene in scenes}
