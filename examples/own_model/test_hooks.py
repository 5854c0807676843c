"""The model keeps what models promise."""

import numpy as np
import pytest

from cah_dask.classify.contract import ModelContract
from examples.own_model.hooks import Colourful


class TestColourful(ModelContract):
    """Run by pytest."""

    @pytest.fixture
    def model(self):
        """Build it as a worker does."""
        return Colourful(device="cpu", threads=1)

    @pytest.fixture
    def batch(self):
        """Return items that score unalike."""
        pictures = np.random.default_rng(1).integers(0, 256, (4, 9, 9, 3), np.uint8)
        return [{"data": picture // (number + 1)} for number, picture in enumerate(pictures)]
