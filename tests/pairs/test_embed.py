"""Samples and images in, scored samples out; nothing is lost on the way."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.errors import RunError, ShardError
from cah_dask.images.shards import ShardReader, ShardWriter
from cah_dask.pairs.embed import (
    Embedded,
    embed_list,
    from_scored,
    from_shard,
    similarity,
    with_vectors,
)
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.towers import Texts
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.schema import OUTCOMES, SAMPLES, scored, uid
from tests.encoders import HashTowers, drawn, hash_encoder


def samples(*rows: tuple[str, str]) -> pa.Table:
    """A fetch list of (url, text) rows, all English."""
    values = [
        {
            "uid": uid(text, url),
            "url": url,
            "text": text,
            "split": "en",
            "lang": "en",
            "lang_confidence": 0.9,
            "lang_is_reliable": True,
            "text_is_filename": False,
            "license": None,
            "page_url": "http://page.example/",
            "archive": "a",
            "record_offset": 0,
            "link_index": 0,
            "image_wave": 0,
            "image_list": 0,
        }
        for url, text in rows
    ]
    return pa.Table.from_pylist(values, schema=SAMPLES)


def outcomes(**status: str) -> pa.Table:
    """Statuses by url; images get rows in the order of the ok ones."""
    row = iter(range(len(status)))
    values = [
        {
            "url": url,
            "status": value,
            "attempts": 1,
            "fetched_at": 0,
            "fetch_ms": 1,
            "image_row": next(row) if value == "ok" else None,
        }
        for url, value in status.items()
    ]
    return pa.Table.from_pylist(values, schema=OUTCOMES)


def embed(
    folder: Path,
    rows: pa.Table,
    fates: pa.Table,
    images: list[str],
    *,
    towers: HashTowers | None = None,
    batch_size: int = 2,
) -> Embedded:
    with ShardWriter(folder / "s.h5") as writer:
        for image in images:
            writer.add(drawn(image))
    encoders = [hash_encoder(towers or HashTowers())]
    with ShardReader(folder / "s.h5") as shard:
        return embed_list(rows, fates, from_shard(shard, encoders, batch_size), encoders)


def test_samples_with_an_image_are_scored_and_the_rest_is_counted_by_reason(tmp_path: Path):
    made = embed(
        tmp_path,
        samples(("a", "cat"), ("a", "dog"), ("b", "sun"), ("c", "sea")),
        outcomes(a="ok", b="http_404", c="ok"),
        ["cat", "sea"],
    )
    assert made.table["text"].to_pylist() == ["cat", "dog", "sea"]
    assert [value > 0.5 for value in made.table["similarity_hash"].to_pylist()] == [
        True,
        False,
        True,
    ]
    assert (made.counts.seen, made.counts.kept) == (4, 3)
    assert made.counts.rejected == {"http_404": 1}
    made.counts.require_balance("embed")


def test_a_text_whose_image_was_another_one_is_rejected_as_changed(tmp_path: Path):
    rows = samples(("a", "cat"), ("a", "dog"), ("a", "sun"))
    hashes = pa.array([b"1" * 32, b"2" * 32, None], pa.binary())
    at = rows.column_names.index("published_sha256")
    rows = rows.set_column(at, SAMPLES.field(at), hashes)
    fates = outcomes(a="ok")
    at = fates.column_names.index("sha256")
    fates = fates.set_column(at, OUTCOMES.field(at), pa.array([(b"1" * 32).hex()]))
    made = embed(tmp_path, rows, fates, ["cat"])
    assert made.table["text"].to_pylist() == ["cat", "sun"]
    assert made.counts.rejected == {"changed": 1}


def test_an_image_with_several_texts_is_embedded_once(tmp_path: Path):
    towers = HashTowers()
    rows = samples(*[("a", f"text {number}") for number in range(5)])
    embed(tmp_path, rows, outcomes(a="ok"), ["x"], towers=towers, batch_size=8)
    assert sorted(towers.batches) == [1, 5]


def test_similarities_have_the_same_bits_whatever_is_done_ahead(tmp_path: Path, random_model: Path):
    options = EmbedOptions(encoders={"clip": EncoderOptions(image=str(random_model))})
    encoders = load_encoders(options)
    words = [f"{'word ' * (number % 9)}{number}" for number in range(40)]
    rows = samples(*[(f"u{number}", word) for number, word in enumerate(words)])
    fates = outcomes(**{f"u{number}": "ok" for number in range(40)})
    with ShardWriter(tmp_path / "s.h5") as writer:
        for word in words:
            writer.add(drawn(word * 9))
    made = []
    for threads in (1, 3, 1):
        with ShardReader(tmp_path / "s.h5") as shard:
            images = from_shard(shard, encoders, 8, threads=threads)
            made.append(embed_list(rows, fates, images, encoders).table)
    assert len(made[0]) == 40
    assert made[0].equals(made[1])
    assert made[0].equals(made[2])


def test_a_late_text_is_compared_with_the_image_that_an_earlier_list_embedded(tmp_path: Path):
    fates = outcomes(a="ok", b="ok", c="http_404")
    earlier = embed(tmp_path, samples(("a", "cat"), ("b", "sun")), fates, ["dog", "sun"])
    towers = HashTowers()
    encoders = [hash_encoder(towers)]
    late = embed_list(
        samples(("b", "moon"), ("a", "dog"), ("c", "sea")),
        fates,
        from_scored(earlier.table, encoders),
        encoders,
    )
    assert late.table["similarity_hash"].to_pylist()[0] < 0.5
    assert late.table["similarity_hash"].to_pylist()[1] == pytest.approx(1, abs=5e-4)
    assert late.counts.rejected == {"http_404": 1}
    assert towers.batches == [2], "only texts are encoded"


def test_late_texts_of_an_image_without_a_vector_are_counted(tmp_path: Path):
    fates = outcomes(a="ok", b="http_404", c="ok")
    earlier = embed(tmp_path, samples(("a", "cat")), fates, ["cat", "sea"])  # c has none
    late = samples(("c", "dog"), ("c", "moon"), ("b", "sun"), ("a", "cat"), ("c", "sea"))
    encoders = [hash_encoder()]
    images = from_scored(earlier.table, encoders)
    fates = with_vectors(fates, earlier.table)
    made = embed_list(late, fates, images, encoders)
    assert made.table["text"].to_pylist() == ["cat"]
    assert made.counts.rejected == {"http_404": 1, "no_vector": 3}
    made.counts.require_balance("embed")


def test_stored_vectors_are_the_encoders_rounded_to_float16(tmp_path: Path):
    made = embed(tmp_path, samples(("a", "cat")), outcomes(a="ok"), ["cat"])
    assert made.table.schema.equals(scored({"hash": HashTowers.dim}))
    (stored,) = made.table["image/hash"].to_pylist()
    expected = HashTowers().encode_texts(["cat"]).vectors[0].astype(np.float16)
    assert np.array_equal(np.frombuffer(stored, "<f2"), expected)


def test_a_list_without_any_image_gives_an_empty_part(tmp_path: Path):
    made = embed(tmp_path, samples(("a", "cat")), outcomes(a="robots"), [])
    assert len(made.table) == 0
    assert made.counts.rejected == {"robots": 1}


def test_vectors_of_different_numbers_do_not_pair():
    with pytest.raises(ShardError, match="do not pair"):
        similarity(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["cat", "dog", "sun"])),
        max_size=12,
        unique=True,
    ),
    st.fixed_dictionaries({url: st.sampled_from(["ok", "timeout", "robots"]) for url in "abcd"}),
    st.integers(1, 5),
)
def test_every_sample_is_accounted_for_and_its_similarity_ignores_the_batch(
    tmp_path_factory: pytest.TempPathFactory, rows, fates, batch_size
):
    folder = tmp_path_factory.mktemp("embed")
    images = ["cat" for fate in fates.values() if fate == "ok"]
    made = embed(folder, samples(*rows), outcomes(**fates), images, batch_size=batch_size)
    made.counts.require_balance("embed")
    assert made.counts.seen == len(rows)
    assert len(made.table) == sum(fates[url] == "ok" for url, _ in rows)
    agree = [value > 0.5 for value in made.table["similarity_hash"].to_pylist()]
    assert agree == [text == "cat" for text in made.table["text"].to_pylist()]


def embed_ten(folder: Path, towers: HashTowers) -> Embedded:
    names = [f"u{number}" for number in range(10)]
    rows = samples(*((name, f"text {name}") for name in names))
    fates = outcomes(**dict.fromkeys(names, "ok"))
    return embed(folder, rows, fates, names, towers=towers, batch_size=10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("tower", ["encode_images", "encode_texts"])
def test_a_sample_without_a_vector_is_counted_and_not_stored(tmp_path, bad, tower):
    class Faulty(HashTowers):
        pass

    def encode(self, items):
        made = getattr(HashTowers, tower)(self, items)
        (made.vectors if isinstance(made, Texts) else made)[:1] = bad
        return made

    setattr(Faulty, tower, encode)
    made = embed_ten(tmp_path, Faulty())
    made.counts.require_balance("test")
    assert made.counts.rejected == {"no_vector": 1}
    assert made.counts.kept == len(made.table) == 9
    assert sum(made.counts.notes.values()) == 9


def test_a_model_that_gives_no_vectors_stops_the_run_by_its_name(tmp_path):
    class Silent(HashTowers):
        def encode_images(self, images):
            return np.full((len(images), self.dim), np.nan, np.float32)

    with pytest.raises(RunError, match=r"model hash gave no vector .* for 10 of 10"):
        embed_ten(tmp_path, Silent())
