"""What columns are called elsewhere; within, they have the names of our releases."""

from collections.abc import Mapping, Sequence

from cah_dask.errors import ConfigError

ALIASES: Mapping[str, tuple[str, ...]] = {
    "uid": ("uid",),
    "url": ("url", "URL", "image_url"),
    "text": ("text", "TEXT", "caption", "alt"),
    "original_width": ("original_width", "width", "WIDTH"),
    "original_height": ("original_height", "height", "HEIGHT"),
    "similarity": ("similarity", "SIMILARITY"),
    "similarity_b32": ("similarity_b32", "clip_b32_similarity_score", "clip_similarity_vitb32"),
    "similarity_l14": ("similarity_l14", "clip_l14_similarity_score", "clip_similarity_vitl14"),
    "license": ("license", "LICENSE"),
    "lang": ("lang", "LANGUAGE", "language"),
}
"""Our names and those of DataComp, LAION, COYO and img2dataset, the first that is there counts."""


def renamed(columns: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Return what each column is called in a file, by our name.

    Parameters
    ----------
    columns
        Those of the file.
    given
        Names in the file, by ours, that a person gave.
    where
        Of what file, for the message.

    Raises
    ------
    ConfigError
        If a given one is not there.
    """
    for ours, theirs in given.items():
        if theirs not in columns:
            raise ConfigError(
                f"{where} has no column {theirs}, which --column {ours}={theirs} names; it has "
                f"{', '.join(columns)}"
            )
    found = {
        ours: next(name for name in names if name in columns)
        for ours, names in ALIASES.items()
        if any(name in columns for name in names)
    } | dict(given)
    taken = set(found.values())
    return found | {name: name for name in columns if name not in taken and name not in found}
