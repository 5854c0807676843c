"""What a manifest says must agree with itself and with the layout beside it."""

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from cah_dask.counts import Counts
from cah_dask.release.layout import Layout
from cah_dask.release.manifest import (
    Limit,
    Manifest,
    Step,
    checksum_of,
    manifest_faults,
    read_manifest,
)
from tests.encoders import released_encoder


def step(of: Literal["run", "release"], seen: int, kept: int, lost: int | None = None) -> Step:
    lost = seen - kept if lost is None else lost
    counts = Counts(seen, kept, {"unwanted": lost})
    return Step(how="choose", of=of, fingerprint="ab", rule={"a": [1, None]}, counts=counts)


def faults(folder: Path, rows: int, *steps: Step) -> list[str]:
    manifest = Manifest(steps)
    layout = Layout(
        *(rows, (released_encoder("clip", 4),), "clip", "hash", 8, 4, "fingerprint"),
        manifest=checksum_of(manifest),
    )
    (folder / "manifest.json").write_bytes(manifest.encoded())
    assert read_manifest(folder) == manifest
    return manifest_faults(folder, layout)


@pytest.mark.parametrize(
    ("rows", "steps", "lines"),
    [
        (3, [step("run", 9, 5), step("release", 5, 3)], []),
        (0, [], ["it has no step"]),
        (3, [step("run", 9, 5, 3)], ["the counts of step 1 do not balance", "it promises 5 rows"]),
        (5, [step("run", 9, 5), step("run", 5, 5)], ["step 2 begins from a run, but another is"]),
        (4, [step("run", 9, 5), step("release", 6, 4)], ["step 1 kept 5 rows, the next one saw 6"]),
        (4, [step("release", 9, 5)], ["it promises 5 rows, the layout 4"]),
    ],
)
def test_what_does_not_agree_is_told(
    tmp_path: Path, rows: int, steps: list[Step], lines: list[str]
):
    found = faults(tmp_path, rows, *steps)
    assert len(found) == len(lines)
    for fault, line in zip(found, lines, strict=True):
        assert fault.startswith(f"manifest.json: {line}")


def test_unknown_keys_make_a_manifest_that_cannot_be_read(tmp_path: Path):
    tree = msgspec.to_builtins(Manifest((step("run", 1, 1),))) | {"more": 1}
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(tree))
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "broken"),
    [
        (Limit(column="x", at_least=0.3), [True, False, True, True]),
        (Limit(column="x", at_most=0.3), [False, False, True, True]),
        (Limit(column="x", at_least=0.3, split="en"), [True, False, False, True]),
        (Limit(column="n", at_least=2, at_most=3), [True, False, False, True]),
    ],
)
def test_pairs_beyond_a_limit_are_told(limit: Limit, broken: list[bool]):
    pairs = pa.table(
        {
            "x": pa.array([np.nextafter(np.float32(0.3), 0), np.float32(0.3), None, np.nan]).cast(
                pa.float32()
            ),
            "n": pa.array([1, 2, 3, None], pa.int64()),
            "split": ["en", "en", "multi", "en"],
        }
    )
    assert limit.is_broken(pairs).tolist() == broken


def test_a_column_of_float64_is_compared_as_a_filter_does():
    """What a filter keeps by a float32 threshold is not beyond the limit that says so."""
    threshold = float(np.float32(0.3))
    assert threshold > 0.3
    pairs = pa.table({"x": pa.array([0.3, 0.2], pa.float64())})
    assert Limit(column="x", at_least=threshold).is_broken(pairs).tolist() == [False, True]
    assert Limit(column="n", at_least=1).is_broken(
        pa.table({"n": pa.array([2**60, None, 0], pa.int64())})
    ).tolist() == [False, True, True]
