"""Write a WAT with the web's usual mix of links, for benchmarks of the extraction.

    python benchmarks/web_wat.py web.warc.wat.gz --pages 2000
    python benchmarks/web_wat.py web.warc.gz --pages 2000 --warc

The shares are those of 1,672 pages of many sites: 36 kB of JSON, 22 images and 185 links a page;
60 % of the images have a text, 61 % of their links are absolute, 24 % relative, 10 % data:, 5 %
without a scheme; a fifth of the pairs come again in the archive. About 330 captions a MB. With
``--warc`` the same pages as HTML, each with 40 kB of text and tags without links.
"""
# ruff: noqa: RUF001  # letters of several scripts are meant

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from cah_dask.demo.warc import write_warc
from cah_dask.demo.wat import Link, Page, write_wat

IMAGES = 22
ANCHORS = 200
FILLER = 40_000  # characters
PAGES_PER_SITE = 4
TEMPLATE_SHARE = 0.35  # images of a page that are on every page of its site

ENGLISH = """
new photo of the red car with leather seats and a view of old town hall by the river in summer best
price kitchen table oak wood chair set for garden party women shoes running black size happy family
children playing beach sunset portrait team meeting office logo banner icon"""
GERMAN = """
neues bild vom roten auto mit blick auf die altstadt am fluss im sommer küche tisch eiche holz stuhl
schöne grüße aus münchen straße kinder spielen am strand preis günstig damen schuhe"""
FRENCH = """
nouvelle photo de la voiture rouge avec vue sur la vieille ville près du château en été table de
cuisine chêne chaise enfants à la plage prix réduit chaussures pour femmes l’hôtel"""
SPANISH = """
nueva foto del coche rojo con vista a la ciudad vieja junto al río en verano mesa de cocina roble
silla niños jugando en la playa precio zapatos para mujeres mañana español"""
RUSSIAN = """
новая фотография красного автомобиля с видом на старый город у реки летом кухонный стол из дуба дети
играют на пляже цена женские туфли купить в москве"""
POLISH = """
nowe zdjęcie czerwonego samochodu z widokiem na stare miasto nad rzeką latem stół kuchenny dąb
krzesło dzieci bawią się na plaży cena buty damskie łódź"""
CHINESE = "北京的秋天红叶满山城市夜景美食图片新款女装上海旅游酒店价格人物摄影作品花园海边日落"
VOCABULARIES = [text.split() for text in (ENGLISH, GERMAN, FRENCH, SPANISH, RUSSIAN, POLISH)]
VOCABULARY_WEIGHTS = [55, 12, 10, 10, 9, 4]
SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg", ".jpg?w=640&h=480", ".php?id=7"]
SUFFIX_WEIGHTS = [48, 4, 20, 4, 10, 9, 4, 1]


def words(rng: random.Random, count: int) -> list[str]:
    """Return some words of one language."""
    [vocabulary] = rng.choices(VOCABULARIES, VOCABULARY_WEIGHTS)
    return rng.choices(vocabulary, k=count)


def caption(rng: random.Random) -> str:
    """Return a text as they are in alt attributes: short, at times a file name or broken."""
    kind = rng.random()
    if kind < 0.06:
        return rng.choice(["logo", "img", "icon", "1", "foto", " ", "..."])
    if kind < 0.12:
        return f"{rng.choice(['IMG', 'DSC', 'image'])}_{rng.randint(1, 9999):04}"
    if kind < 0.16:
        return "".join(rng.choices(CHINESE, k=rng.randint(4, 24)))
    text = " ".join(words(rng, min(60, 1 + int(rng.expovariate(1 / 6)))))
    if kind < 0.17:
        return text.encode().decode("windows-1252", "replace")  # mojibake
    if kind < 0.20:
        return text + rng.choice([" &amp; more", "\u00a0!", "\n  2019", " – “best”"])
    return text.capitalize()


def image_url(rng: random.Random, host: str) -> str:
    """Return what stands in a src attribute."""
    [suffix] = rng.choices(SUFFIXES, SUFFIX_WEIGHTS)
    day = f"20{rng.randint(10, 23)}/{rng.randint(1, 12):02}"
    path = f"wp-content/uploads/{day}/{rng.getrandbits(40):x}{suffix}"
    form = rng.random()
    if form < 0.10:
        return "data:image/gif;base64,"
    if form < 0.15:
        return f"//cdn.{host}/{path}"
    if form < 0.39:
        return rng.choice(["/", "", "../", "../../"]) + path
    return f"https://{rng.choice(['', 'www.', 'cdn.', 'i0.'])}{host}/{path}"


def image(rng: random.Random, host: str) -> Link:
    """Return an image, with a text as often as on the web."""
    alt = caption(rng) if rng.random() < 0.60 else rng.choice([None, ""])
    return Link("IMG@/src", image_url(rng, host), alt=alt)


def anchor(rng: random.Random, host: str) -> Link:
    """Return a link to another page of the site."""
    slug = "-".join(words(rng, rng.randint(1, 6)))
    url = f"https://www.{host}/category/{rng.randint(1, 99)}/{slug}/"
    return Link("A@/href", url, text=" ".join(words(rng, rng.randint(1, 9))))


def pages(count: int, seed: int) -> Iterator[Page]:
    """Yield pages, `PAGES_PER_SITE` neighbours from one site."""
    rng = random.Random(seed)
    for number in range(count):
        if number % PAGES_PER_SITE == 0:
            kind = rng.choice(["shop", "blog", "news", "photo"])
            host = f"{kind}-{rng.getrandbits(32):x}.example.org"
            template = [image(rng, host) for _ in range(round(IMAGES * TEMPLATE_SHARE))]
        yield page(rng, number, host, template)


def page(rng: random.Random, number: int, host: str, template: list[Link]) -> Page:
    """Return one page with the usual head and headers."""
    n_own = round(rng.expovariate(1 / (IMAGES - len(template))))
    n_anchors = round(rng.expovariate(1 / ANCHORS))
    links = [
        *(image(rng, host) for _ in range(n_own)),
        *(anchor(rng, host) for _ in range(n_anchors)),
    ]
    rng.shuffle(links)
    if rng.random() < 0.02:
        links.append(Link("A@/href", "https://creativecommons.org/licenses/by/4.0/", rel="license"))
    return Page(
        f"https://www.{host}/2023/05/post-{number}/",
        [*template, *links],
        title=caption(rng),
        metas=metas(rng),
        headers={"Server": "nginx", "Vary": "Accept-Encoding", "Cache-Control": "max-age=0"},
    )


def metas(rng: random.Random) -> list[dict[str, str]]:
    """Return the metas of a page; every thirtieth asks robots to stay away."""
    robots = "noindex, nofollow" if rng.random() < 0.03 else "index, follow, max-snippet:-1"
    return [
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"name": "robots", "content": robots},
        *({"property": f"og:{name}", "content": caption(rng)} for name in ("title", "description")),
        *({"name": f"x-{number}", "content": caption(rng)} for number in range(12)),
    ]


def filler(rng: random.Random) -> str:
    """Return what else is in a page: paragraphs in elements with classes, and scripts."""
    pieces: list[str] = []
    while sum(map(len, pieces)) < FILLER:
        name, text = f"c{rng.getrandbits(32):x}", " ".join(words(rng, rng.randint(3, 60)))
        paragraph = f'<div class="{name} row" data-id="{len(pieces)}"><p>{text}</p></div>'
        script = f"<script>var {name} = {{t: '{text}'}};</script>"
        pieces.append(paragraph if rng.random() < 0.9 else script)
    return "\n".join(pieces)


def main() -> None:
    """Write the archive and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warc", action="store_true", help="write the pages themselves")
    options = parser.parse_args()
    made = pages(options.pages, options.seed)
    if options.warc:
        records = write_warc(options.path, made, filler=filler(random.Random(options.seed)))
    else:
        records = write_wat(options.path, made)
    print(f"{options.path}: {records} records, {options.path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
