"""A small web as a plan: its pages, what its servers answer, and what a run must make of it.

All of it follows from a seed and the ports it is served at. Every planted link knows its fate, so
the counts of a run are known beforehand, stage by stage and reason by reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from cah_dask.counts import Counts, Reject, Status
from cah_dask.demo.plants import Answer
from cah_dask.demo.wat import Link, Page

Fate: TypeAlias = Reject | Status
Pair: TypeAlias = tuple[str, str]
"""A url and a text."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the web is on this machine."""

    web: int
    """All HTTP servers."""
    closed: int
    """Nobody listens there."""
    names: int
    """The name server."""


@dataclass(frozen=True, slots=True)
class Planted:
    """An image link, and what must become of it."""

    link: Link
    url: str
    """What it must resolve to."""
    text: str
    """What its alt text must become."""
    fate: Fate
    """Status ok: the image can be had."""
    is_match: bool = False
    """The text tells what the picture shows."""


@dataclass(frozen=True, slots=True)
class PlantedPage:
    """A page without its image links, the links, and the archive that tells of it."""

    page: Page
    images: tuple[Planted, ...]
    archive: int

    def written(self) -> Page:
        """Return the page as an archive tells of it: among others, the image links."""
        links = [*self.page.links, *(planted.link for planted in self.images)]
        return replace(self.page, links=links)


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run must count, and which pairs it should keep."""

    extract: Counts
    dedup: Counts
    download: Counts
    lost: dict[str, int]
    """Samples without an image, by status."""
    matches: dict[Pair, bool]
    """Every pair whose image can be had, and whether its text is right."""


@dataclass(frozen=True)
class Site:
    """The whole web."""

    ports: Ports
    pages: tuple[PlantedPage, ...]
    answers: Mapping[str, Answer]
    """By url; any other url is not found."""

    def archive(self, number: int) -> Iterable[Page]:
        """Return the pages that one archive tells of, in order."""
        return (page.written() for page in self.pages if page.archive == number)

    @property
    def n_archives(self) -> int:
        """How many archives tell of this web."""
        return 1 + max(page.archive for page in self.pages)

    @cached_property
    def truth(self) -> Truth:
        """What a run over all archives, one a wave, must find."""
        links = [planted for page in self.pages for planted in page.images]
        samples = [planted for planted in links if isinstance(planted.fate, Status)]
        seen_earlier = sum(planted.fate is Reject.SEEN_EARLIER for planted in links)
        rejected = _count(
            planted.fate
            for planted in links
            if isinstance(planted.fate, Reject) and planted.fate is not Reject.SEEN_EARLIER
        )
        n_candidates = len(samples) + seen_earlier
        fate_of = {planted.url: planted.fate for planted in samples}
        statuses = _count(fate_of.values())
        n_images = statuses.pop(Status.OK)
        lost = _count(planted.fate for planted in samples)
        del lost[Status.OK]
        return Truth(
            extract=Counts(len(links), n_candidates, rejected),
            dedup=Counts(n_candidates, len(samples), {Reject.SEEN_EARLIER.value: seen_earlier}),
            download=Counts(len(fate_of), n_images, statuses),
            lost=lost,
            matches={(p.url, p.text): p.is_match for p in samples if p.fate is Status.OK},
        )


def _count(fates: Iterable[Fate]) -> dict[str, int]:
    return {fate.value: count for fate, count in sorted(Counter(fates).items())}
