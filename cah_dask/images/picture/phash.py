"""The perceptual hash of a picture: nearly the same for pictures that look the same.

The formula of ImageHash's `phash`: the 8 x 8 lowest frequencies (DCT-II) of the grey picture at
32 x 32 pixels, one bit each, set if it is above their median. Plain Python, because decoders are
small processes, and numpy would be most of one.
"""

import math
import statistics
from collections.abc import Sequence
from operator import mul

SIDE_PX = 32
_KEPT = 8
_WAVES = [
    [math.cos(math.pi * k * (2 * n + 1) / (2 * SIDE_PX)) for n in range(SIDE_PX)]
    for k in range(_KEPT)
]


def perceptual_hash(pixels: Sequence[int]) -> str:
    """Return 16 hex digits for the grey values of 32 x 32 pixels, row by row.

    Two hashes are compared by the number of bits that differ, of 64.
    """
    rows = [pixels[start : start + SIDE_PX] for start in range(0, len(pixels), SIDE_PX)]
    along = [[sum(map(mul, wave, row)) for row in rows] for wave in _WAVES]  # by frequency, row
    low = [sum(map(mul, wave, column)) for wave in _WAVES for column in along]
    middle = statistics.median(low)
    bits = "".join("1" if value > middle else "0" for value in low)
    return f"{int(bits, 2):016x}"
