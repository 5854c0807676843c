"""Histograms of scores of any size, whose bins are known beforehand, so that they add up."""

import numpy as np
import numpy.typing as npt

PER_ONE = 50
"""Bins of [0, 1), and of (-1, 0)."""
PER_DOUBLING = 5
"""Bins of each doubling beyond."""


def bins_of(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the bin of each finite score: 0.02 wide up to 1, then five a doubling."""
    sizes = np.abs(scores.astype(np.float64))
    with np.errstate(divide="ignore"):
        beyond = PER_ONE + np.floor(np.log2(sizes) * PER_DOUBLING)
    numbers = np.where(sizes < 1, np.floor(sizes * PER_ONE), beyond).astype(np.int64)
    found: npt.NDArray[np.int64] = np.where(np.signbit(scores), -1 - numbers, numbers)
    return found


def lower_end(number: int) -> float:
    """Return the least score of a bin; for those below 0 it belongs to the bin before."""
    if number < 0:
        return -lower_end(-number)
    return number / PER_ONE if number <= PER_ONE else 2.0 ** ((number - PER_ONE) / PER_DOUBLING)
