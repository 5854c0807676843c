"""Keys of earlier waves: few files hold those of all of them, and merging loses none."""

from itertools import chain
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cah_dask import keys as keys_module
from cah_dask.candidates.seen import held_waves, read_keys, waves_to_read, write_keys
from cah_dask.keys import KEY, PLACED, contains, merged, placed, span, unique
from tests.test_keys import HALVES, KEYS, keys

RUNS = st.lists(
    st.tuples(st.tuples(HALVES, HALVES), st.integers(0, 4)), unique_by=lambda pair: pair[0]
)


def test_the_files_that_a_wave_reads_hold_each_wave_before_it_once():
    for wave in range(700):
        read = waves_to_read(wave)
        assert list(chain(*map(held_waves, read))) == list(range(wave))
        assert len(read) == wave.bit_count()


def test_a_wave_merges_only_files_that_it_has_read_and_the_whole_of_them():
    for wave in range(700):
        inside = [file for file in waves_to_read(wave) if file in held_waves(wave)]
        assert [*chain(*map(held_waves, inside)), wave] == list(held_waves(wave))


@given(RUNS, st.integers(1, 9))
def test_merged_runs_hold_all_keys_in_order(pairs, held_keys):
    runs = [unique(keys([pair for pair, run in pairs if run == number])) for number in range(5)]
    whole = np.concatenate(list(merged(runs, held_keys)))
    assert whole.tolist() == sorted(pair for pair, _ in pairs)
    assert whole.dtype == KEY


def test_a_file_of_placed_keys_is_read_back_as_it_was_written(tmp_path: Path):
    runs = [placed(keys([(n, n), (n + 9, 0)]), n, np.array([4, 5])) for n in range(3)]
    side = write_keys(tmp_path / "k.npy", runs, "k")
    found = read_keys(tmp_path / "k.npy", side, list)
    assert found[:].dtype == PLACED
    assert found[:].tolist() == sorted(chain(*(run.tolist() for run in runs)))
    assert len(read_keys(tmp_path / "0", write_keys(tmp_path / "0", [keys([])], "0"), list)) == 0


@given(KEYS, KEYS)
def test_of_sorted_keys_only_those_in_the_span_of_a_run_can_be_in_it(asked, known):
    asked, run = unique(keys(asked)), unique(keys(known))
    within = span(asked, run)
    found = np.zeros(len(asked), bool)
    found[within] = contains(run, asked[within])
    assert found.tolist() == contains(run, asked).tolist()


def test_a_large_file_is_read_in_pieces(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(keys_module, "HELD_KEYS", 2)
    run = keys([(n, n) for n in range(5)])
    found = read_keys(tmp_path / "k", write_keys(tmp_path / "k", [run], "k"), list)
    assert [piece.tolist() for piece in found] == [
        [*run[:2].tolist()],
        [*run[2:4].tolist()],
        [(4, 4)],
    ]
    assert len(found) == 5
