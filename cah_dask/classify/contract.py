"""What hooks promise, as tests: subclass them with the pytest fixtures that each class names.

::

    class TestMyModel(ModelContract):
        @pytest.fixture
        def model(self):
            return MyModel(device="cpu", threads=1)

        @pytest.fixture
        def batch(self):
            return [{"data": picture} for picture in some_pictures()]
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cah_dask.archives.responses import Response
from cah_dask.classify.arrays import packed
from cah_dask.classify.hooks import Arrays, Item, Keep, Model, Prepare, Read, Scored, arrays_of

_WITHIN = 1e-4
"""By how much the rest of a batch may move a score or a number of a vector."""


class ModelContract:
    """What a `hooks.Model` promises: fixtures `model`, and `batch` of items that score unalike."""

    def test_it_names_its_scores(self, model: Model) -> None:
        """Each name once, and the length of a vector, 0 without any."""
        assert len(set(model.names)) == len(model.names)
        assert all(map(str.strip, model.names))
        assert isinstance(model.dim, int)
        assert model.dim >= 0

    def test_every_item_gets_a_row(self, model: Model, batch: Sequence[Arrays]) -> None:
        """One of finite float32 scores, and one of vectors if there are any."""
        require_rows(model, model(batch), len(batch))

    def test_a_batch_may_be_empty(self, model: Model) -> None:
        """Then there are no rows, of the same width."""
        require_rows(model, model([]), 0)

    def test_a_row_is_that_of_its_item(self, model: Model, batch: Sequence[Arrays]) -> None:
        """Neither the place of an item nor the rest of its batch changes what it gets."""
        together = table(model(batch))
        assert np.ptp(together, axis=0).max() > 10 * _WITHIN, "give items that score unalike"
        alone = np.concatenate([table(model([arrays])) for arrays in batch])
        backwards = table(model(batch[::-1]))[::-1]
        assert np.abs(together - alone).max() <= _WITHIN
        assert np.abs(together - backwards).max() <= _WITHIN

    def test_the_same_batch_gives_the_same_bits(
        self, model: Model, batch: Sequence[Arrays]
    ) -> None:
        """What is scored again is the same to the last bit, and its items are left alone."""
        before = [bits(arrays) for arrays in batch]
        assert table(model(batch)).tobytes() == table(model(batch)).tobytes()
        assert [bits(arrays) for arrays in batch] == before


class ReadContract:
    """What a `hooks.Read` promises: fixtures `read`, and `record` of which it makes an item."""

    def test_it_makes_an_item(self, read: Read, record: Response) -> None:
        """The same one each time."""
        item = read(record)
        assert item is not None
        assert looks(item) == looks(read(record))

    def test_hostile_records_cost_themselves(self, read: Read, record: Response) -> None:
        """Each is an item or is not wanted, and always the same; none raises."""
        for hostile in hostile_records(record):
            assert looks(read(hostile)) == looks(read(hostile))

    def test_a_record_does_not_change_the_next(self, read: Read, record: Response) -> None:
        """Whatever was read before."""
        before = looks(read(record))
        for hostile in hostile_records(record):
            read(hostile)
            assert looks(read(record)) == before


class PrepareContract:
    """What a `hooks.Prepare` promises: fixtures `prepare` and `item`."""

    def test_it_makes_arrays(self, prepare: Prepare, item: Item) -> None:
        """By their names, of numbers or bools, and the same each time."""
        arrays = prepare(item)
        assert packed(arrays)
        assert bits(arrays) == bits(prepare(item))

    def test_an_item_is_left_alone(self, prepare: Prepare, item: Item) -> None:
        """As it is stored, too."""
        before = copy.deepcopy(item)
        prepare(item)
        assert looks(item) == looks(before)


class KeepContract:
    """What a `hooks.Keep` promises: fixtures `keep`, and `names` of the scores that it gets."""

    def test_it_decides_by_any_scores(self, keep: Keep, names: Sequence[str]) -> None:
        """With a bool, and with the same one each time."""
        for value in (-1e30, -1.0, 0.0, 0.5, 1.0, 1e30):
            scores = dict.fromkeys(names, value)
            assert isinstance(keep(scores), bool | np.bool_)
            assert keep(scores) == keep(dict(scores))
            assert scores == dict.fromkeys(names, value)


def hostile_records(record: Response) -> Iterator[Response]:
    """Yield records that are not what they say, made of a sound one."""
    body = record.body
    noise = np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes()
    for part in (0, 1, 2, 16, len(body) // 2, len(body) - 1):
        yield record._replace(body=body[:part])
    for other in (noise, b"\0" * (1 << 20), body[::-1], body + body, b"\xff" * 999, noise + body):
        yield record._replace(body=other)
    lies = "text/html; charset=utf-16", "image/png", "text/html; charset=\xff\0", "", "a" * 10_000
    for lie in lies:
        one, said = ("Content-Type", lie), record._replace(content_type=lie)
        yield said._replace(headers=(one,), mime=lie.partition(";")[0])
        yield said._replace(headers=(one,) * 3, body=noise)
    untold = record._replace(headers=(), content_type="", mime="", status=None)
    yield untold._replace(url="", date="", digest="")
    yield record._replace(kind="revisit", body=b"")


def require_rows(model: Model, scored: Scored, n: int) -> None:
    """Check type and shape of what a model gave for `n` items."""
    assert isinstance(scored, Scored)
    _require_table(scored.scores, (n, len(model.names)))
    if model.dim:
        assert scored.vectors is not None
        _require_table(scored.vectors, (n, model.dim))
    else:
        assert scored.vectors is None


def _require_table(found: npt.NDArray[Any], shape: tuple[int, int]) -> None:
    assert found.dtype == np.float32
    assert found.shape == shape
    assert np.isfinite(found).all()


def table(scored: Scored) -> npt.NDArray[np.float32]:
    """Return scores and vectors side by side."""
    parts = [scored.scores] if scored.vectors is None else [scored.scores, scored.vectors]
    return np.concatenate(parts, axis=1)


def bits(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return arrays as what can be compared."""
    return {name: (each.dtype.str, each.shape, each.tobytes()) for name, each in arrays.items()}


def looks(item: Item) -> Any:
    """Return an item as what can be compared, where it is known how."""
    if isinstance(item, str | bytes | np.ndarray):
        return type(item).__name__, bits(arrays_of(item)), getattr(item, "payload", None)
    return item
