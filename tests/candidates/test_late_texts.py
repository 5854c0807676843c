"""Late texts of many tables become lists in the order of the lists that have their images."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates import late_texts
from cah_dask.candidates.late_texts import late_lists
from cah_dask.schema import SAMPLES
from tests.candidates.test_dedup import row

PLACE = ["image_wave", "image_list"]
TABLES = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8), max_size=5)


def held(places, wave: int) -> pa.Table:
    """A table of late texts of images at some (wave, list)."""
    rows = [
        row(n, f"text {wave}", link_index=n, image_wave=at[0], image_list=at[1])
        for n, at in enumerate(places)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLES)


@given(TABLES, st.integers(1, 5), st.integers(1, 6))
def test_late_texts_are_sorted_by_the_list_of_their_image_then_as_they_came(
    waves, list_rows, held_rows
):
    tables = [held(places, wave) for wave, places in enumerate(waves)]
    lists = list(late_lists(tables, list_rows, held_rows=held_rows))
    rows = pa.concat_tables([SAMPLES.empty_table(), *tables]).to_pylist()
    rows.sort(key=lambda line: (line["image_wave"], line["image_list"]))
    assert pa.concat_tables([SAMPLES.empty_table(), *lists]).to_pylist() == rows
    assert all(table.schema == SAMPLES for table in lists)
    assert all(0 < len(table) <= list_rows for table in lists)
    assert len(lists) == -(-len(rows) // list_rows)


def test_a_list_of_late_texts_has_images_of_not_too_many_lists(monkeypatch):
    monkeypatch.setattr(late_texts, "IMAGE_LISTS", 3)
    places = [(wave, number) for wave in range(2) for number in range(4)] * 2
    lists = list(late_lists([held(places, 2)], 5))
    assert [len(table) for table in lists] == [5, 1, 5, 1, 4]
    images = [set(zip(*table.select(PLACE).to_pydict().values(), strict=True)) for table in lists]
    assert max(map(len, images)) == 3
    assert not (images[0] | images[1]) & (images[2] | images[3])
