"""How close stored pictures are to their originals, fully decoded and resized by Lanczos."""

import io
import json
import statistics
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from cah_dask.images.shards import ShardReader


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean structural similarity of two grey pictures (Wang 2004, 8 x 8 windows)."""

    def mean(x: np.ndarray) -> np.ndarray:
        total = np.pad(x, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        return (total[8:, 8:] - total[:-8, 8:] - total[8:, :-8] + total[:-8, :-8]) / 64

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    cov = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def quality(stored: dict[str, bytes], originals: Path, names: list[str]) -> str:
    """Compare stored pictures with their originals, fully decoded and resized by Lanczos."""
    scores = []
    for name in names:
        if name in stored:
            image = Image.open(io.BytesIO(stored[name])).convert("RGB")
            reference = Image.open(originals / name).convert("RGB")
            reference = reference.resize(image.size, Image.Resampling.LANCZOS)
            scores.append(
                ssim(*(np.asarray(picture.convert("L")) for picture in (image, reference)))
            )
    size = statistics.mean(len(data) for data in stored.values()) / 1000
    worst = sorted(scores)[len(scores) // 20]
    return f"{statistics.mean(scores):.4f} (5th percentile {worst:.4f}), {size:.1f} kB a picture"


def ours_stored(folder: Path, names: list[str]) -> dict[str, bytes]:
    """Read our shard, whose rows are in the order of the urls."""
    with ShardReader(folder / "0.h5") as shard:
        return dict(zip(names, shard.read(range(len(shard))), strict=True))


def peer_stored(folder: Path) -> dict[str, bytes]:
    """Read img2dataset's tars."""
    found = {}
    for path in folder.glob("set/*.tar"):
        with tarfile.open(path) as tar:
            files = {
                member.name: file.read() for member in tar if (file := tar.extractfile(member))
            }
        for name, data in files.items():
            if name.endswith(".json"):
                url = json.loads(data)["url"]
                found[url.rpartition("/")[2]] = files[name.replace(".json", ".jpg")]
    return found
