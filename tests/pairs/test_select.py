"""Which scored samples a release holds: the rows that agree, and a reason for all others."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.errors import ConfigError
from cah_dask.pairs.catalogue import presets
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.select import SelectOptions, checksum, complete, select_list
from cah_dask.release.layout import deal, fingerprint
from cah_dask.schema import SELECTED, SPLITS, Split

PART = "scored/w00000/b00000-l00000.parquet"


def scored(*rows: tuple[str, float]) -> pa.Table:
    """Scored samples of (split, similarity), as far as they are looked at."""
    return pa.table(
        {
            "uid": pa.array([number.to_bytes(16, "big") for number in range(len(rows))]),
            "split": pa.array([split for split, _ in rows], pa.string()),
            "lang": pa.array([split[:2] for split, _ in rows], pa.string()),
            "similarity_clip": pa.array([value for _, value in rows], pa.float32()),
        }
    )


@given(
    st.lists(st.tuples(st.sampled_from(SPLITS), st.floats(-1, 1, width=32)), max_size=20),
    st.dictionaries(st.sampled_from(SPLITS), st.floats(-1, 1, width=32)),
)
def test_a_row_is_selected_if_its_similarity_reaches_the_threshold_of_its_split(rows, thresholds):
    selected, counts = select_list(PART, scored(*rows), "clip", thresholds)
    expected = [
        number
        for number, (split, value) in enumerate(rows)
        if split in thresholds and value >= thresholds[split]
    ]
    assert selected["row"].to_pylist() == expected
    assert [int.from_bytes(uid, "big") for uid in selected["uid"].to_pylist()] == expected
    assert set(selected["part"].to_pylist()) <= {PART}
    assert selected.schema.equals(SELECTED)
    counts.require_balance("select")
    assert (counts.seen, counts.kept) == (len(rows), len(expected))


def test_samples_and_kept_ones_are_counted_by_language():
    rows = scored(("en", 0.9), ("en", 0.1), ("multi", 0.1))
    _, counts = select_list(PART, rows, "clip", {"en": 0.5, "multi": 0.5})
    assert counts.notes == {"scored/en/en": 2, "scored/multi/mu": 1, "kept/en/en": 1}


def test_a_threshold_is_compared_in_float32():
    at = float(np.float32(0.28))
    assert select_list(PART, scored(("en", at)), "clip", {"en": 0.28})[1].kept == 1
    just_below = float(np.nextafter(np.float32(0.28), np.float32(0)))
    assert select_list(PART, scored(("en", just_below)), "clip", {"en": 0.28})[1].kept == 0


def encoders(*images: str, texts: dict[Split, str] | None = None) -> EmbedOptions:
    """Resolved options of an encoder for each image tower, called a, b..."""
    named = {
        name: EncoderOptions(image=image, texts=texts or {})
        for name, image in zip("abc", images, strict=False)
    }
    return EmbedOptions(encoders=named)


CLIP = "ViT-B-32-quickgelu/openai"
MCLIP = "hf:sentence-transformers/clip-ViT-B-32-multilingual-v1"


def test_published_thresholds_hold_for_their_towers_and_split_only():
    with pytest.raises(ConfigError, match="no threshold is known for multi, nolang texts"):
        complete(SelectOptions(), encoders(CLIP))
    with pytest.raises(ConfigError, match="no threshold is known for en, multi, nolang"):
        complete(SelectOptions(), encoders("tiny"))
    assert complete(SelectOptions(), encoders(CLIP), splits=["en"]).thresholds == {"en": 0.28}
    known = complete(
        SelectOptions(), encoders(CLIP, texts={"multi": MCLIP, "nolang": MCLIP})
    ).thresholds
    assert known == {"en": 0.28, "multi": 0.26, "nolang": 0.26}


def test_thresholds_of_a_preset_come_before_those_of_another_with_the_same_towers():
    preset = presets()["laion400m"]
    assert complete(SelectOptions(), encoders(CLIP), preset, ["en"]).thresholds == {"en": 0.28}
    named = EmbedOptions(encoders={name: each.options for name, each in preset.encoders.items()})
    assert complete(SelectOptions(), named, preset, ["en"]).thresholds == {"en": 0.30}
    own = SelectOptions(thresholds={"en": 0.5})
    assert complete(own, named, preset, ["en"]).thresholds == {"en": 0.5}


def test_the_encoder_that_decides_can_be_chosen():
    options = encoders("tiny", CLIP)
    assert complete(SelectOptions(encoder="b"), options, splits=["en"]).thresholds == {"en": 0.28}
    with pytest.raises(ConfigError, match=r"select\.encoder is c, .* it has a, b"):
        complete(SelectOptions(encoder="c"), options)


def test_equal_thresholds_are_equal_in_whatever_order_they_are_given():
    one: dict[Split, float] = {"en": 0.1, "multi": 0.2}
    other: dict[Split, float] = {"multi": 0.2, "en": 0.1}
    made = [
        complete(SelectOptions(thresholds=each), encoders("tiny"), splits=["en"])
        for each in (one, other)
    ]
    assert list(made[0].thresholds) == list(made[1].thresholds)


def test_selections_of_as_many_rows_are_told_apart():
    one, two = (select_list(PART, scored(("en", a), ("en", b)), "clip", {"en": 0.5})[0]
                for a, b in ((0.9, 0.1), (0.1, 0.9)))  # fmt: skip
    assert checksum([one]) != checksum([two])
    assert checksum([one]) == checksum([one])
    dealt = deal([(PART, 1)], 8)
    assert fingerprint(dealt, checksum([one])) != fingerprint(dealt, checksum([two]))


def test_options_are_settled_from_those_that_ask_for_a_share():
    asked = SelectOptions(encoder="a", thresholds={"en": 0.2}, top_fraction={"multi": 0.3})
    settled = SelectOptions(
        encoder="a", thresholds={"en": 0.2, "multi": 0.7}, top_fraction={"multi": 0.3}
    )
    assert settled.is_settled_from(asked)
    assert settled.is_settled_from(settled)
    for other in ({"encoder": "b"}, {"thresholds": {"en": 0.3}}, {"top_fraction": {"multi": 0.4}}):
        assert not settled.is_settled_from(msgspec.structs.replace(asked, **other))
