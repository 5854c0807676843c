"""What a fetch list expects of its urls, and what becomes of rows that are disappointed."""

import hashlib

import pyarrow as pa

from cah_dask.images.published import expectations, with_changed
from cah_dask.schema import OUTCOMES, SAMPLES

HASHES = {name: hashlib.sha256(name.encode()).digest() for name in "abc"}


def samples(*rows: tuple[str, str]) -> pa.Table:
    """Rows of a url and the name of a hash; only these two columns count."""
    columns = [
        pa.array([url for url, _ in rows]),
        pa.array([HASHES.get(name) for _, name in rows], pa.binary()),
    ]
    return pa.table(columns, names=["url", "published_sha256"])


def outcomes(*rows: tuple[str, str]) -> pa.Table:
    """Rows of a status and the name of a hash."""
    empty = OUTCOMES.empty_table().to_pydict()
    columns = empty | {
        "status": [status for status, _ in rows],
        "sha256": [HASHES[name].hex() if name in HASHES else None for _, name in rows],
    }
    return pa.table({name: columns[name] for name in ("status", "sha256")})


def test_a_url_may_give_what_any_of_its_rows_asks_for():
    rows = samples(("u", "a"), ("v", "a"), ("v", "b"), ("w", "a"), ("w", ""), ("x", ""))
    hexes = {name: digest.hex() for name, digest in HASHES.items()}
    assert expectations(rows) == {"u": {hexes["a"]}, "v": {hexes["a"], hexes["b"]}}


def test_lists_without_hashes_expect_nothing():
    assert expectations(SAMPLES.empty_table()) == {}
    assert expectations(samples(("u", ""), ("v", ""))) == {}


def test_each_row_is_compared_with_what_was_received():
    rows = samples(("u", "a"), ("u", "b"), ("u", ""), ("v", "c"), ("w", "c"))
    found = outcomes(("ok", "a"), ("ok", "a"), ("ok", "a"), ("changed", "a"), ("http_404", ""))
    made = with_changed(found, rows)
    assert made["status"].to_pylist() == ["ok", "changed", "ok", "changed", "http_404"]
    assert made["sha256"] == found["sha256"]
