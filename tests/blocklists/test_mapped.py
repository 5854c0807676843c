"""Lists that lie in files give the answers of those in memory, and hold none."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cah_dask.blocklists.exclusion import Exclusion, load_exclusion
from cah_dask.blocklists.hashlists import load_hash_lists
from cah_dask.blocklists.mapped import (
    folder_name,
    is_written,
    map_exclusion,
    map_hash_lists,
    write_exclusion,
    write_hash_lists,
)
from cah_dask.errors import DamageError
from cah_dask.keys import digest, of_texts, unique
from cah_dask.schema import uid

URLS = [f"http://h{n}.example/{n}.jpg" for n in range(20)]
TEXTS = [f"text number {n}" for n in range(20)]
ROWS = pa.table({"uid": pa.array(map(uid, TEXTS, URLS), pa.binary(16)), "url": URLS, "text": TEXTS})


def write_lists(folder: Path) -> list[str]:
    lists = {
        "uid": [uid(TEXTS[0], URLS[0]).hex()],
        "url": [URLS[3], URLS[4]],
        "host": ["h7.example", "other.example"],
        "md5": [digest("an image").hex()],
        "phrase": ["number 11", "nowhere"],
    }
    for kind, values in lists.items():
        (folder / kind).write_text("\n".join(values))
    return [f"{kind}:{folder / kind}" for kind in lists]


def test_a_mapped_exclusion_gives_the_answers_of_the_loaded_one(tmp_path: Path):
    loaded = load_exclusion(write_lists(tmp_path))
    assert not is_written(tmp_path / "mapped")
    write_exclusion(tmp_path / "mapped", loaded)
    assert is_written(tmp_path / "mapped")
    mapped = map_exclusion(tmp_path / "mapped")
    assert isinstance(mapped.uids, np.memmap)
    found = mapped.excludes(ROWS)
    assert np.flatnonzero(found).tolist() == [0, 3, 4, 7, 11]
    assert found.tolist() == loaded.excludes(ROWS).tolist()
    for host in ("h7.example", "www.other.example", "example", "h8.example"):
        assert mapped.excludes_host(host) == loaded.excludes_host(host)
    assert mapped.excludes_image(digest("an image"))
    assert not mapped.excludes_image(digest("another"))
    assert mapped.phrases == loaded.phrases


def test_an_empty_exclusion_is_mapped_too(tmp_path: Path):
    write_exclusion(tmp_path / "mapped", Exclusion())
    assert not map_exclusion(tmp_path / "mapped").excludes(ROWS).any()


def test_mapped_hash_lists_give_the_answers_of_the_loaded_ones(tmp_path: Path):
    (tmp_path / "l").write_text(f"{'0' * 32}\n{'1' * 40}\n{'2' * 64}\n00000000000000ff\n")
    loaded = load_hash_lists((str(tmp_path / "l"),))
    write_hash_lists(tmp_path / "mapped", loaded)
    mapped = map_hash_lists(tmp_path / "mapped")
    for lists in (loaded, mapped):
        assert lists.match(md5="0" * 32)
        assert lists.match(sha1="1" * 40)
        assert lists.match(sha256="2" * 64)
        assert not lists.match(md5="3" * 32, sha1="0" * 40)
        assert lists.with_sha1
        assert lists.resembles("00000000000000fe", 1)
        assert not lists.resembles("00000000000000fc", 1)
    (tmp_path / "l").write_text("0" * 32)
    write_hash_lists(tmp_path / "short", load_hash_lists((str(tmp_path / "l"), "/dev/null")))
    assert not map_hash_lists(tmp_path / "short").with_phash
    assert not map_hash_lists(tmp_path / "short").with_sha1


def test_a_process_holds_little_of_a_long_list(tmp_path: Path):
    keys = unique(np.concatenate([of_texts(URLS[:5]), of_texts(map(str, range(500_000)))]))
    write_exclusion(tmp_path / "mapped", Exclusion(urls=keys, hosts=keys))
    assert keys.nbytes > 8e6
    tracemalloc.start()
    try:
        mapped = map_exclusion(tmp_path / "mapped")
        assert mapped.excludes(ROWS).sum() == 5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("name", ["urls.npy", "index.json"])
def test_one_wrong_bit_is_found(tmp_path: Path, name: str):
    write_exclusion(tmp_path / "mapped", load_exclusion(write_lists(tmp_path)))
    path = tmp_path / "mapped" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    with pytest.raises(DamageError):
        map_exclusion(tmp_path / "mapped")


def test_the_name_of_a_folder_tells_what_it_holds_in_whatever_order():
    assert folder_name(["a", "b"]) == folder_name(["b", "a"])
    assert folder_name(["a", "b"]) != folder_name(["ab"])
