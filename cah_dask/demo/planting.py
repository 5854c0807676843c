"""Lay out the demo's web: hosts, pages, pictures with right and wrong captions, and every fault."""

import random
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from cah_dask.counts import Reject, Status
from cah_dask.demo.captions import LANGUAGES, camera_name, caption
from cah_dask.demo.pictures import Picture, random_picture
from cah_dask.demo.plants import DETOURS, FAULTS, FLAWS, Answer, Fault, Flaw, Spot, moved, whole
from cah_dask.demo.site import Fate, Planted, PlantedPage, Ports, Site
from cah_dask.demo.wat import Link, Page
from cah_dask.demo.world import Scene, different_scene, random_scene

N_PAGES = 300
N_ARCHIVES = 2
N_IMAGES = 3000
"""Distinct image urls that are left after dedup."""
SEVERAL_EVERY = 20
"""One picture of so many has captions in three languages."""
N_DUPLICATES = 60
"""Links that repeat another one of the same archive."""
N_SEEN_EARLIER = 40
"""Links that repeat one of an earlier archive."""
N_LATE = 50
"""Links of the second archive that give another text to a picture of the first."""
N_ON_CLOSED_PAGE = 12

HOSTS = [
    f"{adjective}-{noun}.demo.example"
    for adjective in ("amber", "brave", "calm", "dusty", "early", "faint", "giant", "humble")
    for noun in ("bridge", "garden", "harbour", "market", "orchard")
]

# What pages may say to robots: metas, headers, and whether that keeps their images out.
_NOTICES: tuple[tuple[list[dict[str, str]], dict[str, str], bool], ...] = (
    ([{"name": "robots", "content": "noindex, nofollow"}], {}, True),
    ([{"name": "ROBOTS", "content": "NOIMAGEINDEX"}], {}, True),
    ([{"name": "tdm-reservation", "content": "1"}], {}, True),
    ([], {"X-Robots-Tag": "noai"}, True),
    ([], {"X-Robots-Tag": "noindex"}, True),
    ([], {"TDM-Reservation": "1"}, True),
    ([{"name": "robots", "content": "index, follow"}], {}, False),
    ([], {"X-Robots-Tag": "otherbot: noindex"}, False),
)


def plan_site(seed: int, ports: Ports, share: float = 1.0) -> Site:
    """Return the web of a seed: the same arguments always give the same web.

    Parameters
    ----------
    share
        In (0, 1]: how much of everything there is. A tenth still has each fault at least once.
    """
    return _Planner(random.Random(seed), ports, share).site()


@dataclass(slots=True)
class _Draft:
    """A page that is being filled."""

    url: str
    host: str
    archive: int
    base: str | None = None
    metas: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    is_closed: bool = False
    """Its notice to robots keeps its images out."""
    images: list[Planted] = field(default_factory=list)


class _Planner:
    def __init__(self, rng: random.Random, ports: Ports, share: float) -> None:
        self._rng = rng
        self._ports = ports
        self._share = share
        self._answers: dict[str, Answer] = {}
        self._scenes: dict[str, Scene] = {}
        self._n_urls = 0
        self._pages = [self._page(number) for number in range(self._n(N_PAGES))]
        self._open = [page for page in self._pages if not page.is_closed]

    def site(self) -> Site:
        """Plant everything and return the plan."""
        for page in self._pages:
            if page.is_closed:
                self._plant_unwanted(page)
        self._plant_pictures()
        for fault in FAULTS:
            self._plant_faults(fault)
        for flaw in FLAWS:
            self._plant_flaws(flaw)
        self._plant_copies()
        self._plant_late_texts()
        pages = tuple(self._finished(page) for page in self._pages)
        return Site(self._ports, pages, self._answers)

    def _n(self, count: int) -> int:
        return max(1, round(count * self._share))

    def _page(self, number: int) -> _Draft:
        host = HOSTS[number % len(HOSTS)]
        origin = f"http://{host}:{self._ports.web}"
        archive = number * N_ARCHIVES // self._n(N_PAGES)
        page = _Draft(f"{origin}/rooms/{number}.html", host, archive)
        if number % 10 == 3:
            page.base = self._rng.choice((f"{origin}/pictures/", "/pictures/"))
        if number % 37 == 5:
            metas, headers, page.is_closed = _NOTICES[number // 37 % len(_NOTICES)]
            page.metas, page.headers = list(metas), dict(headers)
        return page

    def _plant_unwanted(self, page: _Draft) -> None:
        """Fill a page that wants no robots: its links are as good as any."""
        for _ in range(self._n(N_ON_CLOSED_PAGE)):
            scene = random_scene(self._rng)
            self._plant(
                page, self._url(page), caption(scene, "en", self._rng), Reject.PAGE_DIRECTIVE
            )

    def _plant_pictures(self) -> None:
        n_pictures = self._n(N_IMAGES) - sum(self._n(fault.count) for fault in FAULTS)
        detours = [detour.answer for detour in DETOURS for _ in range(self._n(detour.count))]
        for number in range(n_pictures):
            page = self._rng.choice(self._open)
            picture = random_picture(random_scene(self._rng), self._rng)
            url = self._url(page)
            answer = detours[number] if number < len(detours) else whole
            self._serve(url, picture, answer(Spot(url, picture)))
            n_captions = 3 if number % SEVERAL_EVERY == 0 else 1
            for language in self._rng.sample(list(LANGUAGES), n_captions):
                self._describe(page, url, picture.scene, language)

    def _serve(self, url: str, picture: Picture, answer: Answer) -> None:
        self._answers[url] = answer
        self._scenes[url] = picture.scene
        if moved(url) in answer.headers.values():
            self._answers[moved(url)] = whole(Spot(url, picture))

    def _describe(self, page: _Draft, url: str, scene: Scene, language: str) -> None:
        """Link to a picture with a right caption, a wrong one, or what a camera calls it."""
        rng = self._rng
        (kind,) = rng.choices(("right", "wrong", "camera"), (55, 30, 15))
        if kind == "camera":
            self._plant(page, url, camera_name(rng), Status.OK)
        elif kind == "wrong":
            text = caption(different_scene(scene, rng), language, rng)
            self._plant(page, url, text, Status.OK)
        else:
            self._plant(page, url, caption(scene, language, rng), Status.OK, is_match=True)

    def _plant_faults(self, fault: Fault) -> None:
        for _ in range(self._n(fault.count)):
            page = self._rng.choice(self._open)
            picture = random_picture(random_scene(self._rng), self._rng)
            url = self._url(page, fault.origin, fault.folder)
            self._serve(url, picture, fault.answer(Spot(url, picture)))
            language = self._rng.choice(list(LANGUAGES))
            self._plant(page, url, caption(picture.scene, language, self._rng), fault.status)

    def _plant_flaws(self, flaw: Flaw) -> None:
        for _ in range(self._n(flaw.count)):
            page = self._rng.choice(self._open)
            url = self._url(page)
            text = caption(random_scene(self._rng), "en", self._rng)
            link = flaw.change(Link("IMG@/src", url, alt=text))
            page.images.append(Planted(link, url, text, flaw.reject))

    def _plant_copies(self) -> None:
        """Repeat good links, word for word, on other pages of the same archive or the next one."""
        for count, step, fate in (
            (N_DUPLICATES, 0, Reject.DUPLICATE),
            (N_SEEN_EARLIER, 1, Reject.SEEN_EARLIER),
        ):
            originals = self._originals(N_ARCHIVES - step)
            for archive, planted in self._rng.sample(originals, self._n(count)):
                page = self._rng.choice(self._open_in(archive + step))
                self._plant(page, planted.url, planted.text, fate)

    def _plant_late_texts(self) -> None:
        """Describe pictures anew that an earlier archive has, be they there or not."""
        originals = self._originals(N_ARCHIVES - 1)
        known = {(planted.url, planted.text) for _, planted in originals}
        for archive, planted in self._rng.sample(originals, self._n(N_LATE)):
            scene = self._scenes[planted.url]
            text = planted.text
            while (planted.url, text) in known:
                text = caption(scene, self._rng.choice(list(LANGUAGES)), self._rng)
            known.add((planted.url, text))
            page = self._rng.choice(self._open_in(archive + 1))
            self._plant(page, planted.url, text, planted.fate, is_match=planted.fate is Status.OK)

    def _originals(self, below: int) -> list[tuple[int, Planted]]:
        """Return the links of samples in the archives below a number, each with its archive."""
        return [
            (page.archive, planted)
            for page in self._open
            for planted in page.images
            if page.archive < below and isinstance(planted.fate, Status)
        ]

    def _open_in(self, archive: int) -> list[_Draft]:
        return [page for page in self._open if page.archive == archive]

    def _plant(
        self, page: _Draft, url: str, text: str, fate: Fate, *, is_match: bool = False
    ) -> None:
        link = Link("IMG@/src", self._written(page, url), alt=self._smudged(text))
        page.images.append(Planted(link, url, text, fate, is_match))

    def _url(
        self, page: _Draft, origin: str = "http://{host}:{port}", folder: str = "pictures"
    ) -> str:
        """Return a new url: one in five is on another host, as with picture services."""
        rng = self._rng
        self._n_urls += 1
        host = rng.choice(HOSTS) if rng.random() < 0.2 else page.host
        where = origin.format(host=host, port=self._ports.web, closed_port=self._ports.closed)
        name = rng.choice(_NAMES).format(self._n_urls)
        return f"{where}/{folder}/{quote(name, safe='/?=&')}"

    def _written(self, page: _Draft, url: str) -> str:
        """Return a url the way a page may write it: in full, without scheme, or relative."""
        parts = urlsplit(url)
        forms = [url, url, f"//{url.partition('//')[2]}"]
        if parts.netloc == urlsplit(page.url).netloc:
            path = url.partition(parts.netloc)[2]
            forms += [path, f"..{path}", f"./..{path}"]
            if page.base and path.startswith("/pictures/"):
                forms += [path.removeprefix("/pictures/")] * 6
        form = self._rng.choice(forms)
        return unquote(form) if self._rng.random() < 0.5 else form

    def _smudged(self, text: str) -> str:
        """Return a text as careless pages write it; one in eight is not quite clean."""
        if self._rng.random() < 7 / 8:
            return text
        return self._rng.choice(
            (
                text.replace(" ", "\u00a0", 1),
                text.replace(" ", "\n    ", 1),
                text.replace("'", "&#39;"),
                f"  {text}\t",
            )
        )

    def _finished(self, page: _Draft) -> PlantedPage:
        self._rng.shuffle(page.images)
        links = [Link("A@/href", "/", text="Home"), Link("A@/href", "../rooms/", text="All rooms")]
        return PlantedPage(
            Page(page.url, links, f"Room {page.url}", page.base, page.metas, page.headers),
            tuple(page.images),
            page.archive,
        )


_NAMES = (
    "{:05}.jpg",
    "img-{}.jpg",
    "IMG_{}.JPEG",
    "Ausflug {}.png",
    "années/été-{}.webp",
    "gifts.gif-{}.jpg",
    "view.php?id={}&size=large",
)
"""File names as the web has them; each is percent-encoded in its url."""
