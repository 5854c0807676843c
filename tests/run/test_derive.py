"""Releases made of chosen rows of another one, unit by unit, without workers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import zarr

from cah_dask.counts import Counts
from cah_dask.errors import ConfigError, DamageError, InputError, RunError
from cah_dask.pairs.select import SELECTION, checksum
from cah_dask.release import rows as rows_module
from cah_dask.release.check import check_part, damaged_metadata, stray_files
from cah_dask.release.layout import Layout, part_path, read_layout
from cah_dask.release.manifest import Limit, Step, manifest_faults, read_manifest
from cah_dask.run.derive import PACK, Derivation, pack_task
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED
from cah_dask.storage import Receipt, read_part, write_part
from tests.release.test_check import CHUNK, ROWS, SHARD, make_release

KEPT = [0, 1, 5, 8, 9, 10, 11, 12, 13, 14, 15, 19]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("run"))


@pytest.fixture
def source(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "source"))


def layout_of(release: Path) -> Layout:
    layout = read_layout(release)
    assert layout is not None
    return layout


def choose(source: Path, job: Path, kept: Sequence[int]) -> list[str]:
    """Leave parts that choose some rows of a release, as a job does."""
    parts = []
    for number in range(layout_of(source).shards):
        path = part_path(source, number)
        uids = read_part(path)["uid"].to_pylist()
        rows = [row - number * SHARD for row in kept if row // SHARD == number]
        columns = [
            [path.relative_to(source).as_posix()] * len(rows),
            rows,
            [bytes.fromhex(uids[row]) for row in rows],
        ]
        table = pa.table(columns, schema=SELECTED)
        rejected = {"unwanted": len(uids) - len(rows)} if len(uids) > len(rows) else {}
        counts = Counts(len(uids), len(rows), rejected, {SELECTION: checksum([table])})
        receipt = Receipt(stage="choose", unit=f"part-{number:05d}", config="", counts=counts)
        parts.append(f"chosen/part-{number:05d}.parquet")
        write_part(job / parts[-1], SELECTED, [table] if rows else [], receipt, replace=True)
    return parts


def step_of(source: Path, *limits: Limit):
    fingerprint = layout_of(source).fingerprint
    return lambda counts: Step(
        how="choose", of="release", fingerprint=fingerprint, rule={}, counts=counts, limits=limits
    )


def derive(
    source: Path, to: Path, kept: Sequence[int] = KEPT, *limits: Limit, stop: int | None = None
) -> Derivation:
    """Make a release of some rows of another; `stop` leaves it when so many shards are done."""
    job = to.with_name("job")
    folder = JobFolder(job, ())
    derivation = Derivation(source, to, folder)
    parts = choose(source, job, kept)
    n_shards = derivation.begin(parts, step_of(source, *limits))
    for number in range(n_shards)[:stop]:
        if not part_path(derivation.unfinished, number).exists():
            pack_task(derivation.task(Unit(PACK, number=number), is_last_attempt=False))
    if stop is None:
        derivation.publish()
    return derivation


def faults(release: Path) -> list[str]:
    layout = layout_of(release)
    found = stray_files(release, layout) + damaged_metadata(release, layout)
    found += manifest_faults(release, layout)
    for number in range(layout.shards):
        found += check_part(release, number, layout).faults
    return found


def rows(release: Path) -> pa.Table:
    return ds.dataset(release / "pairs").to_table().sort_by("row")


def vectors(release: Path, modality: str) -> np.ndarray:
    array = zarr.open_group(release / "embeddings.zarr", mode="r")[f"clip/{modality}"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def contents(release: Path) -> dict[str, bytes]:
    files = (path for path in release.rglob("*") if path.is_file())
    return {str(path.relative_to(release)): path.read_bytes() for path in files}


def test_chosen_rows_stand_beside_their_own_vectors(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    before, after = rows(source), rows(tmp_path / "new")
    assert after["row"].to_pylist() == list(range(len(KEPT)))
    assert after.drop("row").equals(before.take(KEPT).drop("row"))
    for modality in ("image", "text"):
        expected = vectors(source, modality)[KEPT]
        assert vectors(tmp_path / "new", modality).tobytes() == expected.tobytes()
    assert faults(tmp_path / "new") == []


def test_sizes_schema_and_encoders_are_those_of_the_source(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    one, other = layout_of(source), layout_of(tmp_path / "new")
    assert other.rows == len(KEPT)
    assert (other.rows_per_shard, other.rows_per_chunk) == (SHARD, CHUNK)
    assert (other.encoders, other.encoder) == (one.encoders, one.encoder)
    assert other.schema.equals(one.schema)


def test_all_rows_give_the_same_vectors_byte_for_byte(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new", range(ROWS))
    one, other = contents(source), contents(tmp_path / "new")
    shards = [name for name in one if name.startswith("embeddings.zarr")]
    assert len(shards) > 6
    assert {name: other[name] for name in shards} == {name: one[name] for name in shards}


def test_how_many_rows_are_held_at_once_changes_no_byte(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    derive(source, tmp_path / "new")
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(rows_module, "_ROWS_AT_ONCE", 3)
    derive(source, tmp_path / "b" / "new")
    assert contents(tmp_path / "b" / "new") == contents(tmp_path / "new")


def test_card_and_manifest_say_what_it_was_made_from(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    manifest = read_manifest(tmp_path / "new")
    assert manifest is not None
    (step,) = manifest.steps
    assert step.counts.rejected == {"unwanted": ROWS - len(KEPT)}
    card = (tmp_path / "new" / "README.md").read_text()
    for line in (
        "12 image-text pairs, chosen from the release of a run.",
        f"1. **choose** of the release with fingerprint `{layout_of(source).fingerprint}`",
        "12 of 20 rows were kept",
        "| unwanted | 8 |",
    ):
        assert line in card


def test_steps_follow_each_other(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    (tmp_path / "later").mkdir()
    derive(tmp_path / "new", tmp_path / "later" / "newer", [0, 9])
    manifest = read_manifest(tmp_path / "later" / "newer")
    assert manifest is not None
    assert [step.counts.kept for step in manifest.steps] == [12, 2]
    assert manifest.steps[1].fingerprint == layout_of(tmp_path / "new").fingerprint
    assert rows(tmp_path / "later" / "newer")["text"].to_pylist() == ["text 0", f"text {KEPT[9]}"]
    assert faults(tmp_path / "later" / "newer") == []


@pytest.mark.parametrize("done", [0, 1])
def test_what_was_cut_off_goes_on_to_the_same_bytes(source: Path, tmp_path: Path, done: int):
    derive(source, tmp_path / "new", stop=done)
    assert not (tmp_path / "new").exists()
    (tmp_path / "new.partial" / "embeddings.zarr" / ".tmp-0-torn").touch()
    derive(source, tmp_path / "new")
    (tmp_path / "b").mkdir()
    derive(source, tmp_path / "b" / "new")
    assert contents(tmp_path / "new") == contents(tmp_path / "b" / "new")
    assert not (tmp_path / "new.partial").exists()


def test_one_that_was_begun_of_other_rows_is_begun_anew(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new", [3, 4], stop=1)
    derive(source, tmp_path / "new")
    assert faults(tmp_path / "new") == []
    assert len(rows(tmp_path / "new")) == len(KEPT)


def test_one_that_is_there_is_left_alone(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*")}
    assert derive(source, tmp_path / "new").is_there
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*")}


@pytest.mark.parametrize("name", ["embeddings.zarr/clip/image/c.1.0", "manifest.json", "README.md"])
def test_one_that_lost_a_file_is_mended(source: Path, tmp_path: Path, name: str):
    derive(source, tmp_path / "new")
    before = contents(tmp_path / "new")
    (tmp_path / "new" / name).unlink()
    derive(source, tmp_path / "new")
    assert contents(tmp_path / "new") == before


def test_one_with_another_manifest_is_mended(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    before = contents(tmp_path / "new")
    (tmp_path / "new" / "manifest.json").write_bytes(b"{}")
    derive(source, tmp_path / "new")
    assert contents(tmp_path / "new") == before


def test_one_of_other_rows_is_not_replaced(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    before = contents(tmp_path / "new")
    with pytest.raises(RunError, match="new holds another release; name a new folder"):
        derive(source, tmp_path / "new", [1])
    assert contents(tmp_path / "new") == before


def test_a_release_of_a_run_that_lies_where_it_is_written_is_not_deleted(
    source: Path, tmp_path: Path
):
    other = Path(shutil.copytree(source, tmp_path / "new.partial"))
    before = contents(other)
    with pytest.raises(RunError, match=r"new.partial is in the way and is no derived release"):
        derive(source, tmp_path / "new")
    assert contents(other) == before


def test_no_rows_give_an_empty_release(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new", [])
    assert faults(tmp_path / "new") == []
    assert len(rows(tmp_path / "new")) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("embeddings.zarr/clip/image/c.1.0", "c.1.0 is damaged: its bytes are not those written"),
        ("pairs/part-00001.parquet", "part-00001.parquet is damaged"),
    ],
)
def test_damage_of_the_source_ends_it(source: Path, tmp_path: Path, name: str, reason: str):
    derive(source, tmp_path / "new", stop=0)
    path = source / name
    data = bytearray(path.read_bytes())
    data[40] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamageError, match=reason):
        derive(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_source_that_lacks_files_is_refused_at_once(source: Path, tmp_path: Path):
    (source / "embeddings.zarr" / "clip" / "text" / "c.2.0").unlink()
    with pytest.raises(InputError, match="is not whole; see `cah verify"):
        derive(source, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(None, "it is not there"), (b"{", "it cannot be read"), (b"other", "it is not the one that")],
)
def test_a_source_that_does_not_tell_what_it_was_made_of_is_refused(
    source: Path, tmp_path: Path, data: bytes | None, reason: str
):
    derive(source, tmp_path / "new")
    manifest = tmp_path / "new" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.unlink()
    if data is not None:
        manifest.write_bytes(whole.replace(b"choose", data) if data == b"other" else data)
    (tmp_path / "later").mkdir()
    with pytest.raises(InputError, match=f"new/manifest.json: {reason}.*; see `cah verify"):
        derive(tmp_path / "new", tmp_path / "later" / "newer")
    assert list((tmp_path / "later").iterdir()) == []


def test_a_source_of_other_rows_is_found_out(source: Path, tmp_path: Path):
    derivation = derive(source, tmp_path / "new", stop=0)
    shutil.copy(part_path(source, 0), part_path(source, 1))
    with pytest.raises(RunError, match="was made anew since pairs were selected from it"):
        pack_task(derivation.task(Unit(PACK, number=0), is_last_attempt=False))


@pytest.mark.parametrize("place", ["source", "source/new", "taken", "run"])
def test_a_place_that_is_taken_is_refused(source: Path, tmp_path: Path, place: str):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    shutil.copytree(source, tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="name a new folder"):
        derive(source, tmp_path / place)
    assert contents(tmp_path) == before


def test_a_folder_that_is_neither_run_nor_release_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is neither a release, a run folder nor"):
        Derivation(tmp_path / "empty", tmp_path / "new", JobFolder(tmp_path / "job", ()))


def test_limits_are_compared_in_float32(source: Path, tmp_path: Path):
    similarities = rows(source)["similarity"].to_pylist()
    kept = sorted(np.argsort(similarities)[-6:].tolist())
    lowest = min(similarities[row] for row in kept)
    derive(source, tmp_path / "new", kept, Limit(column="similarity", at_least=lowest))
    assert faults(tmp_path / "new") == []
    (tmp_path / "b").mkdir()
    above = float(np.nextafter(np.float32(lowest), np.float32(2)))
    derive(source, tmp_path / "b" / "new", kept, Limit(column="similarity", at_least=above))
    (fault,) = faults(tmp_path / "b" / "new")
    place = kept.index(similarities.index(lowest))
    assert fault == (
        f"pairs/part-00000.parquet: row {place}: it is beyond a limit that the manifest names"
    )


def test_limits_of_another_split_and_unknown_columns(source: Path, tmp_path: Path):
    limits = [
        Limit(column="similarity", at_least=0.99, split="nolang"),
        Limit(column="n_bytes", at_most=0),
        Limit(column="nothing", at_least=0),
        Limit(column="url", at_least=0),
    ]
    derive(source, tmp_path / "new", [0, 1], *limits)
    assert faults(tmp_path / "new") == [
        "manifest.json: it limits `nothing`, which is no column of numbers",
        "manifest.json: it limits `url`, which is no column of numbers",
    ]


def test_a_manifest_that_is_not_the_right_one_is_found(source: Path, tmp_path: Path):
    derive(source, tmp_path / "new")
    path = tmp_path / "new" / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"kept": 12', b'"kept": 13'))
    assert faults(tmp_path / "new") == ["manifest.json: it is not the one that the layout names"]
    path.write_bytes(whole[:-5])
    assert faults(tmp_path / "new") == ["manifest.json: it cannot be read"]
    path.unlink()
    assert faults(tmp_path / "new") == ["manifest.json: it is not there"]
