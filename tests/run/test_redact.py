"""`cah redact` as a user types it: what is gone is nowhere, what stays is whole."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import releases
from tests.commands import cah

ROWS = 60
LAST = 59


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sixty pairs in eight parts."""
    return releases.make(tmp_path_factory.mktemp("redact"), range(ROWS))


@pytest.fixture
def release(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "release"))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def all_bytes(release: Path) -> Iterator[bytes]:
    """Yield the bytes of every file, and of parquet files also what they hold, uncompressed."""
    for path in release.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
        if path.suffix == ".parquet":
            plain = BytesIO()
            pq.write_table(pq.read_table(path), plain, compression="none", use_dictionary=False)
            yield plain.getvalue()


def traces(data: list[bytes], row: dict, arrays: dict[str, np.ndarray]) -> list[str]:
    """Return what of a pair stands anywhere in the files of a release."""
    names = ("uid", "url", "text", "final_url", "sha256", "md5")
    wanted = {name: row[name].encode() for name in names}
    wanted["raw uid"] = bytes.fromhex(row["uid"])
    wanted |= {name: array[row["row"]].tobytes() for name, array in arrays.items()}
    return [name for name, what in wanted.items() if any(what in each for each in data)]


def test_nothing_of_a_redacted_pair_is_in_any_byte_of_the_new_release(
    release: Path, tmp_path: Path
):
    before, arrays = releases.rows(release).to_pylist(), releases.vectors(release)
    code, answered, said = cah(
        "redact", release, "--to", tmp_path / "new",
        "--uids", write(tmp_path / "uids", before[17]["uid"], "ab" * 16),
        "--urls", write(tmp_path / "urls", before[30]["url"], before[LAST]["final_url"], "http://a/"),
        "--hosts", write(tmp_path / "hosts", "h3.example", "cdn5.example"),
        "--hashes", write(tmp_path / "hashes", before[41]["sha256"], before[0]["md5"]),
    )  # fmt: skip
    assert code == 0, said
    gone = {0, 17, 30, 41, LAST, *range(3, ROWS, 7), *range(5, ROWS, 7)}
    kept = [row for row in before if row["row"] not in gone]
    after = releases.rows(tmp_path / "new").to_pylist()
    assert [row["row"] for row in after] == list(range(len(kept)))
    assert [{**row, "row": 0} for row in after] == [{**row, "row": 0} for row in kept]
    for name, array in releases.vectors(tmp_path / "new").items():
        assert array.tobytes() == arrays[name][[row["row"] for row in kept]].tobytes()
    files, old_files = list(all_bytes(tmp_path / "new")), list(all_bytes(release))
    for row in before:
        everything = traces(old_files, row, arrays)
        assert everything == ["uid", "url", "text", "final_url", "sha256", "md5", *arrays]
        assert traces(files, row, arrays) == ([] if row["row"] in gone else everything), row
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"hashes", "hosts", "new", "release", "uids", "urls"}
    for line in ("uids: 1 entry named no row", "urls: 1 entry named no row", "new: written"):
        assert f"{tmp_path}/{line}" in answered
    code, faults, said = cah("verify", tmp_path / "new")
    assert (code, faults) == (0, []), said
