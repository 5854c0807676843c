"""What every tower promises, as tests: subclass them with a pytest fixture named `tower`.

::

    class TestMyTexts(TextTowerContract):
        @pytest.fixture
        def tower(self):
            return MyTexts(EmbedOptions(device="cpu"))
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from cah_dask.pairs.encoders.towers import Embeddings, ImageTower, Pixels, TextTower

TEXTS = (
    "a cat",
    "ein Hund läuft über die Wiese",
    "",
    " ",
    "три красных круга",  # Cyrillic is meant
    "图片中间有三个红色的圆形",
    "مرحبا",
    "🙂🙃",
    "IMG_2041.jpg",
    "word " * 40,
    "w" * 300,
    "word " * 2000,
)
SIZES = ((320, 240), (240, 320), (64, 64), (31, 200), (1200, 40), (9, 9))
_WITHIN = 1e-5
"""By how much the rest of a batch may move a number of a vector."""


def pictures() -> list[Image.Image]:
    """Return a few pictures, upright sRGB as every image tower gets them."""
    noise = np.random.default_rng(1)
    return [
        Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8), "RGB")
        for width, height in SIZES
    ]


class ImageTowerContract:
    """What an `encoders.towers.ImageTower` promises."""

    def preprocessed(self, tower: ImageTower) -> list[Pixels]:
        """Return `pictures` as the tower takes them."""
        return [tower.preprocess(picture) for picture in pictures()]

    def test_images_become_unit_vectors(self, tower: ImageTower) -> None:
        """One float32 row of length 1 for each picture, of whatever size."""
        require_unit_rows(tower.encode_images(self.preprocessed(tower)), len(SIZES), tower.dim)

    def test_an_image_is_embedded_alike_in_every_batch(self, tower: ImageTower) -> None:
        """Neither its place nor its neighbours change a vector."""
        pixels = self.preprocessed(tower)
        together = tower.encode_images(pixels)
        alone = np.concatenate([tower.encode_images([each]) for each in pixels])
        backwards = tower.encode_images(pixels[::-1])[::-1]
        require_close(together, alone)
        require_close(together, backwards)

    def test_the_same_images_give_the_same_bits(self, tower: ImageTower) -> None:
        """What is computed again is the same to the last bit."""
        pixels = self.preprocessed(tower)
        assert np.array_equal(tower.encode_images(pixels), tower.encode_images(pixels))

    def test_images_are_prepared_in_threads(self, tower: ImageTower) -> None:
        """`preprocess` gives in threads what it gives alone, and leaves its argument as it was."""
        before = pictures()
        with ThreadPoolExecutor(4) as threads:
            prepared = list(threads.map(tower.preprocess, before))
        for found, expected in zip(prepared, self.preprocessed(tower), strict=True):
            assert np.array_equal(np.asarray(found), np.asarray(expected))
        for used, unused in zip(before, pictures(), strict=True):
            assert used.tobytes() == unused.tobytes()


class TextTowerContract:
    """What an `encoders.towers.TextTower` promises."""

    def test_texts_become_unit_vectors(self, tower: TextTower) -> None:
        """One float32 row of length 1 for each text, in every script, empty or too long."""
        require_unit_rows(tower.encode_texts(TEXTS).vectors, len(TEXTS), tower.dim)

    def test_a_text_is_embedded_alike_in_every_batch(self, tower: TextTower) -> None:
        """Neither its place nor its neighbours change a vector."""
        together = tower.encode_texts(TEXTS).vectors
        alone = np.concatenate([tower.encode_texts([text]).vectors for text in TEXTS])
        backwards = tower.encode_texts(TEXTS[::-1]).vectors[::-1]
        require_close(together, alone)
        require_close(together, backwards)

    def test_the_same_texts_give_the_same_bits(self, tower: TextTower) -> None:
        """What is computed again is the same to the last bit."""
        first, second = (tower.encode_texts(TEXTS).vectors for _ in range(2))
        assert np.array_equal(first, second)

    def test_there_may_be_no_texts_and_very_many(self, tower: TextTower) -> None:
        """A tower makes batches of its own."""
        assert tower.encode_texts([]).vectors.shape == (0, tower.dim)
        many = [f"picture number {number}" for number in range(100)]
        require_unit_rows(tower.encode_texts(many).vectors, len(many), tower.dim)

    def test_texts_that_were_cut_are_counted(self, tower: TextTower) -> None:
        """Those longer than the context, each one; short ones never are."""
        assert tower.encode_texts(["a cat", ""]).n_cut == 0
        n_cut = tower.encode_texts(["word " * 2000]).n_cut
        assert tower.encode_texts(["a cat", *["word " * 2000] * 3]).n_cut == 3 * n_cut <= 3


def require_unit_rows(vectors: Embeddings, n_rows: int, dim: int) -> None:
    """Check type, shape and length of vectors."""
    assert vectors.dtype == np.float32
    assert vectors.shape == (n_rows, dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=_WITHIN)


def require_close(one: Embeddings, other: Embeddings) -> None:
    """Check that vectors are the same but for rounding."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= _WITHIN
