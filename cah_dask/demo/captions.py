"""Captions of a scene in six languages, and the names that cameras give to files.

Every caption names all of its scene: count, colour, shape, position and background. It agrees in
number and gender, and is long enough for a language detector.
"""
# ruff: noqa: RUF001  # Cyrillic and Chinese are meant

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from cah_dask.demo.world import Scene


@dataclass(frozen=True, slots=True)
class Words:
    """A scene in the words of one language: what, where, and on which background."""

    things: str
    place: str
    background: str
    verb: str = ""


def caption(scene: Scene, language: str, rng: random.Random) -> str:
    """Return one of several phrasings of `scene`; `language` is a key of `LANGUAGES`."""
    words, phrasings = LANGUAGES[language]
    said = words(scene)
    text = rng.choice(phrasings).format(**asdict(said))
    return text[0].upper() + text[1:]


def camera_name(rng: random.Random) -> str:
    """Return what a camera calls a picture: a text that says nothing of it."""
    day = f"{rng.randint(2004, 2023)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    pattern = rng.choice(
        ("DSC_{n:04}", "IMG_{n:04}", "DSCN{n:04}", "P10{n:05}", "IMG {day}", "IMG-{day}-WA{n:04}")
    )
    return pattern.format(n=rng.randint(1, 9999), day=day)


def _english(scene: Scene) -> Words:
    article = "an" if scene.colour == "orange" else "a"
    number = (article, "two", "three", "four")[scene.count - 1]
    shape = _EN_PLURALS[scene.shape] if scene.count > 1 else scene.shape
    return Words(
        f"{number} {scene.colour} {shape}",
        _EN_PLACES[scene.position],
        scene.background,
        verb="is" if scene.count == 1 else "are",
    )


_EN_PLURALS = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
}
_EN_PLACES = {
    "centre": "in the centre",
    "left": "on the left side",
    "right": "on the right side",
    "top": "at the top",
    "bottom": "at the bottom",
}
_EN_PHRASINGS = (
    "{things} {place} of the picture, on a {background} background",
    "the picture shows {things} {place} of a {background} background",
    "there {verb} {things} {place} of this {background} picture",
    "drawing of {things} {place} of a {background} page",
)


def _german(scene: Scene) -> Words:
    gender, singular, plural = _DE_NOUNS[scene.shape]
    stem = _DE_COLOURS[scene.colour]
    if scene.count == 1:
        things = f"ein {stem}{'er' if gender == 'm' else 'es'} {singular}"
    else:
        things = f"{('zwei', 'drei', 'vier')[scene.count - 2]} {stem}e {plural}"
    return Words(
        things,
        _DE_PLACES[scene.position],
        _DE_BACKGROUNDS[scene.background],
        verb="ist" if scene.count == 1 else "sind",
    )


_DE_NOUNS = {
    "circle": ("m", "Kreis", "Kreise"),
    "square": ("n", "Quadrat", "Quadrate"),
    "triangle": ("n", "Dreieck", "Dreiecke"),
    "star": ("m", "Stern", "Sterne"),
    "heart": ("n", "Herz", "Herzen"),
    "cross": ("n", "Kreuz", "Kreuze"),
}
_DE_COLOURS = {
    "red": "rot",
    "orange": "orangefarben",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "violett",
    "black": "schwarz",
    "white": "weiß",
}
_DE_BACKGROUNDS = {"white": "weißem", "grey": "grauem", "black": "schwarzem", "pink": "rosa"}
_DE_PLACES = {
    "centre": "in der Bildmitte",
    "left": "links im Bild",
    "right": "rechts im Bild",
    "top": "oben im Bild",
    "bottom": "unten im Bild",
}
_DE_PHRASINGS = (
    "{things} {place} auf {background} Hintergrund",
    "Zeichnung: {things} {place} vor {background} Hintergrund",
    "auf {background} Hintergrund {verb} {place} {things} zu sehen",
    "hier {verb} {place} {things} auf {background} Grund gezeichnet",
)


def _french(scene: Scene) -> Words:
    gender, singular, plural = _FR_NOUNS[scene.shape]
    masculine, feminine = _FR_COLOURS[scene.colour]
    colour = feminine if gender == "f" else masculine
    if scene.count == 1:
        things = f"{'une' if gender == 'f' else 'un'} {singular} {colour}"
    else:
        colour += "" if scene.colour == "orange" else "s"
        things = f"{('deux', 'trois', 'quatre')[scene.count - 2]} {plural} {colour}"
    return Words(things, _FR_PLACES[scene.position], _FR_BACKGROUNDS[scene.background])


_FR_NOUNS = {
    "circle": ("m", "cercle", "cercles"),
    "square": ("m", "carré", "carrés"),
    "triangle": ("m", "triangle", "triangles"),
    "star": ("f", "étoile", "étoiles"),
    "heart": ("m", "cœur", "cœurs"),
    "cross": ("f", "croix", "croix"),
}
_FR_COLOURS = {
    "red": ("rouge", "rouge"),
    "orange": ("orange", "orange"),
    "yellow": ("jaune", "jaune"),
    "green": ("vert", "verte"),
    "blue": ("bleu", "bleue"),
    "purple": ("violet", "violette"),
    "black": ("noir", "noire"),
    "white": ("blanc", "blanche"),
}
_FR_BACKGROUNDS = {"white": "blanc", "grey": "gris", "black": "noir", "pink": "rose"}
_FR_PLACES = {
    "centre": "au centre de l'image",
    "left": "dans la partie gauche de l'image",
    "right": "dans la partie droite de l'image",
    "top": "en haut de l'image",
    "bottom": "en bas de l'image",
}
_FR_PHRASINGS = (
    "{things} {place} sur fond {background}",
    "dessin représentant {things} {place}, sur un fond {background}",
    "on voit {things} {place}, sur un fond {background}",
    "sur un fond {background}, il y a {things} {place}",
)


def _spanish(scene: Scene) -> Words:
    gender, singular, plural = _ES_NOUNS[scene.shape]
    colour = _ES_COLOURS[scene.colour]
    if gender == "f" and colour.endswith("o"):
        colour = colour[:-1] + "a"
    if scene.count == 1:
        things = f"{'una' if gender == 'f' else 'un'} {singular} {colour}"
    else:
        colour += _ES_PLURAL_ENDINGS.get(scene.colour, "s")
        things = f"{('dos', 'tres', 'cuatro')[scene.count - 2]} {plural} {colour}"
    return Words(things, _ES_PLACES[scene.position], _ES_BACKGROUNDS[scene.background])


_ES_NOUNS = {
    "circle": ("m", "círculo", "círculos"),
    "square": ("m", "cuadrado", "cuadrados"),
    "triangle": ("m", "triángulo", "triángulos"),
    "star": ("f", "estrella", "estrellas"),
    "heart": ("m", "corazón", "corazones"),
    "cross": ("f", "cruz", "cruces"),
}
_ES_COLOURS = {
    "red": "rojo",
    "orange": "naranja",
    "yellow": "amarillo",
    "green": "verde",
    "blue": "azul",
    "purple": "morado",
    "black": "negro",
    "white": "blanco",
}
_ES_PLURAL_ENDINGS = {"blue": "es", "orange": ""}
_ES_BACKGROUNDS = {"white": "blanco", "grey": "gris", "black": "negro", "pink": "rosa"}
_ES_PLACES = {
    "centre": "en el centro de la imagen",
    "left": "en la parte izquierda de la imagen",
    "right": "en la parte derecha de la imagen",
    "top": "en la parte superior de la imagen",
    "bottom": "en la parte inferior de la imagen",
}
_ES_PHRASINGS = (
    "{things} {place} sobre fondo {background}",
    "dibujo con {things} {place} sobre un fondo {background}",
    "en este dibujo de fondo {background} hay {things} {place}",
    "sobre un fondo {background} hay {things} {place}",
)


def _russian(scene: Scene) -> Words:
    gender, singular, genitive = _RU_NOUNS[scene.shape]
    forms = _RU_COLOURS[scene.colour]
    if scene.count == 1:
        things = f"{_RU_ONE[gender]} {forms[gender]} {singular}"
    else:
        number = ("две" if gender == "f" else "два", "три", "четыре")[scene.count - 2]
        things = f"{number} {forms['few_f' if gender == 'f' else 'few']} {genitive}"
    return Words(things, _RU_PLACES[scene.position], _RU_BACKGROUNDS[scene.background])


def _russian_colour(stem: str, *, is_soft: bool = False) -> dict[str, str]:
    """Return the endings after one (by gender) and after two to four."""
    endings = ("ий", "яя", "ее", "их", "ие") if is_soft else ("ый", "ая", "ое", "ых", "ые")
    return {form: stem + end for form, end in zip(_RU_FORMS, endings, strict=True)}


_RU_FORMS = ("m", "f", "n", "few", "few_f")
_RU_ONE = {"m": "один", "f": "одна", "n": "одно"}
_RU_NOUNS = {
    "circle": ("m", "круг", "круга"),
    "square": ("m", "квадрат", "квадрата"),
    "triangle": ("m", "треугольник", "треугольника"),
    "star": ("f", "звезда", "звезды"),
    "heart": ("n", "сердце", "сердца"),
    "cross": ("m", "крест", "креста"),
}
_RU_COLOURS = {
    "red": _russian_colour("красн"),
    "orange": _russian_colour("оранжев"),
    "yellow": _russian_colour("жёлт"),
    "green": _russian_colour("зелён"),
    "blue": _russian_colour("син", is_soft=True),
    "purple": _russian_colour("фиолетов"),
    "black": _russian_colour("чёрн"),
    "white": _russian_colour("бел"),
}
_RU_BACKGROUNDS = {"white": "белом", "grey": "сером", "black": "чёрном", "pink": "розовом"}
_RU_PLACES = {
    "centre": "в центре",
    "left": "в левой части",
    "right": "в правой части",
    "top": "в верхней части",
    "bottom": "в нижней части",
}
_RU_PHRASINGS = (
    "{things} {place} на {background} фоне",
    "рисунок: {things} {place} на {background} фоне",
    "это {things} {place} на {background} фоне",
    "на {background} фоне {place} — {things}",
)


def _chinese(scene: Scene) -> Words:
    number = "一两三四"[scene.count - 1]
    return Words(
        f"{number}个{_ZH_COLOURS[scene.colour]}的{_ZH_NOUNS[scene.shape]}",
        _ZH_PLACES[scene.position],
        _ZH_COLOURS[scene.background],
    )


_ZH_NOUNS = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "五角星",
    "heart": "心形",
    "cross": "十字形",
}
_ZH_COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "black": "黑色",
    "white": "白色",
    "grey": "灰色",
    "pink": "粉色",
}
_ZH_PLACES = {"centre": "中间", "left": "左边", "right": "右边", "top": "上方", "bottom": "下方"}
_ZH_PHRASINGS = (
    "图片{place}有{things}，背景是{background}的",
    "{background}背景的{place}画着{things}",
    "在{background}的背景上，{place}有{things}",
    "{background}背景，{things}位于画面的{place}",
)

LANGUAGES: Mapping[str, tuple[Callable[[Scene], Words], tuple[str, ...]]] = {
    "en": (_english, _EN_PHRASINGS),
    "de": (_german, _DE_PHRASINGS),
    "fr": (_french, _FR_PHRASINGS),
    "es": (_spanish, _ES_PHRASINGS),
    "ru": (_russian, _RU_PHRASINGS),
    "zh": (_chinese, _ZH_PHRASINGS),
}
"""By ISO 639-1 code: how a language words a scene, and its phrasings."""
