import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.candidates.dedup import (
    Bucket,
    Deduped,
    DedupOptions,
    dedup_bucket,
    host_bucket,
    read_bucket,
)
from cah_dask.candidates.host_quotas import HostQuotas
from cah_dask.counts import Counts
from cah_dask.errors import RunError
from cah_dask.keys import Keys, PlacedKeys, from_digests, unique
from cah_dask.schema import BUCKET, CANDIDATES, SAMPLES, uid
from cah_dask.storage import Receipt, write_part
from cah_dask.urls import host_of

PAIRS = st.tuples(st.integers(0, 8), st.integers(0, 3))
ARCHIVES = st.lists(st.lists(PAIRS, max_size=12), max_size=4)
WAVES = st.lists(ARCHIVES, min_size=1, max_size=3)
KEYS = st.sampled_from(["uid", "url"])


def row(number: int, text: str = "a text", **others) -> dict:
    url = f"http://h{number % 3}.example.org/{number}.jpg"
    return {
        "bucket": 0,
        "uid": uid(text, url),
        "url": url,
        "text": text,
        "split": "en",
        "lang": "en",
        "lang_confidence": 0.9,
        "lang_is_reliable": True,
        "text_is_filename": False,
        "license": None,
        "page_url": "http://example.org/",
        "archive": "a",
        "record_offset": 0,
        "link_index": 0,
        **others,
    }


def archive(pairs, name: str = "a") -> pa.Table:
    rows = [row(n, f"text {t}", archive=name, link_index=i) for i, (n, t) in enumerate(pairs)]
    return pa.Table.from_pylist(rows, CANDIDATES).drop_columns("bucket").cast(BUCKET)


def wave(archives) -> list[pa.Table]:
    return [archive(pairs, f"archive {i}") for i, pairs in enumerate(archives)]


def bare(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Drop what dedup added to its rows."""
    return [table.select(BUCKET.names) for table in tables]


def kept(made: Deduped) -> list[dict]:
    tables = [SAMPLES.empty_table(), *made.lists, *made.late]
    return pa.concat_tables(bare(tables)).to_pylist()


def naive(waves, key: str) -> list[list[dict]]:
    """Keep the first row of each key, wave by wave, with a set."""
    seen, result = set(), []
    for tables in waves:
        fresh = []
        for line in pa.concat_tables([BUCKET.empty_table(), *tables]).to_pylist():
            if line[key] not in seen:
                seen.add(line[key])
                fresh.append(line)
        result.append(fresh)
    return result


def canonical(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda r: (r["archive"], r["record_offset"], r["link_index"]))


@given(WAVES, KEYS)
def test_dedup_keeps_what_a_set_would_keep(waves, key):
    options = DedupOptions(key=key)
    tables = [wave(archives) for archives in waves]
    seen: list[Keys] = []
    fetched: list[PlacedKeys] = []
    for now, expected in zip(tables, naive(tables, key), strict=True):
        made = dedup_bucket(now, seen, options, fetched=fetched, wave=len(fetched))
        fetched.append(made.urls)
        made.counts.require_balance("wave")
        assert canonical(kept(made)) == canonical(expected)
        assert made.keys.tolist() == unique(made.keys).tolist()
        seen.append(made.keys)


@given(ARCHIVES, KEYS)
def test_dedup_of_its_own_result_changes_nothing(archives, key):
    options = DedupOptions(key=key, list_urls=3)
    once = dedup_bucket(wave(archives), [], options)
    twice = dedup_bucket(bare(once.lists), [], options)
    assert kept(twice) == kept(once)
    assert twice.keys.tolist() == once.keys.tolist()


@given(st.lists(PAIRS, max_size=20), st.randoms(use_true_random=False), KEYS)
def test_which_keys_are_kept_does_not_depend_on_the_order(pairs, random, key):
    shuffled = random.sample(pairs, len(pairs))
    options = DedupOptions(key=key)
    a, b = (dedup_bucket([archive(p)], [], options) for p in (pairs, shuffled))
    assert a.keys.tolist() == b.keys.tolist()
    assert [r["url"] for r in kept(a)] == [r["url"] for r in kept(b)]


@given(ARCHIVES, st.integers(1, 4))
def test_a_list_holds_whole_urls_in_the_order_of_their_hash(archives, list_urls):
    made = dedup_bucket(wave(archives), [], DedupOptions(list_urls=list_urls))
    for table in list(made.lists)[:-1]:
        assert len(set(table["url"].to_pylist())) == list_urls
    urls = [line["url"] for line in kept(made)]
    assert urls == sorted(urls, key=lambda url: hashlib.md5(url.encode()).digest())
    lists_of = defaultdict(set)
    for number, table in enumerate(made.lists):
        for url in table["url"].to_pylist():
            lists_of[url].add(number)
    assert all(len(numbers) == 1 for numbers in lists_of.values())
    assert all(table.schema == SAMPLES for table in made.lists)


@given(WAVES, st.integers(1, 3))
def test_a_url_is_fetched_once_and_every_row_says_by_which_list(waves, list_urls):
    options = DedupOptions(list_urls=list_urls)
    seen: list[Keys] = []
    fetched: list[PlacedKeys] = []
    fetched_by = {}
    for number, archives in enumerate(waves):
        made = dedup_bucket(wave(archives), seen, options, fetched=fetched, wave=len(fetched))
        for position, table in enumerate(made.lists):
            for url in set(table["url"].to_pylist()):
                assert url not in fetched_by
                fetched_by[url] = (number, position)
        for line in pa.concat_tables([SAMPLES.empty_table(), *made.lists, *made.late]).to_pylist():
            assert (line["image_wave"], line["image_list"]) == fetched_by[line["url"]]
        assert all(row["image_wave"] < number for t in made.late for row in t.to_pylist())
        seen.append(made.keys)
        fetched.append(made.urls)


def test_an_image_keeps_the_captions_of_all_languages_in_canonical_order():
    made = dedup_bucket(wave([[(1, 0), (2, 0)], [(1, 1), (1, 0)]]), [], DedupOptions())
    texts = [line["text"] for line in kept(made) if line["url"].endswith("/1.jpg")]
    assert texts == ["text 0", "text 1"]
    assert made.counts == Counts(4, 3, {"duplicate": 1})


def test_rows_are_rejected_as_excluded_before_duplicate_before_seen_earlier():
    earlier = dedup_bucket(wave([[(1, 0)]]), [], DedupOptions())
    bad = row(3, "text 0")["uid"]
    made = dedup_bucket(
        wave([[(1, 0), (1, 0), (2, 0), (3, 0), (3, 0), (3, 1)]]),
        [earlier.keys],
        DedupOptions(),
        Exclusion(uids=from_digests(bad)),
    )
    assert made.counts == Counts(6, 2, {"duplicate": 1, "excluded": 2, "seen_earlier": 1})


QUOTAS = st.builds(
    HostQuotas,
    st.integers(1, 3) | st.none(),
    st.dictionaries(
        st.sampled_from(["*.example.org", "h0.example.org", "h1.example.org", "*.h1.example.org"]),
        st.integers(1, 4) | st.none(),
        max_size=3,
    ),
)


def limit(quotas: HostQuotas, host: str) -> int | None:
    found = quotas.towards(host)
    return None if math.isinf(found) else int(found)


@given(WAVES, KEYS, QUOTAS)
def test_a_host_has_no_more_urls_in_a_wave_than_its_quota(waves, key, quotas):
    seen: list[Keys] = []
    fetched: list[PlacedKeys] = []
    urls_so_far: set[str] = set()
    for tables in map(wave, waves):
        options = DedupOptions(key=key)
        earlier: dict[str, Any] = {"fetched": fetched, "wave": len(fetched)}
        made = dedup_bucket(tables, seen, options, **earlier, quotas=quotas)
        rows = pa.concat_tables([BUCKET.empty_table(), *tables]).to_pylist()
        offered = {line["url"] for line in rows} - urls_so_far
        by_host: dict[str, list[str]] = defaultdict(list)
        for url in sorted(offered, key=md5):
            by_host[host_of(url)].append(url)
        wanted = {url for host, urls in by_host.items() for url in urls[: limit(quotas, host)]}
        assert offered_by(made) == wanted
        unlimited = dedup_bucket(tables, seen, options, **earlier)
        expected = [line for line in kept(unlimited) if line["url"] in wanted | urls_so_far]
        assert canonical(kept(made)) == canonical(expected)
        lost = len(kept(unlimited)) - len(expected)
        assert made.counts.rejected.get("host_quota", 0) == lost
        assert sum(made.counts.notes.values()) == len(offered_by(unlimited) - wanted)
        assert made.counts.is_balanced
        assert len(made.keys) == made.counts.kept
        seen.append(made.keys)
        fetched.append(made.urls)
        urls_so_far |= wanted


def offered_by(made: Deduped) -> set[str]:
    return {url for table in made.lists for url in table["url"].to_pylist()}


def md5(url: str) -> bytes:
    return hashlib.md5(url.encode(), usedforsecurity=False).digest()


def test_an_excluded_caption_leaves_the_next_one_of_its_image():
    excluded = Exclusion(uids=from_digests(row(1, "text 0")["uid"]))
    made = dedup_bucket(wave([[(1, 0), (1, 1)]]), [], DedupOptions(key="url"), excluded)
    assert [line["text"] for line in kept(made)] == ["text 1"]


def test_an_empty_bucket_makes_no_list():
    made = dedup_bucket([], [], DedupOptions())
    assert list(made.lists) == []
    assert len(made.keys) == 0
    assert made.counts == Counts()


def test_buckets_of_hosts_never_change():
    assert [host_bucket(h, 256) for h in ("example.org", "www.example.org", "[2606::1]")] == [
        int.from_bytes(hashlib.md5(h.encode()).digest()[:8], "little") % 256
        for h in ("example.org", "www.example.org", "[2606::1]")
    ]
    assert host_bucket("example.org", 256) == 27


@settings(max_examples=20)
@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_bucket_is_read_back_whole_and_alone(tmp_path, buckets):
    rows = [row(i, bucket=b, link_index=i) for i, b in enumerate(sorted(buckets))]
    table = pa.Table.from_pylist(rows, CANDIDATES)
    groups = [table.slice(start, 7) for start in range(0, len(table), 7)]
    receipt = Receipt(stage="extract", unit="a", config="", counts=Counts())
    write_part(tmp_path / "part.parquet", CANDIDATES, groups, receipt, replace=True)
    for bucket in range(6):
        expected = [
            {k: v for k, v in r.items() if k != "bucket"} for r in rows if r["bucket"] == bucket
        ]
        found = read_bucket(tmp_path / "part.parquet", bucket)
        assert found.schema == BUCKET
        assert [r["uid"] for r in found.to_pylist()] == [r["uid"] for r in expected]


def test_a_damaged_part_stops_the_run(tmp_path):
    path = tmp_path / "part.parquet"
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(RunError, match=r"part\.parquet"):
        read_bucket(path, 0)


def test_keys_survive_a_file_and_are_read_in_place(tmp_path):
    made = dedup_bucket(wave([[(1, 0), (2, 1)]]), [], DedupOptions())
    np.save(tmp_path / "seen.npy", made.keys)
    stored = np.load(tmp_path / "seen.npy", mmap_mode="r")
    again = dedup_bucket(wave([[(2, 1), (3, 0)]]), [stored], DedupOptions())
    assert again.counts.rejected == {"seen_earlier": 1}


@given(WAVES, st.integers(1, 5), st.integers(1, 3))
def test_a_bucket_too_large_to_be_held_gives_the_same_lists(waves, held_rows, list_urls):
    options = DedupOptions(list_urls=list_urls)
    fetched: list[PlacedKeys] = []
    seen: list[Keys] = []
    for archives in waves:
        tables = wave(archives)
        once = dedup_bucket(tables, seen, options, fetched=fetched, wave=len(fetched))
        many = dedup_bucket(
            tables, seen, options, fetched=fetched, wave=len(fetched), held_rows=held_rows
        )
        generated = dedup_bucket(
            iter(tables), seen, options, fetched=fetched, wave=len(fetched), held_rows=held_rows
        )
        for other in (many, generated):
            assert list(other.lists) == list(once.lists)
            assert list(other.late) == list(once.late)
            assert other.counts == once.counts
        seen.append(once.keys)
        fetched.append(once.urls)


def test_lists_can_be_asked_for_in_any_order():
    made = dedup_bucket(
        wave([[(i, 0) for i in range(9)]]), [], DedupOptions(list_urls=2), held_rows=3
    )
    forwards = list(made.lists)
    assert [made.lists[i] for i in reversed(range(5))] == forwards[::-1]
    assert made.lists[-1] == forwards[-1]
    with pytest.raises(IndexError):
        made.lists[5]


def test_the_bucket_of_many_parts_is_read_at_each_iteration(tmp_path):
    receipt = Receipt(stage="extract", unit="a", config="", counts=Counts())
    parts = [tmp_path / f"{i}.parquet" for i in range(3)]
    for number, part in enumerate(parts):
        table = pa.Table.from_pylist([row(number, bucket=number % 2)], CANDIDATES)
        write_part(part, CANDIDATES, [table], receipt)
    bucket = Bucket(parts, 0)
    for _ in range(2):
        assert [len(table) for table in bucket] == [1, 0, 1]
