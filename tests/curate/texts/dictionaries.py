"""A small WordNet for tests, in the format of the real one, and where Debian has that."""

from pathlib import Path

from cah_dask.curate.texts.assets import WORDNET_DEBIAN, digest

DEBIAN = Path("/usr/share/wordnet")

_LICENCE = "  1 This software and database is being provided to you, the LICENSEE  \n"
_SYNSETS: dict[str, dict[str, tuple[int, ...]]] = {
    "noun": {
        "dog": (2084071, 10114209),
        "cat": (2121620,),
        "goose": (1855672,),
        "run": (556313, 7460104),
        "axis": (8617963,),
        "man": (10287213,),
        "knife": (3623556,),
        "church": (8082602,),
        "glass": (14881303,),
        "glasses": (4272054,),
        "hot_dog": (7676602,),
        "'s_gravenhage": (8950407,),
    },
    "verb": {"chase": (2001858,), "run": (1926311, 2075049), "bake": (319886,), "dog": (2001858,)},
    "adj": {"blue": (370869,), "good": (1123148,), "late": (816839,)},
    "adv": {"well": (11093,), "late": (99712,)},
}
_EXCEPTIONS = {
    "noun": ["geese goose", "axes ax axis"],
    "verb": ["ran run"],
    "adj": ["better good well"],
    "adv": ["better well"],
}


def small_wordnet(folder: Path) -> Path:
    """Write a WordNet of some words; return its folder."""
    for name, lemmas in _SYNSETS.items():
        lines = [_index_line(lemma, name, *offsets) for lemma, offsets in sorted(lemmas.items())]
        (folder / f"index.{name}").write_text(_LICENCE + "".join(lines))
        exceptions = "".join(f"{line}\n" for line in _EXCEPTIONS[name])
        (folder / f"{name}.exc").write_text(exceptions)
    return folder


def debian_wordnet() -> Path | None:
    """Return the folder of Debian's WordNet, None where it is not, or is another edition."""
    if not all((DEBIAN / name).is_file() for name in WORDNET_DEBIAN.files):
        return None
    return DEBIAN if digest(WORDNET_DEBIAN, DEBIAN) == WORDNET_DEBIAN.sha256 else None


def _index_line(lemma: str, name: str, *offsets: int) -> str:
    pos = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}[name]
    n = len(offsets)
    places = " ".join(f"{offset:08d}" for offset in offsets)
    return f"{lemma} {pos} {n} 3 @ ~ + {n} 1 {places}  \n"
