"""Measure what a decoder does with an image: CPU time by step, and the resampling beside Pillow's.

    MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=67108864 python benchmarks/decode.py

The variables are those that decoders run with. Needs x86-64, where `cykooz_resizer` is installed.
Steps are told apart by cProfile, by the clock: nothing else should run. "The rest" is Python.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drawn_web import draw_set, photo
from PIL import Image, ImageDraw
from PIL.Image import Resampling

from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.picture.decoders import Task, judge
from cah_dask.images.picture.resize import by_pillow, by_simd

STEPS = {  # C functions by the names that cProfile gives them
    "decode": ("'decode' of 'ImagingDecoder'", "'get_next' of 'WebPAnimDecoder'"),
    "resample": ("'resize' of 'builtins.RustResizer'", "'reduce' of 'ImagingCore'"),
    "encode": ("'encode' of 'ImagingEncoder'",),
    "hash": ("openssl_sha256", "openssl_md5"),
}

FILTERS = {"bicubic": Resampling.BICUBIC, "Lanczos": Resampling.LANCZOS}
SIZES = [(460, 345), (680, 510)]  # what decoders of JPEG give, before 256 px
SMALL = (341, 256)


def print_steps(folder: Path) -> None:
    """Print how long each step takes, by kind of image."""
    print(f"| images | {' | '.join(STEPS)} | the rest | ms an image |")
    print("|---" * (len(STEPS) + 3) + "|")
    small, photos = draw_set("small", 2000, folder), draw_set("photos", 150, folder)
    for suffix in ("jpg", "png", "webp"):
        print_row(suffix, [folder / "small" / name for name in small if name.endswith(suffix)])
    print_row("photographs", [folder / "photos" / name for name in photos])


def print_row(kind: str, paths: list[Path]) -> None:
    """Print how long each step takes with some images."""
    images = [path.read_bytes() for path in paths[:1000]]
    task = Task(DecodeOptions(min_side_px=1, side_px=256, quality=95))
    for image in images[:50]:
        judge(image, task)
    with cProfile.Profile() as profile:
        for image in images:
            judge(image, task)
    stats = pstats.Stats(profile)
    own = {name: row[2] for (_, _, name), row in stats.stats.items()}  # type: ignore[attr-defined]
    spent = [
        sum(own[name] for name in own if any(part in name for part in parts))
        for parts in STEPS.values()
    ]
    total = stats.total_tt  # type: ignore[attr-defined]  # documented nowhere, as is `stats`
    columns = [*spent, total - sum(spent), total]
    each = " | ".join(f"{1000 * seconds / len(images):.2f}" for seconds in columns)
    print(f"| {kind} | {each} |", flush=True)


def text(width: int, height: int) -> Image.Image:
    """Draw black letters on white, where filters overshoot most."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for y in range(4, height, 14):
        draw.text((4, y), "The quick brown fox jumps over the lazy dog. " * 4, fill="black")
    return image


def cpu_ms(resample_by: Callable, image: Image.Image, resample: Resampling) -> float:
    """Return the CPU time of one call, the median of five series of fifty."""
    box, each = (0, 0, *image.size), []
    for _ in range(5):
        began = time.process_time()
        for _ in range(50):
            resample_by(image, SMALL, resample, box)
        each.append((time.process_time() - began) / 50)
    return 1000 * statistics.median(each)


def exact(image: Image.Image, resample: Resampling) -> np.ndarray:
    """Resample each band in floating point, and round once."""
    bands = [band.convert("F").resize(SMALL, resample) for band in image.split()]
    return np.clip(np.stack([np.asarray(band) for band in bands], axis=-1), 0, 255)


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="/tmp/cah-bench-images", help="where to keep images")
    print_steps(Path(parser.parse_args().folder))
    print()
    print(
        "| from | filter | Pillow, CPU ms | cykooz_resizer, CPU ms | share |\n|---|---|---|---|---|"
    )
    for width, height in SIZES:
        for name, resample in FILTERS.items():
            image = photo(1, width, height)
            slow, fast = (cpu_ms(by, image, resample) for by in (by_pillow, by_simd))
            row = f"{width} x {height} | {name} | {slow:.2f} | {fast:.2f} | {fast / slow:.2f}"
            print(f"| {row} |")
    print("\n| picture | filter | largest, mean difference | error of Pillow, of cykooz_resizer |")
    print("|---" * 4 + "|")
    for kind, image in (("photograph", photo(1, 680, 510)), ("text", text(680, 510))):
        for name, resample in FILTERS.items():
            made = [
                np.asarray(by(image, SMALL, resample, (0, 0, 680, 510))).astype(float)
                for by in (by_pillow, by_simd)
            ]
            gap, truth = abs(made[0] - made[1]), exact(image, resample)
            errors = [f"{abs(one - truth).mean():.2f}" for one in made]
            row = f"{kind} | {name} | {gap.max():.0f}, {gap.mean():.2f} | {', '.join(errors)}"
            print(f"| {row} |")


if __name__ == "__main__":
    main()
