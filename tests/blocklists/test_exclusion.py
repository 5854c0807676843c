import gzip
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.errors import InputError
from cah_dask.schema import uid

URLS = ["http://a.example.org/1.jpg", "http://b.example.org/2.jpg", "http://www.c.org:8080/3.jpg"]
ROWS = pa.table({"uid": pa.array([uid("text", url) for url in URLS], pa.binary(16)), "url": URLS})
UIDS = [value.hex() for value in ROWS["uid"].to_pylist()]


def excluded(*entries) -> list[bool]:
    return load_exclusion(entries).excludes(ROWS).tolist()


def test_texts_with_a_listed_phrase_are_excluded(tmp_path):
    texts = ["A BAD-word, and more", "badword", "Two\u00a0Words here", "two other words", ""]
    urls = [f"http://a.example/{n}" for n in range(len(texts))]
    ids = pa.array(map(uid, texts, urls), pa.binary(16))
    rows = pa.table({"uid": ids, "url": urls, "text": texts})
    (tmp_path / "p.txt").write_text("bad word\n\nTWO words\n")
    pq.write_table(pa.table({"phrase": ["Word"]}), tmp_path / "p.parquet")
    found = load_exclusion([f"phrase:{tmp_path / 'p.txt'}"]).excludes(rows).tolist()
    assert found == [True, False, True, False, False]
    more = load_exclusion([f"phrase:{tmp_path / 'p.txt'}", str(tmp_path / "p.parquet")])
    assert more.excludes(rows).tolist() == found
    assert not load_exclusion([]).phrases
    (tmp_path / "p.txt").write_text("...")
    with pytest.raises(InputError, match="holds no word"):
        load_exclusion([f"phrase:{tmp_path / 'p.txt'}"])


def test_uids_are_read_from_text_parquet_and_datacomp_subsets(tmp_path):
    (tmp_path / "u.txt").write_text(f"{UIDS[0]}\n\n{UIDS[2].upper()}\n")
    with gzip.open(tmp_path / "u.txt.gz", "wt") as file:
        file.write(UIDS[0] + "\n" + UIDS[2])
    pq.write_table(
        pa.table({"uid": [UIDS[0], None, UIDS[2]], "url": ["x", "y", "z"]}), tmp_path / "u.parquet"
    )
    pq.write_table(ROWS.take([0, 2]), tmp_path / "b.parquet")
    pairs = sorted((int(u[:16], 16), int(u[16:], 16)) for u in (UIDS[0], UIDS[2]))
    np.save(tmp_path / "u.npy", np.array(pairs, "u8,u8"))
    for entry in ("uid:{}/u.txt", "uid:{}/u.txt.gz", "{}/u.parquet", "{}/b.parquet", "{}/u.npy"):
        assert excluded(entry.format(tmp_path)) == [True, False, True]


def test_urls_are_compared_after_normalisation_or_by_their_md5(tmp_path):
    (tmp_path / "urls.txt").write_text("HTTP://A.example.org:80/x/../1.jpg#top\n")
    assert excluded(f"url:{tmp_path}/urls.txt") == [True, False, False]
    pq.write_table(pa.table({"URL": [URLS[1]]}), tmp_path / "laion.parquet")
    assert excluded(f"{tmp_path}/laion.parquet") == [False, True, False]
    (tmp_path / "hashes").write_text(hashlib.md5(URLS[2].encode()).hexdigest())
    assert excluded(f"url_md5:{tmp_path}/hashes") == [False, False, True]


def test_a_host_stands_for_itself_and_all_names_below_it(tmp_path):
    (tmp_path / "hosts.txt").write_text("C.org\n.b.example.org\nrg\n")
    assert excluded(f"host:{tmp_path}/hosts.txt") == [False, True, True]


def test_hosts_are_compared_as_urls_spell_them(tmp_path):
    (tmp_path / "hosts.txt").write_text("BÜCHER.Example\n192.0.2.7\n", encoding="utf-8")
    found = load_exclusion([f"host:{tmp_path}/hosts.txt"])
    assert found.excludes_host("shop.xn--bcher-kva.example")
    assert found.excludes_host("192.0.2.7")
    assert not found.excludes_host("example")


def test_lists_of_image_md5s_name_images_and_not_candidates(tmp_path):
    (tmp_path / "md5s").write_text(hashlib.md5(b"an image").hexdigest())
    exclusion = load_exclusion([f"md5:{tmp_path}/md5s"])
    assert exclusion.excludes_image(hashlib.md5(b"an image").digest())
    assert not exclusion.excludes_image(hashlib.md5(b"another").digest())
    assert not exclusion.excludes(ROWS).any()


def test_several_lists_add_up(tmp_path):
    (tmp_path / "u").write_text(UIDS[0])
    (tmp_path / "h").write_text("c.org")
    assert excluded(f"uid:{tmp_path}/u", f"host:{tmp_path}/h") == [True, False, True]


def test_no_list_excludes_nothing():
    assert excluded() == [False, False, False]


@pytest.mark.parametrize(
    ("name", "content", "entry", "message"),
    [
        ("x", b"", "uid:{}/missing", "does not exist"),
        ("x.txt", b"a", "{}/x.txt", "say what it lists"),
        ("x", b"zz", "uid:{}/x", "32 hex digits"),
        ("x", b"\xff\xfe", "uid:{}/x", "cannot be read"),
        ("x.gz", b"no gzip", "url:{}/x.gz", "cannot be read"),
        ("x.npy", b"no array", "{}/x.npy", "cannot be read"),
        ("x.parquet", b"no parquet", "{}/x.parquet", "no parquet"),
        ("x.parquet", b"no parquet", "uid:{}/x.parquet", "no parquet"),
        ("x", b"no host!/", "host:{}/x", "no host name"),
    ],
)
def test_a_bad_list_is_a_clear_error(tmp_path, name, content, entry, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_exclusion([entry.format(tmp_path)])


def test_lists_with_the_wrong_columns_are_a_clear_error(tmp_path):
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", np.arange(3))
    for entry in ("{}/x.parquet", "md5:{}/x.parquet", "{}/x.npy"):
        with pytest.raises(InputError, match=r"column|expected two uint64"):
            load_exclusion([entry.format(tmp_path)])
